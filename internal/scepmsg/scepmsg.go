// Package scepmsg writes and reads the messages of the Simple Certificate Enrolment Protocol (RFC 8894 section 3) for
// both sides, on internal/cms. It knows the protocol and nothing of what is enrolled.
//
// A message is SignedData over EnvelopedData over a request or a certificate bag. Its header (type, transaction,
// nonces, status) is signed attributes. What is written uses SHA-256 and AES-128-CBC, the meanings of "SHA-256" and
// "AES" in GetCACaps; what is read may also be SHA-1 and 3DES, as older programs send, and even DES.
package scepmsg

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
)

// MaxSize is the longest message that is read. A request takes about 4 KB.
const MaxSize = 64 << 10

// MessageType is RFC 8894 section 3.2.1.2.
type MessageType string

// The message types that are known here.
const (
	CertRep    MessageType = "3"
	RenewalReq MessageType = "17"
	PKCSReq    MessageType = "19"
	CertPoll   MessageType = "20"
)

// Status is pkiStatus of RFC 8894 section 3.2.1.3.
type Status string

// The statuses of a CertRep.
const (
	StatusSuccess Status = "0"
	StatusFailure Status = "2"
	StatusPending Status = "3"
)

// FailInfo is RFC 8894 section 3.2.1.4.
type FailInfo string

// The reasons of a failure.
const (
	BadAlg          FailInfo = "0"
	BadMessageCheck FailInfo = "1"
	BadRequest      FailInfo = "2"
	BadTime         FailInfo = "3"
	BadCertID       FailInfo = "4"
)

// String is the name that RFC 8894 gives.
func (f FailInfo) String() string {
	switch f {
	case BadAlg:
		return "badAlg"
	case BadMessageCheck:
		return "badMessageCheck"
	case BadRequest:
		return "badRequest"
	case BadTime:
		return "badTime"
	case BadCertID:
		return "badCertId"
	}
	return "failInfo " + string(f)
}

// ErrMalformed says that the bytes are not a SCEP message.
var ErrMalformed = errors.New("malformed SCEP message")

// attributes of the header, arc 2.16.840.1.113733.1.9 (RFC 8894 section 3.2.1).
func headerOID(n int) asn1.ObjectIdentifier {
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

// failInfoTextOID is id-scep-failInfoText (RFC 8894 section 3.2.1.4.1).
func failInfoTextOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 24, 1}
}

// nonceSize is demanded by RFC 8894 section 3.2.1.5.
const nonceSize = 16

func newNonce(rand io.Reader) ([]byte, error) {
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, fmt.Errorf("reading randomness for a nonce: %w", err)
	}
	return nonce, nil
}

// header is the signed attributes.
type header struct {
	messageType    MessageType
	transactionID  string
	status         Status
	failInfo       FailInfo
	failText       string
	senderNonce    []byte
	recipientNonce []byte
}

func (h header) attributes() []cms.Attribute {
	out := []cms.Attribute{
		{Type: headerOID(attrMessageType), Value: string(h.messageType)},
		{Type: headerOID(attrTransactionID), Value: h.transactionID},
		{Type: headerOID(attrSenderNonce), Value: h.senderNonce},
	}
	if h.recipientNonce != nil {
		out = append(out, cms.Attribute{Type: headerOID(attrRecipientNonce), Value: h.recipientNonce})
	}
	if h.status != "" {
		out = append(out, cms.Attribute{Type: headerOID(attrStatus), Value: string(h.status)})
	}
	if h.failInfo != "" {
		out = append(out, cms.Attribute{Type: headerOID(attrFailInfo), Value: string(h.failInfo)})
	}
	if h.failText != "" {
		value := asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(h.failText)}
		out = append(out, cms.Attribute{Type: failInfoTextOID(), Value: value})
	}
	return out
}

// sign writes a message; content is empty for a failure or a pending answer.
func (h header) sign(content []byte, cert *x509.Certificate, key crypto.Signer, chain ...*x509.Certificate) ([]byte, error) {
	der, err := cms.Sign(content, cert, key, cms.SignOptions{Attributes: h.attributes(), Chain: chain})
	if err != nil {
		return nil, fmt.Errorf("signing SCEP message: %w", err)
	}
	return der, nil
}

// open verifies the signature of a message and reads its header.
func open(der []byte) (header, *cms.Signed, error) {
	var h header
	if len(der) > MaxSize {
		return h, nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	signed, err := cms.Verify(der)
	if errors.Is(err, cms.ErrMalformed) {
		// RFC 8894 section 3.2: without an envelope, the content may be absent.
		if s, e := cms.VerifyDetached(der, nil); e == nil {
			signed, err = s, nil
		}
	}
	if err != nil {
		return h, nil, fmt.Errorf("reading SCEP message: %w", err)
	}
	h.messageType = MessageType(text(signed, headerOID(attrMessageType)))
	h.transactionID = text(signed, headerOID(attrTransactionID))
	h.status = Status(text(signed, headerOID(attrStatus)))
	h.failInfo = FailInfo(text(signed, headerOID(attrFailInfo)))
	h.failText = text(signed, failInfoTextOID())
	h.senderNonce = octets(signed, attrSenderNonce)
	h.recipientNonce = octets(signed, attrRecipientNonce)
	if h.messageType == "" || h.transactionID == "" {
		return h, nil, fmt.Errorf("%w: no message type or transaction id", ErrMalformed)
	}
	return h, signed, nil
}

func text(signed *cms.Signed, attr asn1.ObjectIdentifier) string {
	var s string
	if _, err := asn1.Unmarshal(signed.Attribute(attr), &s); err != nil {
		return ""
	}
	return s
}

func octets(signed *cms.Signed, attr int) []byte {
	var b []byte
	if _, err := asn1.Unmarshal(signed.Attribute(headerOID(attr)), &b); err != nil {
		return nil
	}
	return b
}

// samePublic reports whether two public keys are equal.
func samePublic(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// contains reports whether a certificate is in a list.
func contains(certs []*x509.Certificate, cert *x509.Certificate) bool {
	return slices.ContainsFunc(certs, cert.Equal)
}
