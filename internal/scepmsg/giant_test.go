package scepmsg

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// TestGiantKeyIsNotReckonedWith: a stranger's request must not cost more than a look at the length of its key.
func TestGiantKeyIsNotReckonedWith(t *testing.T) {
	der := newCSR(t, "x", "", testpki.PoolKey(t, 0))
	old, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	giant, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 400_000, 1), E: 1<<31 - 1})
	if err != nil {
		t.Fatal(err)
	}
	var outer struct{ Info, Algorithm, Signature asn1.RawValue }
	var info []asn1.RawValue
	_, err1 := asn1.Unmarshal(der, &outer)
	_, err2 := asn1.Unmarshal(outer.Info.FullBytes, &info)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for i := range info {
		if bytes.Equal(info[i].FullBytes, old.RawSubjectPublicKeyInfo) {
			info[i] = asn1.RawValue{FullBytes: giant}
		}
	}
	inner, err1 := asn1.Marshal(info)
	outer.Info = asn1.RawValue{FullBytes: inner}
	der, err2 = asn1.Marshal(outer)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var refused *RequestError
	if err := (&Request{Signer: &x509.Certificate{}}).readCSR(der); !errors.As(err, &refused) || !strings.Contains(err.Error(), "400001 bits") {
		t.Errorf("got %v", err)
	}
}
