package pin_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/waxctl/internal/pin"
)

const server = "https://mdm.example.test"

func root(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func set(t *testing.T, serial uint64, by ed25519.PrivateKey) escrow.SignedKeySet {
	t.Helper()
	key, err := escrow.GenerateKey(rand.Reader, escrow.SuiteHybrid)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := escrow.SignKeySet(escrow.KeySet{Serial: serial, Members: []escrow.Member{key.Member(escrow.MemberConnector, "c")}}, by)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func TestAServerThatSwapsTheKeySetIsRefused(t *testing.T) {
	store, mine := pin.Store{Dir: t.TempDir()}, root(t)
	first, err := store.Check(server, "", set(t, 1, mine))
	if err != nil || !first.FirstUse {
		t.Fatalf("first use: %+v, %v", first, err)
	}
	var wrong *escrow.WrongRootError
	if _, err := store.Check(server, "", set(t, 2, root(t))); !errors.As(err, &wrong) {
		t.Errorf("another root: %v", err)
	}
	if again, err := store.Check(server, "", set(t, 2, mine)); err != nil || again.FirstUse {
		t.Errorf("a newer set of the same root: %+v, %v", again, err)
	}
}

func TestAServerThatRollsTheKeySetBackIsRefused(t *testing.T) {
	store, mine := pin.Store{Dir: t.TempDir()}, root(t)
	if _, err := store.Check(server, "", set(t, 7, mine)); err != nil {
		t.Fatal(err)
	}
	var rollback *escrow.RollbackError
	if _, err := store.Check(server, "", set(t, 6, mine)); !errors.As(err, &rollback) {
		t.Errorf("a lower serial: %v", err)
	}
	if _, err := store.Check(server, escrow.Fingerprint(mine.Public().(ed25519.PublicKey)), set(t, 6, mine)); !errors.As(err, &rollback) {
		t.Errorf("a lower serial under the pin that was passed: %v", err)
	}
}

func TestAChangedSetIsRefused(t *testing.T) {
	store, mine := pin.Store{Dir: t.TempDir()}, root(t)
	signed := set(t, 1, mine)
	signed.KeySet = append([]byte(nil), set(t, 1, root(t)).KeySet...)
	if _, err := store.Check(server, "", signed); err == nil {
		t.Error("members that the root did not sign were accepted")
	}
}

func TestTheFingerprintThatWasPassedWinsAndStays(t *testing.T) {
	store, mine := pin.Store{Dir: t.TempDir()}, root(t)
	fingerprint := escrow.Fingerprint(mine.Public().(ed25519.PublicKey))
	if _, err := store.Check(server, fingerprint, set(t, 1, root(t))); err == nil {
		t.Error("a set of another root was accepted though the fingerprint was passed")
	}
	if r, err := store.Check(server, fingerprint, set(t, 1, mine)); err != nil || r.FirstUse {
		t.Errorf("%+v, %v", r, err)
	}
	other := root(t)
	if _, err := store.Check(server, escrow.Fingerprint(other.Public().(ed25519.PublicKey)), set(t, 1, other)); err != nil {
		t.Errorf("pinning anew: %v", err)
	}
	if _, err := store.Check(server, "", set(t, 2, mine)); err == nil {
		t.Error("after pinning anew the old root must be refused")
	}
}

// TestASlashIsNoOtherServer: else a swapped root would be trusted at its "first" use.
func TestASlashIsNoOtherServer(t *testing.T) {
	store := pin.Store{Dir: t.TempDir()}
	if _, err := store.Check(server, "", set(t, 1, root(t))); err != nil {
		t.Fatal(err)
	}
	var wrong *escrow.WrongRootError
	if _, err := store.Check(server+"/", "", set(t, 1, root(t))); !errors.As(err, &wrong) {
		t.Errorf("got %v", err)
	}
	if store.Path(server) != store.Path(server+"/") {
		t.Error("two pins for one server")
	}
}
