package amapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// field is what Google says of one field.
type field struct {
	Type string   `json:"type"`
	Enum []string `json:"enum"`
	Ref  string   `json:"ref"`
	List *field   `json:"list"`
}

type discovery map[string]map[string]field

func google(t testing.TB) discovery {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "discovery.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct{ Schemas discovery }
	if err := json.Unmarshal(data, &d); err != nil || len(d.Schemas) == 0 {
		t.Fatal("no schemas", err)
	}
	return d.Schemas
}

// object holds a JSON object to a schema: no field that Google does not know, and each of the right type.
func (d discovery) object(at, schema string, v any) error {
	m, ok := v.(map[string]any)
	if !ok || d[schema] == nil {
		return fmt.Errorf("%s is no %s", at, schema)
	}
	for name, value := range m {
		f, known := d[schema][name]
		if !known {
			return fmt.Errorf("%s.%s is unknown to %s", at, name, schema)
		}
		if err := d.value(at+"."+name, f, value); err != nil {
			return err
		}
	}
	return nil
}

func (d discovery) value(at string, f field, v any) error {
	ok := true
	switch {
	case f.Ref != "":
		return d.object(at, f.Ref, v)
	case f.List != nil:
		list, isList := v.([]any)
		for i, entry := range list {
			if err := d.value(fmt.Sprintf("%s[%d]", at, i), *f.List, entry); err != nil {
				return err
			}
		}
		ok = isList
	case f.Type == "bytes":
		s, _ := v.(string)
		_, err := base64.StdEncoding.DecodeString(s)
		ok = s != "" && err == nil
	case f.Type == "boolean":
		_, ok = v.(bool)
	case f.Type == "object":
		_, ok = v.(map[string]any)
	default:
		s, isText := v.(string)
		ok = isText && f.Type == "string" && (len(f.Enum) == 0 || slices.Contains(f.Enum, s))
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %+v", at, v, f)
	}
	return nil
}

func params() Params {
	return Params{Package: "com.waxseal.companion", ServerURL: "https://mdm.corp.test", EnrollmentToken: "one-time",
		SigningCertSHA256: []string{strings.Repeat("ab", 32)}, InstallType: Custom, SecurityLogs: true}
}

func encoded(t testing.TB, v any) []byte {
	t.Helper()
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func TestGoogleKnowsEachField(t *testing.T) {
	rules := params()
	rules.Rules = []ChoosePrivateKeyRule{{PackageNames: []string{"com.microsoft.office.outlook"}, PrivateKeyAlias: "smime-sign", URLPattern: ".*"}}
	for name, p := range map[string]Params{"selection": params(), "rules": rules} {
		policy, err := PolicyFor(p)
		if err != nil {
			t.Fatal(err)
		}
		policy.PrivateKeySelectionEnabled = name == "rules"
		var v any
		if err := json.Unmarshal(encoded(t, policy), &v); err != nil {
			t.Fatal(err)
		}
		if err := google(t).object("policy", "Policy", v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	token, err := TokenFor("enterprises/e/policies/p", "u-1", time.Hour, true)
	if err != nil {
		t.Fatal(err)
	}
	token.Name, token.Value, token.QRCode, token.ExpirationTimestamp = "n", "v", "q", "2026-03-02T09:30:00Z"
	var v any
	if err := json.Unmarshal(encoded(t, token), &v); err != nil {
		t.Fatal(err)
	}
	if err := google(t).object("token", "EnrollmentToken", v); err != nil {
		t.Error(err)
	}
	if err := google(t).object("token", "EnrollmentToken", map[string]any{"Value": "v"}); err == nil {
		t.Error("the test takes unknown fields")
	}
}

func TestPolicyGolden(t *testing.T) {
	policy, err := PolicyFor(params())
	if err != nil {
		t.Fatal(err)
	}
	got := encoded(t, policy)
	path := filepath.Join("testdata", "policy.json")
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", got)
	}
}

func TestScopes(t *testing.T) {
	p := params()
	policy, err := PolicyFor(p)
	if err != nil || !slices.Contains(policy.Applications[0].DelegatedScopes, CertSelection) {
		t.Error(policy, err)
	}
	p.Rules, p.InstallType, p.EnrollmentToken = []ChoosePrivateKeyRule{{PrivateKeyAlias: "a"}}, "", ""
	policy, err = PolicyFor(p)
	if err != nil || slices.Contains(policy.Applications[0].DelegatedScopes, CertSelection) {
		t.Error(policy, err)
	}
	if app := policy.Applications[0]; app.InstallType != ForceInstalled || strings.Contains(string(app.ManagedConfiguration), "token") {
		t.Errorf("%+v", app)
	}
}

func TestPolicyForRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Params)
		want   string
	}{
		{"package", func(p *Params) { p.Package = "companion" }, "not the package"},
		{"http", func(p *Params) { p.ServerURL = "http://mdm.corp.test" }, "must be https"},
		{"password in the URL", func(p *Params) { p.ServerURL = "https://a:hunter2@mdm.corp.test" }, "must be https"},
		{"query in the URL", func(p *Params) { p.ServerURL += "?token=hunter2" }, "must be https"},
		{"no host", func(p *Params) { p.ServerURL = "https:///x" }, "must be https"},
		{"token", func(p *Params) { p.EnrollmentToken = "hunter2 " }, "enrolment token"},
		{"fingerprint", func(p *Params) { p.SigningCertSHA256 = []string{"ab"} }, "SHA-256"},
		{"custom app without fingerprint", func(p *Params) { p.SigningCertSHA256 = nil }, "needs signingKeyCerts"},
		{"rule without alias", func(p *Params) { p.Rules = []ChoosePrivateKeyRule{{}} }, "privateKeyAlias is missing"},
	}
	for _, c := range cases {
		p := params()
		c.change(&p)
		_, err := PolicyFor(p)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Policy)
		want   string
	}{
		{"second holder", func(p *Policy) {
			p.Applications = append(p.Applications, ApplicationPolicy{PackageName: "a.b", DelegatedScopes: []Scope{CertSelection}})
		}, "2 apps have the scope CERT_SELECTION"},
		{"second companion", func(p *Policy) {
			p.Applications = append(p.Applications, ApplicationPolicy{PackageName: "a.b", Roles: []Role{{RoleCompanionApp}}})
		}, "2 apps have the role"},
		{"rules beside the holder", func(p *Policy) { p.ChoosePrivateKeyRules = []ChoosePrivateKeyRule{{PrivateKeyAlias: "a"}} }, "left out"},
		{"picker beside the holder", func(p *Policy) { p.PrivateKeySelectionEnabled = true }, "left out"},
		{"twice", func(p *Policy) { p.Applications = append(p.Applications, p.Applications[0]) }, "twice"},
		{"configuration", func(p *Policy) { p.Applications[0].ManagedConfiguration = json.RawMessage(`[]`) }, "JSON object"},
		{"null", func(p *Policy) { p.Applications[0].ManagedConfiguration = json.RawMessage(`null`) }, "JSON object"},
		{"long text", func(p *Policy) {
			p.Applications[0].ManagedConfiguration = json.RawMessage(`{"x":"` + strings.Repeat("y", 65536) + `"}`)
		}, "x is longer"},
		{"package", func(p *Policy) { p.Applications[0].PackageName = "" }, "not the package"},
	}
	for _, c := range cases {
		p, err := PolicyFor(params())
		if err != nil {
			t.Fatal(err)
		}
		c.change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	mail := ApplicationPolicy{PackageName: "a.b", DelegatedScopes: []Scope{CertInstall}}
	p, _ := PolicyFor(params())
	p.Applications = append(p.Applications, mail)
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestTokenFor(t *testing.T) {
	token, err := TokenFor("p", "u-1", 90*time.Minute, false)
	if err != nil || token.Duration != "5400s" || !token.OneTimeOnly || token.AdditionalData != "u-1" ||
		token.AllowPersonalUsage != PersonalUsageDisallowed {
		t.Errorf("%+v, %v", token, err)
	}
	for _, c := range []struct {
		policy, user string
		validity     time.Duration
	}{{"", "u", time.Hour}, {"p", "", time.Hour}, {"p", strings.Repeat("u", 1025), time.Hour}, {"p", "u", time.Second}, {"p", "u", 1e6 * time.Hour}} {
		if _, err := TokenFor(c.policy, c.user, c.validity, false); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}
