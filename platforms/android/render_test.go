package android

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

func TestTheDeviceReadsTheSecret(t *testing.T) {
	doc, keys := keyed(t)
	device := phone(t)
	payload, err := Render(doc, keys, sealTo(device.Cert))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckRendered(doc, payload); err != nil {
		t.Error(err)
	}
	plain, err := cms.Decrypt(payload, device.Cert, device.Key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := companion.DecodeSecret(plain)
	if err != nil {
		t.Fatal(err)
	}
	i, want := item(t, doc), keys[doc.Credentials[0].SHA256]
	if s.ItemID != i.ID || s.Revision != i.Revision || s.CertSHA256 != i.Identity.CertSHA256 || !bytes.Equal(s.Key, want.PKCS8) || len(s.Chain) != 2 {
		t.Errorf("the device reads another secret: %s %s %s", s.ItemID, s.Revision, s.CertSHA256)
	}
}

// No payload and no item holds a key that another than the device could read, however it is written.
func TestNoKeyInClear(t *testing.T) {
	doc, keys := keyed(t)
	payload, err := Render(doc, keys, sealTo(phone(t).Cert))
	if err != nil {
		t.Fatal(err)
	}
	shown := append(indented(t, item(t, doc)), indented(t, doc)...)
	for _, k := range keys {
		key := k.PKCS8[len(k.PKCS8)/2:]
		for i := range 3 { // the three ways in which base64 may begin
			part := base64.StdEncoding.EncodeToString(key[i : i+48])
			for _, data := range [][]byte{payload, shown} {
				if bytes.Contains(data, []byte(part)) || bytes.Contains(data, key[:32]) || bytes.Contains(data, []byte(hex.EncodeToString(key[:32]))) {
					t.Error("the key is there in clear")
				}
			}
		}
	}
}

func TestEllipticKeys(t *testing.T) {
	c, key := mailbox(t, testpki.P256)
	docs := Plan(changed(t, func(in *platforms.Input) { in.Imported = []profiles.Certificate{c} }))
	if _, err := Render(byID(t, docs, history(c)), map[string]Key{c.SHA256: key}, sealTo(phone(t).Cert)); err != nil {
		t.Error(err)
	}
}

func TestRenderRefuses(t *testing.T) {
	doc, keys := keyed(t)
	seal, sum := sealTo(phone(t).Cert), doc.Credentials[0].SHA256
	bent := func(change func(*companion.Item, *platforms.Document)) platforms.Document {
		d := doc
		d.Credentials = append([]profiles.Certificate(nil), doc.Credentials...)
		i, err := strict(d.Body)
		if err != nil {
			t.Fatal(err)
		}
		change(&i, &d)
		d.Body = encode(i)
		return d
	}
	key := func(change func(*Key)) map[string]Key {
		k := keys[sum]
		change(&k)
		return map[string]Key{sum: k}
	}
	other, err := x509.MarshalPKCS8PrivateKey(phone(t).Key)
	if err != nil {
		t.Fatal(err)
	}
	_, modern, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, err := x509.MarshalPKCS8PrivateKey(modern)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(alias string) platforms.Document {
		return bent(func(i *companion.Item, d *platforms.Document) {
			i.Identity.Alias, i.ID, d.Identifier = alias, prefixIdentity+alias, prefixIdentity+alias
		})
	}
	cases := []struct {
		name string
		doc  platforms.Document
		keys map[string]Key
		seal func([]byte) ([]byte, error)
		want string
	}{
		{"waits", wait(doc, errors.New("no")), keys, seal, "waits: NotDeliverable"},
		{"no seal", doc, keys, nil, "nothing to seal"},
		{"seal fails", doc, keys, func([]byte) ([]byte, error) { return nil, errors.New("no key") }, "no key"},
		{"seal does nothing", doc, keys, func(b []byte) ([]byte, error) { return b, nil }, "not encrypted"},
		{"no key", doc, nil, seal, "no key with a certificate"},
		{"no chain", doc, key(func(k *Key) { k.Chain = nil }), seal, "no key with a certificate"},
		{"another leaf", doc, key(func(k *Key) { k.Chain = k.Chain[1:] }), seal, "begins with another certificate"},
		{"another key", doc, key(func(k *Key) { k.PKCS8 = other }), seal, "not that of the certificate"},
		{"not a key", doc, key(func(k *Key) { k.PKCS8 = []byte("hunter2") }), seal, "not PKCS #8"},
		{"Ed25519", doc, key(func(k *Key) { k.PKCS8 = edwards }), seal, "neither RSA nor ECDSA"},
		{"no secrets", Plan(sales(t))[0], keys, seal, "ca_cert with 0 credentials"},
		{"a CA with a credential", bent(func(i *companion.Item, d *platforms.Document) {
			trust := Plan(sales(t))[0]
			*i, _ = strict(trust.Body)
			d.Identifier = trust.Identifier
		}), keys, seal, "ca_cert with 1 credentials"},
		{"two credentials", bent(func(_ *companion.Item, d *platforms.Document) {
			d.Credentials = append(d.Credentials, enc("x", 2018, 2020))
		}),
			keys, seal, "identity with 2 credentials"},
		{"the alias of another certificate", replace("smime-enc-" + strings.Repeat("0", 12)), keys, seal, "goes to one of"},
		{"any alias", replace("wifi"), keys, seal, "goes to one of"},
		{"another certificate", bent(func(i *companion.Item, _ *platforms.Document) { i.Identity.CertSHA256 = strings.Repeat("0", 64) }),
			keys, seal, "goes to one of"},
		{"another item", bent(func(i *companion.Item, _ *platforms.Document) { i.ID = "identity:wifi" }), keys, seal, "not that of"},
		{"another identifier", bent(func(_ *companion.Item, d *platforms.Document) { d.Identifier = "identity:wifi" }), keys, seal, "not that of"},
		{"an item of two kinds", bent(func(i *companion.Item, _ *platforms.Document) { i.Grant = &companion.Grant{} }), keys, seal, "no other content"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Render(c.doc, c.keys, c.seal)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 600 {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestBodyIsStrict(t *testing.T) {
	doc, keys := keyed(t)
	for _, body := range []string{"", "null", "[]", "{}", `{"verb":1}`, string(doc.Body) + "{}", strings.Repeat(" ", maxBody+1), strings.Repeat("[", 100000)} {
		d := doc
		d.Body = []byte(body)
		if _, err := Render(d, keys, sealTo(phone(t).Cert)); err == nil {
			t.Errorf("%.20q was rendered", body)
		}
		if _, err := Item(d, companion.OpInstall, true); err == nil || len(err.Error()) > 600 {
			t.Errorf("%.20q is an item: %v", body, err)
		}
	}
}

// TestCheckRenderedRefuses: the payload comes from a connector and must not say more, or more openly, than was asked.
func TestCheckRenderedRefuses(t *testing.T) {
	doc, keys := keyed(t)
	device := phone(t)
	good, err := Render(doc, keys, sealTo(device.Cert))
	if err != nil {
		t.Fatal(err)
	}
	secret := keys[doc.Credentials[0].SHA256].PKCS8
	signed, err := cms.Sign(secret, device.Cert, device.Key, cms.SignOptions{SigningTime: day(2026)})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := cms.Encrypt(rand.Reader, secret, []*x509.Certificate{device.Cert, device.Cert}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cms.Encrypt(rand.Reader, secret, []*x509.Certificate{device.Cert}, cms.EncryptOptions{Cipher: cms.AES256GCM})
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name    string
		doc     platforms.Document
		payload []byte
		want    string
	}{
		{"empty", doc, nil, "not encrypted"},
		{"a key", doc, secret, "not encrypted"},
		{"JSON", doc, []byte(`{"format":"pkcs8+chain"}`), "not encrypted"},
		{"base64", doc, []byte(base64.StdEncoding.EncodeToString(good)), "not encrypted"},
		{"signed", doc, signed, "not encrypted"},
		{"authenticated", doc, gcm, "not encrypted"},
		{"two recipients", doc, twice, "to 2 certificates"},
		{"something behind", doc, append(bytes.Clone(good), secret...), "not encrypted"},
		{"too big", doc, make([]byte, maxPayload+1), "at most"},
		{"nothing in it", doc, []byte{0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3, 0xa0, 2, 0x30, 0}, "the envelope"},
		{"BER", doc, indefinite(t, good), "not encrypted"},
		{"a document without secrets", Plan(sales(t))[0], good, "has no secrets"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := CheckRendered(c.doc, c.payload); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// indefinite gives the outermost SEQUENCE the indefinite length of BER.
func indefinite(t testing.TB, der []byte) []byte {
	t.Helper()
	if der[0] != 0x30 || der[1] != 0x82 {
		t.Fatal("not a SEQUENCE of that size")
	}
	return append(append([]byte{0x30, 0x80}, der[4:]...), 0, 0)
}

func TestRemovalItems(t *testing.T) {
	docs := Plan(sales(t))
	for _, d := range docs {
		byName := RemovalItem(d.Identifier)
		if err := byName.Check(); err != nil {
			t.Errorf("%s: %v", d.Identifier, err)
		}
		i, err := Item(d, companion.OpRemove, true)
		if err != nil || !bytes.Equal(indented(t, i), indented(t, byName)) {
			t.Errorf("%s: %v", d.ID, err)
		}
		if installed := item(t, d); installed.Kind != i.Kind || installed.ID != i.ID || installed.Revision == i.Revision || i.Op != companion.OpRemove {
			t.Errorf("%+v", i)
		}
	}
	if g := RemovalItem("grant:a.b:smime-enc-0").Grant; g.Package != "a.b" || g.Alias != "smime-enc-0" {
		t.Errorf("%+v", g)
	}
	for _, identifier := range []string{"", "x", "io.waxseal.mail", "ca:x", "ca:", "identity:", "identity:a/b", "grant:a.b", "grant:a.b:", "mail:x", "wipe:a.b"} {
		if err := RemovalItem(identifier).Check(); err == nil {
			t.Errorf("%q has an item", identifier)
		}
		if _, err := Item(platforms.Document{Identifier: identifier}, companion.OpRemove, false); err == nil {
			t.Errorf("%q is removed", identifier)
		}
	}
}

func TestItem(t *testing.T) {
	doc, _ := keyed(t)
	for _, current := range []bool{true, false} {
		if i, err := Item(doc, companion.OpInstall, current); err != nil || i.Identity.Current != current || i.Revision != doc.Revision {
			t.Errorf("%+v, %v", i, err)
		}
	}
	if _, err := Item(doc, "wipe", false); err == nil {
		t.Error("any op is taken")
	}
}

func FuzzCheckRendered(f *testing.F) {
	doc, keys := keyed(f)
	good, err := Render(doc, keys, sealTo(phone(f).Cert))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(indefinite(f, good))
	f.Add([]byte{0x30, 0x0f, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 7, 3, 0xa0, 2, 0x30, 0})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if CheckRendered(doc, payload) != nil {
			return
		}
		if r, err := cms.Recipients(payload); err != nil || len(r) != 1 {
			t.Fatalf("%d recipients, %v", len(r), err)
		}
		if der, err := cms.ToDER(payload); err != nil || !bytes.Equal(der, payload) {
			t.Fatal("not DER")
		}
	})
}

func FuzzItem(f *testing.F) {
	docs := slices.Concat(Plan(sales(f)), Plan(asking(f, asked(issued))))
	for _, d := range docs {
		f.Add(d.Identifier, []byte(d.Body))
	}
	f.Add("identity:x", []byte(`{"item_id":"identity:x","kind":"identity","op":"install","identity":{"alias":"x"}}`))
	f.Fuzz(func(t *testing.T, identifier string, body []byte) {
		i, err := Item(platforms.Document{ID: "x", Identifier: identifier, Revision: "r", Body: body}, companion.OpInstall, true)
		if err == nil && (i.Check() != nil || i.ID != identifier || identifierOf(i) != identifier) {
			t.Fatalf("%+v", i)
		}
		if removal := RemovalItem(identifier); removal.Check() == nil && identifierOf(removal) != identifier {
			t.Fatalf("%q removes %q", identifier, identifierOf(removal))
		}
	})
}
