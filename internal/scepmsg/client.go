package scepmsg

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/waxseal/waxseal/internal/cms"
)

// Message is a request that was written.
type Message struct {
	DER           []byte
	TransactionID string
	SenderNonce   []byte
}

// NewPKCSReq writes a first request (RFC 8894 section 3.3.1). The signer is a self-signed certificate of the key that
// the PKCS #10 request is for; recipients are the RA's certificate, or the CA's where there is no RA.
func NewPKCSReq(rand io.Reader, csrDER []byte, signer *x509.Certificate, key crypto.Signer, recipients []*x509.Certificate) (*Message, error) {
	return newCSRMessage(rand, PKCSReq, csrDER, signer, key, recipients)
}

// NewRenewalReq writes a renewal; the signer is the certificate that is still valid.
func NewRenewalReq(rand io.Reader, csrDER []byte, signer *x509.Certificate, key crypto.Signer, recipients []*x509.Certificate) (*Message, error) {
	return newCSRMessage(rand, RenewalReq, csrDER, signer, key, recipients)
}

func newCSRMessage(rand io.Reader, kind MessageType, csrDER []byte, signer *x509.Certificate, key crypto.Signer, recipients []*x509.Certificate) (*Message, error) {
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return nil, fmt.Errorf("reading certificate request: %w", err)
	}
	// The same key gives the same transaction, so that a repeated request is recognised (RFC 8894 section 3.2.1.1).
	sum := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	return seal(rand, kind, hex.EncodeToString(sum[:]), csrDER, signer, key, recipients)
}

// issuerAndSubject is the content of a CertPoll (RFC 8894 section 3.3.3).
type issuerAndSubject struct {
	Issuer  asn1.RawValue
	Subject asn1.RawValue
}

// NewCertPoll asks again for a request that is pending, within its transaction. Issuer is the CA's encoded subject,
// and subject that of the request.
func NewCertPoll(rand io.Reader, transactionID string, issuer, subject []byte, signer *x509.Certificate, key crypto.Signer, recipients []*x509.Certificate) (*Message, error) {
	content, err := pollContent(issuer, subject)
	if err != nil {
		return nil, err
	}
	return seal(rand, CertPoll, transactionID, content, signer, key, recipients)
}

func pollContent(issuer, subject []byte) ([]byte, error) {
	content, err := asn1.Marshal(issuerAndSubject{asn1.RawValue{FullBytes: issuer}, asn1.RawValue{FullBytes: subject}})
	if err != nil {
		return nil, fmt.Errorf("encoding issuer and subject: %w", err)
	}
	return content, nil
}

func seal(rand io.Reader, kind MessageType, transactionID string, content []byte, signer *x509.Certificate, key crypto.Signer, recipients []*x509.Certificate) (*Message, error) {
	return Sender{Certificate: signer, Key: key, Recipients: recipients, Cipher: cms.AES128CBC}.seal(rand, kind, transactionID, content)
}

// Sender is who writes a client's messages, and how: for a client that speaks with the CAs of others, which know other
// ciphers, or for a registration authority, which signs for keys that it does not have.
type Sender struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Recipients  []*x509.Certificate
	// Cipher is what GetCACaps allows: cms.AES128CBC for "AES", cms.TripleDESCBC for "DES3".
	Cipher cms.Cipher
}

// Request writes a PKCSReq in a transaction that the caller names: the same name means the same request.
func (s Sender) Request(rand io.Reader, transactionID string, csrDER []byte) (*Message, error) {
	return s.seal(rand, PKCSReq, transactionID, csrDER)
}

// Poll writes a CertPoll; see NewCertPoll.
func (s Sender) Poll(rand io.Reader, transactionID string, issuer, subject []byte) (*Message, error) {
	content, err := pollContent(issuer, subject)
	if err != nil {
		return nil, err
	}
	return s.seal(rand, CertPoll, transactionID, content)
}

func (s Sender) seal(rand io.Reader, kind MessageType, transactionID string, content []byte) (*Message, error) {
	envelope, err := cms.Encrypt(rand, content, s.Recipients, cms.EncryptOptions{Cipher: s.Cipher})
	if err != nil {
		return nil, fmt.Errorf("encrypting SCEP request: %w", err)
	}
	nonce, err := newNonce(rand)
	if err != nil {
		return nil, err
	}
	h := header{messageType: kind, transactionID: transactionID, senderNonce: nonce}
	der, err := h.sign(envelope, s.Certificate, s.Key)
	if err != nil {
		return nil, err
	}
	return &Message{DER: der, TransactionID: transactionID, SenderNonce: nonce}, nil
}

// Reply is a CertRep.
type Reply struct {
	Status   Status
	FailInfo FailInfo
	// FailText is what the CA says beside FailInfo, in its own words (RFC 8894 section 3.2.1.4.1).
	FailText string
	// Certificates are all that a success brought, in its order, even where none is the one asked for.
	Certificates []*x509.Certificate
	// Certificate is the one issued, set on success; Chain is whatever else came along.
	Certificate *x509.Certificate
	Chain       []*x509.Certificate
	// Signer answered. Whether it is the RA or the CA that GetCACert named must be checked: see SignedBy.
	Signer         *x509.Certificate
	TransactionID  string
	RecipientNonce []byte
}

// SignedBy reports whether one of the given certificates signed.
func (r *Reply) SignedBy(authorities []*x509.Certificate) bool {
	return contains(authorities, r.Signer)
}

// Answers reports an error unless the reply belongs to the request (RFC 8894 section 3.2.1.5).
func (r *Reply) Answers(m *Message) error {
	if r.TransactionID != m.TransactionID {
		return errors.New("SCEP reply belongs to another transaction")
	}
	if !bytes.Equal(r.RecipientNonce, m.SenderNonce) {
		return errors.New("SCEP reply answers another request: its nonce differs")
	}
	return nil
}

// ParseCertRep verifies a reply and opens it with the certificate that signed the request, and its key.
func ParseCertRep(der []byte, cert *x509.Certificate, key crypto.Signer) (*Reply, error) {
	h, signed, err := open(der)
	if err != nil {
		return nil, err
	}
	if h.messageType != CertRep {
		return nil, fmt.Errorf("%w: message type %s instead of a reply", ErrMalformed, h.messageType)
	}
	reply := &Reply{
		Status: h.status, FailInfo: h.failInfo, FailText: h.failText, Signer: signed.Signer,
		TransactionID: h.transactionID, RecipientNonce: h.recipientNonce,
	}
	switch h.status {
	case StatusPending:
		return reply, nil
	case StatusFailure:
		if h.failInfo == "" {
			return nil, fmt.Errorf("%w: failure without failInfo", ErrMalformed)
		}
		return reply, nil
	case StatusSuccess:
		return reply, reply.open(signed.Content, cert, key)
	}
	return nil, fmt.Errorf("%w: status %q", ErrMalformed, h.status)
}

// open decrypts the certificate bag. The certificate of a first request has the key that signed it. A reply to a renewal
// may hold one of another key, and then it is the first that is no CA: whoever asked compares it with the new key.
//
// Single DES is read: micromdm's scepserver writes nothing else, and what it hides are certificates, which are public.
func (r *Reply) open(envelope []byte, cert *x509.Certificate, key crypto.Signer) error {
	bag, err := cms.DecryptEvenDES(envelope, cert, key)
	if err != nil {
		return fmt.Errorf("opening SCEP reply: %w", err)
	}
	certs, err := cms.ParseCertsOnly(bag)
	if err != nil {
		return fmt.Errorf("reading certificates of SCEP reply: %w", err)
	}
	r.Certificates = certs
	for _, c := range certs {
		if r.Certificate == nil && samePublic(c.PublicKey, key.Public()) {
			r.Certificate = c
		}
	}
	for _, c := range certs {
		if r.Certificate == nil && !c.IsCA && !selfIssued(cert) {
			r.Certificate = c
		}
		if c != r.Certificate {
			r.Chain = append(r.Chain, c)
		}
	}
	if r.Certificate == nil {
		return fmt.Errorf("%w: success without a certificate", ErrMalformed)
	}
	return nil
}
