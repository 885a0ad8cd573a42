package scepca

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/realca"
	"github.com/waxseal/waxseal/internal/testpki"
)

// real opens an adapter on settings of a program that others wrote; such a program looks at the real clock.
func real(t *testing.T, s ca.Settings, o Options) ledger.Upstream {
	t.Helper()
	var err error
	if s.Options, err = json.Marshal(o); err != nil {
		t.Fatal(err)
	}
	up, err := New(s, ca.Env{Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return up
}

// enrol asks through a ledger, which looks at the answer.
func enrol(t *testing.T, s ca.Settings, up ledger.Upstream, in ca.Intent) (*x509.Certificate, error) {
	t.Helper()
	j, err := journal.Open(filepath.Join(t.TempDir(), "ca.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	c, err := ledger.New(s, up, j, func(...keyring.Event) error { return nil }, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(chain[0])
}

func wantRight(t *testing.T, up ledger.Upstream) {
	t.Helper()
	for _, f := range up.Test(t.Context()) {
		if !f.OK {
			t.Errorf("%s: %s", f.Check, f.Detail)
		}
	}
}

// TestRealSCEPServer is MicroMDM's: a client enrols by POST and AES, a registration authority for a device's key.
func TestRealSCEPServer(t *testing.T) {
	server := realca.StartSCEPServer(t, "s3cret")
	s := ca.Settings{Name: "corp", Kind: "scep", URL: server.URL, Issuers: server.Issuers}
	block, _ := pem.Decode([]byte(server.Issuers))
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	up := real(t, s, Options{Challenge: "s3cret", CAFingerprint: sum(issuer)})
	wantRight(t, up)
	leaf, err := enrol(t, s, up, intent(t))
	if err != nil || len(leaf.EmailAddresses) != 1 {
		t.Fatalf("%v, %v", leaf, err)
	}
	var refused *ca.RefusedError
	if _, err := enrol(t, s, real(t, s, Options{Challenge: "wrong"}), intent(t)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "badRequest") {
		t.Errorf("a wrong challenge: %v", err)
	}
	t.Run("device's key", func(t *testing.T) {
		in := deviceIntent(t)
		in.CSR = csrWithChallenge(t, "s3cret")
		ra := testpki.NewCA(t, "RA CA").Issue(t, testpki.Options{CN: "connector"})
		up := real(t, s, Options{RACertificate: string(ra.CertPEM()), RAKey: string(ra.KeyPEM())})
		if leaf, err := enrol(t, s, up, in); err != nil || !testpki.PoolKey(t, 1).PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("%v, %v", leaf, err)
		}
	})
}

// csrWithChallenge is the request of a device, which has the challenge in it: scepserver looks at nothing else.
func csrWithChallenge(t *testing.T, challenge string) []byte {
	t.Helper()
	der, err := ca.Request(intent(t), challenge)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestRealStepCA: an RSA intermediate behind a root, TLS, and the whole suite.
func TestRealStepCA(t *testing.T) {
	const template = `{"subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature", "keyEncipherment"], "extKeyUsage": ["emailProtection"]}`
	server := realca.StartStepCA(t, map[string]any{"type": "SCEP", "name": "mail", "challenge": "s3cret", "minimumPublicKeyLength": 2048,
		"encryptionAlgorithmIdentifier": 2, "options": map[string]any{"x509": map[string]any{"template": template}}})
	s := ca.Settings{Name: "corp", Kind: "scep", URL: server.URL + "/scep/mail", TLSRoots: server.Roots, Issuers: server.Issuers}
	up := real(t, s, Options{Challenge: "s3cret"})
	wantRight(t, up)
	path := filepath.Join(t.TempDir(), "ca.jsonl")
	catest.RunWith(t, time.Now(), catest.Traits{CannotRevoke: true, OwnValidity: true}, func(t *testing.T) catest.CA {
		j, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		c, err := ledger.New(s, up, j, func(...keyring.Event) error { return nil }, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
	var refused *ca.RefusedError
	_, err := enrol(t, s, real(t, s, Options{Challenge: "wrong"}), intent(t))
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "failed validating challenge password") {
		t.Errorf("a wrong challenge: %v", err)
	}
}
