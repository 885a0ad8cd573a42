package digicert

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
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
	return catest.Intent(t, "digicert-00000001", testpki.PoolKey(t, 1))
}

func conformance(t *testing.T, s ca.Settings, up ledger.Upstream) {
	path := filepath.Join(t.TempDir(), "ca.jsonl")
	audit := func(...keyring.Event) error { return nil }
	catest.RunWith(t, testpki.Now(), catest.Traits{OwnValidity: true}, func(t *testing.T) catest.CA {
		j, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		c, err := ledger.New(s, up, j, audit, testpki.Now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

func TestConformance(t *testing.T) {
	m := newManager(t)
	conformance(t, m.settings(usual()), m.adapter(usual()))
}

func subject(t testing.TB, names ...pkix.AttributeTypeAndValue) []byte {
	t.Helper()
	der, err := asn1.Marshal(pkix.Name{ExtraNames: names}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestWhatIsAsked: the names stand beside the request in DigiCert's words.
func TestWhatIsAsked(t *testing.T) {
	m := newManager(t)
	in := intent(t)
	in.Subject = subject(t, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "Alice"},
		pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "Sales"}, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 11}, Value: "EMEA"})
	in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "alice@corp.test"})
	o := usual()
	o.OverrideValidity = true
	var n note
	if _, err := m.adapter(o).Enroll(t.Context(), n.question(in)); err != nil {
		t.Fatal(err)
	}
	delete(m.asked[0], "csr")
	got, err := json.Marshal(m.asked[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"attributes":{"extensions":{"san":{"emails":["Alice.Example@corp.test"],"user_principal_names":["alice@corp.test"]}},"subject":{"common_name":"Alice","organization_units":["Sales","EMEA"]}},"delivery_format":"x509","profile":{"id":"` + profileID + `"},"seat":{"seat_id":"Alice.Example@corp.test"},"validity":{"duration":365,"unit":"days"}}`
	if string(got) != want {
		t.Errorf("asked %s\nwant  %s", got, want)
	}
}

func TestRefusedBeforeAsking(t *testing.T) {
	m := newManager(t)
	cases := map[string]func(in *ca.Intent, o *Options){
		"a surname": func(in *ca.Intent, _ *Options) {
			in.Subject = subject(t, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 4}, Value: "Example"})
		},
		"no seat":     func(_ *ca.Intent, o *Options) { o.Seat = seatUPN },
		"no profile":  func(in *ca.Intent, _ *Options) { in.Template = "other" },
		"not a name":  func(in *ca.Intent, _ *Options) { in.Subject = []byte("x") },
		"no key here": func(in *ca.Intent, _ *Options) { in.Signer, in.CSR = nil, []byte("x") },
	}
	for name, change := range cases {
		in, o := intent(t), usual()
		change(&in, &o)
		var n note
		var refused *ca.RefusedError
		if _, err := m.adapter(o).Enroll(t.Context(), n.question(in)); !errors.As(err, &refused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if len(m.asked) > 0 {
		t.Errorf("asked %v", m.asked)
	}
}

// TestLostAnswer: DigiCert has issued and counted a seat, so the second attempt looks for that certificate.
func TestLostAnswer(t *testing.T) {
	for _, bare := range []bool{false, true} {
		m := newManager(t)
		m.lose, m.bare = true, bare
		var n note
		if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err == nil || n.handle == nil {
			t.Fatalf("got %v, noted %s", err, n.handle)
		}
		chain, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
		if err != nil || len(chain) != 1 || len(m.asked) != 1 {
			t.Errorf("asked %d times, %v", len(m.asked), err)
		}
	}
	m := newManager(t) // and if there is none, it asks
	n := note{handle: []byte(`{}`)}
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(m.asked) != 1 {
		t.Errorf("asked %d times, %v", len(m.asked), err)
	}
}

func TestPendingThenIssued(t *testing.T) {
	m := newManager(t)
	m.hold = true
	var n note
	for range 2 {
		if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) || !strings.Contains(string(n.handle), "serial") {
			t.Fatalf("got %v, noted %s", err, n.handle)
		}
	}
	m.hold = false
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(m.asked) != 1 {
		t.Errorf("asked %d times, %v", len(m.asked), err)
	}
}

// TestForgottenByDigiCert: what it knows no more is looked for, and then asked for anew; nor does a certificate of the seat that
// is gone keep the others from being found.
func TestForgottenByDigiCert(t *testing.T) {
	m := newManager(t)
	n := note{handle: []byte(`{"serial":"7F","waits":true}`)}
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err == nil || len(m.asked) != 0 {
		t.Fatalf("asked %d times, %v", len(m.asked), err)
	}
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(m.asked) != 1 {
		t.Errorf("asked %d times, %v", len(m.asked), err)
	}
	m = newManager(t)
	m.lose, m.bare, m.ghost = true, true, true
	n = note{}
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err == nil {
		t.Fatal("no error")
	}
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(m.asked) != 1 {
		t.Errorf("asked %d times, %v", len(m.asked), err)
	}
}

// TestPendingThenRejected: what somebody has declined is not pending for ever.
func TestPendingThenRejected(t *testing.T) {
	m := newManager(t)
	m.hold = true
	var n note
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) {
		t.Fatalf("got %v", err)
	}
	m.verdict = "Rejected"
	var refused *ca.RefusedError
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); !errors.As(err, &refused) || !strings.Contains(err.Error(), "Rejected") {
		t.Errorf("got %v", err)
	}
}

// TestPendingWithoutANumber: what waits for approval without a name is looked for, and not asked for again and again.
func TestPendingWithoutANumber(t *testing.T) {
	m := newManager(t)
	m.hold, m.unnamed = true, true
	var n note
	for range 3 {
		if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) || len(m.asked) != 1 {
			t.Fatalf("asked %d times, %v", len(m.asked), err)
		}
	}
	m.hold = false
	if _, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(m.asked) != 1 {
		t.Errorf("asked %d times, %v", len(m.asked), err)
	}
}

func TestAnswers(t *testing.T) {
	errorBody := `{"errors":[{"code":"duplicate","message":"a certificate for this\u0000 seat exists"}]}`
	cases := []struct {
		name   string
		status int
		body   string
		final  bool
		says   string
	}{
		{"bad request", 400, errorBody, true, "a certificate for this seat exists (duplicate)"},
		{"unprocessable", 422, `{"error":{"message":"wrong"}}`, true, "wrong"},
		{"bad request without words", 400, "<html>", false, "HTTP 400"},
		{"unauthorised", 401, errorBody, false, "credentials"},
		{"forbidden", 403, "", false, "credentials"},
		{"not found", 404, "", false, "HTTP 404"},
		{"too many", 429, "", false, "no more requests"},
		{"down", 503, "", false, "503"},
		{"redirected", 302, "", false, "login.corp.test"},
		{"garbage", 201, "hello", false, "JSON"},
		{"no certificate", 201, `{"certificate":"AAAA"}`, false, "does not parse"},
		{"huge", 201, strings.Repeat(" ", ca.MaxAnswer+1), false, "longer than"},
	}
	for _, tc := range cases {
		m := newManager(t)
		m.status, m.body = tc.status, tc.body
		var n note
		_, err := m.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
		var refused *ca.RefusedError
		if err == nil || errors.As(err, &refused) != tc.final || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "key_7") {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.says)
		}
	}
}

func TestSlow(t *testing.T) {
	m := newManager(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var n note
	if _, err := m.adapter(usual()).Enroll(ctx, n.question(intent(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRevoke(t *testing.T) {
	m := newManager(t)
	up := m.adapter(usual())
	for reason, word := range reasons() {
		in := intent(t)
		var n note
		chain, err := up.Enroll(t.Context(), n.question(in))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // what is revoked already is no error
			if err := up.Revoke(t.Context(), leaf, reason); err != nil {
				t.Errorf("%d: %v", reason, err)
			}
		}
		if m.revoked[serialText(leaf)] != word {
			t.Errorf("%d: %q", reason, m.revoked[serialText(leaf)])
		}
	}
	if err := up.Revoke(t.Context(), m.ca.Cert, 1); err == nil || !strings.Contains(err.Error(), "cannot be revoked") {
		t.Errorf("got %v", err)
	}
	m.status = http.StatusForbidden
	if err := up.Revoke(t.Context(), m.ca.Cert, 1); !errors.Is(err, ca.ErrCannotRevoke) {
		t.Errorf("got %v", err)
	}
}

func TestFindings(t *testing.T) {
	cases := []struct {
		name        string
		set         func(m *manager, o *Options)
		check, says string
	}{
		{"right", func(*manager, *Options) {}, "", ""},
		{"key", func(_ *manager, o *Options) { o.APIKey = "secret" }, "credentials", "no such key"},
		{"profile", func(_ *manager, o *Options) { o.Profiles["mail"] = "other" }, "profile", "no such profile"},
		{"inactive", func(m *manager, _ *Options) { m.profile = `{"status":"Deleted"}` }, "profile", "activate"},
		{"method", func(m *manager, _ *Options) {
			m.profile = `{"enrollment_method":"scep","authentication_method":"enrollment_code"}`
		}, "profile", "REST API"},
		{"validity", func(_ *manager, o *Options) { o.OverrideValidity = true }, "profile", "overrideValidity"},
		{"down", func(m *manager, _ *Options) { m.status = 500 }, "profile", "500"},
	}
	for _, tc := range cases {
		m := newManager(t)
		o := usual()
		tc.set(m, &o)
		ok := tc.check == ""
		findings := m.adapter(o).Test(t.Context())
		for _, f := range findings {
			ok = ok && f.OK || !ok && !f.OK && f.Check == tc.check && strings.Contains(f.Detail, tc.says)
			if ok && tc.check != "" {
				break
			}
		}
		if !ok || len(m.asked) > 0 || strings.Contains(fmt.Sprint(findings), "secret") {
			t.Errorf("%s: %+v", tc.name, findings)
		}
	}
}

func TestIssuerAndClockAreLookedAt(t *testing.T) {
	m := newManager(t)
	s := m.settings(usual())
	s.Issuers = certText(testpki.NewCA(t, "Another CA").Cert)
	up, err := New(s, ca.Env{Clock: func() time.Time { return testpki.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	wrong := []string{}
	for _, f := range up.Test(t.Context()) {
		if !f.OK {
			wrong = append(wrong, f.Check)
		}
	}
	if fmt.Sprint(wrong) != "[issuer clock]" {
		t.Errorf("%v", wrong)
	}
}

func TestSettings(t *testing.T) {
	m := newManager(t)
	for says, change := range map[string]func(o *Options){
		"apiKeyFile":          func(o *Options) { o.APIKey = "" },
		"clientKeyFile":       func(o *Options) { o.ClientCertificate = "x" },
		"profile is missing":  func(o *Options) { o.Profile, o.Profiles = "", nil },
		`template "mail"`:     func(o *Options) { o.Profiles = nil },
		"seat":                func(o *Options) { o.Seat = "device" },
		"begins with a slash": func(o *Options) { o.FetchPath = ".corp.test/certificate/{serial}" }, // would send the API key to another host
		"after the host":      func(o *Options) { o.SearchPath = "@corp.test/search" },
	} {
		o := usual()
		change(&o)
		if _, err := New(m.settings(o), ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add(201, []byte(`{"serial_number":"1","certificate":"AAAA","status":"issued"}`))
	f.Add(400, []byte(`{"errors":[{"code":"a","message":"b"}],"error":{"code":"c"}}`))
	f.Add(200, []byte(certText(testpki.NewCA(f, "Corp CA").Cert)))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		var c certificate
		if err := decode(answerOf(status, body), &c); err == nil {
			_, _ = c.parse()
		} else if len(err.Error()) > 600 {
			t.Errorf("%d bytes of words", len(err.Error()))
		}
		_, _ = certificate{Certificate: string(body)}.parse()
	})
}
