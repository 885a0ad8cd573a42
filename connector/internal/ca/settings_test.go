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
