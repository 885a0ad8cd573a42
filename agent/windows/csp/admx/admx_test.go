package admx

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// file wraps categories and policies.
func file(categories, policies string) string {
	return `<?xml version="1.0" encoding="utf-8"?>
<policyDefinitions xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0" schemaVersion="1.0">
<policyNamespaces><target prefix="mail" namespace="Example.Policies.Mail"/></policyNamespaces>
<categories>` + categories + `</categories><policies>` + policies + `</policies></policyDefinitions>`
}

const (
	top  = `<category name="Mail"/>`
	tree = top + `<category name="Security"><parentCategory ref="mail:Mail"/></category>`
	key  = `Software\Policies\Microsoft\Office\16.0`
)

func policyXML(name, key, rest string) string {
	return `<policy name="` + name + `" class="User" key="` + key + `" valueName="` + name + `"><parentCategory ref="Security"/>` + rest + `</policy>`
}

func TestFind(t *testing.T) {
	f, err := Parse("\ufeff" + file(tree, policyXML("Sign", key, "")))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		categories, name string
		want             bool
	}{
		{"Mail/Security", "Sign", true}, {"mail/SECURITY", "sign", true}, {"Security", "Sign", false},
		{"Security/Mail", "Sign", false}, {"Mail/Security", "Encrypt", false},
	} {
		if _, ok := f.Find(strings.Split(tt.categories, "/"), tt.name); ok != tt.want {
			t.Errorf("%s %s: %v", tt.categories, tt.name, ok)
		}
	}
}

func TestRefused(t *testing.T) {
	circle := `<category name="Mail"><parentCategory ref="Security"/></category><category name="Security"><parentCategory ref="Mail"/></category>`
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":          {"", "0 root elements"},
		"no policy":        {file(tree, ""), "defines no policy"},
		"another root":     {"<policies/>", "expected element type"},
		"document type":    {`<!DOCTYPE x [<!ENTITY a "b">]><policyDefinitions/>`, "document type"},
		"two roots":        {"<policyDefinitions/><policyDefinitions/>", "2 root elements"},
		"text behind":      {"<policyDefinitions/>x", "outside the root"},
		"deep":             {strings.Repeat("<a>", maxDepth+1), "deeply nested"},
		"many":             {"<a>" + strings.Repeat("<b/>", maxElements) + "</a>", "too many"},
		"long":             {strings.Repeat(" ", maxSize+1), "longer than"},
		"circle":           {file(circle, policyXML("Sign", key, "")), "in a circle"},
		"foreign category": {file(strings.ReplaceAll(tree, "mail:", "windows:"), policyXML("Sign", key, "")), `"windows:Mail" is not in the file`},
		"no category":      {file(tree, `<policy name="Sign" class="User" key="Software\Example"/>`), "no category"},
		"no name":          {file(tree, policyXML("", key, "")), "name is missing"},
		"slash":            {file(tree, policyXML("a/b", key, "")), "not usable in a LocURI"},
		"class":            {file(tree, strings.ReplaceAll(policyXML("Sign", key, ""), "User", "Group")), `class "Group"`},
		"entity":           {file(tree, "&foreign;"), "entity"},
	} {
		if _, err := Parse(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestKeys(t *testing.T) {
	for path, open := range map[string]bool{
		`Software\Policies\Microsoft\Office\16.0\Outlook\Security`: true,
		`SOFTWARE\Microsoft\Office`:                                true,
		`Software\Policies\Example\Mail`:                           true,
		`Software\MicrosoftOffice`:                                 true,
		`Software\Policies\Microsoft\Officer`:                      false,
		`Software\Policies\Microsoft\Windows`:                      false,
		`Software\Microsoft`:                                       false,
		`\Software\Microsoft\Windows`:                              false,
		`System\CurrentControlSet`:                                 false,
		`system`:                                                   false,
		``:                                                         false,
	} {
		if _, err := Parse(file(tree, policyXML("Sign", path, ""))); (err == nil) != open || !open && !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, inner := range []string{
		`<elements><text id="a" key="System\X" valueName="a"/></elements>`,
		`<enabledList><item key="System\X" valueName="a"><value><decimal value="1"/></value></item></enabledList>`,
		`<disabledList><item key="System\X" valueName="a"><value><decimal value="1"/></value></item></disabledList>`,
	} {
		if _, err := Parse(file(tree, policyXML("Sign", key, inner))); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", inner, err)
		}
	}
}

// rich is a policy with everything that management reads.
const rich = `<enabledValue><string>on</string></enabledValue><disabledValue><delete/></disabledValue>
<enabledList><item key="Software\Example" valueName="Also"><value><decimal value="7"/></value></item></enabledList>
<disabledList><item valueName="Off"><value><decimal value="1"/></value></item></disabledList>
<elements><decimal id="n" valueName="Number" minValue="1" maxValue="20"/><boolean id="b" valueName="Flag"><trueValue><decimal value="5"/></trueValue></boolean>
<text id="t" valueName="Text"/><enum id="e" valueName="Choice"><item displayName="x"><value><decimal value="2"/></value></item></enum></elements>`

func TestApply(t *testing.T) {
	at := func(pairs ...string) map[string]string {
		out := map[string]string{}
		for n := 0; n < len(pairs); n += 2 {
			path := key + `\` + pairs[n]
			if strings.Contains(pairs[n], `\`) {
				path = pairs[n]
			}
			out[path] = pairs[n+1]
		}
		return out
	}
	for _, tt := range []struct {
		name, inner, setting string
		want                 map[string]string // nil: refused
	}{
		{"plain", "", "<enabled/>", at("Sign", "1")},
		{"plain off", "", " <disabled/>\n", at()},
		{"rich", rich, `<enabled/>`, at("Sign", "on", `Software\Example\Also`, "7")},
		{"rich off", rich, `<disabled/>`, at("Off", "1")},
		{"data", rich, `<enabled/><data id="N" value="20"/><data id="b" value="true"/><data id="t" value="a&amp;b"/><data id="e" value="2"/>`,
			at("Sign", "on", `Software\Example\Also`, "7", "Number", "20", "Flag", "5", "Text", "a&b", "Choice", "2")},
		{"false", rich, `<enabled/><data id="b" value="false"/>`, at("Sign", "on", `Software\Example\Also`, "7", "Flag", "0")},
		{"low", rich, `<enabled/><data id="n" value="0"/>`, nil},
		{"high", rich, `<enabled/><data id="n" value="21"/>`, nil},
		{"no choice", rich, `<enabled/><data id="e" value="3"/>`, nil},
		{"no bool", rich, `<enabled/><data id="b" value="yes"/>`, nil},
		{"unknown", rich, `<enabled/><data id="x" value="1"/>`, nil},
		{"required", `<elements><text id="t" valueName="Text" required="true"/></elements>`, `<enabled/>`, nil},
	} {
		f, err := Parse(file(tree, policyXML("Sign", key, tt.inner)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSetting(tt.setting)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		got := map[string]string{}
		if err := f.Policies[0].Apply(s, got); (err != nil) != (tt.want == nil) || err == nil && !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

func TestRefusedSettings(t *testing.T) {
	for _, text := range []string{
		"", "1", "<enabled/><disabled/>", "<enabled/><enabled/>", "<enabled>", "<enabled/>yes", "<on/>", "<enabled/><on/>",
		`<enabled/><data value="1"/>`, `<enabled/><data id="a" value="1"/><data id="A" value="1"/>`, "</setting><setting><enabled/>",
		`<!DOCTYPE x><enabled/>`, strings.Repeat(" ", 70<<10),
	} {
		if s, err := ParseSetting(text); err == nil {
			t.Errorf("%.40q is taken for %+v", text, s)
		}
	}
}

func TestIn(t *testing.T) {
	for class, want := range map[string]string{"User": "User", "machine": "Device", "Both": "User Device"} {
		for _, scope := range []string{"User", "Device"} {
			if got := (Policy{Class: class}).In(scope); got != strings.Contains(want, scope) {
				t.Errorf("%s in %s: %v", class, scope, got)
			}
		}
	}
}

// TestWellFormed lets xmllint read the files that the tests take for good ones.
func TestWellFormed(t *testing.T) {
	if _, err := exec.LookPath("xmllint"); err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("xmllint is missing")
		}
		t.Skip("xmllint is missing")
	}
	path := filepath.Join(t.TempDir(), "mail.admx")
	if err := os.WriteFile(path, []byte(file(tree, policyXML("Sign", key, ""))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("xmllint", "--noout", path).CombinedOutput(); err != nil {
		t.Errorf("xmllint: %v\n%s", err, out)
	}
}

// FuzzADMX reads any file, and any setting against what the file defines.
func FuzzADMX(f *testing.F) {
	f.Add(file(tree, policyXML("Sign", key, "")), "<enabled/>")
	f.Add(file(tree, policyXML("Sign", key, `<elements><decimal id="n" valueName="N"/></elements>`)), `<enabled/><data id="n" value="1"/>`)
	f.Add(file(top, ""), "<disabled/>")
	f.Add(`<!DOCTYPE a><policyDefinitions/>`, `<data id="" value=""/>`)
	f.Fuzz(func(t *testing.T, text, value string) {
		s, settingErr := ParseSetting(value)
		parsed, err := Parse(text)
		if err != nil || settingErr != nil {
			return
		}
		for _, p := range parsed.Policies {
			categories, err := parsed.chain(p)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := parsed.Find(categories, p.Name); !ok {
				t.Errorf("policy %q cannot be found", p.Name)
			}
			registry := map[string]string{}
			_ = p.Apply(s, registry)
			for path := range registry {
				if !openKey(path) {
					t.Errorf("%q was written", path)
				}
			}
		}
	})
}
