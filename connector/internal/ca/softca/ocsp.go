package softca

import (
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1" // issuers are named by it in most OCSP requests
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

const (
	// answerLife is within the 8 hours to 10 days of the S/MIME baseline requirements, section 4.9.10; answers are made anew
	// daily.
	answerLife = 4 * 24 * time.Hour
	// responderLife is short, since a responder's certificate cannot be revoked (ocsp-nocheck).
	responderLife = 30 * 24 * time.Hour
	// responderRest is what must be left of it for an answer.
	responderRest = 10 * 24 * time.Hour
	responderBits = 2048
)

// responder signs OCSP answers for one issuing CA (RFC 6960 section 4.2.2.2). Its key lives no longer than the process.
type responder struct {
	certificate *x509.Certificate
	key         *rsa.PrivateKey
}

func oidNoCheck() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} }

// newResponder makes a key and has the issuing CA delegate to it. It is good for nothing else.
func newResponder(k *keyring.Keyring, a *keyring.Authority) (*responder, error) {
	key, err := rsa.GenerateKey(k.Rand(), responderBits)
	if err != nil {
		return nil, fmt.Errorf("making the OCSP responder of %s: %w", a.Name, err)
	}
	serial, err := keyring.NewSerial(k.Rand())
	if err != nil {
		return nil, err
	}
	keyID, err := keyring.SubjectKeyID(key.Public())
	if err != nil {
		return nil, err
	}
	from := k.Now().UTC().Add(-backdate).Truncate(time.Second)
	to := from.Add(responderLife)
	if end := a.Certificate.NotAfter; to.After(end) {
		to = end
	}
	der, err := a.Sign(&x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Waxseal OCSP responder " + hex.EncodeToString(keyID[:4])},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature, SubjectKeyId: keyID,
		ExtKeyUsage:     []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: oidNoCheck(), Value: asn1.NullBytes}},
	}, key.Public())
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(der)
	if err := k.Audit(keyring.Event{Action: keyring.ActionIssue, Certificate: hex.EncodeToString(sum[:]), Detail: "OCSP responder of " + string(a.Name)}); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &responder{cert, key}, err
}

// answer signs what is known of a certificate, once for each way of naming the issuer.
func (r *responder) answer(a *keyring.Authority, l learned, now time.Time) (link.StatusAnswer, error) {
	out := link.StatusAnswer{StatusHave: link.StatusHave{CA: string(l.CA), Serial: l.Serial, Revoked: l.Revoked}, NotAfter: l.NotAfter}
	serial, ok := new(big.Int).SetString(l.Serial, 16)
	if !ok {
		return out, fmt.Errorf("%.64q is no serial number", l.Serial)
	}
	from := knownSince(now, l.At)
	t := ocsp.Response{Status: ocsp.Good, SerialNumber: serial, ThisUpdate: from, NextUpdate: from.Add(answerLife), Certificate: r.certificate}
	if t.NextUpdate.After(r.certificate.NotAfter) {
		t.NextUpdate = r.certificate.NotAfter // the issuing CA is about to end
	}
	if l.Revoked {
		t.Status, t.RevokedAt, t.RevocationReason = ocsp.Revoked, l.At, l.Reason
	}
	var err error
	t.IssuerHash = crypto.SHA1
	if out.SHA1, err = ocsp.CreateResponse(a.Certificate, r.certificate, t, r.key); err != nil {
		return out, fmt.Errorf("signing an OCSP answer of %s: %w", a.Name, err)
	}
	t.IssuerHash = crypto.SHA256
	if out.SHA256, err = ocsp.CreateResponse(a.Certificate, r.certificate, t, r.key); err != nil {
		return out, fmt.Errorf("signing an OCSP answer of %s: %w", a.Name, err)
	}
	return out, nil
}

// believe reads a fact from the OCSP answer of another connector, which has the same issuing CAs: whoever can make such a
// responder could have issued and revoked. That an answer is old changes nothing.
func believe(a *keyring.Authority, s link.StatusAnswer) (learned, error) {
	r, err := ocsp.ParseResponse(s.SHA256, a.Certificate)
	if err != nil {
		return learned{}, err
	}
	// x/crypto takes any certificate of the issuer for a responder's, a user's too.
	if r.Certificate == nil || !slices.Contains(r.Certificate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return learned{}, errors.New("it is not signed by an OCSP responder")
	}
	if r.SerialNumber.Sign() <= 0 || r.SerialNumber.Text(16) != s.Serial || r.Status == ocsp.Unknown {
		return learned{}, errors.New("it is for another certificate")
	}
	l := learned{s.Serial, fact{CA: a.Name, NotAfter: s.NotAfter}}
	if r.Status == ocsp.Revoked {
		l.Revoked, l.Reason, l.At = true, r.RevocationReason, r.RevokedAt.UTC()
	}
	return l, nil
}
