package scepca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
)

func intent(t testing.TB) ca.Intent {
	return catest.Intent(t, "scep-000000000001", testpki.PoolKey(t, 1))
}

// deviceIntent is for a key that a device holds.
func deviceIntent(t testing.TB) ca.Intent {
	in := intent(t)
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Alice Example"}, EmailAddresses: []string{"Alice.Example@corp.test"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testpki.PoolKey(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	in.Signer, in.CSR = nil, der
	return in
}

// registrar gives the options of a connector that the CA knows.
func (s *server) registrar() Options {
	id := s.ca.Issue(s.t, testpki.Options{CN: "connector"})
	s.known = id.Cert
	return Options{RACertificate: string(id.CertPEM()), RAKey: string(id.KeyPEM())}
}

func TestConformance(t *testing.T) {
	for name, ra := range map[string]bool{"as a client": false, "as a registration authority": true} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			o := usual()
			if ra {
				o = s.registrar()
			}
			path := filepath.Join(t.TempDir(), "ca.jsonl")
			audit := func(...keyring.Event) error { return nil }
			catest.RunWith(t, testpki.Now(), catest.Traits{CannotRevoke: true, OwnValidity: true}, func(t *testing.T) catest.CA {
				j, err := journal.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = j.Close() })
				c, err := ledger.New(s.settings(o), s.adapter(o), j, audit, testpki.Now)
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
		})
	}
}

// TestCapabilities: how a request goes out follows GetCACaps.
func TestCapabilities(t *testing.T) {
	cases := []struct {
		name, caps string
		status     int
		old        bool
		method     string // empty: nothing is sent
	}{
		{"all", capsAll, 0, false, "POST"},
		{"standard alone", "SCEPStandard", 0, false, "POST"},
		{"spelling", "aes\r\n postpkioperation \r\n", 0, false, "POST"},
		{"no POST", "AES\nSHA-256", 0, false, "GET"},
		{"NDES", "POSTPKIOperation\nRenewal\nSHA-512\nSHA-256\nSHA-1\nDES3", 0, true, "POST"},
		{"NDES, not allowed", "POSTPKIOperation\nSHA-256\nDES3", 0, false, ""},
		{"does not know the question", "<html>", 404, true, "GET"},
		{"does not know it, not allowed", "<html>", 404, false, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			s.caps, s.status["GetCACaps"] = tc.caps, tc.status
			o := usual()
			o.Allow3DES = tc.old
			var n note
			_, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t)))
			if tc.method == "" {
				if err == nil || !strings.Contains(err.Error(), "allow3DES") || slices.ContainsFunc(s.asked, func(a string) bool { return strings.Contains(a, "PKIOperation") }) {
					t.Errorf("got %v, asked %v", err, s.asked)
				}
				return
			}
			if err != nil || s.asked[2] != tc.method+" PKIOperation" {
				t.Errorf("got %v, asked %v", err, s.asked)
			}
		})
	}
}

// TestDeviceKey: the request of a device goes through as it is, signed by the registration authority; without one it is
// refused before anybody is asked.
func TestDeviceKey(t *testing.T) {
	s := newServer(t)
	in := deviceIntent(t)
	var n note
	chain, err := s.adapter(s.registrar()).Enroll(t.Context(), n.question(in))
	if err != nil || len(chain) != 2 || !slices.Equal(s.csr.Raw, in.CSR) {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	s.asked = nil
	var refused *ca.RefusedError
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(in)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "raCertificateFile") || s.asked != nil {
		t.Errorf("got %v, asked %v", err, s.asked)
	}
}

// TestPendingThenIssued: the transaction is noted before the caller hears of it, and the next attempt polls.
func TestPendingThenIssued(t *testing.T) {
	for name, in := range map[string]ca.Intent{"own key": intent(t), "device's key": deviceIntent(t)} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.hold = true
			o := s.registrar()
			if in.Signer != nil {
				o = usual()
			}
			var n note
			for range 2 {
				if _, err := s.adapter(o).Enroll(t.Context(), n.question(in)); !errors.Is(err, ca.ErrPending) || n.handle == nil {
					t.Fatalf("got %v, noted %s", err, n.handle)
				}
			}
			s.hold = false
			if _, err := s.adapter(o).Enroll(t.Context(), n.question(in)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(s.types, []scepmsg.MessageType{scepmsg.PKCSReq, scepmsg.CertPoll, scepmsg.CertPoll}) || s.ids[0] != s.ids[1] || len(s.pending) != 1 {
				t.Errorf("sent %v in %v", s.types, s.ids)
			}
			clear(s.pending)
			var refused *ca.RefusedError
			if _, err := s.adapter(o).Enroll(t.Context(), n.question(in)); !errors.As(err, &refused) || !strings.Contains(err.Error(), "badCertId") {
				t.Errorf("a request that the CA knows no more: %v", err)
			}
			if _, err := s.adapter(o).Enroll(t.Context(), n.question(in)); err != nil || s.types[len(s.types)-1] != scepmsg.PKCSReq {
				t.Errorf("it is not asked anew: %v, sent %v", err, s.types)
			}
		})
	}
}

// TestTransactions: a repeated question is the same transaction, another intent of the same key is not.
func TestTransactions(t *testing.T) {
	s := newServer(t)
	a := s.adapter(usual())
	other := intent(t)
	other.ID = "scep-000000000002"
	for _, in := range []ca.Intent{intent(t), intent(t), other} {
		var n note
		if _, err := a.Enroll(t.Context(), n.question(in)); err != nil {
			t.Fatal(err)
		}
	}
	if s.ids[0] != s.ids[1] || s.ids[0] == s.ids[2] {
		t.Errorf("%v", s.ids)
	}
}

func TestAnswers(t *testing.T) {
	cases := []struct {
		name  string
		set   func(s *server, o *Options)
		final bool
		says  string
	}{
		{"wrong challenge", func(_ *server, o *Options) { o.Challenge = "proper" }, true, "badRequest. SCEP says no more: the challenge"},
		{"badAlg", func(s *server, _ *Options) { s.fail = scepmsg.BadAlg }, true, "badAlg"},
		{"badMessageCheck", func(s *server, _ *Options) { s.fail = scepmsg.BadMessageCheck }, false, "badMessageCheck"},
		{"badTime", func(s *server, _ *Options) { s.fail = scepmsg.BadTime }, false, "NTP"},
		{"unknown failInfo", func(s *server, _ *Options) { s.fail = "9" }, true, "failInfo 9"},
		{"signed by a stranger", func(s *server, _ *Options) { s.signer = s.ca.Issue(s.t, testpki.Options{CN: "Mallory"}) }, false, "Mallory"},
		{"garbage", func(s *server, _ *Options) { s.body["PKIOperation"] = []byte("<html>") }, false, "answer"},
		{"empty", func(s *server, _ *Options) { s.body["PKIOperation"] = []byte{} }, false, "answer"},
		{"huge", func(s *server, _ *Options) { s.body["PKIOperation"] = make([]byte, ca.MaxAnswer+1) }, false, "longer than"},
		{"GetCACert garbage", func(s *server, _ *Options) { s.body["GetCACert"] = []byte("0\x80") }, false, "GetCACert"},
		{"GetCACert missing", func(s *server, _ *Options) { s.status["GetCACert"] = 404 }, false, "404"},
		{"caps: down", func(s *server, _ *Options) { s.status["GetCACaps"] = 503 }, false, "503"},
		{"unauthorised", func(s *server, _ *Options) { s.status["PKIOperation"] = 401 }, false, "credentials"},
		{"forbidden", func(s *server, _ *Options) { s.status["PKIOperation"] = 403 }, false, "credentials"},
		{"too many", func(s *server, _ *Options) { s.status["PKIOperation"] = 429 }, false, "429"},
		{"closed", func(s *server, _ *Options) { s.status["PKIOperation"] = 500 }, false, "sorry, <b>we</b> are closed"},
		{"redirected", func(s *server, _ *Options) { s.status["PKIOperation"] = 302 }, false, "https://elsewhere.test/"},
		{"another CA", func(s *server, _ *Options) { s.ca = testpki.NewCA(s.t, "Another CA"); s.ra = nil }, false, "Another CA,O=Example is a CA that is neither"},
		{"an RA of another CA", func(s *server, _ *Options) {
			s.ra = testpki.NewCA(s.t, "Another CA").Issue(s.t, testpki.Options{CN: "evil"})
			s.body["GetCACert"] = s.ra.Cert.Raw
		}, false, "issued by no CA"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			wantError(t, tc.set, tc.final, tc.says)
		})
	}
}

// wantError asks a server that was changed.
func wantError(t *testing.T, set func(s *server, o *Options), final bool, says string) {
	s := newServer(t)
	settings, o := s.settings(usual()), usual()
	set(s, &o)
	settings.Options = s.settings(o).Options
	up, err := New(settings, ca.Env{Clock: testpki.Now})
	if err != nil {
		t.Fatal(err)
	}
	var n note
	_, err = up.Enroll(t.Context(), n.question(intent(t)))
	var refused *ca.RefusedError
	if err == nil || errors.As(err, &refused) != final || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want %q", err, says)
	}
	if strings.Contains(err.Error(), "proper") || strings.Contains(err.Error(), "s3cret") || n.handle != nil {
		t.Errorf("the challenge is in %q, or %q is noted", err, n.handle)
	}
}

// TestReplay: an answer to an earlier request is none.
func TestReplay(t *testing.T) {
	s := newServer(t)
	s.replay = true
	var n note
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err != nil {
		t.Fatal(err)
	}
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(intent(t))); err == nil || !strings.Contains(err.Error(), "nonce") {
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
	if _, err := s.adapter(usual()).Enroll(ctx, n.question(intent(t))); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "operation=") {
		t.Errorf("got %v", err)
	}
}

// TestWithoutSubject: programs look for the issuer's name of the certificate that signed.
func TestWithoutSubject(t *testing.T) {
	s := newServer(t)
	in := intent(t)
	in.Subject = []byte{0x30, 0x00}
	var n note
	if _, err := s.adapter(usual()).Enroll(t.Context(), n.question(in)); err != nil || len(s.csr.Subject.Names) != 0 {
		t.Errorf("%v, %v", s.csr.Subject, err)
	}
}

// TestWhomToBelieve: over plain http, and with a pinned certificate.
func TestWhomToBelieve(t *testing.T) {
	agent, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}})
	if err != nil {
		t.Fatal(err)
	}
	use := testpki.Options{CN: "CEP Encryption", ExtKeyUsage: []x509.ExtKeyUsage{}, Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: agent}}}
	cases := []struct {
		name string
		set  func(s *server, o *Options)
		says string // empty: it works
	}{
		{"https", func(*server, *Options) {}, ""},
		{"the CA itself", func(s *server, _ *Options) { s.ra = nil; s.plain() }, ""},
		{"anybody's certificate", func(s *server, _ *Options) { s.plain() }, "pin it by caFingerprint"},
		{"an enrolment agent's", func(s *server, _ *Options) { s.ra = s.ca.Issue(s.t, use); s.plain() }, ""},
		{"pinned RA", func(s *server, o *Options) { s.plain(); o.CAFingerprint = sum(s.ra.Cert) }, ""},
		{"pinned CA", func(s *server, o *Options) { o.CAFingerprint = strings.ToUpper(sum(s.ca.Cert)) }, ""},
		{"another pinned", func(s *server, o *Options) { o.CAFingerprint = strings.Repeat("00:", 31) + "00" }, "no certificate of GetCACert has the fingerprint"},
		{"ended", func(s *server, _ *Options) {
			s.ra = s.ca.Issue(s.t, testpki.Options{CN: "Old RA", NotAfter: testpki.Now().AddDate(0, 0, -1)})
		}, "Old RA,O=Example ended on 2026-03-01"},
		{"no RSA", func(s *server, _ *Options) {
			s.ra = s.ca.Issue(s.t, testpki.Options{CN: "EC RA", KeyType: testpki.P256})
			s.body["GetCACert"] = s.ra.Cert.Raw
		}, "none has an RSA key"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t)
			o := usual()
			tc.set(s, &o)
			var n note
			_, err := s.adapter(o).Enroll(t.Context(), n.question(intent(t)))
			if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
}

// plain serves without TLS.
func (s *server) plain() {
	handler := s.http.Config.Handler
	roots := s.http.Certificate()
	s.http.Close()
	s.http = httptest.NewServer(handler)
	s.t.Cleanup(s.http.Close)
	s.roots = roots
}

func TestRevoke(t *testing.T) {
	s := newServer(t)
	if err := s.adapter(usual()).Revoke(t.Context(), s.ca.Cert, 1); !errors.Is(err, ca.ErrCannotRevoke) {
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
		{"registration authority", func(s *server, o *Options) { *o = s.registrar() }, "", ""},
		{"NDES", func(s *server, o *Options) { *o = s.ndes() }, "", ""},
		{"NDES password", func(s *server, o *Options) { *o = s.ndes(); o.Password = "wrong" }, "credentials", "DOMAIN\\user"},
		{"NDES address", func(s *server, o *Options) { *o = s.ndes(); o.NDESAdminURL = s.http.URL + "/nothing" }, "credentials", "no page"},
		{"NDES elsewhere", func(s *server, o *Options) { *o = s.ndes(); o.NDESAdminURL = "https://127.0.0.1:1/" }, "credentials", "refused"},
		{"old", func(s *server, _ *Options) { s.caps = "DES3" }, "capabilities", "allow3DES"},
		{"down", func(s *server, _ *Options) { s.status["GetCACaps"] = 502 }, "capabilities", "502"},
		{"no SCEP", func(s *server, _ *Options) { s.body["GetCACert"] = []byte("<html>") }, "CA certificate", "address"},
		{"pin", func(s *server, o *Options) { o.CAFingerprint = strings.Repeat("ab", 32) }, "CA certificate", "has the fingerprint of caFingerprint; it gave"},
		{"another CA", func(s *server, _ *Options) { s.ca = testpki.NewCA(t, "Another CA"); s.ra = nil }, "issuer", "Another CA"},
		{"RA ended", func(s *server, o *Options) {
			id := s.ca.Issue(s.t, testpki.Options{CN: "connector", NotAfter: testpki.Now().AddDate(0, -1, 0)})
			*o = Options{RACertificate: string(id.CertPEM()), RAKey: string(id.KeyPEM())}
		}, "ra certificate", "ended on"},
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
			wantWrong(t, up.Test(t.Context()), tc.check, tc.says)
			if slices.ContainsFunc(s.asked, func(a string) bool { return strings.Contains(a, "PKIOperation") || a == "GET admin" }) {
				t.Errorf("a test asked for a certificate or a challenge: %v", s.asked)
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
		if strings.Contains(f.Detail, "proper") || strings.Contains(f.Detail, "s3cret") {
			t.Errorf("a secret is in %q", f.Detail)
		}
	}
	if !ok {
		t.Errorf("nothing wrong with %s: %+v", check, found)
	}
}

// TestFindingsWords: what a CA does differently is said even where it works.
func TestFindingsWords(t *testing.T) {
	s := newServer(t)
	s.caps = "DES3"
	found := s.adapter(Options{Allow3DES: true}).Test(t.Context())
	var text strings.Builder
	for _, f := range found {
		text.WriteString(f.Detail + "\n")
	}
	for _, want := range []string{"by GET, encrypted with Triple DES", "does not announce", "no challenge is set", "keys that devices hold", "clocks differ by 0s"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("nobody says %q:\n%s", want, text.String())
		}
	}
}

func TestSettings(t *testing.T) {
	s := newServer(t)
	ec := s.ca.Issue(t, testpki.Options{CN: "connector", KeyType: testpki.P256})
	cases := []struct {
		name string
		set  func(o *Options, s *ca.Settings)
		says string
	}{
		{"templates", func(_ *Options, s *ca.Settings) { s.Templates = []string{"mail"} }, "no word for a template"},
		{"operation", func(_ *Options, s *ca.Settings) { s.URL += "?operation=GetCACert" }, "question mark"},
		{"half a certificate", func(o *Options, _ *ca.Settings) { o.RACertificate = "x" }, "raKeyFile"},
		{"an EC key", func(o *Options, _ *ca.Settings) { o.RACertificate, o.RAKey = string(ec.CertPEM()), string(ec.KeyPEM()) }, "RSA"},
		{"fingerprint", func(o *Options, _ *ca.Settings) { o.CAFingerprint = "abcd" }, "64 hexadecimal digits"},
		{"password alone", func(o *Options, _ *ca.Settings) { o.Username, o.Password = "x", "y" }, "ndesAdminURL"},
		{"NDES without password", func(o *Options, _ *ca.Settings) { o.NDESAdminURL = "https://ndes.corp.test/" }, "passwordFile"},
		{"NDES without TLS", func(o *Options, _ *ca.Settings) {
			*o = Options{NDESAdminURL: "http://ndes.corp.test/", Username: "x", Password: "y"}
		}, "https://"},
		{"two challenges", func(o *Options, _ *ca.Settings) {
			o.NDESAdminURL, o.Username, o.Password = "https://ndes.corp.test/", "x", "y"
		}, "one of them"},
		{"issuers", func(_ *Options, s *ca.Settings) { s.Issuers = "" }, "issuersFile"},
		{"TLS roots", func(_ *Options, s *ca.Settings) { s.TLSRoots = "x" }, "tlsRoots"},
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
	settings.Options = []byte(`{"chalenge":"x"}`)
	if _, err := New(settings, ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), "chalenge") {
		t.Errorf("got %v", err)
	}
}
