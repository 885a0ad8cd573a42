package pfx

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// TestGiantKeys: arithmetic with keys as long as a file may be would keep the import busy for hours.
func TestGiantKeys(t *testing.T) {
	var unsupported *UnsupportedError
	r := &reader{}
	if err := r.addKey(make([]byte, maxKeyDER+1), label{}); !errors.As(err, &unsupported) {
		t.Errorf("a giant private key: %v", err)
	}
	giant, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), maxRSABits, 1), E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := home(t, testpki.RSA2048)
	bag := func(raw []byte) []byte { return bagOf(t, raw) }
	if err := r.addCert(bag(make([]byte, maxCertDER+1)), label{}); !errors.As(err, &unsupported) {
		t.Errorf("a giant certificate: %v", err)
	}
	if err := r.addCert(bag(withKey(t, id.Cert, giant)), label{}); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "16385 bits") {
		t.Errorf("a certificate with a giant key: %v", err)
	}
	if err := r.addCert(bag(id.Cert.Raw), label{}); err != nil || len(r.certs) != 1 {
		t.Errorf("a common one: %v", err)
	}
}

// bagOf is the value of a certificate bag.
func bagOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	octet, err1 := asn1.Marshal(raw)
	der, err2 := asn1.Marshal(certBag{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}, Cert: explicit(octet)})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return der
}

// explicit is what carries a value with the tag [0].
func explicit(der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: der}
}

// withKey puts another public key into a certificate, whose signature is wrong then.
func withKey(t *testing.T, cert *x509.Certificate, spki []byte) []byte {
	t.Helper()
	var outer struct{ TBS, Algorithm, Signature asn1.RawValue }
	var tbs []asn1.RawValue
	if _, err := asn1.Unmarshal(cert.Raw, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.TBS.FullBytes, &tbs); err != nil {
		t.Fatal(err)
	}
	for i := range tbs {
		if string(tbs[i].FullBytes) == string(cert.RawSubjectPublicKeyInfo) {
			tbs[i] = asn1.RawValue{FullBytes: spki}
		}
	}
	inner, err1 := asn1.Marshal(tbs)
	outer.TBS = asn1.RawValue{FullBytes: inner}
	der, err2 := asn1.Marshal(outer)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return der
}

func TestErrorsDoNotDriveTheTerminal(t *testing.T) {
	err := &KeyMismatchError{FriendlyName: "a\x1b[2Jb", Certificates: []string{"CN=\x1b]0;x\x07"}}
	if strings.ContainsAny(err.Error(), "\x1b\x07") {
		t.Errorf("got %q", err.Error())
	}
}
