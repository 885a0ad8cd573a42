package apple

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
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
		if out, err := Render(bent, Secrets{PKCS12: pkcs12s(bent)}, inClear); err == nil || out != nil || strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: rendered, %v", name, err)
		}
	}
	if _, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, inClear); err != nil {
		t.Errorf("as planned: %v", err)
	}
}

// TestCheckCustomFindsHiddenKeys looks where an upload may carry a key without any value being one.
func TestCheckCustomFindsHiddenKeys(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := testpki.PoolKey(t, 0)
	pkcs8, err1 := x509.MarshalPKCS8PrivateKey(rsaKey)
	ec8, err2 := x509.MarshalPKCS8PrivateKey(ecKey)
	sec1, err3 := x509.MarshalECPrivateKey(ecKey)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	forms := map[string][]byte{"PKCS#8": pkcs8, "PKCS#1": x509.MarshalPKCS1PrivateKey(rsaKey), "PKCS#8 EC": ec8, "SEC1": sec1,
		"PKCS#12": opensslPKCS12(t), "encrypted PKCS#8": encryptedPKCS8(t, pkcs8)}
	for name, key := range forms {
		std := base64.StdEncoding.EncodeToString(key)
		hidden := map[string]any{
			"unpadded":        base64.RawStdEncoding.EncodeToString(key),
			"for URLs":        base64.RawURLEncoding.EncodeToString(key),
			"hex":             hex.EncodeToString(key),
			"HEX":             strings.ToUpper(hex.EncodeToString(key)),
			"data URL":        "data:application/x-pkcs12;base64," + std,
			"behind a letter": append([]byte("x"), key...),
			"behind two":      "xy" + base64.StdEncoding.EncodeToString(append([]byte("xy"), key...)),
			"twice":           base64.StdEncoding.EncodeToString([]byte(std)),
		}
		for how, value := range hidden {
			if CheckCustom(uploaded(t, "com.corp.app", proplist.Dict{"List": []any{proplist.Dict{"Value": value}}}), namespace) == nil {
				t.Errorf("%s %s: accepted", name, how)
			}
		}
		good := string(uploaded(t, "com.corp.app", proplist.Dict{"Value": "harmless"}))
		for how, upload := range map[string]string{
			"in a comment":        strings.Replace(good, "<dict>", "<!-- "+std+" --><dict>", 1),
			"between elements":    strings.Replace(good, "<dict>", "<dict>"+std, 1),
			"in CDATA between":    strings.Replace(good, "<dict>", "<dict><![CDATA["+std+"]]>", 1),
			"in an instruction":   strings.Replace(good, "<dict>", "<?x "+std+"?><dict>", 1),
			"behind the end":      good + "<!-- " + std + " -->",
			"in broken-up base64": strings.Replace(good, "harmless", strings.Join(strings.SplitAfter(std, "A"), "\n\t"), 1),
		} {
			if CheckCustom([]byte(upload), namespace) == nil {
				t.Errorf("%s %s: accepted", name, how)
			}
		}
	}
}

func TestCheckCustomRefusesWhatItCannotSee(t *testing.T) {
	good := string(uploaded(t, "com.corp.app", proplist.Dict{"Value": "harmless"}))
	wide := []byte{0xff, 0xfe}
	for _, unit := range utf16.Encode([]rune(good)) {
		wide = append(wide, byte(unit), byte(unit>>8))
	}
	value := "<key>Value</key>"
	cases := map[string][]byte{
		"binary":            append([]byte("bplist00"), make([]byte, 64)...),
		"UTF-16":            wide,
		"UTF-16 by name":    []byte(strings.Replace(good, "UTF-8", "UTF-16", 1)),
		"UTF-7 by name":     []byte(strings.Replace(good, "UTF-8", "UTF-7", 1)),
		"signed twice":      signedUpload(t, signedUpload(t, []byte(good))),
		"a key twice":       []byte(strings.Replace(good, value, "<key>Password</key><string>secret</string><key>Password</key><string></string>"+value, 1)),
		"text between":      []byte(strings.Replace(good, value, "hunter2"+value, 1)),
		"binary inside":     uploaded(t, "com.corp.app", proplist.Dict{"Value": append([]byte("bplist00"), make([]byte, 64)...)}),
		"encrypted beside":  []byte(strings.Replace(good, "<dict>", "<dict><key>EncryptedPayloadContent</key><data>MIIB</data>", 1)),
		"PASSWORD":          uploaded(t, "com.corp.app", proplist.Dict{"PASSWORD": "x"}),
		"passwordHash":      uploaded(t, "com.corp.app", proplist.Dict{"passwordHash": []byte("x")}),
		"very deep":         []byte(strings.Replace(good, value, "<key>Deep</key>"+strings.Repeat("<array>", 5000)+strings.Repeat("</array>", 5000)+value, 1)),
		"pkcs12 in capital": uploaded(t, "COM.Apple.Security.PKCS12", proplist.Dict{"Value": "x"}),
		"entity":            []byte(strings.Replace(good, "<plist", "<!DOCTYPE x [<!ENTITY a \"b\">]><plist", 1)),
	}
	for name, upload := range cases {
		if err := CheckCustom(upload, namespace); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckCustom([]byte(good), namespace); err != nil {
		t.Errorf("the harmless one: %v", err)
	}
}

// TestCheckCustomTakesCertificatesAndPictures: what is searched for does not come about by chance.
func TestCheckCustomTakesCertificatesAndPictures(t *testing.T) {
	picture := make([]byte, 500<<10)
	_, _ = rand.Read(picture)
	ca := testpki.NewCA(t, "Corp")
	signed, err := cms.Sign([]byte("content"), ca.Cert, ca.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	upload := uploaded(t, "com.corp.app", proplist.Dict{"Icon": picture, "Root": ca.Cert.Raw, "Signed": signed,
		"Text": base64.StdEncoding.EncodeToString(ca.Cert.Raw), "Long": strings.Repeat("lorem-ipsum_", 100)})
	if err := CheckCustom(upload, namespace); err != nil {
		t.Error(err)
	}
	if holdsKeyAnywhere(bytes.Repeat([]byte{0}, 1<<20)) {
		t.Error("zeros are a key")
	}
}
