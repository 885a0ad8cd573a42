package keychain

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func item(t *testing.T, id *testpki.Identity, withKey bool) Item {
	t.Helper()
	out := Item{Certificate: id.Cert}
	if withKey {
		out.Key = id.Key
	}
	return out
}

func TestAddAndRelease(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	a, b := ca.Issue(t, testpki.Options{CN: "a"}), ca.Issue(t, testpki.Options{CN: "b"})
	k := &Keychain{}
	add := func(i Item, profile, payload string) {
		t.Helper()
		if err := k.Add(i, Holder{Profile: profile, Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	add(item(t, a, false), "p1", "u1")
	add(item(t, a, true), "p2", "u2")
	add(item(t, a, true), "p2", "u2")
	add(item(t, b, true), "p1", "u3")
	if len(k.Items()) != 2 || len(k.Identities()) != 2 {
		t.Fatalf("%d items", len(k.Items()))
	}
	if got, ok := k.Payload("p2", "u2"); !ok || !got.Certificate.Equal(a.Cert) || len(got.Holders) != 2 {
		t.Errorf("%+v", got.Holders)
	}
	wrong := item(t, a, true)
	wrong.Key = testpki.PoolKey(t, 9)
	if b.RSA().Equal(wrong.Key) || a.RSA().Equal(wrong.Key) {
		wrong.Key = testpki.PoolKey(t, 8)
	}
	if err := k.Add(wrong, Holder{Profile: "p3", Payload: "u"}); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key: %v", err)
	}
	copied := k.Clone()
	k.Release("p1", func(payload string) bool { return payload == "u3" })
	if len(k.Items()) != 2 || k.items[0].HeldBy("p1") {
		t.Errorf("kept payload: %+v", k.items)
	}
	k.Release("p1", nil)
	if len(k.Items()) != 1 {
		t.Errorf("%d items after the removal", len(k.Items()))
	}
	if len(copied.Items()) != 2 || !copied.items[0].HeldBy("p1") {
		t.Error("the clone changed")
	}
	copied.DropShared = true
	copied.Release("p1", nil)
	if len(copied.Items()) != 0 {
		t.Error("a shared item stayed although drop-shared is on")
	}
}

func TestDisk(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	rsa, ec := ca.Issue(t, testpki.Options{CN: "a"}), ca.Issue(t, testpki.Options{CN: "b", KeyType: testpki.P256})
	dir := filepath.Join(t.TempDir(), "keychain")
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	for n, id := range []*testpki.Identity{rsa, ec, {Cert: ca.Cert}} {
		i := Item{Certificate: id.Cert, Key: id.Key, Trusted: n == 2}
		if err := k.Add(i, Holder{Profile: "p", Payload: string(rune('a' + n))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(again.Identities()) != 2 || len(again.Trusted()) != 1 {
		t.Errorf("%d identities, %d trusted", len(again.Identities()), len(again.Trusted()))
	}
	again.Retain(func(h Holder) bool { return h.Payload != "a" })
	if err := again.Save(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 4 { // index, EC pair, root
		t.Errorf("%d files, %v", len(files), err)
	}
	key := filepath.Join(dir, Fingerprint(ec.Cert)+".key")
	if err := os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a broken key: %v", err)
	}
}

// Key and trust go with the last payload that brought them, though the certificate stays for another one.
func TestWhatAHolderBrought(t *testing.T) {
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "a"})
	bare, key := Item{Certificate: id.Cert}, Item{Certificate: id.Cert, Key: id.Key}
	root := Item{Certificate: id.Cert, Trusted: true}
	tests := map[string]struct {
		brought      []Item // by the profiles 0, 1, …
		gone         string
		key, trusted bool
		unsaid       bool
	}{
		"the key's profile goes":            {[]Item{bare, key}, "1", false, false, false},
		"the certificate's profile goes":    {[]Item{bare, key}, "0", true, false, false},
		"one of two with the key":           {[]Item{key, key, bare}, "0", true, false, false},
		"the trust's profile goes":          {[]Item{root, key}, "0", true, false, false},
		"trust stays with its profile":      {[]Item{root, key}, "1", false, true, false},
		"index of before holders had flags": {[]Item{bare, key}, "1", true, false, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k := &Keychain{dir: t.TempDir()}
			for n, brought := range tt.brought {
				if err := k.Add(brought, Holder{Profile: string(rune('0' + n)), Payload: "u"}); err != nil {
					t.Fatal(err)
				}
			}
			k = saved(t, k, tt.unsaid)
			interrupted := k.Clone()
			k.Release(tt.gone, nil)
			interrupted.Retain(func(h Holder) bool { return h.Profile != tt.gone })
			for _, left := range []*Keychain{k, interrupted, saved(t, k, false)} {
				if i := left.items[0]; (i.Key != nil) != tt.key || i.Trusted != tt.trusted {
					t.Errorf("key %v, trusted %v", i.Key != nil, i.Trusted)
				}
			}
			if _, err := os.Stat(filepath.Join(k.dir, keyFile(id))); (err == nil) != tt.key {
				t.Errorf("the file of the key: %v", err)
			}
		})
	}
}

func keyFile(id *testpki.Identity) string { return Fingerprint(id.Cert) + ".key" }

// saved writes a keychain and reads it again, without the flags of holders if told to.
func saved(t *testing.T, k *Keychain, unsaid bool) *Keychain {
	t.Helper()
	if err := k.Save(); err != nil {
		t.Fatal(err)
	}
	if path := filepath.Join(k.dir, indexName); unsaid {
		raw, err := os.ReadFile(path)
		flag := regexp.MustCompile(`("payload": "u"),\s+"key": true`)
		if err != nil || !flag.Match(raw) {
			t.Fatalf("%v\n%s", err, raw)
		}
		if err := os.WriteFile(path, flag.ReplaceAll(raw, []byte("$1")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := Open(k.dir)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// An identity is found before its chain, even where another payload brought the key of the issuer.
func TestPayloadOfAnIdentity(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	id := ca.Issue(t, testpki.Options{CN: "a"})
	k := &Keychain{}
	for _, step := range []struct {
		item   Item
		holder Holder
	}{
		{Item{Certificate: ca.Cert, Key: ca.Key}, Holder{Profile: "other", Payload: "u"}},
		{Item{Certificate: ca.Cert}, Holder{Profile: "p", Payload: "u"}},
		{Item{Certificate: id.Cert, Key: id.Key}, Holder{Profile: "p", Payload: "u"}},
	} {
		if err := k.Add(step.item, step.holder); err != nil {
			t.Fatal(err)
		}
	}
	if got, there := k.Payload("p", "u"); !there || !got.Certificate.Equal(id.Cert) {
		t.Errorf("%v, %v", there, got.Certificate.Subject)
	}
}
