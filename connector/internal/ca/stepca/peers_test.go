package stepca

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/realca"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// mailTemplate is the template that docs/cas/stepca.md gives step-ca's admin.
const mailTemplate = `{
  "subject": {{ if .Insecure.CR.Subject.CommonName }}{{ toJson .Insecure.CR.Subject }}{{ else }}{{ toJson .Subject }}{{ end }},
  "sans": [
    {{- range $i, $san := .SANs }}{{ if $i }},{{ end }}{{ toJson $san }}{{ end }}
    {{- if .Token.waxseal }}{{ range .Token.waxseal.upn }},{"type": "userPrincipalName", "value": {{ toJson . }}}{{ end }}{{ end }}
  ],
  {{- if and .Token.waxseal .Token.waxseal.keyUsage }}
  "keyUsage": {{ toJson .Token.waxseal.keyUsage }},
  {{- else }}
  "keyUsage": ["digitalSignature", "keyEncipherment"],
  {{- end }}
  {{- if and .Token.waxseal (eq (toString .Token.waxseal.template) "signin") }}
  "extKeyUsage": ["emailProtection", "clientAuth"]
  {{- else }}
  "extKeyUsage": ["emailProtection"]
  {{- end }}
}`

func realSettings(t *testing.T) (ca.Settings, *material) {
	m := newMaterial(t)
	real := realca.StartStepCA(t, map[string]any{"type": "JWK", "name": "waxseal", "key": json.RawMessage(m.public), "encryptedKey": m.encrypted,
		"claims":  map[string]any{"maxTLSCertDuration": "9600h"},
		"options": map[string]any{"x509": map[string]any{"template": mailTemplate}}})
	s := ca.Settings{Name: "corp", Kind: "stepca", URL: real.URL, TLSRoots: real.Roots, Issuers: real.Issuers, Templates: []string{"signin"},
		Options: encode(t, Options{Provisioner: Provisioner{Name: "waxseal", Key: m.encrypted, Password: "secret\n"}, RootFingerprint: fingerprint(real.Root.Cert)})}
	return s, m
}

func TestRealStepCA(t *testing.T) {
	s, _ := realSettings(t)
	env := ca.Env{Clock: time.Now, Rand: rand()} // the CA looks at the real clock
	up, err := New(s, env)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range up.Test(t.Context()) {
		if !f.OK {
			t.Errorf("%s: %s", f.Check, f.Detail)
		}
	}
	later := time.Now().Add(time.Hour) // the adapter's clock goes on, so that a certificate ends a little later than the suite begins
	t.Run("conformance", func(t *testing.T) { conformance(t, s, up, later, catest.Traits{}) })
	t.Run("names and uses", func(t *testing.T) { realNames(t, up) })
	t.Run("refusals", func(t *testing.T) { realRefusals(t, up) })
	t.Run("revoked twice", func(t *testing.T) { realRevocation(t, up) })
	t.Run("wrong settings", func(t *testing.T) { realWrongSettings(t, s, env) })
}

func realNames(t *testing.T, up enroller) {
	in := intent(t)
	in.Template, in.KeyUsage = "signin", []string{"digitalSignature", "nonRepudiation"}
	in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "alice@corp.test"})
	leaf := mustEnroll(t, up, in)
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment || len(leaf.ExtKeyUsage) != 2 || leaf.Subject.CommonName != "Alice Example" {
		t.Errorf("key usage %b, uses %v, subject %s", leaf.KeyUsage, leaf.ExtKeyUsage, leaf.Subject)
	}
	if !strings.Contains(string(leaf.Raw), "\x0c\x0falice@corp.test") {
		t.Error("the UPN is missing")
	}
}

func realRefusals(t *testing.T, up enroller) {
	in := intent(t)
	in.Validity = 20 * 365 * 24 * time.Hour
	_, err := up.Enroll(t.Context(), question(in))
	var refused *ca.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "duration") {
		t.Errorf("a life of 20 years: %v", err)
	}
}

func realRevocation(t *testing.T, up enroller) {
	leaf := mustEnroll(t, up, intent(t))
	for range 2 {
		if err := up.Revoke(t.Context(), leaf, 4); err != nil {
			t.Error(err)
		}
	}
}

func realWrongSettings(t *testing.T, s ca.Settings, env ca.Env) {
	other := newMaterialOf(t, "another password")
	cases := map[string]struct {
		options  func(o *Options)
		settings func(s *ca.Settings)
		check    string
	}{
		"another key":         {options: func(o *Options) { o.Key, o.Password = other.clear, "" }, check: "credentials"},
		"another provisioner": {options: func(o *Options) { o.Name = "jane" }, check: "provisioner"},
		"another name":        {options: func(o *Options) { o.Audience = "https://elsewhere.corp.test" }, check: "credentials"},
		"another root":        {options: func(o *Options) { o.RootFingerprint = strings.Repeat("0", 64) }, check: "root"},
		"another issuer":      {settings: func(s *ca.Settings) { s.Issuers = string(testpki.NewCA(t, "Another CA").CertPEM()) }, check: "issuer"},
		"another TLS root":    {settings: func(s *ca.Settings) { s.TLSRoots = string(testpki.NewCA(t, "Another CA").CertPEM()) }, check: "certificate"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := s
			var o Options
			if err := s.DecodeOptions(&o); err != nil {
				t.Fatal(err)
			}
			if tc.options != nil {
				tc.options(&o)
			} else {
				tc.settings(&s)
			}
			s.Options = encode(t, o)
			up, err := New(s, env)
			if err != nil {
				t.Fatal(err)
			}
			wantWrong(t, up.Test(t.Context()), tc.check)
		})
	}
}
