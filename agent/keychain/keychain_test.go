package keychain

import (
	"errors"
	"os"
	"path/filepath"
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
		if err := k.Add(i, Holder{profile, payload}); err != nil {
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
	if err := k.Add(wrong, Holder{"p3", "u"}); !errors.Is(err, ErrOtherKey) {
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
		if err := k.Add(i, Holder{"p", string(rune('a' + n))}); err != nil {
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
