package scepmsg

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/cms"
)

// maxRSABits bounds the arithmetic that a stranger can ask for: a key as long as a message may be costs seconds.
const maxRSABits = 8192

// Request is a message from a client.
type Request struct {
	MessageType   MessageType
	TransactionID string
	SenderNonce   []byte
	// Signer is self-signed in a first request, and the certificate to renew in a renewal. Only the signature was
	// checked.
	Signer *x509.Certificate
	// CSR is set for PKCSReq and RenewalReq; its own signature was checked.
	CSR *x509.CertificateRequest
	// Challenge is the challengePassword inside the CSR, a secret.
	Challenge string
	// Issuer and Subject are the encoded names that a CertPoll asks with.
	Issuer, Subject []byte
}

// RequestError is a fault of a request, with the failInfo to answer it with.
type RequestError struct {
	FailInfo FailInfo
	Err      error
}

func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RequestError) Unwrap() error { return e.Err }

// ParseRequest verifies a request's signature and opens it with the RA's certificate and key. When the header could be
// read but the rest is at fault, it returns both the request, which Failure can answer, and a *RequestError.
//
// Single DES is read, although RFC 8894 has no word for it: micromdm's scepclient and whoever leaves smallstep/pkcs7 as it is
// send nothing else, whatever GetCACaps says. What it hides, a challenge that works once, came over the same TLS before.
func ParseRequest(der []byte, raCert *x509.Certificate, raKey crypto.Decrypter) (*Request, error) {
	h, signed, err := open(der)
	if err != nil {
		return nil, err
	}
	if len(h.senderNonce) == 0 {
		return nil, fmt.Errorf("%w: no sender nonce", ErrMalformed)
	}
	req := &Request{MessageType: h.messageType, TransactionID: h.transactionID, SenderNonce: h.senderNonce, Signer: signed.Signer}
	switch h.messageType {
	case PKCSReq, RenewalReq, CertPoll:
	default:
		return req, &RequestError{BadRequest, fmt.Errorf("SCEP message type %q is not supported", h.messageType)}
	}
	content, err := cms.DecryptEvenDES(signed.Content, raCert, raKey)
	if err != nil {
		return req, &RequestError{decryptFailure(err), fmt.Errorf("opening SCEP request: %w", err)}
	}
	if h.messageType == CertPoll {
		return req, req.readPoll(content)
	}
	return req, req.readCSR(content)
}

func decryptFailure(err error) FailInfo {
	if errors.Is(err, cms.ErrUnsupported) {
		return BadAlg
	}
	return BadMessageCheck
}

func (r *Request) readPoll(content []byte) error {
	var names issuerAndSubject
	if rest, err := asn1.Unmarshal(content, &names); err != nil || len(rest) != 0 {
		return &RequestError{BadRequest, fmt.Errorf("%w: issuer and subject", ErrMalformed)}
	}
	r.Issuer, r.Subject = names.Issuer.FullBytes, names.Subject.FullBytes
	return nil
}

func (r *Request) readCSR(content []byte) error {
	csr, err := x509.ParseCertificateRequest(content)
	if err != nil {
		return &RequestError{BadRequest, fmt.Errorf("%w: certificate request: %v", ErrMalformed, err)}
	}
	if key, ok := csr.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return &RequestError{BadAlg, fmt.Errorf("the certificate request has an RSA key of %d bits: at most %d are taken", key.N.BitLen(), maxRSABits)}
	}
	if err := csr.CheckSignature(); err != nil {
		return &RequestError{BadMessageCheck, fmt.Errorf("certificate request's own signature: %w", err)}
	}
	// RFC 8894 section 2.3: the self-signed certificate of a first request is of the key that is enrolled. Otherwise
	// the answer would be encrypted to somebody else.
	if selfIssued(r.Signer) && !samePublic(r.Signer.PublicKey, csr.PublicKey) {
		return &RequestError{BadMessageCheck, errors.New("SCEP request is signed by another key than its certificate request")}
	}
	challenge, err := challengePassword(csr.RawTBSCertificateRequest)
	if err != nil {
		return &RequestError{BadRequest, err}
	}
	r.CSR, r.Challenge = csr, challenge
	return nil
}

func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawIssuer, cert.RawSubject) }

// challengePassword reads the attribute of PKCS #9 section 5.4.1, "" when there is none. It must not be there twice:
// who checks one and who reads the other could differ.
func challengePassword(tbs []byte) (string, error) {
	var csr struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []asn1.RawValue `asn1:"tag:0"`
	}
	if _, err := asn1.Unmarshal(tbs, &csr); err != nil {
		return "", fmt.Errorf("%w: certificate request: %v", ErrMalformed, err)
	}
	var found []string
	for _, raw := range csr.Attributes {
		var attr struct {
			Type   asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		if _, err := asn1.Unmarshal(raw.FullBytes, &attr); err != nil {
			return "", fmt.Errorf("%w: attribute of the certificate request", ErrMalformed)
		}
		if attr.Type.String() != "1.2.840.113549.1.9.7" {
			continue
		}
		for _, v := range attr.Values {
			found = append(found, string(v.Bytes))
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: certificate request with several challenge passwords", ErrMalformed)
}

// Success answers with a certificate, encrypted to the request's signer.
func Success(req *Request, cert *x509.Certificate, chain []*x509.Certificate, raCert *x509.Certificate, raKey crypto.Signer) ([]byte, error) {
	bag, err := cms.CertsOnly(append([]*x509.Certificate{cert}, chain...)...)
	if err != nil {
		return nil, err
	}
	recipient := []*x509.Certificate{req.Signer}
	envelope, err := cms.Encrypt(rand.Reader, bag, recipient, cms.EncryptOptions{Cipher: cms.AES128CBC})
	if err != nil {
		return nil, fmt.Errorf("encrypting SCEP reply: %w", err)
	}
	return req.reply(header{status: StatusSuccess}, envelope, raCert, raKey)
}

// Failure answers with a reason.
func Failure(req *Request, info FailInfo, raCert *x509.Certificate, raKey crypto.Signer) ([]byte, error) {
	return req.reply(header{status: StatusFailure, failInfo: info}, nil, raCert, raKey)
}

// Pending asks the client to poll later.
func Pending(req *Request, raCert *x509.Certificate, raKey crypto.Signer) ([]byte, error) {
	return req.reply(header{status: StatusPending}, nil, raCert, raKey)
}

func (r *Request) reply(h header, content []byte, raCert *x509.Certificate, raKey crypto.Signer) ([]byte, error) {
	nonce, err := newNonce(rand.Reader)
	if err != nil {
		return nil, err
	}
	h.messageType, h.transactionID = CertRep, r.TransactionID
	h.senderNonce, h.recipientNonce = nonce, r.SenderNonce
	return h.sign(content, raCert, raKey)
}
