package estca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
)

func intent(t testing.TB) ca.Intent {
	return catest.Intent(t, "est-0000000000001", testpki.PoolKey(t, 1))
}

// deviceIntent is for a key that a device holds; its request is for that address.
func deviceIntent(t testing.TB, address string) ca.Intent {
	in := intent(t)
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alice Example"}, EmailAddresses: []string{address}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testpki.PoolKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	in.Signer, in.CSR = nil, der
	return in
}

func openLedger(t *testing.T, path string, s ca.Settings, up ledger.Upstream, clock func() time.Time) *ledger.CA {
	t.Helper()
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	c, err := ledger.New(s, up, j, func(...keyring.Event) error { return nil }, clock)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformance(t *testing.T) {
	for name, certified := range map[string]bool{"password": false, "client certificate": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			o := usual()
			if certified {
				o = s.certified(testpki.Options{})
			}
			path := filepath.Join(t.TempDir(), "ca.jsonl")
			catest.RunWith(t, testpki.Now(), catest.Traits{CannotRevoke: true, OwnValidity: true}, func(t *testing.T) catest.CA {
				return openLedger(t, path, s.settings(o), s.adapter(o), testpki.Now)
			})
		})
	}
}

// TestPendingThenIssued: nobody is asked before the time of Retry-After, and then with the same request, byte for byte.
func TestPendingThenIssued(t *testing.T) {
	for name, in := range map[string]ca.Intent{"own key": intent(t), "device's key": deviceIntent(t, "Alice.Example@corp.test")} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.hold, s.after = true, "600"
			a := s.adapter(usual())
			var n note
			ask := func(wantAsked int) {
				t.Helper()
				if _, err := a.Enroll(t.Context(), n.question(in)); !errors.Is(err, ca.ErrPending) || n.handle == nil || len(s.asked) != wantAsked {
					t.Fatalf("got %v, asked %d times, noted %s", err, len(s.asked), n.handle)
				}
			}
			ask(1)
			ask(1)
			s.now = s.now.Add(10 * time.Minute)
			ask(2)
			s.now, s.hold = s.now.Add(10*time.Minute), false
			chain, err := a.Enroll(t.Context(), n.question(in))
			if err != nil || len(chain) != 1 || len(s.asked) != 3 {
				t.Fatalf("%d certificates, %v, asked %d times", len(chain), err, len(s.asked))
			}
		})
	}
}

// TestNote: what could not be noted is not waited for, and a damaged note is none.
func TestNote(t *testing.T) {
	s := newServer(t)
	s.hold = true
	full := errors.New("the disk is full")
	q := ledger.Question{Intent: intent(t), Note: func([]byte) error { return full }}
	if _, err := s.adapter(usual()).Enroll(t.Context(), q); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	for _, damaged := range []string{`{`, `{"csr":""}`, `{"csr":"MAA=","label":"../x"}`} {
		q := ledger.Question{Intent: intent(t), Handle: []byte(damaged)}
		if _, err := s.adapter(usual()).Enroll(t.Context(), q); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: got %v", damaged, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := testpki.Now()
	cases := []struct {
		text string
		want time.Duration
	}{
		{"600", 10 * time.Minute},
		{" 5 ", 5 * time.Second},
		{"0", 0},
		{"Mon, 02 Mar 2026 09:40:00 GMT", 10 * time.Minute},
		{"Mon, 02 Mar 2020 09:40:00 GMT", 0},
		{"999999999", 24 * time.Hour},
		{"99999999999999999999", time.Minute},
		{"-5", time.Minute},
		{"soon", time.Minute},
		{"", time.Minute},
	}
	for _, tc := range cases {
		if got := retryAfter(tc.text, now).Sub(now); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.text, got, tc.want)
		}
	}
}

// TestLineBreaks: base64 may be broken anywhere, or missing (RFC 8951 section 3.1).
func TestLineBreaks(t *testing.T) {
	every := func(n int, with string) func(string) []byte {
		return func(text string) []byte {
			var out strings.Builder
			for ; len(text) > n; text = text[n:] {
				out.WriteString(text[:n] + with)
			}
			return []byte(out.String() + text + with)
		}
	}
	cases := map[string]func(string) []byte{
		"64 CRLF": every(64, "\r\n"), "76 LF": every(76, "\n"), "3 spaces": every(3, "  "), "each tab": every(1, "\t"), "empty lines": every(70, "\n\r\n\n"),
		"CR alone": every(64, "\r"),
		"DER": func(text string) []byte {
			der, err := decode([]byte(text))
			if err != nil {
				t.Error(err)
			}
			return der
		},
	}
	for name, breaks := range cases {
		s := newServer(t)
		s.breaks, s.along = breaks, []*x509.Certificate{s.ca.Cert}
		var n note
		if chain, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil || len(chain) != 2 {
			t.Errorf("%s: %d certificates, %v", name, len(chain), err)
		}
	}
}

func TestAnswers(t *testing.T) {
	type change = func(s *server, o *Options)
	status := func(n int) change { return func(s *server, _ *Options) { s.status["simpleenroll"] = n } }
	body := func(b string) change { return func(s *server, _ *Options) { s.body["simpleenroll"] = []byte(b) } }
	cases := []struct {
		name  string
		set   change
		final bool
		says  string
	}{
		{"refused", status(400), true, "the CA refuses: these names are <b>not</b> allowed"},
		{"unprocessable", status(422), true, "these names"},
		{"refused without words", func(s *server, _ *Options) { s.status["simpleenroll"], s.kind = 400, "application/octet-stream" }, true, "HTTP 400, without words"},
		// a web server in front that got no client certificate, or one that ended: an admin can put that right
		{"refused by a page", func(s *server, _ *Options) { s.status["simpleenroll"], s.kind = 400, "text/html; charset=utf-8" }, false, "a page of a web server"},
		{"wrong password", func(_ *server, o *Options) { o.Password = "wrong" }, false, "credentials of the settings (HTTP 401): who are you?"},
		{"forbidden", status(403), false, "credentials"},
		{"no label", status(404), false, "404"},
		{"too many", status(429), false, "429"},
		{"broken", status(500), false, "HTTP 500: these names"},
		{"down", status(503), false, "503"},
		{"no content", status(204), false, "204"},
		{"redirected", status(302), false, `"https://elsewhere.test/"`},
		{"redirected with the method", status(308), false, `"https://elsewhere.test/"`},
		{"a page", body("<html>"), false, "no base64"},
		{"empty", body(""), false, "no base64"},
		{"spaces", body(" \r\n"), false, "no base64"},
		{"cut", body("MIIB"), false, "neither a certificate nor a PKCS #7"},
		{"no certificate", body("MAA="), false, "neither"},
		{"huge", body(strings.Repeat("M", ca.MaxAnswer+1)), false, "longer than"},
		{"the CA alone", func(s *server, _ *Options) { s.body["simpleenroll"] = s.bag(s.ca.Cert) }, false, "without a certificate of an end entity"},
		{"far too many", func(s *server, _ *Options) { s.along = slices.Repeat([]*x509.Certificate{s.ca.Cert}, 40) }, false, "at most 32"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, tc.set, tc.final, tc.says)
		})
	}
}

// wantError asks a server that was changed, once.
func wantError(t *testing.T, set func(s *server, o *Options), final bool, says string) {
	s, o := newServer(t), usual()
	set(s, &o)
	var n note
	_, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t)))
	var refused *ca.RefusedError
	if err == nil || errors.As(err, &refused) != final || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want %q", err, says)
	}
	if strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "\x07") || n.handle != nil || len(s.asked) != 1 {
		t.Errorf("%v, noted %q, asked %q", err, n.handle, s.asked)
	}
}

// TestWhoAsks: a password, a certificate, or both.
func TestWhoAsks(t *testing.T) {
	s := newServer(t)
	certified := s.certified(testpki.Options{})
	both := certified
	both.Username, both.Password = "waxseal", "whatever"
	for name, o := range map[string]Options{"password": usual(), "certificate": certified, "both": both} {
		var n note
		if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	stranger := testpki.NewCA(t, "Another CA").Issue(t, testpki.Options{CN: "stranger", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	o := Options{ClientCertificate: string(stranger.CertPEM()), ClientKey: string(stranger.KeyPEM())}
	var n note
	if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); err == nil {
		t.Error("a certificate that the server does not know")
	}
}

// TestDeviceKey: a device's own request goes through as it is, unless it asks for other names.
func TestDeviceKey(t *testing.T) {
	s := newServer(t)
	in := deviceIntent(t, "Alice.Example@corp.test")
	var n note
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(in)); err != nil || !slices.Equal(s.csr.Raw, in.CSR) {
		t.Fatalf("%v", err)
	}
	s.asked = nil
	var refused *ca.RefusedError
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(deviceIntent(t, "boss@corp.test"))); !errors.As(err, &refused) || s.asked != nil {
		t.Errorf("got %v, asked %q", err, s.asked)
	}
}

// TestWrongCertificate: what is not as asked for gets to the ledger, which refuses it for good.
func TestWrongCertificate(t *testing.T) {
	cases := map[string]func(*testpki.Options){
		"key":     func(o *testpki.Options) { o.Key = testpki.PoolKey(t, 2) },
		"address": func(o *testpki.Options) { o.Emails = []string{"boss@corp.test"} },
		"ended":   func(o *testpki.Options) { o.NotAfter = testpki.Now().Add(-time.Hour) },
	}
	for name, change := range cases {
		s := newServer(t)
		s.change = change
		c := openLedger(t, filepath.Join(t.TempDir(), "ca.jsonl"), s.settings(usual()), s.adapter(usual()), testpki.Now)
		var refused *ca.RefusedError
		for range 2 {
			if _, err := c.Issue(t.Context(), intent(t)); !errors.As(err, &refused) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		if len(s.asked) != 1 {
			t.Errorf("%s: asked %q", name, s.asked)
		}
	}
}

// TestSlow: whoever gives up waiting is not kept.
func TestSlow(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.arrived = cancel
	var n note
	if _, err := s.adapter(usual()).Enroll(ctx, n.question(intent(t))); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "well-known") {
		t.Errorf("got %v", err)
	}
}

// TestLabels: what a profile calls its template is a path segment.
func TestLabels(t *testing.T) {
	for template, want := range map[string]string{"": "", "sign": "CorpSigning/", "mail": "mail/"} {
		s := newServer(t)
		o := usual()
		o.Labels = map[string]string{"sign": "CorpSigning"}
		settings := s.settings(o)
		settings.Templates = []string{"sign", "mail"}
		in := intent(t)
		in.Template = template
		var n note
		_, err := s.open(settings).Enroll(t.Context(), n.question(in))
		if err != nil || s.asked[0] != "POST "+want+"simpleenroll" {
			t.Errorf("%q: %v, asked %q", template, err, s.asked)
		}
	}
	s := newServer(t)
	o := usual()
	o.Label = "usual"
	var n note
	if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); err != nil || s.asked[0] != "POST usual/simpleenroll" {
		t.Errorf("%v, asked %q", err, s.asked)
	}
}

func TestRevoke(t *testing.T) {
	s := newServer(t)
	if err := s.adapter(usual()).Revoke(t.Context(), s.ca.Cert, 1); !errors.Is(err, ca.ErrCannotRevoke) || s.asked != nil {
		t.Errorf("got %v, asked %q", err, s.asked)
	}
}

// TestCredentialsError: callers can tell it from others.
func TestCredentialsError(t *testing.T) {
	s := newServer(t)
	o := usual()
	o.Username = "mallory"
	var n note
	if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, web.ErrCredentials) {
		t.Errorf("got %v", err)
	}
}
