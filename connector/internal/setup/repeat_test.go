package setup

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/linktest"
	"github.com/waxseal/waxseal/internal/escrow"
)

// TestTheFirstMistakeIsNotKept: what init said wrongly, the same command says rightly, before anything was built on it.
func TestTheFirstMistakeIsNotKept(t *testing.T) {
	s := linktest.New(t)
	right := newInit(t, s, "first")
	wrong := right
	wrong.Server, wrong.ServerCA, wrong.Name = "https://127.0.0.1:1", []byte("no certificate"), "frist"
	if _, err := wrong.Run(t.Context()); err == nil {
		t.Fatal("another server took it")
	}
	wrong = right
	wrong.EscrowRoot = strings.Repeat("0", 64)
	if _, err := wrong.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "leave it out") {
		t.Fatalf("a root where there is none yet: %v", err)
	}
	mustRun(t, right)
	k, err := keyring.Open(right.Dir, right.Options)
	if err != nil {
		t.Fatal(err)
	}
	if said := k.Settings(); said.Server != right.Server || said.Name != right.Name {
		t.Errorf("the keyring says %+v", said)
	}
	if pem, err := k.ServerCA(); err != nil || string(pem) != string(right.ServerCA) {
		t.Errorf("the server's CA is %q, %v", pem, err)
	}
	wrong.Server = "https://127.0.0.1:1"
	if _, err := wrong.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to the server") {
		t.Errorf("another server afterwards: %v", err)
	}
}

// TestAWrongPinIsNotKept: a further connector's mistyped root is refused, and replaced by the right one.
func TestAWrongPinIsNotKept(t *testing.T) {
	s := linktest.New(t)
	root := mustRun(t, newInit(t, s, "first")).EscrowRoot
	second := newInit(t, s, "second")
	second.EscrowRoot = strings.Repeat("0", 64)
	var other *escrow.WrongRootError
	if _, err := second.Run(t.Context()); !errors.As(err, &other) || other.Got != root {
		t.Fatalf("a mistyped root: %v", err)
	}
	second.EscrowRoot = root
	if out := mustRun(t, second); out.EscrowRoot != root || !out.Further {
		t.Errorf("got %+v", out)
	}
}

// TestNoRecoveryKeyOfAFurtherConnector: nobody shall believe in a recovery key that opens nothing.
func TestNoRecoveryKeyOfAFurtherConnector(t *testing.T) {
	s := linktest.New(t)
	root := mustRun(t, newInit(t, s, "first")).EscrowRoot
	for _, pin := range []string{"", root} {
		second := newInit(t, s, "second"+pin[:min(len(pin), 1)])
		second.EscrowRoot, second.RecoveryOut = pin, filepath.Join(t.TempDir(), "recovery")
		if _, err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "recovery") {
			t.Errorf("with the root %q: %v", pin, err)
		}
		second.RecoveryOut = ""
		mustRun(t, second)
	}
}
