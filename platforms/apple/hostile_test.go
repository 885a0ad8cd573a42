package apple

import (
	"strings"
	"testing"
)

// TestRenderHoldsIdentitiesToTheirForm: the body comes from a server that may be taken over. A private key goes into a
// pkcs12 payload as plan writes it, and nowhere else.
func TestRenderHoldsIdentitiesToTheirForm(t *testing.T) {
	doc := byID(t, Plan(sales(t)), "history")
	cases := map[string]func(*body){
		"another type": func(b *body) { b.Payloads[0].Type = typeEAS },
		"another type by a setting": func(b *body) {
			b.Payloads[0].Settings["PayloadType"], b.Payloads[0].Settings["Host"] = typeEAS, "evil.test"
		},
		"a certificate beside it":   func(b *body) { b.Payloads[0].Certificate = []byte{0x30} },
		"an extractable key":        func(b *body) { b.Payloads[0].Settings["KeyIsExtractable"] = true },
		"a key for every program":   func(b *body) { b.Payloads[0].Settings["AllowAllAppsAccess"] = true },
		"a custom profile as cover": func(b *body) { b.Custom = []byte("<plist/>") },
	}
	for name, change := range cases {
		b, err := decodeBody(doc)
		if err != nil || b.Payloads[0].Credential == "" {
			t.Fatal(err, b.Payloads)
		}
		change(&b)
		bent := doc
		bent.Body = encodeBody(b)
		if out, err := Render(bent, pkcs12s(bent), inClear); err == nil || out != nil || strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: rendered, %v", name, err)
		}
	}
	if _, err := Render(doc, pkcs12s(doc), inClear); err != nil {
		t.Errorf("as planned: %v", err)
	}
}
