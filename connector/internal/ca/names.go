package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/profiles"
)

func signSHA256(key crypto.Signer, tbs []byte) ([]byte, error) {
	sum := sha256.Sum256(tbs)
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate request: %w", err)
	}
	return signature, nil
}

// checkedCSR gives a device's request on, if it asks for nothing else than the intent. A request that a CA of others gets
// must not let the device choose its names.
func checkedCSR(in Intent) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(in.CSR)
	if err != nil {
		return nil, Refuse("the device's certificate request does not parse: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, Refuse("the device's certificate request is not signed by its own key")
	}
	if !sameKey(csr.PublicKey, in.PublicKey) {
		return nil, Refuse("the device's certificate request is for another key than the intent's")
	}
	if !sameName(csr.RawSubject, in.Subject) {
		return nil, Refuse("the device's certificate request asks for the subject %q, and this CA would take it from there", csr.Subject)
	}
	if err := checkRequested(in, csr); err != nil {
		return nil, err
	}
	return in.CSR, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	key, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(b)
}

// sameName compares names as people read them: devices choose the string types.
func sameName(a, b []byte) bool {
	var x, y pkix.RDNSequence
	_, errX := asn1.Unmarshal(a, &x)
	_, errY := asn1.Unmarshal(b, &y)
	return errX == nil && errY == nil && x.String() == y.String()
}

// subjectAddresses are the emailAddress attributes of the intent's subject.
func subjectAddresses(der []byte) []string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdns); err != nil {
		return nil
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return profiles.CertificateAddresses(&x509.Certificate{Subject: name})
}

// CheckAnswer refuses a certificate that is not what was asked for: another key, an address or a name too few or too many, a
// CA's, one that is not for mail. What is refused must not reach a device.
func CheckAnswer(in Intent, leaf *x509.Certificate) error {
	switch {
	case !sameKey(leaf.PublicKey, in.PublicKey):
		return Refuse("it issued a certificate for another key than it was asked to certify")
	case leaf.IsCA:
		return Refuse("it issued a certificate of a CA")
	}
	has, want := profiles.CertificateAddresses(leaf), []string{}
	for _, san := range in.SANs {
		if san.Type == profiles.SANEmail {
			want = append(want, san.Value)
		}
	}
	for _, address := range want {
		if !slices.Contains(has, address) {
			return Refuse("it issued a certificate without the address %s (it has %q): mail programs compare it letter by letter", address, has)
		}
	}
	want = append(want, subjectAddresses(in.Subject)...)
	for _, address := range has {
		if !slices.Contains(want, address) {
			return Refuse("it issued a certificate with the address %s, which nobody asked for", address)
		}
	}
	if !sameOrder(in, leaf) {
		return Refuse("it issued a certificate with the addresses %q, not with each once and in the order that was asked for", leaf.EmailAddresses)
	}
	return checkPowers(in, leaf)
}
