package estca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
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

// clientOptions is a connector that the CA knows by a certificate; a zero end is far away.
func clientOptions(t *testing.T, clients *testpki.CA, end time.Time) Options {
	id := clients.Issue(t, testpki.Options{CN: "connector", NotAfter: end, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return Options{ClientCertificate: string(id.CertPEM()), ClientKey: string(id.KeyPEM())}
}

// TestRealESTServer is GlobalSign's: a client certificate, and the whole suite. Its certificates are not for mail, and so
// the suite looks at the chain alone; that the address is in them is looked at here.
func TestRealESTServer(t *testing.T) {
	clients := testpki.NewCA(t, "Clients CA")
	server := realca.StartESTServer(t, clients)
	s := ca.Settings{Name: "corp", Kind: "est", URL: server.URL, TLSRoots: server.Roots, Issuers: server.Issuers}
	up := real(t, s, clientOptions(t, clients, time.Time{}))
	for _, f := range up.Test(t.Context()) {
		if !f.OK {
			t.Errorf("%s: %s", f.Check, f.Detail)
		}
	}
	path := filepath.Join(t.TempDir(), "ca.jsonl")
	traits := catest.Traits{CannotRevoke: true, OwnValidity: true, Names: func(*ca.Intent) {}}
	later := time.Now().Add(time.Minute) // its certificates begin with the next full second
	catest.RunWith(t, later, traits, func(t *testing.T) catest.CA { return openLedger(t, path, s, up, time.Now) })
	t.Run("names", func(t *testing.T) { realNames(t, up, intent(t)) })
	t.Run("device's key", func(t *testing.T) { realNames(t, up, deviceIntent(t, "Alice.Example@corp.test")) })
	t.Run("ended", func(t *testing.T) { realEnded(t, s, clients) })
	t.Run("labels", func(t *testing.T) { realLabels(t, s, clientOptions(t, clients, time.Time{})) })
}

func realNames(t *testing.T, up ledger.Upstream, in ca.Intent) {
	var n note
	chain, err := up.Enroll(t.Context(), n.question(in))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil || leaf.Subject.CommonName != "Alice Example" || !slices.Equal(leaf.EmailAddresses, []string{"Alice.Example@corp.test"}) {
		t.Errorf("%v, %v", leaf, err)
	}
}

// realEnded shows a certificate that ended, upon which the server ends the connection.
func realEnded(t *testing.T, s ca.Settings, clients *testpki.CA) {
	up := real(t, s, clientOptions(t, clients, testpki.Now()))
	var n note
	if chain, err := up.Enroll(t.Context(), n.question(intent(t))); err == nil {
		t.Errorf("%d certificates", len(chain))
	}
	wrong := func(f link.CAFinding) bool { return !f.OK && f.Check == "client certificate" }
	if found := up.Test(t.Context()); !slices.ContainsFunc(found, wrong) {
		t.Errorf("%+v", found)
	}
}

// realLabels uses the label with which the server's CA fails as the common name says.
func realLabels(t *testing.T, s ca.Settings, o Options) {
	s.Templates = []string{"triggererrors"}
	up := real(t, s, o)
	for name, says := range map[string]string{"Deferred": ca.ErrPending.Error(), "Forbidden": web.ErrCredentials.Error() + " (HTTP 403): 403 triggered forbidden", "Unknown": "HTTP 500"} {
		in := intent(t)
		in.Template, in.Subject = "triggererrors", subject(t, "Trigger Error "+name)
		var n note
		if _, err := up.Enroll(t.Context(), n.question(in)); err == nil || !strings.Contains(err.Error(), says) || (n.handle != nil) != (name == "Deferred") {
			t.Errorf("%s: got %v, noted %s", name, err, n.handle)
		}
	}
}

func subject(t *testing.T, cn string) []byte {
	t.Helper()
	der, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return der
}
