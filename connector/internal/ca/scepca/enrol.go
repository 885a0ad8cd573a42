package scepca

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net/http"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/scepmsg"
)

// handle is by what a pending request is found again.
type handle struct {
	TransactionID string `json:"transactionId"`
}

// Enroll asks for a certificate, or for what came of an earlier request.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	if q.Intent.Signer == nil && a.ra == nil {
		return nil, ca.Refuse("the device has the key, so a registration authority must sign the request: the settings of CA %s lack raCertificateFile and raKeyFile", a.settings.Name)
	}
	au, err := a.authority(ctx)
	if err != nil {
		return nil, err
	}
	sender, err := a.sender(q.Intent, au)
	if err != nil {
		return nil, err
	}
	m, err := a.message(ctx, q, sender)
	if err != nil {
		return nil, err
	}
	answer, err := a.operate(ctx, au.capabilities, m.DER)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, web.Failed(answer, plainText(answer))
	}
	reply, err := open(answer.Body, sender, m, au.signers)
	if err != nil {
		return nil, err
	}
	return take(q, m, reply)
}

// sender signs as the registration authority, or as the key that a certificate is asked for.
func (a *adapter) sender(in ca.Intent, au authority) (scepmsg.Sender, error) {
	cipher, err := a.cipher(au.capabilities)
	if err != nil {
		return scepmsg.Sender{}, err
	}
	out := scepmsg.Sender{Recipients: []*x509.Certificate{au.recipient}, Cipher: cipher}
	if a.ra != nil {
		out.Certificate, out.Key = a.ra.Leaf, a.ra.PrivateKey.(crypto.Signer)
		return out, nil
	}
	out.Key = in.Signer
	out.Certificate, err = a.selfSigned(in)
	return out, err
}

// validity of the self-signed certificate of a request, and how far the clocks may be apart.
const (
	validity = 7 * 24 * time.Hour
	backdate = 24 * time.Hour
)

// selfSigned makes the certificate of a first request (RFC 8894 section 2.3): it has the subject of the request.
func (a *adapter) selfSigned(in ca.Intent) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := io.ReadFull(a.rand, serial); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive and of full length
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), RawSubject: in.Subject,
		NotBefore: a.clock().Add(-backdate), NotAfter: a.clock().Add(validity),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	var names pkix.RDNSequence
	if rest, err := asn1.Unmarshal(in.Subject, &names); err != nil || len(rest) > 0 || len(names) == 0 {
		template.RawSubject, template.Subject = nil, pkix.Name{CommonName: in.ID} // programs look for an issuer's name
	}
	der, err := x509.CreateCertificate(a.rand, template, template, in.Signer.Public(), in.Signer)
	if err != nil {
		return nil, fmt.Errorf("making the self-signed certificate of the request: %w", err)
	}
	return x509.ParseCertificate(der)
}

// message is a CertPoll where the CA has the request already, else a PKCSReq. Only the latter needs a challenge.
func (a *adapter) message(ctx context.Context, q ledger.Question, sender scepmsg.Sender) (*scepmsg.Message, error) {
	if q.Handle != nil {
		return a.poll(q, sender)
	}
	challenge := ""
	if q.Intent.Signer != nil { // a device's request is signed, challenge and all
		var err error
		if challenge, err = a.challenge(ctx); err != nil {
			return nil, err
		}
	}
	csr, err := ca.Request(q.Intent, challenge)
	if err != nil {
		return nil, err
	}
	id, err := transactionID(q.Intent)
	if err != nil {
		return nil, err
	}
	return sender.Request(a.rand, id, csr)
}

// poll asks in the names of the issuing CA, which is the first of the settings, and of the request (RFC 8894 section 3.3.3).
func (a *adapter) poll(q ledger.Question, sender scepmsg.Sender) (*scepmsg.Message, error) {
	var h handle
	if err := json.Unmarshal(q.Handle, &h); err != nil || h.TransactionID == "" {
		return nil, errors.New("the note of the earlier request is damaged")
	}
	subject := q.Intent.Subject
	if q.Intent.Signer == nil {
		csr, err := x509.ParseCertificateRequest(q.Intent.CSR)
		if err != nil {
			return nil, ca.Refuse("the device's certificate request does not parse: %v", err)
		}
		subject = csr.RawSubject
	}
	if len(subject) == 0 {
		subject = []byte{0x30, 0x00}
	}
	return sender.Poll(a.rand, h.TransactionID, a.issuers[0].RawSubject, subject)
}

// transactionID is the same for the same intent and key, so that a CA that looks at it knows a repeated request (RFC 8894
// section 3.2.1.1), and another for another intent, even of the same key.
func transactionID(in ca.Intent) (string, error) {
	key, err := x509.MarshalPKIXPublicKey(in.PublicKey)
	if err != nil {
		return "", ca.Refuse("the key is a %T, which no certificate can be for", in.PublicKey)
	}
	s := sha256.Sum256(append([]byte(in.ID+"\n"), key...))
	return hex.EncodeToString(s[:]), nil
}

// plainText is what a CA says for people; pages of a web server in between are not.
func plainText(a web.Answer) string {
	if kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return ""
	}
	return string(a.Body)
}

// open reads an answer that one of the signers gave to the message. A success without a certificate for the key is given
// on: the ledger refuses it, keeps it and says so.
func open(der []byte, sender scepmsg.Sender, m *scepmsg.Message, signers []*x509.Certificate) (*scepmsg.Reply, error) {
	reply, err := scepmsg.ParseCertRep(der, sender.Certificate, sender.Key)
	if reply == nil {
		return nil, fmt.Errorf("the CA's answer: %w", err)
	}
	if !reply.SignedBy(signers) {
		return nil, fmt.Errorf("the CA's answer is signed by %s, which GetCACert did not name: all three calls must reach the same server", web.Words(reply.Signer.Subject.String()))
	}
	if err := reply.Answers(m); err != nil {
		return nil, err
	}
	if err != nil && reply.Certificates == nil {
		return nil, fmt.Errorf("the CA's answer: %w", err)
	}
	return reply, nil
}

func take(q ledger.Question, m *scepmsg.Message, reply *scepmsg.Reply) ([][]byte, error) {
	switch reply.Status {
	case scepmsg.StatusSuccess:
		return web.Leaf(reply.Certificates, q.Intent.PublicKey)
	case scepmsg.StatusPending:
		note, err := json.Marshal(handle{TransactionID: m.TransactionID})
		if err != nil {
			return nil, fmt.Errorf("noting transaction %s: %w", m.TransactionID, err)
		}
		if err := q.Note(note); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (transaction %s)", ca.ErrPending, m.TransactionID)
	}
	if q.Handle != nil && reply.FailInfo == scepmsg.BadCertID { // the CA has forgotten the transaction: the next attempt begins another
		if err := q.Note(nil); err != nil {
			return nil, err
		}
	}
	return nil, refusal(reply)
}

// refusal tells what asking again may mend from what it cannot (RFC 8894 section 3.2.1.4).
func refusal(reply *scepmsg.Reply) error {
	words := reply.FailInfo.String()
	if reply.FailText != "" {
		words += ": " + reply.FailText
	}
	words = web.Words(words)
	switch reply.FailInfo {
	case scepmsg.BadMessageCheck:
		return fmt.Errorf("the CA could not open or verify the request (%s): several servers with different keys may answer at that address", words)
	case scepmsg.BadTime:
		return fmt.Errorf("the CA finds the request's time too far off (%s): set both clocks by NTP", words)
	case scepmsg.BadRequest:
		if reply.FailText == "" {
			return ca.Refuse("%s. SCEP says no more: the challenge may be wrong, or the CA's rules do not allow these names", words)
		}
	}
	return ca.Refuse("%s", words)
}
