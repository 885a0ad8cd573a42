package ca

import (
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// TestNamesOfTheConnectorsOwn: what is the built-in CA's stays its own, with those that follow it.
func TestNamesOfTheConnectorsOwn(t *testing.T) {
	s := Settings{Kind: "est", URL: "https://ca.corp.test", Issuers: string(testpki.NewCA(t, "Corp CA").CertPEM())}
	for name, right := range map[string]bool{"corp": true, "softcard": true, "softca": false, "softca-2": false, "softca-root": false, "device-ca": false, "../x": false, "": false} {
		s.Name = name
		if err := s.Check(); right != (err == nil) || err != nil && !strings.Contains(err.Error(), "name") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestTLSRoots: an empty file is an error that says what belongs there.
func TestTLSRoots(t *testing.T) {
	for name, text := range map[string]string{"no PEM": "x", "a key": "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"} {
		s := Settings{Name: "corp", TLSRoots: text}
		if _, err := s.Client(nil); err == nil || strings.Contains(err.Error(), "%!") || !strings.Contains(err.Error(), "tlsRoots of CA corp") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownWordsAreNamed: all of them at once, with those that would have been right.
func TestUnknownWordsAreNamed(t *testing.T) {
	var s Settings
	err := Decode([]byte(`{"name":"corp","ulr":"https://corp.test","issuer":"x"}`), &s)
	for _, want := range []string{`"issuer", "ulr"`, "issuers", "url", "NAMEFile"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s: %v", want, err)
		}
	}
	if err := Decode([]byte(`["x"]`), &s); err == nil {
		t.Error("a list is no error")
	}
	if err := Decode([]byte(`{"name":"corp","url":"https://corp.test"}`), &s); err != nil || s.URL != "https://corp.test" {
		t.Errorf("%+v, %v", s, err)
	}
}
