package softca

import (
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// lintFolder names the environment variable that tests/lint sets: a linter is no dependency of this module.
const lintFolder = "WAXSEAL_LINT_FOLDER"

// TestWriteForLinter writes a certificate of each template and each kind of subject, those of the CAs and of an OCSP
// responder, and revocation lists, for tests/lint.
func TestWriteForLinter(t *testing.T) {
	dir := os.Getenv(lintFolder)
	if dir == "" {
		t.Skip("tests/lint sets " + lintFolder)
	}
	w := newWorld(t)
	c := w.toLint()
	put := func(name string, der []byte) { w.ok(os.WriteFile(filepath.Join(dir, name), der, 0o600)) }
	for name, der := range c.leavesToLint() {
		put(name+".cer", der)
	}
	_, err := c.k.RollSMIME()
	w.ok(err)
	c.revoke(c.issue("revoked"), 4)
	c.round()
	for name, content := range w.server.files {
		put(filepath.Base(name), content)
	}
	f, err := c.k.SMIME()
	w.ok(err)
	r, err := newResponder(c.k, f.Current())
	w.ok(err)
	put("ocsp-responder.cer", r.certificate.Raw)
}

// toLint has CA keys of the size that `waxseal-connector init` makes.
func (w *world) toLint() *connector {
	w.Helper()
	o := keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return w.now }}
	k, err := keyring.Create(filepath.Join(w.TempDir(), "keyring"), keyring.Settings{Name: "lint", PKIURL: "http://pki.example.com/pki"}, nil, o)
	w.ok(err)
	w.ok(k.MakeAuthorities())
	j, err := journal.Open(k.Path(keyring.FileSoftCA))
	w.ok(err)
	w.Cleanup(func() { _ = j.Close() })
	p := &Publisher{CA: New(k, j), Server: end{w.server, k.Member().ID}, Logger: slog.New(slog.DiscardHandler), After: time.After}
	return &connector{p, w, k, j}
}

// leavesToLint are all templates with all kinds of subjects that a reserved policy fits, and one that none fits.
func (c *connector) leavesToLint() map[string][]byte {
	c.w.Helper()
	out := map[string][]byte{}
	for _, kind := range templates() {
		for name, subject := range map[string]string{
			"empty":   "",
			"mailbox": "CN=alice@corp.test,E=alice@corp.test",
			"sponsor": "CN=Alice Doe,GN=Alice,SN=Doe,O=Example,2.5.4.97=NTRDE-HRB1234,L=Berlin,C=DE",
			"person":  "CN=Alice Doe",
		} {
			in := catest.Intent(c.w, "lint-"+kind.name+"-"+name, testpki.PoolKey(c.w, 0))
			in.Template, in.Subject, in.Validity = kind.name, subjectOf(c.w, subject), MaxValidity
			in.SANs = []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "alice@corp.test"}}
			out[kind.name+"."+name] = issueLeaf(c.w, c.CA, in).Raw
		}
	}
	return out
}
