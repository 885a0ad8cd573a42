package apple

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// uploaded makes a profile with one payload of the type that has further keys.
func uploaded(t testing.TB, payloadType string, keys proplist.Dict) []byte {
	t.Helper()
	payload := head(payloadType, "test.corp.payload", "P-UUID", "")
	for key, v := range keys {
		payload[key] = v
	}
	top := head(typeConfiguration, "test.corp.profile", "T-UUID", "")
	top["PayloadContent"] = []any{payload}
	data, err := proplist.Encode(top)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keyForms(t *testing.T) map[string][]byte {
	t.Helper()
	rsaKey := testpki.PoolKey(t, 0)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err1 := x509.MarshalPKCS8PrivateKey(rsaKey)
	ec8, err2 := x509.MarshalPKCS8PrivateKey(ecKey)
	sec1, err3 := x509.MarshalECPrivateKey(ecKey)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	pkcs1 := x509.MarshalPKCS1PrivateKey(rsaKey)
	return map[string][]byte{
		"PKCS#8 RSA": pkcs8, "PKCS#8 EC": ec8, "SEC1": sec1, "PKCS#1": pkcs1,
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: pkcs1}),
		"PEM after text": append([]byte("-----BEGIN CERTIFICATE-----\n…\n"),
			pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})...),
		"long lengths":          append([]byte{0x30, 0x84, 0, 0, 1, 0, 0x02, 0x84, 0, 0, 0, 1, 3, 0x30, 0x84, 0, 0, 0, 0xf0}, make([]byte, 240)...),
		"PKCS#12 in BER":        {0x30, 0x80, 0x02, 0x01, 0x03, 0x30, 0x80, 0x06, 0x09, 0x2a},
		"profile inside":        uploaded(t, typePKCS12, proplist.Dict{"PayloadContent": []byte("p12"), "Password": "x"}),
		"base64 of a key":       []byte(base64.StdEncoding.EncodeToString(pkcs8)),
		"WireGuard":             []byte("[Interface]\nPrivateKey = abc="),
		"encrypted PKCS#8":      encryptedPKCS8(t, pkcs8),
		"PKCS#12 of OpenSSL":    opensslPKCS12(t),
		"unreadable plist":      []byte("<plist><dict></plist>"),
		"signed profile inside": signedUpload(t, uploaded(t, "com.apple.wifi.managed", proplist.Dict{"Password": "x"})),
	}
}

func signedUpload(t testing.TB, data []byte) []byte {
	ca := testpki.NewCA(t, "Admin")
	signed, err := cms.Sign(data, ca.Cert, ca.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func encryptedPKCS8(t *testing.T, pkcs8 []byte) []byte {
	dir := t.TempDir()
	in := filepath.Join(dir, "key.der")
	if err := os.WriteFile(in, pkcs8, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(peer(t, "openssl"), "pkcs8", "-topk8", "-inform", "DER", "-outform", "DER", "-in", in,
		"-passout", "pass:secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func opensslPKCS12(t *testing.T) []byte {
	id := testpki.SelfSigned(t, testpki.Options{CN: "alice"})
	pkcs8, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(t.TempDir(), "id.pem")
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Cert.Raw})...)
	if err := os.WriteFile(in, both, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(peer(t, "openssl"), "pkcs12", "-export", "-in", in, "-passout", "pass:secret").Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCheckCustomFindsKeys(t *testing.T) {
	for name, key := range keyForms(t) {
		for where, keys := range map[string]proplist.Dict{
			"data":   {"Certificate": key},
			"nested": {"Outer": proplist.Dict{"List": []any{proplist.Dict{"Inner": key}}}},
		} {
			err := CheckCustom(uploaded(t, "com.corp.app", keys), namespace)
			if err == nil {
				t.Errorf("%s in %s: accepted", name, where)
				continue
			}
			if !strings.Contains(err.Error(), "test.corp.payload (com.corp.app)") && name != "PEM" {
				t.Errorf("%s in %s: the error does not name the payload: %v", name, where, err)
			}
			if strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(key)[:12]) {
				t.Errorf("%s in %s: the error quotes the key", name, where)
			}
		}
	}
}

func TestCheckCustomFindsPasswords(t *testing.T) {
	cases := []struct {
		payloadType string
		keys        proplist.Dict
		path        string
	}{
		{"com.apple.wifi.managed", proplist.Dict{"Password": "hunter2"}, "Password"},
		{"com.apple.wifi.managed", proplist.Dict{"EAPClientConfiguration": proplist.Dict{"UserPassword": "hunter2"}}, "EAPClientConfiguration.UserPassword"},
		{"com.apple.mail.managed", proplist.Dict{"IncomingPassword": "hunter2"}, "IncomingPassword"},
		{"com.apple.mail.managed", proplist.Dict{"OutgoingPassword": "hunter2"}, "OutgoingPassword"},
		{"com.apple.eas.account", proplist.Dict{"CertificatePassword": "hunter2"}, "CertificatePassword"},
		{"com.apple.security.scep", proplist.Dict{"PayloadContent": proplist.Dict{"Challenge": "hunter2"}}, "PayloadContent.Challenge"},
		{"com.apple.vpn.managed", proplist.Dict{"IPSec": proplist.Dict{"SharedSecret": []byte("hunter2")}}, "IPSec.SharedSecret"},
		{"com.apple.profileRemovalPassword", proplist.Dict{"RemovalPassword": "hunter2"}, "RemovalPassword"},
		{"com.corp.app", proplist.Dict{"users": []any{proplist.Dict{"pass_word": "hunter2"}}}, "users[0].pass_word"},
		{"com.corp.app", proplist.Dict{"pin": 1234}, "pin"},
	}
	for _, c := range cases {
		err := CheckCustom(uploaded(t, c.payloadType, c.keys), namespace)
		want := fmt.Sprintf("test.corp.payload (%s): %s holds", c.payloadType, c.path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "waxctl import pfx") {
			t.Errorf("%s: got %v", c.path, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes the password", c.path)
		}
	}
}

func TestCheckCustomRefuses(t *testing.T) {
	twice := string(uploaded(t, "com.corp.app", nil))
	twice = strings.Replace(twice, "P-UUID", "T-UUID", 1)
	encrypted := head(typeConfiguration, "a", "b", "")
	encrypted["IsEncrypted"], encrypted["EncryptedPayloadContent"] = true, []byte("x")
	sealed, err := proplist.Encode(encrypted)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		data []byte
		want string
	}{
		"pkcs12":     {uploaded(t, typePKCS12, proplist.Dict{"PayloadContent": []byte("x")}), "waxctl import pfx"},
		"mdm":        {uploaded(t, typeMDM, nil), "management payload"},
		"encrypted":  {sealed, "encrypted"},
		"same UUID":  {[]byte(twice), "PayloadUUID is the same"},
		"ours":       {[]byte(strings.Replace(twice, "test.corp.payload", namespace+".trust", 1)), "belongs to this server"},
		"ours, caps": {[]byte(strings.Replace(twice, "test.corp.profile", strings.ToUpper(namespace)+".x", 1)), "belongs to this server"},
		"no payload": {[]byte(strings.Replace(string(uploaded(t, "x", nil)), "<array>", "<array/><key>x</key><array>", 1)), "no payload"},
		"garbage":    {[]byte("garbage"), "property list"},
		"comment":    {append([]byte("<!-- -----BEGIN PRIVATE KEY----- -->"), uploaded(t, "x", nil)...), "private key"},
	}
	for name, c := range cases {
		if err := CheckCustom(c.data, namespace); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want …%s…", name, err, c.want)
		}
	}
}

func TestCheckCustomListsAllFaults(t *testing.T) {
	err := CheckCustom(uploaded(t, "com.corp.app", proplist.Dict{"Password": "x", "Challenge": "y", "Key": []byte("-----BEGIN PRIVATE KEY-----")}), namespace)
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three faults, got %v", err)
	}
}

func TestCheckCustomAccepts(t *testing.T) {
	id := testpki.SelfSigned(t, testpki.Options{CN: "root", CA: true})
	cases := map[string][]byte{
		"wifi":        example(t, "wifi.mobileconfig"),
		"signed":      signedUpload(t, example(t, "wifi.mobileconfig")),
		"certificate": uploaded(t, typeRoot, proplist.Dict{"PayloadContent": id.Cert.Raw}),
		"PEM":         uploaded(t, "com.apple.security.pem", proplist.Dict{"PayloadContent": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.Cert.Raw})}),
		"switches": uploaded(t, "com.apple.mail.managed", proplist.Dict{"OutgoingPasswordSameAsIncomingPassword": true,
			"IncomingPassword": "", "PrivateKeyUsage": "any"}),
		"neighbour": []byte(strings.Replace(string(example(t, "wifi.mobileconfig")), "test.corp.wifi.office", namespace+"x.office", 1)),
	}
	for name, data := range cases {
		if err := CheckCustom(data, namespace); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
