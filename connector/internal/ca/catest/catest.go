// Package catest is the suite that every adapter of a certification authority passes.
package catest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

// CA is the worker's port, said again so that the suite does not depend on the worker.
type CA interface {
	Info() link.CA
	Issue(ctx context.Context, in ca.Intent) ([][]byte, error)
	Revoke(ctx context.Context, certificate []byte, reason int, at time.Time) (time.Time, error)
}

// Open opens the CA under test on its state; called twice, the second is the same CA after a restart.
type Open func(t *testing.T) CA

// Traits are in what a CA of others may differ from the built-in one.
type Traits struct {
	// CannotRevoke: its protocol has no word for a revocation.
	CannotRevoke bool
	// OwnValidity: it decides itself how long its certificates live.
	OwnValidity bool
	// Names changes what the suite asks for, where a CA certifies no mail addresses.
	Names func(in *ca.Intent)
}

// intent is a usual request with the names that such a CA certifies.
func (tr Traits) intent(t testing.TB, id string, key *rsa.PrivateKey) ca.Intent {
	t.Helper()
	in := Intent(t, id, key)
	if tr.Names != nil {
		tr.Names(&in)
	}
	return in
}

// Run runs the suite. now is the adapter's clock.
func Run(t *testing.T, now time.Time, open Open) { RunWith(t, now, Traits{}, open) }

// RunWith runs the suite on a CA with traits.
func RunWith(t *testing.T, now time.Time, traits Traits, open Open) {
	key := newKey(t)
	t.Run("issue", func(t *testing.T) { issue(t, now, traits, open(t), key) })
	t.Run("same intent, same certificate", func(t *testing.T) { idempotent(t, traits, open, key) })
	t.Run("refusals are final", func(t *testing.T) { refusals(t, traits, open(t), key) })
	t.Run("revoke", func(t *testing.T) {
		if traits.CannotRevoke {
			cannotRevoke(t, now, traits, open, key)
		} else {
			revoke(t, now, traits, open, key)
		}
	})
}

func cannotRevoke(t *testing.T, now time.Time, traits Traits, open Open, key *rsa.PrivateKey) {
	chain := mustIssue(t, open(t), traits.intent(t, "suite-revoke-00001", key))
	if _, err := open(t).Revoke(t.Context(), chain[0], 5, now); !errors.Is(err, ca.ErrCannotRevoke) {
		t.Errorf("got %v", err)
	}
	if _, err := open(t).Revoke(t.Context(), foreign(t, key), 5, now); !errors.Is(err, ca.ErrForeign) {
		t.Errorf("a foreign certificate: %v", err)
	}
}

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Intent is a usual request for tests.
func Intent(t testing.TB, id string, key *rsa.PrivateKey) ca.Intent {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Alice Example"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return ca.Intent{ID: id, PublicKey: key.Public(), Signer: key, Subject: subject, Validity: 365 * 24 * time.Hour,
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "Alice.Example@corp.test"}}}
}

func mustIssue(t *testing.T, c CA, in ca.Intent) [][]byte {
	t.Helper()
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func issue(t *testing.T, now time.Time, traits Traits, c CA, key *rsa.PrivateKey) {
	chain := mustIssue(t, c, traits.intent(t, "suite-issue-000001", key))
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate has another key")
	}
	if traits.Names == nil && (len(leaf.EmailAddresses) != 1 || leaf.EmailAddresses[0] != "Alice.Example@corp.test") {
		t.Errorf("addresses %q: the spelling must be kept", leaf.EmailAddresses)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range append([][]byte{c.Info().Certificate}, c.Info().Chain...) {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(root)
	}
	for _, der := range chain[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	if traits.Names != nil {
		opts.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	if _, err := leaf.Verify(opts); err != nil {
		t.Errorf("the chain does not verify: %v", err)
	}
	if traits.OwnValidity {
		return
	}
	if life := leaf.NotAfter.Sub(now); life > 365*24*time.Hour || life < 364*24*time.Hour {
		t.Errorf("a life of %s", life)
	}
}

func idempotent(t *testing.T, traits Traits, open Open, key *rsa.PrivateKey) {
	in := traits.intent(t, "suite-same-000001", key)
	first := mustIssue(t, open(t), in)
	again := mustIssue(t, open(t), in)
	if string(first[0]) != string(again[0]) {
		t.Error("the same intent gave another certificate")
	}
	other := mustIssue(t, open(t), traits.intent(t, "suite-same-000002", key))
	if string(first[0]) == string(other[0]) {
		t.Error("another intent gave the same certificate")
	}
}

func refusals(t *testing.T, traits Traits, c CA, key *rsa.PrivateKey) {
	mustIssue(t, c, traits.intent(t, "suite-refuse-00001", key))
	cases := map[string]func(*ca.Intent){
		"another key for a known intent": func(in *ca.Intent) {
			other := newKey(t)
			in.ID, in.PublicKey, in.Signer = "suite-refuse-00001", other.Public(), other
		},
		"unknown template": func(in *ca.Intent) { in.Template = "domain-controller" },
	}
	for name, change := range cases {
		in := traits.intent(t, "suite-refuse-00002", key)
		change(&in)
		var refused *ca.RefusedError
		if _, err := c.Issue(t.Context(), in); !errors.As(err, &refused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func revoke(t *testing.T, now time.Time, traits Traits, open Open, key *rsa.PrivateKey) {
	chain := mustIssue(t, open(t), traits.intent(t, "suite-revoke-00001", key))
	at, err := open(t).Revoke(t.Context(), chain[0], 5, now)
	if err != nil || !at.Equal(now.Truncate(time.Second)) {
		t.Fatalf("got %s, %v", at, err)
	}
	again, err := open(t).Revoke(t.Context(), chain[0], 1, now.Add(time.Hour))
	if err != nil || !again.Equal(at) {
		t.Errorf("revoked twice: %s, %v, want the first time %s", again, err, at)
	}
	if _, err := open(t).Revoke(t.Context(), foreign(t, key), 5, now); !errors.Is(err, ca.ErrForeign) {
		t.Errorf("a foreign certificate: %v", err)
	}
}

func foreign(t *testing.T, key *rsa.PrivateKey) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, key.N)
	if err != nil {
		t.Fatal(err)
	}
	serial.Rsh(serial, uint(serial.BitLen()-100))
	template := &x509.Certificate{SerialNumber: serial, NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
