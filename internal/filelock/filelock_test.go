//go:build unix

package filelock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(path, false); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	unlock()
	again, err := Lock(path, true)
	if err != nil {
		t.Fatalf("after its end: %v", err)
	}
	again()
	if _, err := Lock(filepath.Join(path, "none"), false); err == nil || errors.Is(err, ErrBusy) {
		t.Errorf("no such folder: %v", err)
	}
}
