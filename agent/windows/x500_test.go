package windows

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"
)

// Trap 13: what is quoted and what is not, and the order of the encoding.
func TestX500(t *testing.T) {
	for text, want := range map[string]string{
		"CN=Ann,O=Corp,C=DE":               "CN=Ann,O=Corp,C=DE",
		`CN="Example, Ann",E="a+b@c.test"`: `CN=Example\, Ann,1.2.840.113549.1.9.1=#0c0a612b6240632e74657374`,
		`CN="Ann ""A"" B"`:                 `CN=Ann \"A\" B`,
		`CN=corp\ann; O = Corp `:           `CN=corp\\ann,O=Corp`,
		"CN=Ann+SERIALNUMBER=7,OU=x":       "SERIALNUMBER=7+CN=Ann,OU=x", // a SET has an order of its own
		"OID.0.9.2342.19200300.100.1.1=7,S=Bern,STREET=s,T=t,G=g,DC=corp,SN=n,L=l": "0.9.2342.19200300.100.1.1=#130137,ST=Bern,STREET=s,2.5.4.12=#130174,2.5.4.42=#130167,0.9.2342.19200300.100.1.25=#1304636f7270,2.5.4.4=#13016e,L=l",
		`CN=" a"`: `CN=\ a`,
		"CN=":     "CN=",
		"":        "",
		"  ":      "",
		"cn=Zoë":  "CN=Zoë",
	} {
		der, err := encodeX500(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var name pkix.RDNSequence
		if _, err := asn1.Unmarshal(der, &name); err != nil || name.String() != want {
			t.Errorf("%q is %q, want %q (%s) %v", text, name.String(), want, hex.EncodeToString(der), err)
		}
	}
	if der, _ := encodeX500("E=a,C=DE,CN=b"); !strings.Contains(hex.EncodeToString(der), "0c0162") || !strings.Contains(hex.EncodeToString(der), "13024445") ||
		!strings.Contains(hex.EncodeToString(der), "160161") {
		t.Errorf("string types of %x", der)
	}
	for _, bad := range []string{"Ann", "CN=a,b", `CN="a`, `CN="a"b`, `CN=a"b`, "FOO=x", "=x", "1=x", "3.1=x", "1.40=x", "CN=a=b", "CN=#1", "CN=<a>",
		"CN=\xff", "CN=a,", "1.99999999999=x", strings.Repeat("CN=a,", 200) + "CN=a", "CN=" + strings.Repeat("a", 1<<15)} {
		if _, err := encodeX500(bad); err == nil {
			t.Errorf("%.40q is a name", bad)
		}
	}
}

// FuzzX500: what is a name to the PC encodes to something that is one.
func FuzzX500(f *testing.F) {
	for _, seed := range []string{`CN="a+b@x",E=a@b;O="x ""y"""`, "OID.1.2.3=x+CN=y", `CN="`, "C=\x00", "1.2.840.113549.1.9.1=é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		der, err := encodeX500(text)
		if err != nil {
			return
		}
		var name []asn1.RawValue
		if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 || len(name) > maxX500RDNs {
			t.Errorf("%q is %x: %v", text, der, err)
		}
	})
}
