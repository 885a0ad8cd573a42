package estca

import (
	"encoding/asn1"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

func TestFindings(t *testing.T) {
	type change = func(s *server, o *Options, settings *ca.Settings)
	status := func(operation string, n int) change {
		return func(s *server, _ *Options, _ *ca.Settings) { s.status[operation] = n }
	}
	cases := []struct {
		name  string
		set   change
		check string // that is wrong; empty: none
		says  string
	}{
		{"right", func(*server, *Options, *ca.Settings) {}, "", ""},
		{"certificate", func(s *server, o *Options, _ *ca.Settings) { *o = s.certified(testpki.Options{}) }, "", ""},
		{"certificate ended", func(s *server, o *Options, _ *ca.Settings) {
			*o = s.certified(testpki.Options{NotAfter: testpki.Now().AddDate(0, -1, 0)})
		}, "client certificate", "ended on 2026-02-02"},
		{"nobody there", func(_ *server, _ *Options, settings *ca.Settings) { settings.URL = "https://127.0.0.1:1" }, "url", "refused"},
		{"not trusted", func(s *server, _ *Options, settings *ca.Settings) { settings.TLSRoots = string(s.ca.CertPEM()) }, "certificate", "tlsRootsFile"},
		{"password", func(_ *server, o *Options, _ *ca.Settings) { o.Password = "wrong" }, "credentials", "does not accept"},
		{"forbidden", status("simpleenroll", 403), "credentials", "403"},
		{"too many", status("simpleenroll", 429), "credentials", "no more requests"},
		{"down", status("simpleenroll", 503), "credentials", "503"},
		{"redirected", status("simpleenroll", 301), "credentials", "https://elsewhere.test/"},
		{"a page", func(s *server, _ *Options, _ *ca.Settings) { s.status["simpleenroll"], s.kind = 400, "text/html" }, "credentials", "a page of a web server"},
		{"label", status("simpleenroll", 404), "label", "knows no simpleenroll"},
		{"takes anything", status("simpleenroll", 200), "label", "no EST server"},
		{"no cacerts", status("cacerts", 500), "issuer", "500"},
		{"cacerts is a page", func(s *server, _ *Options, _ *ca.Settings) { s.body["cacerts"] = []byte("<html>") }, "issuer", "no base64"},
		{"another CA", func(s *server, _ *Options, _ *ca.Settings) { s.ca = testpki.NewCA(t, "Another CA") }, "issuer", "Another CA"},
		{"clock", func(s *server, _ *Options, _ *ca.Settings) { s.now = s.now.Add(time.Hour) }, "clock", "1h0m0s"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s, o := newServer(t), usual()
			settings := s.settings(o)
			tc.set(s, &o, &settings)
			settings.Options = s.settings(o).Options
			found := s.open(settings).Test(t.Context())
			wantWrong(t, found, tc.check, tc.says)
			if s.csr != nil {
				t.Error("a certificate was asked for")
			}
		})
	}
}

// wantWrong looks for what is wrong; an empty check is nothing.
func wantWrong(t *testing.T, found []link.CAFinding, check, says string) {
	t.Helper()
	ok := check == ""
	for _, f := range found {
		if !f.OK && check == "" {
			t.Errorf("%+v", f)
		}
		ok = ok || !f.OK && f.Check == check && strings.Contains(f.Detail, says)
		if strings.Contains(f.Detail, word) {
			t.Errorf("a secret is in %q", f.Detail)
		}
	}
	if !ok {
		t.Errorf("nothing wrong with %s: %+v", check, found)
	}
}

// TestFindingsOrder: as an admin would look, each label once.
func TestFindingsOrder(t *testing.T) {
	s, o := newServer(t), usual()
	o.Label, o.Labels = "mail", map[string]string{"usual": "mail"}
	settings := s.settings(o)
	settings.Templates = []string{"usual", "sign"}
	var got []string
	for _, f := range s.open(settings).Test(t.Context()) {
		got = append(got, f.Check)
	}
	if want := []string{"url", "certificate", "credentials", "issuer", "credentials", "issuer", "clock"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if !slices.Contains(s.asked, "POST mail/simpleenroll") || !slices.Contains(s.asked, "GET sign/cacerts") {
		t.Errorf("asked %q", s.asked)
	}
}

// attributes is the example of RFC 7030 section 4.5.2, or in parts.
func attributes(t testing.TB, items ...any) []byte {
	t.Helper()
	var raw []asn1.RawValue
	for _, item := range items {
		der, err := asn1.Marshal(item)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, asn1.RawValue{FullBytes: der})
	}
	der, err := asn1.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

type attribute struct {
	Type   asn1.ObjectIdentifier
	Values []asn1.ObjectIdentifier `asn1:"set"`
}

func example() []any {
	return []any{
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7},
		attribute{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, []asn1.ObjectIdentifier{{1, 3, 132, 0, 34}}},
		asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3},
	}
}

// TestAttributes: what the CA would like to see is told, and never wrong.
func TestAttributes(t *testing.T) {
	cases := []struct {
		name  string
		attrs []byte
		says  string // empty: nothing
	}{
		{"none", nil, ""},
		{"empty", attributes(t), ""},
		{"example", attributes(t, example()...), "tied to their TLS connection"},
		{"others", attributes(t, example()[1:]...), "1.2.840.10045.2.1, 1.2.840.10045.4.3.3"},
		{"garbage", []byte("<html>"), ""},
		{"a number", attributes(t, 7), ""},
		{"no type", attributes(t, []int{7}), ""},
		{"too many", attributes(t, slices.Repeat(example(), 30)...), ""},
	}
	for _, tc := range cases {
		s := newServer(t)
		s.attrs = tc.attrs
		said := ""
		for _, f := range s.adapter(usual()).Test(t.Context()) {
			if !f.OK {
				t.Errorf("%s: %+v", tc.name, f)
			}
			if f.Check == "request" {
				said = f.Detail
			}
		}
		if (said == "") != (tc.says == "") || !strings.Contains(said, tc.says) {
			t.Errorf("%s: %q, want %q", tc.name, said, tc.says)
		}
	}
}

func TestSettings(t *testing.T) {
	s := newServer(t)
	cases := []struct {
		name string
		set  func(o *Options, s *ca.Settings)
		says string
	}{
		{"http", func(_ *Options, s *ca.Settings) { s.URL = "http://ca.corp.test" }, "https://"},
		{"path", func(_ *Options, s *ca.Settings) { s.URL += "/.well-known/est" }, "ends after the host"},
		{"query", func(_ *Options, s *ca.Settings) { s.URL += "/?x" }, "ends after the host"},
		{"nobody", func(o *Options, _ *ca.Settings) { *o = Options{} }, "are missing"},
		{"no password", func(o *Options, _ *ca.Settings) { o.Password = "\n" }, "passwordFile"},
		{"no user", func(o *Options, _ *ca.Settings) { o.Username = "" }, "belong together"},
		{"half a certificate", func(o *Options, _ *ca.Settings) { o.ClientCertificate = string(s.ca.CertPEM()) }, "clientKeyFile"},
		{"folder", func(o *Options, _ *ca.Settings) { o.Label = ".." }, "folder"},
		{"operation", func(o *Options, _ *ca.Settings) { o.Label = "cacerts" }, "operation"},
		{"slash", func(o *Options, _ *ca.Settings) { o.Label = "a/b" }, "1 to 64 letters"},
		{"long", func(o *Options, _ *ca.Settings) { o.Label = strings.Repeat("a", 65) }, "1 to 64 letters"},
		{"a template's label", func(o *Options, s *ca.Settings) {
			s.Templates, o.Labels = []string{"mail"}, map[string]string{"mail": "a b"}
		}, `label "a b"`},
		{"a template that is none", func(_ *Options, s *ca.Settings) { s.Templates = []string{"csrattrs"} }, "operation"},
		{"TLS roots", func(_ *Options, s *ca.Settings) { s.TLSRoots = "x" }, "tlsRoots"},
	}
	for _, tc := range cases {
		o := usual()
		settings := s.settings(o)
		tc.set(&o, &settings)
		settings.Options = s.settings(o).Options
		if _, err := New(settings, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v", tc.name, err)
		} else if strings.Contains(err.Error(), word) {
			t.Errorf("%s: a secret is in %q", tc.name, err)
		}
	}
	settings := s.settings(usual())
	settings.Options = []byte(`{"user":"x"}`)
	if _, err := New(settings, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), `"user"`) {
		t.Errorf("got %v", err)
	}
}
