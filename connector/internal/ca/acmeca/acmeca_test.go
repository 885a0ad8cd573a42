package acmeca

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

type note struct{ handle []byte }

func (n *note) question(in ca.Intent) ledger.Question {
	return ledger.Question{Intent: in, Handle: n.handle, Note: func(h []byte) error { n.handle = h; return nil }}
}

func intent(t testing.TB) ca.Intent {
	return catest.Intent(t, "acme-00000000001", testpki.PoolKey(t, 1))
}

func conformance(t *testing.T, s ca.Settings, up ledger.Upstream, now time.Time, traits catest.Traits) {
	path := filepath.Join(t.TempDir(), "ca.jsonl")
	catest.RunWith(t, now, traits, func(t *testing.T) catest.CA {
		j, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		c, err := ledger.New(s, up, j, func(...keyring.Event) error { return nil }, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func mustEnroll(t *testing.T, up ledger.Upstream, n *note, in ca.Intent) *x509.Certificate {
	t.Helper()
	chain, err := up.Enroll(t.Context(), n.question(in))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestConformance(t *testing.T) {
	f := newFake(t)
	conformance(t, f.settings(usual(t)), f.adapter(usual(t)), testpki.Now(), catest.Traits{OwnValidity: true})
}

// TestMovedCA: after an upgrade a CA may have other addresses; its directory says so, and a running connector looks there again.
func TestMovedCA(t *testing.T) {
	for name, gone := range map[string]func(http.ResponseWriter){"a page": body(404, "<html>"), "a problem": problem(404, "malformed", "page not found")} {
		f := newFake(t)
		a := f.adapter(usual(t))
		mustEnroll(t, a, &note{}, intent(t))
		f.fail["new-order"], f.orderURL = gone, "order-plz"
		if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); err == nil {
			t.Fatalf("%s: no error", name)
		}
		if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCertificateThatIsGone: an order of long ago is valid, and the CA keeps its certificate no more.
func TestCertificateThatIsGone(t *testing.T) {
	f := newFake(t)
	a, n := f.adapter(usual(t)), &note{}
	f.fail["cert"] = body(502, "")
	if _, err := a.Enroll(t.Context(), n.question(intent(t))); err == nil {
		t.Fatal("no error")
	}
	f.fail["cert"] = problem(404, "malformed", "certificate not found")
	if _, err := a.Enroll(t.Context(), n.question(intent(t))); err == nil || len(f.orders) != 1 {
		t.Fatalf("got %v, %d orders", err, len(f.orders))
	}
	delete(f.fail, "cert")
	if _, err := a.Enroll(t.Context(), n.question(intent(t))); err != nil || len(f.orders) != 2 {
		t.Errorf("got %v, %d orders", err, len(f.orders))
	}
}

// TestAccount: it is made once, with what the admin said, and found again.
func TestAccount(t *testing.T) {
	f := newFake(t)
	f.meta = map[string]any{"externalAccountRequired": true, "termsOfService": "https://ca.corp.test/terms"}
	o := usual(t)
	o.Contact, o.AcceptTerms, o.EABKeyID, o.EABHMAC = []string{"mailto:pki@corp.test"}, true, "kid-7", base64.RawURLEncoding.EncodeToString([]byte(bindingKey))+"\n"
	for range 2 {
		mustEnroll(t, f.adapter(o), &note{}, intent(t))
	}
	if f.bound != "kid-7" || f.account["termsOfServiceAgreed"] != true || f.account["contact"].([]any)[0] != "mailto:pki@corp.test" {
		t.Errorf("bound to %q, account %v", f.bound, f.account)
	}
	for name, change := range map[string]func(o *Options){
		"set acceptTerms": func(o *Options) { o.AcceptTerms = false },
		"eabKeyID":        func(o *Options) { o.EABKeyID, o.EABHMAC = "", "" },
	} {
		f.key = nil
		o := o
		change(&o)
		if _, err := f.adapter(o).Enroll(t.Context(), (&note{}).question(intent(t))); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOrder: what the order asks, by template and validity.
func TestOrder(t *testing.T) {
	f := newFake(t)
	f.meta = map[string]any{"profiles": map[string]string{"smime": "mail", "usual": "u"}}
	o := usual(t)
	o.Profile, o.Profiles, o.RequestValidity = "usual", map[string]string{"signing": "smime"}, true
	a := f.adapter(o)
	in := intent(t)
	mustEnroll(t, a, &note{}, in)
	in.Template = "signing"
	mustEnroll(t, a, &note{}, in)
	got := f.orders[1]
	if f.orders[0].Profile != "usual" || got.Profile != "smime" || got.NotAfter != testpki.Now().Add(in.Validity).Format(time.RFC3339) {
		t.Errorf("orders %+v, %+v", f.orders[0], got)
	}
	if id := got.Identifiers; len(id) != 1 || id[0]["type"] != "email" || id[0]["value"] != "Alice.Example@corp.test" {
		t.Errorf("identifiers %v", id)
	}
	f.meta["profiles"] = map[string]string{"other": "x"}
	if _, err := f.adapter(o).Enroll(t.Context(), (&note{}).question(in)); err == nil || !strings.Contains(err.Error(), "smime") {
		t.Errorf("a profile that the CA does not offer: %v", err)
	}
}

// TestPendingThenIssued: the order is noted before anything comes of it, and no second one is made for an answer that came
// late or was lost.
func TestPendingThenIssued(t *testing.T) {
	f := newFake(t)
	f.hold = true
	a := f.adapter(usual(t))
	a.waiting = 10 * time.Millisecond
	var n note
	for range 2 {
		if _, err := a.Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) {
			t.Fatalf("got %v", err)
		}
		if string(n.handle) != f.url("order/0") {
			t.Fatalf("noted %q", n.handle)
		}
	}
	f.issue(f.orders[0])
	f.fail["cert"] = body(500, "")
	if _, err := a.Enroll(t.Context(), n.question(intent(t))); err == nil || errors.Is(err, ca.ErrPending) {
		t.Fatalf("a lost certificate: %v", err)
	}
	delete(f.fail, "cert")
	mustEnroll(t, a, &n, intent(t))
	if len(f.orders) != 1 {
		t.Errorf("%d orders", len(f.orders))
	}
}

// TestOrderOfNoUse: an order that came to nothing is followed by another.
func TestOrderOfNoUse(t *testing.T) {
	cases := map[string]func(f *fake, o *order, n *note){
		"invalid":   func(_ *fake, o *order, _ *note) { o.Status = "invalid" },
		"expired":   func(_ *fake, o *order, _ *note) { o.Expires = testpki.Now().Add(-time.Minute).Format(time.RFC3339) },
		"forgotten": func(f *fake, _ *order, n *note) { n.handle = []byte(f.url("order/77")) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.fail["finalize"] = body(503, "")
			a, n := f.adapter(usual(t)), &note{}
			if _, err := a.Enroll(t.Context(), n.question(intent(t))); err == nil {
				t.Fatal("no error")
			}
			spoil(f, f.orders[0], n)
			delete(f.fail, "finalize")
			mustEnroll(t, a, n, intent(t))
			if len(f.orders) != 2 || string(n.handle) != f.url("order/1") {
				t.Errorf("%d orders, noted %q", len(f.orders), n.handle)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	cases := []struct {
		name, path string
		answer     func(w http.ResponseWriter)
		refused    bool
		is         error
		says       string
	}{
		{"bad CSR", "finalize", problem(400, "badCSR", "no\x07 such\nname"), true, nil, "no such name"},
		{"rejected", "new-order", problem(400, "rejectedIdentifier", "not this address"), true, nil, "not this address"},
		{"no mail addresses", "new-order", problem(400, "unsupportedIdentifier", "dns only"), true, nil, "dns only"},
		{"rate limit", "new-order", problem(429, "rateLimited", "slowly", "Retry-After", "120"), false, nil, "again after 2m0s"},
		{"rate limit without a time", "new-order", problem(429, "rateLimited", "slowly"), false, nil, "for now: slowly"},
		{"no account there", "new-order", problem(400, "accountDoesNotExist", "gone"), false, web.ErrCredentials, "gone"},
		{"unauthorized", "finalize", problem(403, "unauthorized", "not yours"), false, web.ErrCredentials, "not yours"},
		{"an account of another kind", "account", problem(400, "malformed", "no such binding"), false, web.ErrCredentials, "no such binding"},
		{"not now", "finalize", problem(403, "caa", "CAA record forbids"), false, nil, "the CA answers caa: CAA"},
		{"401", "account", body(401, ""), false, web.ErrCredentials, "401"},
		{"down", "new-order", body(503, "down"), false, nil, "503"},
		{"internal", "finalize", problem(500, "serverInternal", "oops"), false, nil, "oops"},
		{"garbage", "new-order", body(201, "<html>"), false, nil, "asking the CA"},
		{"garbage for a directory", "directory", body(200, "<html>"), false, nil, "asking the CA"},
		{"garbage for a certificate", "cert", body(200, "hello"), false, nil, "asking the CA"},
		{"a key for a certificate", "cert", body(200, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), false, nil, "asking the CA"},
		{"a certificate of garbage", "cert", body(200, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), false, nil, "does not parse"},
		{"huge", "cert", body(200, strings.Repeat("A", ca.MaxAnswer+1)), false, nil, "too large"},
		{"a huge problem", "new-order", body(400, strings.Repeat("A", ca.MaxAnswer+1)), false, nil, "400"},
		{"elsewhere", "new-order", body(307, "", "Location", "https://login.corp.test/"), false, nil, "final address"},
		{"an order nowhere", "new-order", body(201, `{"status":"ready"}`), false, nil, "does not say where"},
		{"an order without TLS", "new-order", body(201, `{"status":"pending","authorizations":["http://127.0.0.1/x"]}`, "Location", "https://127.0.0.1/o"), false, nil, "https://"},
		{"too many authorisations", "new-order", body(201, `{"status":"pending","authorizations":["a"`+strings.Repeat(`,"a"`, maxAuthorizations)+`]}`, "Location", "https://127.0.0.1/o"), false, nil, "at most 64"},
		{"the order was given up", "finalize", body(200, `{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:badCSR","detail":"weak key"}}`), false, nil, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.fail[tc.path] = tc.answer
			_, err := f.adapter(usual(t)).Enroll(t.Context(), (&note{}).question(intent(t)))
			var refused *ca.RefusedError
			if err == nil || errors.As(err, &refused) != tc.refused || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %q", err, tc.says)
			}
			if strings.ContainsAny(err.Error(), "\a\n") || len(err.Error()) > 600 {
				t.Errorf("the error has what it must not: %q", err)
			}
		})
	}
}

// TestOrderGivenUp: the CA's reason for an invalid order is the person's.
func TestOrderGivenUp(t *testing.T) {
	f := newFake(t)
	f.fail["finalize"] = func(w http.ResponseWriter) {
		o := f.orders[0]
		o.Status, o.Error = "invalid", map[string]any{"type": "urn:ietf:params:acme:error:badCSR", "detail": "weak key"}
		f.answer(w, 200, o)
	}
	_, err := f.adapter(usual(t)).Enroll(t.Context(), (&note{}).question(intent(t)))
	var refused *ca.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "weak key") {
		t.Errorf("got %v", err)
	}
	for kind, want := range map[string]bool{"unauthorized": false, "rejectedIdentifier": true} {
		err := explainProblems(&acme.OrderError{Problem: &acme.Error{ProblemType: problemSpace + kind, Detail: "weak key"}})
		if errors.As(err, &refused) != want || errors.Is(err, web.ErrCredentials) || !strings.Contains(err.Error(), "weak key") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestForgottenAccount: an account that the CA lost is made again.
func TestForgottenAccount(t *testing.T) {
	f := newFake(t)
	a := f.adapter(usual(t))
	mustEnroll(t, a, &note{}, intent(t))
	f.key = nil
	f.fail["new-order"] = problem(400, "accountDoesNotExist", "gone")
	if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); err == nil {
		t.Fatal("no error")
	}
	delete(f.fail, "new-order")
	mustEnroll(t, a, &note{}, intent(t))
}

func TestDeactivatedAccount(t *testing.T) {
	f := newFake(t)
	f.fail["account"] = body(200, `{"status":"deactivated"}`)
	if _, err := f.adapter(usual(t)).Enroll(t.Context(), (&note{}).question(intent(t))); !errors.Is(err, web.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}

func TestSlow(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	f.fail["new-order"] = func(http.ResponseWriter) { cancel(); <-release }
	_, err := f.adapter(usual(t)).Enroll(ctx, (&note{}).question(intent(t)))
	close(release)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNames(t *testing.T) {
	f := newFake(t)
	dns := profiles.SubjectAlternativeName{Type: profiles.SANDNS, Value: "alice.corp.test"}
	cases := []struct {
		name, kind string
		change     func(in *ca.Intent)
		want       string // empty: refused
	}{
		{"two addresses", "email", func(in *ca.Intent) {
			in.SANs = append(in.SANs, in.SANs[0], profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: "a@corp.test"})
		}, "email:Alice.Example@corp.test email:a@corp.test"},
		{"no address", "email", func(in *ca.Intent) { in.SANs = []profiles.SubjectAlternativeName{dns} }, ""},
		{"dns", "dns", func(in *ca.Intent) { in.SANs = []profiles.SubjectAlternativeName{dns} }, "dns:alice.corp.test"},
		{"an address from a CA of dns names", "dns", func(in *ca.Intent) { in.SANs = append(in.SANs, dns) }, ""},
		{"permanent", "permanent-identifier", func(*ca.Intent) {}, "permanent-identifier:Alice Example"},
		{"permanent without a name", "permanent-identifier", func(in *ca.Intent) { in.Subject = []byte{0x30, 0x00} }, ""},
	}
	for _, tc := range cases {
		o, in := usual(t), intent(t)
		o.Identifier = tc.kind
		tc.change(&in)
		ids, err := f.adapter(o).identifiers(in)
		var got []string
		for _, id := range ids {
			got = append(got, id.Type+":"+id.Value)
		}
		var refused *ca.RefusedError
		if strings.Join(got, " ") != tc.want || errors.As(err, &refused) != (tc.want == "") {
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
}

func TestRevoke(t *testing.T) {
	f := newFake(t)
	a := f.adapter(usual(t))
	leaf := mustEnroll(t, a, &note{}, intent(t))
	for range 2 {
		if err := a.Revoke(t.Context(), leaf, 4); err != nil {
			t.Fatal(err)
		}
	}
	other := mustEnroll(t, a, &note{}, intent(t))
	if err := a.Revoke(t.Context(), other, 9); err != nil { // a reason that this CA does not take
		t.Fatal(err)
	}
	reasons := map[float64]int{}
	for _, reason := range f.revoked {
		reasons[reason]++
	}
	if reasons[4] != 1 || reasons[0] != 1 {
		t.Errorf("revoked %v", f.revoked)
	}
	f.fail["revoke"] = problem(403, "unauthorized", "not yours")
	if err := a.Revoke(t.Context(), leaf, 4); !errors.Is(err, web.ErrCredentials) {
		t.Errorf("got %v", err)
	}
	f.fail["directory"] = body(200, `{"newNonce":"`+f.url("nonce")+`","newAccount":"`+f.url("account")+`","newOrder":"`+f.url("new-order")+`"}`)
	if err := f.adapter(usual(t)).Revoke(t.Context(), leaf, 4); !errors.Is(err, ca.ErrCannotRevoke) {
		t.Errorf("without revokeCert: %v", err)
	}
}

func TestSettings(t *testing.T) {
	cases := []struct {
		name   string
		change func(s *ca.Settings, o *Options)
		says   string
	}{
		{"no key", func(_ *ca.Settings, o *Options) { o.AccountKey = " \n" }, "accountKey is missing"},
		{"no PEM", func(_ *ca.Settings, o *Options) { o.AccountKey = "hunter2" }, "accountKey: a PEM private key"},
		{"a certificate", func(_ *ca.Settings, o *Options) { o.AccountKey = string(testpki.NewCA(t, "X").CertPEM()) }, "accountKey: a PEM private key"},
		{"half a binding", func(_ *ca.Settings, o *Options) { o.EABKeyID = "kid" }, "belong together"},
		{"no base64", func(_ *ca.Settings, o *Options) { o.EABKeyID, o.EABHMAC = "kid", "hunter2!" }, "not base64url"},
		{"identifier", func(_ *ca.Settings, o *Options) { o.Identifier = "upn" }, "email, dns and permanent-identifier"},
		{"webroot", func(_ *ca.Settings, o *Options) { o.Webroot = "www" }, "absolute path"},
		{"command", func(_ *ca.Settings, o *Options) { o.DNSCommand = []string{"hook"} }, "dnsCommand"},
		{"contact", func(_ *ca.Settings, o *Options) { o.Contact = []string{"pki@corp.test"} }, "mailto:"},
		{"template", func(s *ca.Settings, _ *Options) { s.Templates = []string{"signing"} }, `"signing"`},
		{"http", func(s *ca.Settings, _ *Options) { s.URL = "http://ca.corp.test/directory" }, "https://"},
	}
	for _, tc := range cases {
		s, o := ca.Settings{Name: "corp", Kind: "acme", URL: "https://ca.corp.test/directory"}, usual(t)
		tc.change(&s, &o)
		s.Options, _ = json.Marshal(o)
		_, err := New(s, ca.Env{})
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.says)
		}
	}
}
