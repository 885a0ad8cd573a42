// Package scep makes and reads the SCEP messages of simulated devices (RFC 8894). It shares no code with the server's side
// of SCEP, so that a misreading of the RFC on one side shows. How a device asks a server over HTTP, how often, and what it
// makes of an error is each platform's own.
package scep

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
)

// Message types of RFC 8894 section 3.2.1.2.
const (
	certRep  = "3"
	pkcsReq  = "19"
	certPoll = "20"
)

// Status is the pkiStatus of an answer (RFC 8894 section 3.2.1.3).
type Status string

// The statuses.
const (
	Success Status = "0"
	Failure Status = "2"
	Pending Status = "3"
)

// attributeID is an attribute of the SCEP arc (RFC 8894 section 3.2.1).
func attributeID(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, n}
}

const (
	attrMessageType    = 2
	attrStatus         = 3
	attrFailInfo       = 4
	attrSenderNonce    = 5
	attrRecipientNonce = 6
	attrTransactionID  = 7
)

// Authorities reads an answer to GetCACert: one certificate, or a bag of them (RFC 8894 section 4.2).
func Authorities(body []byte, contentType string) ([]*x509.Certificate, error) {
	parse := x509.ParseCertificates
	if strings.HasPrefix(contentType, "application/x-x509-ca-ra-cert") {
		parse = cms.ParseCertsOnly
	}
	certs, err := parse(body)
	if err != nil || len(certs) == 0 {
		return nil, errors.New("the SCEP server's GetCACert answer holds no certificate")
	}
	return certs, nil
}

// Recipient is the certificate to encrypt to: the RA's if there is one, else the CA's. Only RSA will do; nil: there is
// none.
func Recipient(authorities []*x509.Certificate) *x509.Certificate {
	var ca *x509.Certificate
	for _, cert := range authorities {
		if _, ok := cert.PublicKey.(*rsa.PublicKey); !ok {
			continue
		}
		if !cert.IsCA && (cert.KeyUsage == 0 || cert.KeyUsage&x509.KeyUsageKeyEncipherment != 0) {
			return cert
		}
		if ca == nil {
			ca = cert
		}
	}
	return ca
}

// SelfSigned is the certificate that signs a first request (RFC 8894 section 2.3); subject is encoded.
func SelfSigned(subject []byte, key *rsa.PrivateKey, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, RawSubject: subject, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Exchange is one enrolment: who asks whom, under which transaction.
type Exchange struct {
	key         *rsa.PrivateKey
	signer      *x509.Certificate // self-signed
	recipient   *x509.Certificate
	transaction string
}

// NewExchange names the transaction after the key, so that the same key again is the same transaction.
func NewExchange(key *rsa.PrivateKey, signer, recipient *x509.Certificate) *Exchange {
	sum := sha256.Sum256(signer.RawSubjectPublicKeyInfo)
	return &Exchange{key: key, signer: signer, recipient: recipient, transaction: hex.EncodeToString(sum[:])}
}

// Message is one to send by PKIOperation.
type Message struct {
	DER   []byte
	nonce []byte
}

// Request is a PKCSReq around a PKCS#10 request.
func (x *Exchange) Request(csr []byte) (*Message, error) { return x.message(pkcsReq, csr) }

// Poll asks for the state of a pending request: a CertPoll with the subjects of the CA and of the request (RFC 8894 section
// 3.3.3). Where an RA answers, the CA is who issued the RA's certificate.
func (x *Exchange) Poll() (*Message, error) {
	issuer := x.recipient.RawSubject
	if !x.recipient.IsCA {
		issuer = x.recipient.RawIssuer
	}
	content, err := asn1.Marshal(struct{ Issuer, Subject asn1.RawValue }{raw(issuer), raw(x.signer.RawSubject)})
	if err != nil {
		return nil, err
	}
	return x.message(certPoll, content)
}

func (x *Exchange) message(kind string, content []byte) (*Message, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	envelope, err := cms.Encrypt(rand.Reader, content, []*x509.Certificate{x.recipient}, cms.EncryptOptions{Cipher: cms.AES128CBC})
	if err != nil {
		return nil, err
	}
	der, err := cms.Sign(envelope, x.signer, x.key, cms.SignOptions{Attributes: []cms.Attribute{
		{Type: attributeID(attrTransactionID), Value: x.transaction},
		{Type: attributeID(attrMessageType), Value: kind},
		{Type: attributeID(attrSenderNonce), Value: nonce},
	}})
	return &Message{DER: der, nonce: nonce}, err
}

// Reply is what a CertRep says.
type Reply struct {
	Status   Status
	FailInfo string
	// Certificates are all that came, set on Success.
	Certificates []*x509.Certificate
}

// Read checks the answer to a message, which one of the authorities must have signed, and takes the certificates out.
func (x *Exchange) Read(answer []byte, to *Message, authorities []*x509.Certificate) (*Reply, error) {
	signed, err := cms.Verify(answer)
	if err != nil {
		return nil, err
	}
	if err := x.belongs(signed, to, authorities); err != nil {
		return nil, err
	}
	reply := &Reply{Status: Status(text(signed, attrStatus)), FailInfo: text(signed, attrFailInfo)}
	if reply.Status != Success {
		return reply, nil
	}
	// Certificates are no secret: micromdm's SCEP server answers in single DES, and iPhones are managed with it.
	bag, err := cms.DecryptEvenDES(signed.Content, x.signer, x.key)
	if err != nil {
		return nil, err
	}
	reply.Certificates, err = cms.ParseCertsOnly(bag)
	return reply, err
}

func (x *Exchange) belongs(signed *cms.Signed, to *Message, authorities []*x509.Certificate) error {
	if !known(signed.Signer, authorities) {
		return fmt.Errorf("it is signed by %q, whom GetCACert did not name", signed.Signer.Subject)
	}
	if got := text(signed, attrMessageType); got != certRep {
		return fmt.Errorf("message type %q instead of CertRep", got)
	}
	if got := text(signed, attrTransactionID); got != x.transaction {
		return errors.New("it belongs to another transaction")
	}
	if !bytes.Equal(octets(signed, attrRecipientNonce), to.nonce) {
		return errors.New("it does not carry the nonce of the request")
	}
	if len(octets(signed, attrSenderNonce)) == 0 { // RFC 8894 section 3.2.1.5; Windows refuses it (windows.md section 3.2)
		return errors.New("it does not contain an expected authenticated attribute: a nonce of the sender's own, senderNonce")
	}
	return nil
}

func known(cert *x509.Certificate, certs []*x509.Certificate) bool {
	for _, c := range certs {
		if c.Equal(cert) {
			return true
		}
	}
	return false
}

func text(signed *cms.Signed, n int) string {
	var out string
	if _, err := asn1.Unmarshal(signed.Attribute(attributeID(n)), &out); err != nil {
		return ""
	}
	return out
}

func octets(signed *cms.Signed, n int) []byte {
	var out []byte
	if _, err := asn1.Unmarshal(signed.Attribute(attributeID(n)), &out); err != nil {
		return nil
	}
	return out
}

// ErrOtherKey says that a server answered with certificates of other keys than the device's.
var ErrOtherKey = errors.New("the SCEP server issued no certificate for the key of this device")

// Accept takes the certificate for the device's key out of a reply.
func (x *Exchange) Accept(reply *Reply) (*x509.Certificate, error) {
	switch reply.Status {
	case Success:
	case Failure:
		return nil, fmt.Errorf("the SCEP server refuses the request: %s", failText(reply.FailInfo))
	default:
		return nil, fmt.Errorf("the SCEP server answers with the unknown status %q", reply.Status)
	}
	for _, cert := range reply.Certificates {
		if x.key.PublicKey.Equal(cert.PublicKey) {
			return cert, nil
		}
	}
	return nil, ErrOtherKey
}

// failText names a failInfo (RFC 8894 section 3.2.1.4).
func failText(code string) string {
	names := map[string]string{"0": "badAlg", "1": "badMessageCheck", "2": "badRequest", "3": "badTime", "4": "badCertId"}
	if name, ok := names[code]; ok {
		return name
	}
	return fmt.Sprintf("failInfo %q", code)
}
