package adcs

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

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

func intent(t testing.TB) ca.Intent {
	return catest.Intent(t, "adcs-000000000001", testpki.PoolKey(t, 1))
}

func TestConformance(t *testing.T) {
	s := newServer(t)
	path := filepath.Join(t.TempDir(), "ca.jsonl")
	audit := func(...keyring.Event) error { return nil }
	catest.RunWith(t, testpki.Now(), catest.Traits{CannotRevoke: true, OwnValidity: true}, func(t *testing.T) catest.CA {
		j, err := journal.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		c, err := ledger.New(s.settings(usual()), s.adapter(usual()), j, audit, testpki.Now)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

// TestEnrol: the template stands in the request, by name or by OID as its version wants, and the chain is read from either
// token.
func TestEnrol(t *testing.T) {
	for _, tc := range []struct {
		name   string
		schema int
		pkcs7  bool
		oid    string
		value  string
	}{
		{"version 1", 1, false, "1.3.6.1.4.1.311.20.2", "\x1e\x16\x00W\x00a\x00x\x00s\x00e\x00a\x00l\x00M\x00a\x00i\x00l"},
		{"version 2", 2, true, "1.3.6.1.4.1.311.21.7", "\x02\x01\x64\x02\x01\x04"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			s.schema, s.pkcs7 = tc.schema, tc.pkcs7
			var n note
			chain, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil || !slices.Equal(leaf.EmailAddresses, []string{"Alice.Example@corp.test"}) {
				t.Errorf("%v, %v", leaf, err)
			}
			last := s.lastCSR.Extensions[len(s.lastCSR.Extensions)-1]
			if last.Id.String() != tc.oid || !strings.HasSuffix(string(last.Value), tc.value) {
				t.Errorf("the template is %s %x", last.Id, last.Value)
			}
			if n.handle != nil {
				t.Errorf("noted %s", n.handle)
			}
		})
	}
}

// TestDeviceKey: nothing can be added to a device's request, so the template stands beside it.
func TestDeviceKey(t *testing.T) {
	s := newServer(t)
	in := intent(t)
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alice Example"}, EmailAddresses: []string{"Alice.Example@corp.test"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testpki.PoolKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	in.Signer, in.CSR = nil, der
	var n note
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(in)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.lastCSR.Raw, der) || !strings.Contains(s.asks[0], `Name="CertificateTemplate"><Value>WaxsealMail</Value>`) {
		t.Errorf("asked %s", s.asks[0])
	}
}

// TestPendingThenIssued: the number of the request is noted before the caller hears of it.
func TestPendingThenIssued(t *testing.T) {
	s := newServer(t)
	s.hold = true
	var n note
	for range 2 { // the second call asks for the same request
		_, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
		if !errors.Is(err, ca.ErrPending) || !strings.Contains(err.Error(), "request 61") || n.handle == nil {
			t.Fatalf("got %v, noted %s", err, n.handle)
		}
	}
	s.approve = true
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil {
		t.Fatal(err)
	}
	if len(s.pending) != 1 {
		t.Errorf("%d requests", len(s.pending))
	}
	n.handle = []byte(`{"service":"https://evil.test/CES","requestId":"1"}`)
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err == nil || !strings.Contains(err.Error(), "enrolmentURL") {
		t.Errorf("the password goes to a service that is not of the settings: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	deny := int32(-2146877422) // 0x80094012
	cases := []struct {
		name  string
		set   func(s *server)
		final bool
		says  string
	}{
		{"denied by the template", func(s *server) { s.fault = denied(deny, true) }, true, "do not allow the current user to enroll. (0x80094012)"},
		{"denied, not marked", func(s *server) { s.fault = denied(deny, false) }, true, "0x80094012"},
		{"denied without a number", func(s *server) { s.fault = denied(0, true) }, true, "do not allow"},
		{"CA stopped", func(s *server) { s.fault = denied(-2146877434, true) }, false, "0x80094006"},
		{"no RPC to the CA", func(s *server) { s.fault = denied(-2147023174, false) }, false, "0x800706BA"},
		{"another fault", func(s *server) { s.fault = soapFault("s:Receiver", "a:InternalServiceFault", "oops", "") }, false, "oops"},
		{"no collection", func(s *server) { s.fault = envelope("<Other/>") }, false, "CES"},
		{"neither certificate nor number", func(s *server) { s.fault = collection("") }, false, "neither"},
		{"no base64", func(s *server) { s.fault = collection("<BinarySecurityToken>!</BinarySecurityToken>") }, false, "base64"},
		{"garbage", func(s *server) { s.status, s.body = 200, "<hello" }, false, "XML"},
		{"huge", func(s *server) { s.status, s.body = 200, strings.Repeat("x", ca.MaxAnswer+1) }, false, "longer than"},
		{"unauthorised", func(s *server) { s.status = 401 }, false, "credentials"},
		{"forbidden", func(s *server) { s.status = 403 }, false, "credentials"},
		{"too many", func(s *server) { s.status = 429 }, false, "429"},
		{"down", func(s *server) { s.status, s.body = 503, "<html>" }, false, "503"},
		{"redirected", func(s *server) { s.status = 302 }, false, "https://login.corp.test/"},
		{"another host", func(s *server) { s.cesURL = "https://evil.test/CES" }, false, "set enrolmentURL"},
		{"Kerberos only", func(s *server) { s.cesURL = "x"; s.auth = "2" }, false, "same kind of authentication"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			tc.set(s)
			var n note
			_, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
			var refused *ca.RefusedError
			if err == nil || errors.As(err, &refused) != tc.final || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if strings.Contains(err.Error(), "proper") {
				t.Errorf("the password is in %q", err)
			}
		})
	}
}

func TestUnknownTemplate(t *testing.T) {
	in := intent(t)
	in.Template = "Unknown"
	var n note
	if _, err := newServer(t).adapter(usual()).Enroll(t.Context(), n.question(in)); err == nil || !strings.Contains(err.Error(), `no template "Unknown"`) {
		t.Errorf("got %v", err)
	}
}

// TestWrongCertificate: the ledger refuses what is for another key, so it must get to see it.
func TestWrongCertificate(t *testing.T) {
	s := newServer(t)
	s.change = func(o *testpki.Options) { o.Key = testpki.PoolKey(t, 2) }
	var n note
	chain, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t)))
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err := x509.ParseCertificate(chain[0]); err != nil || !testpki.PoolKey(t, 2).PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("%v", err)
	}
}

// TestSlow: whoever gives up waiting is not kept.
func TestSlow(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var n note
	if _, err := s.adapter(usual()).Enroll(ctx, n.question(intent(t))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestPK09 is strong mapping: off by default, and only with a SID that the intent has.
func TestPK09(t *testing.T) {
	const value = "S-1-5-21-1004336348-1177238915-682003330-1105"
	uri := profiles.SubjectAlternativeName{Type: profiles.SANURI, Value: sidPrefix + value}
	for _, tc := range []struct {
		name string
		on   bool
		sans []profiles.SubjectAlternativeName
		want bool
	}{{"off", false, []profiles.SubjectAlternativeName{uri}, false}, {"no SID", true, nil, false}, {"on", true, []profiles.SubjectAlternativeName{uri}, true}} {
		s := newServer(t)
		o := usual()
		o.SIDExtension = tc.on
		in := intent(t)
		in.SANs = append(in.SANs, tc.sans...)
		var n note
		if _, err := s.adapter(o).Enroll(t.Context(), n.question(in)); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		last := s.lastCSR.Extensions[len(s.lastCSR.Extensions)-1]
		if got := last.Id.String() == "1.3.6.1.4.1.311.25.2"; got != tc.want {
			t.Errorf("%s: %v", tc.name, last.Id)
		}
		if tc.want && !strings.HasSuffix(string(last.Value), "\x04\x2d"+value) {
			t.Errorf("%x", last.Value)
		}
	}
	if _, err := securityExtension("S-1-5-32-544"); err == nil {
		t.Error("a built-in group is no account")
	}
}

// TestSecurityExtension is the layout of KB5014754.
func TestSecurityExtension(t *testing.T) {
	e, err := securityExtension("S-1-5-21-1-2-3-4")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x30\x22\xa0\x20\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x19\x02\x01\xa0\x12\x04\x10S-1-5-21-1-2-3-4"; string(e.Value) != want {
		t.Errorf("%x", e.Value)
	}
}

func TestRevoke(t *testing.T) {
	s := newServer(t)
	err := s.adapter(usual()).Revoke(t.Context(), s.ca.Cert, 1)
	if !errors.Is(err, ca.ErrCannotRevoke) || !strings.Contains(err.Error(), "certutil -revoke 1 1") {
		t.Errorf("got %v", err)
	}
}

func TestFindings(t *testing.T) {
	cases := []struct {
		name  string
		set   func(s *server, o *Options)
		check string // that is wrong; empty: none
		says  string
	}{
		{"right", func(*server, *Options) {}, "", ""},
		{"password", func(_ *server, o *Options) { o.Password = "wrong" }, "credentials", "accept the credentials"},
		{"no CEP", func(s *server, _ *Options) { s.status, s.body = 200, envelope("<x/>") }, "policy", "CEP"},
		{"no template", func(_ *server, o *Options) { o.Template = "Nobody" }, "template", `"Nobody" is not shown`},
		{"no permission", func(_ *server, o *Options) { o.Template = "Forbidden" }, "template", "may not enrol"},
		{"names of the directory", func(s *server, _ *Options) { s.subject = "2147483648" }, "template", "Supply in the request"},
		{"another host", func(s *server, _ *Options) { s.cesURL = "https://other.test/CES" }, "enrolment service", "set enrolmentURL"},
		{"another issuer", func(s *server, _ *Options) { s.ca = testpki.NewCA(t, "Another CA") }, "issuer", "Another CA"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			o := usual()
			settings := s.settings(o)
			tc.set(s, &o)
			settings.Options = s.settings(o).Options
			up, err := New(settings, ca.Env{Clock: testpki.Now})
			if err != nil {
				t.Fatal(err)
			}
			ok := tc.check == ""
			for _, f := range up.Test(t.Context()) {
				if !f.OK && tc.check == "" {
					t.Errorf("%+v", f)
				}
				ok = ok || !f.OK && f.Check == tc.check && strings.Contains(f.Detail, tc.says)
				if strings.Contains(f.Detail, "proper") {
					t.Errorf("the password is in %q", f.Detail)
				}
			}
			if !ok {
				t.Errorf("nothing wrong with %s: %+v", tc.check, up.Test(t.Context()))
			}
			if len(s.asks) > 0 {
				t.Error("a test asked for a certificate")
			}
		})
	}
}

func TestSettings(t *testing.T) {
	s := newServer(t)
	cases := []struct {
		name string
		set  func(o *Options, s *ca.Settings)
		says string
	}{
		{"no credentials", func(o *Options, _ *ca.Settings) { o.Password = "" }, "passwordFile"},
		{"half a certificate", func(o *Options, _ *ca.Settings) { o.ClientCertificate = "x" }, "clientKeyFile"},
		{"no template", func(o *Options, s *ca.Settings) { o.Template, s.Templates = "", nil }, "template is missing"},
		{"no TLS", func(_ *Options, s *ca.Settings) { s.URL = "http://ca.corp.test/CEP" }, "https://"},
		{"no TLS at the enrolment service", func(o *Options, _ *ca.Settings) { o.EnrolmentURL = "http://ca.corp.test/CES" }, "enrolmentURL"},
	}
	for _, tc := range cases {
		o := usual()
		settings := s.settings(o)
		tc.set(&o, &settings)
		settings.Options = s.settings(o).Options
		if _, err := New(settings, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	settings := s.settings(usual())
	settings.Options = []byte(`{"user":"x"}`)
	if _, err := New(settings, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), "user") {
		t.Errorf("got %v", err)
	}
}

// TestClientCertificate: TLS proves who the connector is, and no password is sent.
func TestClientCertificate(t *testing.T) {
	s := newServer(t)
	s.auth = authCertificate
	id := s.ca.Issue(t, testpki.Options{CN: "waxseal", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	o := Options{ClientCertificate: string(id.CertPEM()), ClientKey: string(id.KeyPEM()), Template: "WaxsealMail"}
	var n note
	if _, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t))); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.asks[0], "Security>") {
		t.Error("a security header is sent")
	}
	for _, f := range s.adapter(o).Test(t.Context()) {
		if !f.OK && f.Check != "template" { // the word "mail" is no template's name here
			t.Errorf("%+v", f)
		}
	}
}

func FuzzAnswers(f *testing.F) {
	key := testpki.PoolKey(f, 1).Public()
	f.Add([]byte(submitted("61")))
	f.Add([]byte(denied(-2146877422, true)))
	f.Add([]byte(collection("<BinarySecurityToken>MAA=</BinarySecurityToken>")))
	f.Add([]byte(envelope(`<GetPoliciesResponse><response><policies><policy><attributes><commonName>x</commonName></attributes></policy></policies></response><oIDs><oID><value>1.2.3</value></oID></oIDs></GetPoliciesResponse>`)))
	f.Fuzz(func(t *testing.T, document []byte) {
		body, err := soap.Body(document)
		if err != nil {
			_ = final(err)
			return
		}
		_, _ = parseResponse(body, key)
		if p, err := parsePolicies(body); err == nil {
			for _, known := range p.templates {
				_, _ = known.extension()
			}
		}
	})
}
