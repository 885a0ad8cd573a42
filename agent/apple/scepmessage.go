package apple

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"

	"github.com/waxseal/waxseal/internal/cms"
)

// A device makes its SCEP messages itself and shares no code with the server side of SCEP, so that a misreading of
// RFC 8894 on one side shows.

// Message types and statuses of RFC 8894 section 3.2.1.
const (
	scepCertRep  = "3"
	scepPKCSReq  = "19"
	scepCertPoll = "20"

	scepSuccess = "0"
	scepFailure = "2"
	scepPending = "3"
)

// scepAttribute is an attribute of the SCEP arc.
func scepAttribute(n int) asn1.ObjectIdentifier {
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

// scepExchange is one enrolment: who asks whom, under which transaction.
type scepExchange struct {
	key         *rsa.PrivateKey
	signer      *x509.Certificate // self-signed
	recipient   *x509.Certificate
	transaction string
}

func newExchange(key *rsa.PrivateKey, signer, recipient *x509.Certificate) *scepExchange {
	sum := sha256.Sum256(signer.RawSubjectPublicKeyInfo)
	return &scepExchange{key: key, signer: signer, recipient: recipient, transaction: hex.EncodeToString(sum[:])}
}

// scepReply is what a CertRep says.
type scepReply struct {
	status   string
	failInfo string
	certs    []*x509.Certificate
}

// round sends one message and reads the answer.
func (x *scepExchange) round(ctx context.Context, c *scepClient, kind string, content []byte) (*scepReply, error) {
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		return nil, fail(domainSCEP, 22001, "reading randomness: %v", err)
	}
	message, err := x.message(kind, nonce, content)
	if err != nil {
		return nil, fail(domainSCEP, 22004, "making the SCEP message: %v", err)
	}
	answer, err := c.operate(ctx, message)
	if err != nil {
		return nil, err
	}
	reply, err := x.read(answer, nonce, c.authorities)
	if err != nil {
		return nil, fail(domainSCEP, 22013, "the SCEP server's answer: %v", err)
	}
	return reply, nil
}

func (x *scepExchange) message(kind string, nonce, content []byte) ([]byte, error) {
	envelope, err := cms.Encrypt(rand.Reader, content, []*x509.Certificate{x.recipient}, cms.EncryptOptions{Cipher: cms.AES128CBC})
	if err != nil {
		return nil, err
	}
	return cms.Sign(envelope, x.signer, x.key, cms.SignOptions{Attributes: []cms.Attribute{
		{Type: scepAttribute(attrTransactionID), Value: x.transaction},
		{Type: scepAttribute(attrMessageType), Value: kind},
		{Type: scepAttribute(attrSenderNonce), Value: nonce},
	}})
}

// read checks a CertRep and takes the certificates out.
func (x *scepExchange) read(answer, nonce []byte, authorities []*x509.Certificate) (*scepReply, error) {
	signed, err := cms.Verify(answer)
	if err != nil {
		return nil, err
	}
	if !known(signed.Signer, authorities) {
		return nil, fmt.Errorf("it is signed by %q, whom GetCACert did not name", signed.Signer.Subject)
	}
	if got := text(signed, attrMessageType); got != scepCertRep {
		return nil, fmt.Errorf("message type %q instead of CertRep", got)
	}
	if got := text(signed, attrTransactionID); got != x.transaction {
		return nil, fmt.Errorf("it belongs to another transaction")
	}
	var echoed []byte
	if _, err := asn1.Unmarshal(signed.Attribute(scepAttribute(attrRecipientNonce)), &echoed); err != nil || !bytes.Equal(echoed, nonce) {
		return nil, fmt.Errorf("it does not carry the nonce of the request")
	}
	reply := &scepReply{status: text(signed, attrStatus), failInfo: text(signed, attrFailInfo)}
	if reply.status != scepSuccess {
		return reply, nil
	}
	// Certificates are no secret: micromdm's SCEP server answers in single DES, and iPhones are managed with it.
	bag, err := cms.DecryptEvenDES(signed.Content, x.signer, x.key)
	if err != nil {
		return nil, err
	}
	reply.certs, err = cms.ParseCertsOnly(bag)
	return reply, err
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
	if _, err := asn1.Unmarshal(signed.Attribute(scepAttribute(n)), &out); err != nil {
		return ""
	}
	return out
}

// poll is the content of a CertPoll: issuer and subject of the request.
func (x *scepExchange) poll() ([]byte, error) {
	return asn1.Marshal(struct{ Issuer, Subject asn1.RawValue }{raw(x.recipient.RawSubject), raw(x.signer.RawSubject)})
}

// accept takes the certificate for our key out of a reply.
func (x *scepExchange) accept(reply *scepReply) (*x509.Certificate, error) {
	switch reply.status {
	case scepSuccess:
	case scepFailure:
		return nil, fail(domainSCEP, 22013, "the SCEP server refuses the request: %s", failText(reply.failInfo))
	default:
		return nil, fail(domainSCEP, 22013, "the SCEP server answers with the unknown status %q", reply.status)
	}
	for _, cert := range reply.certs {
		if x.key.PublicKey.Equal(cert.PublicKey) {
			return cert, nil
		}
	}
	return nil, fail(domainSCEP, 22007, "the SCEP server issued no certificate for the key of this device")
}

// failText names a failInfo (RFC 8894 section 3.2.1.4).
func failText(code string) string {
	names := map[string]string{"0": "badAlg", "1": "badMessageCheck", "2": "badRequest", "3": "badTime", "4": "badCertId"}
	if name, ok := names[code]; ok {
		return name
	}
	return fmt.Sprintf("failInfo %q", code)
}
