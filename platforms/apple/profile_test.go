package apple

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"

	"crypto/x509"
)

func enrollment(t testing.TB) EnrollmentParams {
	return EnrollmentParams{Namespace: namespace, Organization: "Corp", EnrolmentID: "e-1", TLSRoots: [][]byte{partner(t)},
		SCEPURL: "https://mdm.corp.test/scep", SCEPName: "waxseal", Challenge: "one-time", CommonName: "e-1",
		Topic: "com.apple.mgmt.External.3f2a", ServerURL: "https://mdm.corp.test/mdm", CheckInURL: "https://mdm.corp.test/checkin",
		SignMessage: true, AccessRights: 3099, Retries: 5, RetryDelay: 2}
}

func TestEnrollmentProfile(t *testing.T) {
	params := enrollment(t)
	data, err := EnrollmentProfile(params)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProfile(data)
	if err != nil {
		t.Fatal(err)
	}
	scep := payloadOf(t, p, typeSCEP)
	inner := proplist.Sub(scep.Content, "PayloadContent")
	if inner["Keysize"] != uint64(2048) || inner["Key Usage"] != uint64(5) || inner["Key Type"] != "RSA" || inner["CAFingerprint"] != nil {
		t.Errorf("SCEP settings %v", inner)
	}
	mdm := payloadOf(t, p, typeMDM).Content
	if mdm["IdentityCertificateUUID"] != scep.UUID || mdm["AccessRights"] != uint64(3099) || mdm["CheckOutWhenRemoved"] != true {
		t.Errorf("management settings %v", mdm)
	}
	capabilities := []any{"com.apple.mdm.per-user-connections", "com.apple.mdm.bootstraptoken"}
	if !reflect.DeepEqual(mdm["ServerCapabilities"], capabilities) {
		t.Errorf("capabilities %v; without the first a Mac has no user channel", mdm["ServerCapabilities"])
	}
	if p.Identifier != namespace+".enrollment" || p.Scope != "" || p.Payloads[len(p.Payloads)-1].Type != typeMDM {
		t.Errorf("profile %s, scope %q; the management payload must come last", p.Identifier, p.Scope)
	}
	params.Challenge = "another"
	again, err := EnrollmentProfile(params)
	if err != nil || !bytes.Equal(bytes.Replace(again, []byte("another"), []byte("one-time"), 1), data) {
		t.Errorf("another challenge changed more than the challenge: %v", err)
	}
}

func TestEnrollmentProfileRefuses(t *testing.T) {
	cases := map[string]func(*EnrollmentParams){
		"namespace": func(p *EnrollmentParams) { p.Namespace = "" },
		"URL":       func(p *EnrollmentParams) { p.SCEPURL = "" },
		"challenge": func(p *EnrollmentParams) { p.Challenge = "" },
		"topic":     func(p *EnrollmentParams) { p.Topic = "corp.test" },
		"rights":    func(p *EnrollmentParams) { p.AccessRights = 0 },
	}
	for word, change := range cases {
		params := enrollment(t)
		change(&params)
		if _, err := EnrollmentProfile(params); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %v", word, err)
		}
	}
}

// The whole way of a document with secrets: sealed to the device, signed by the server, opened by the device.
func TestSealedAndSigned(t *testing.T) {
	ca := testpki.NewCA(t, "Device CA")
	device := ca.Issue(t, testpki.Options{CN: "device", KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment})
	signer := ca.Issue(t, testpki.Options{CN: "signer", KeyUsage: x509.KeyUsageDigitalSignature})
	doc := byID(t, Plan(sales(t)), "mail.company-mail")
	seal := func(plain []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, plain, []*x509.Certificate{device.Cert}, cms.EncryptOptions{})
	}
	data, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, seal)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("password of")) || bytes.Contains(data, []byte("mail.corp.test")) {
		t.Error("content of a sealed profile is readable")
	}
	signed, err := cms.Sign(data, signer.Cert, signer.Key, cms.SignOptions{Chain: []*x509.Certificate{ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProfile(signed)
	if err != nil {
		t.Fatal(err)
	}
	if !p.IsEncrypted || len(p.Payloads) != 0 || !p.Signer.Equal(signer.Cert) || len(p.Signers) != 2 || p.UUID != doc.Proof {
		t.Errorf("encrypted %v, %d payloads, %d certificates", p.IsEncrypted, len(p.Payloads), len(p.Signers))
	}
	err = p.Open(func(der []byte) ([]byte, error) { return cms.Decrypt(der, device.Cert, device.Key) })
	if err != nil || len(p.Payloads) != 3 {
		t.Fatalf("%d payloads, %v", len(p.Payloads), err)
	}
	signed[len(signed)-1] ^= 1
	if _, err := ParseProfile(signed); err == nil {
		t.Error("a broken signature was accepted")
	}
}

func TestRenderRefuses(t *testing.T) {
	docs := Plan(sales(t))
	mail := byID(t, docs, "mail.company-mail")
	if _, err := Render(mail, Secrets{PKCS12: pkcs12s(mail)}, nil); err == nil {
		t.Error("secrets without a seal")
	}
	if _, err := Render(mail, Secrets{}, inClear); err == nil || !strings.Contains(err.Error(), mail.Credentials[0].SHA256) {
		t.Errorf("missing credential: %v", err)
	}
	noPassword := pkcs12s(mail)
	for sum, c := range noPassword {
		noPassword[sum] = platforms.PKCS12{Bytes: c.Bytes}
	}
	if _, err := Render(mail, Secrets{PKCS12: noPassword}, inClear); err == nil {
		t.Error("PKCS#12 without a password")
	}
	broken := func([]byte) ([]byte, error) { return nil, errors.New("no luck") }
	if _, err := Render(mail, Secrets{PKCS12: pkcs12s(mail)}, broken); err == nil || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("got %v", err)
	}
	mail.Body = []byte("{")
	if _, err := Render(mail, Secrets{}, nil); err == nil {
		t.Error("a broken body")
	}
	mail.Body, mail.Credentials = byID(t, docs, "history").Body, nil
	if _, err := Render(mail, Secrets{PKCS12: pkcs12s(byID(t, docs, "history"))}, inClear); err == nil {
		t.Error("a body with secrets in a document that says it has none")
	}
	if _, err := Render(byID(t, docs, "trust"), Secrets{}, nil); err != nil {
		t.Errorf("trust needs no seal: %v", err)
	}
}

func TestParseProfileRefuses(t *testing.T) {
	good := string(example(t, "wifi.mobileconfig"))
	cases := map[string]string{
		"empty":            "",
		"text":             "hello",
		"broken signature": "\x30\x80\x06\x09",
		"another type":     strings.Replace(good, ">Configuration<", ">Profile Service<", 1),
		"no identifier":    strings.Replace(good, ">test.corp.wifi<", "><", 1),
		"no version":       strings.Replace(good, "<integer>1</integer>\n</dict>\n</plist>", "<integer>2</integer>\n</dict>\n</plist>", 1),
		"payload type":     strings.Replace(good, "<key>PayloadType</key>", "<key>Type</key>", 1),
		"encrypted, plain": strings.Replace(good, "</array>\n", "</array><key>IsEncrypted</key><true/>\n", 1),
		"content":          strings.Replace(strings.Replace(good, "<array>", "<dict><key>a</key>", 1), "</array>", "</dict>", 1),
	}
	for name, data := range cases {
		if data == good {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := ParseProfile([]byte(data)); err == nil {
			t.Errorf("%s: want an error", name)
		}
	}
	if _, err := ParseProfile(bytes.Repeat([]byte{0x30}, proplist.MaxProfileSize+1)); err == nil {
		t.Error("size: want an error")
	}
}

func TestOpenRefuses(t *testing.T) {
	doc := byID(t, Plan(sales(t)), "history")
	data, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, inClear)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParseProfile(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, decrypt := range []func([]byte) ([]byte, error){
		func([]byte) ([]byte, error) { return nil, errors.New("wrong key") },
		func([]byte) ([]byte, error) { return []byte("garbage"), nil },
		func([]byte) ([]byte, error) { return proplist.Encode(proplist.Dict{}) },
	} {
		if err := p.Open(decrypt); err == nil {
			t.Error("want an error")
		}
	}
}

func TestProfileXML(t *testing.T) {
	p := opened(t, byID(t, Plan(sales(t)), "history"))
	out, err := p.XML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseProfile(out)
	if err != nil || again.IsEncrypted || len(again.Payloads) != 2 {
		t.Errorf("%v, %d payloads", err, len(again.Payloads))
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(example(f, "wifi.mobileconfig"))
	for _, doc := range Plan(sales(f)) {
		data, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, inClear)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	ca := testpki.NewCA(f, "CA")
	signed, err := cms.Sign(example(f, "wifi.mobileconfig"), ca.Cert, ca.Key, cms.SignOptions{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseProfile(data)
		if err != nil {
			return
		}
		_ = p.Open(inClear)
		if _, err := p.XML(); err != nil {
			t.Errorf("read, but does not write: %v", err)
		}
		_ = CheckCustom(data, namespace)
	})
}
