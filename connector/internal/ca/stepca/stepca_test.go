package stepca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// enroller is the port, by its own name here.
type enroller = ledger.Upstream

func rand() io.Reader { return cryptorand.Reader }

// material is a provisioner's key in each form.
type material struct {
	key       *ecdsa.PrivateKey
	clear     string // JWK
	public    string
	encrypted string // JWE, with the password "secret"
}

func newMaterial(t testing.TB) *material { return newMaterialOf(t, "secret") }

func newMaterialOf(t testing.TB, password string) *material {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &material{key: key}
	private := jose.JSONWebKey{Key: key, Algorithm: "ES256", Use: "sig"}
	sum, err := private.Thumbprint(crypto256())
	if err != nil {
		t.Fatal(err)
	}
	private.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	m.clear, m.public = string(encode(t, private)), string(encode(t, private.Public()))
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.PBES2_HS256_A128KW, Key: []byte(password), PBES2Count: 1000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	box, err := encrypter.Encrypt([]byte(m.clear))
	if err != nil {
		t.Fatal(err)
	}
	if m.encrypted, err = box.CompactSerialize(); err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t testing.TB, v any) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func intent(t testing.TB) ca.Intent {
	return catest.Intent(t, "stepca-0000000001", testpki.PoolKey(t, 1))
}

func question(in ca.Intent) ledger.Question {
	return ledger.Question{Intent: in, Note: func([]byte) error { return nil }}
}

func mustEnroll(t *testing.T, up enroller, in ca.Intent) *x509.Certificate {
	t.Helper()
	chain, err := up.Enroll(t.Context(), question(in))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func wantWrong(t *testing.T, findings []link.CAFinding, check string) {
	t.Helper()
	for _, f := range findings {
		if strings.Contains(f.Detail, "secret") {
			t.Errorf("a secret: %+v", f)
		}
		if f.Check == check && !f.OK {
			return
		}
	}
	t.Errorf("%s is not found wrong: %+v", check, findings)
}

func conformance(t *testing.T, s ca.Settings, up enroller, now time.Time, traits catest.Traits) {
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

func TestConformance(t *testing.T) {
	f := newFake(t)
	conformance(t, f.settings(f.usual()), f.adapter(f.usual()), testpki.Now(), catest.Traits{})
}

// TestToken: the token's names are those of the request, it is bound to it, and no two are the same.
func TestToken(t *testing.T) {
	f := newFake(t)
	in := intent(t)
	in.Template, in.KeyUsage = "signin", []string{"digitalSignature"}
	in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "alice@corp.test"})
	for range 2 {
		mustEnroll(t, f.adapter(f.usual()), in)
	}
	got := f.claims[0]
	sum := sha256.Sum256(f.requests[0])
	want := map[string]any{"iss": "waxseal", "sub": "Alice Example", "sans": []any{"Alice.Example@corp.test"},
		"aud": f.http.URL + "/1.0/sign", "cnf": map[string]any{"x5rt#S256": base64.RawURLEncoding.EncodeToString(sum[:])},
		"waxseal": map[string]any{"template": "signin", "upn": []any{"alice@corp.test"}, "keyUsage": []any{"digitalSignature"}}}
	for name, value := range want {
		if string(encode(t, got[name])) != string(encode(t, value)) {
			t.Errorf("%s: %s, want %s", name, encode(t, got[name]), encode(t, value))
		}
	}
	if got["exp"].(float64)-got["iat"].(float64) != tokenLife.Seconds() || got["jti"] == f.claims[1]["jti"] {
		t.Errorf("claims %v, then %v", got, f.claims[1])
	}
	if want := testpki.Now().Add(in.Validity).Format(time.RFC3339); f.notAfter != want {
		t.Errorf("notAfter %q, want %q", f.notAfter, want)
	}
}

func TestTemplatesByProvisioner(t *testing.T) {
	f := newFake(t)
	other := newMaterial(t)
	o := f.usual()
	o.CAValidity = true
	o.Provisioners = map[string]Provisioner{"signing": {Name: "signers", Key: other.clear}}
	f.keys["signers"] = other
	in := intent(t)
	in.Template = "signing"
	mustEnroll(t, f.adapter(o), in)
	if f.claims[0]["iss"] != "signers" || f.notAfter != "" {
		t.Errorf("issuer %v, notAfter %q", f.claims[0]["iss"], f.notAfter)
	}
	o.Provisioner = Provisioner{}
	in.Template = ""
	var refused *ca.RefusedError
	if _, err := f.adapter(o).Enroll(t.Context(), question(in)); !errors.As(err, &refused) {
		t.Errorf("no usual provisioner: %v", err)
	}
	if err := f.adapter(o).Revoke(t.Context(), f.ca.Cert, 4); err != nil {
		t.Errorf("revoking without a usual provisioner: %v", err)
	}
}

func TestAnswers(t *testing.T) {
	refusal := `{"status":403,"message":"The request was forbidden by the certificate authority: more than \u0007 24h"}`
	cases := []struct {
		name    string
		answer  func(w http.ResponseWriter)
		refused bool
		is      error
		says    string
	}{
		{"refused", status(403, refusal), true, nil, "forbidden by the certificate authority: more than 24h"},
		{"a request that it cannot read", status(400, `{"message":"missing csr"}`), true, nil, "missing csr"},
		{"forbidden by somebody else", status(403, "<html>"), false, web403, "HTTP 403"},
		{"token not taken", status(401, `{"message":"The request lacked necessary authorization"}`), false, web403, "lacked necessary"},
		{"too many", status(429, ""), false, nil, "no more requests"},
		{"down", status(503, "secret"), false, nil, "HTTP 503"},
		{"elsewhere", status(307, ""), false, nil, "final address"},
		{"garbage", status(201, "<html>"), false, nil, "not the JSON"},
		{"no certificate", status(201, `{}`), false, nil, "without a certificate"},
		{"a certificate of garbage", status(201, `{"crt":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}`), false, nil, "does not parse"},
		{"huge", status(201, `{"crt":"`+strings.Repeat("A", ca.MaxAnswer)+`"}`), false, nil, "longer than"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			f := newFake(t)
			f.answer = tc.answer
			_, err := f.adapter(f.usual()).Enroll(t.Context(), question(intent(t)))
			var refused *ca.RefusedError
			if err == nil || errors.As(err, &refused) != tc.refused || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if err != nil && (strings.ContainsAny(err.Error(), "\u0007\n") || strings.Contains(err.Error(), "secret")) {
				t.Errorf("the error has what it must not: %q", err)
			}
		})
	}
}

// TestSlow: a CA that does not answer ends with the caller's patience.
func TestSlow(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	f.answer = func(http.ResponseWriter) { cancel(); <-release }
	_, err := f.adapter(f.usual()).Enroll(ctx, question(intent(t)))
	close(release)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRevoke(t *testing.T) {
	f := newFake(t)
	up := f.adapter(f.usual())
	leaf := mustEnroll(t, up, intent(t))
	for range 2 { // the second time it is revoked already
		if err := up.Revoke(t.Context(), leaf, 4); err != nil {
			t.Fatal(err)
		}
	}
	serial := leaf.SerialNumber.String()
	if f.revoked[serial] != 4 || f.claims[1]["sub"] != serial || f.claims[1]["aud"] != f.http.URL+"/1.0/revoke" {
		t.Errorf("revoked %v with the claims %v", f.revoked, f.claims[1])
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter)
		is     error
	}{
		"no database": {status(501, `{"message":"no persistence layer configured"}`), ca.ErrCannotRevoke},
		"no right":    {status(401, `{"message":"no"}`), web403},
		"down":        {status(500, `{}`), nil},
	} {
		f.answer = tc.answer
		if err := up.Revoke(t.Context(), leaf, 4); err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNamesThatCannotBe(t *testing.T) {
	f := newFake(t)
	for name, change := range map[string]func(in *ca.Intent){
		"no names":   func(in *ca.Intent) { in.SANs = nil },
		"a UPN only": func(in *ca.Intent) { in.SANs[0].Type = profiles.SANUPN },
	} {
		in := intent(t)
		change(&in)
		var refused *ca.RefusedError
		if _, err := f.adapter(f.usual()).Enroll(t.Context(), question(in)); !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := intent(t)
	in.Subject = []byte{0x30, 0x00}
	if mustEnroll(t, f.adapter(f.usual()), in); f.claims[0]["sub"] != "Alice.Example@corp.test" {
		t.Errorf("without a common name, the subject is %v", f.claims[0]["sub"])
	}
}

func TestSettings(t *testing.T) {
	m := newMaterial(t)
	good := func() Options { return Options{Provisioner: Provisioner{Name: "waxseal", Key: m.clear}} }
	cases := []struct {
		name   string
		change func(s *ca.Settings, o *Options)
		says   string
	}{
		{"no provisioner", func(_ *ca.Settings, o *Options) { o.Name = "" }, "provisioner is missing"},
		{"no key", func(_ *ca.Settings, o *Options) { o.Key = "" }, "key is missing"},
		{"a public key", func(_ *ca.Settings, o *Options) { o.Key = m.public }, "public key"},
		{"PEM", func(_ *ca.Settings, o *Options) { o.Key = string(testpki.NewCA(t, "X").KeyPEM()) }, "neither a JWK"},
		{"a symmetric key", func(_ *ca.Settings, o *Options) { o.Key = `{"kty":"oct","k":"AAAA"}` }, "private one is needed"},
		{"huge", func(_ *ca.Settings, o *Options) { o.Key = strings.Repeat("A", maxKey+1) }, "longer than"},
		{"no password", func(_ *ca.Settings, o *Options) { o.Key = m.encrypted }, "password is missing"},
		{"another password", func(_ *ca.Settings, o *Options) { o.Key, o.Password = m.encrypted, "hunter2" }, "does not open"},
		{"http", func(s *ca.Settings, _ *Options) { s.URL = "http://ca.corp.test" }, "https://"},
		{"audience", func(_ *ca.Settings, o *Options) { o.Audience = "ca.corp.test" }, "audience"},
		{"fingerprint", func(_ *ca.Settings, o *Options) { o.RootFingerprint = "12" }, "64 hexadecimal digits"},
		{"a template without provisioner", func(s *ca.Settings, o *Options) {
			o.Provisioners, o.Provisioner = map[string]Provisioner{"signing": o.Provisioner}, Provisioner{}
			s.Templates = []string{"signing", "encryption"}
		}, `"encryption"`},
		{"a template's key", func(_ *ca.Settings, o *Options) { o.Provisioners = map[string]Provisioner{"signing": {Name: "x"}} }, "signing: key is missing"},
	}
	for _, tc := range cases {
		s, o := ca.Settings{Name: "corp", Kind: "stepca", URL: "https://ca.corp.test:9000"}, good()
		tc.change(&s, &o)
		s.Options = encode(t, o)
		_, err := New(s, ca.Env{Clock: testpki.Now, Rand: rand()})
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.says)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a secret in %v", tc.name, err)
		}
	}
	s := ca.Settings{Name: "corp", URL: "https://ca.corp.test", Options: []byte(`{"provisioner":"waxseal","kee":"x"}`)}
	if _, err := New(s, ca.Env{}); err == nil || !strings.Contains(err.Error(), "kee") {
		t.Errorf("an unknown option: %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"crt":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n","ca":"","certChain":[]}`))
	f.Add([]byte(`{"crts":["x"],"message":"no","provisioners":[{"type":"JWK","name":"a","key":{"kid":"b"}}],"nextCursor":"c"}`))
	f.Add([]byte(`{"certChain":["","",null,1]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		certs, err := parseSigned(body)
		if err == nil && (len(certs) == 0 || len(certs) > maxCertificates) {
			t.Errorf("%d certificates", len(certs))
		}
		_, _ = parseList(body)
		_, _, _ = parseProvisioners(body)
		if words := errorWords(body); len(words) > 300 || strings.ContainsAny(words, "\n\r\x00") {
			t.Errorf("words %q", words)
		}
	})
}
