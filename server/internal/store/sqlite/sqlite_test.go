package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "waxseal.db"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}

// TestOpen: what was written is there after the process ended, in a file that others cannot read, whatever its name.
func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a name?with=odd #characters%20.db")
	for i := range 2 {
		db, err := sqlite.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Users(t.Context(), admin.Page{}); err != nil {
			t.Fatal(err)
		}
		value, err := db.Setting(t.Context(), "kept")
		if i == 1 && (err != nil || string(value) != "1") {
			t.Fatalf("setting after reopening: %s, %v", value, err)
		}
		if err := db.SetSetting(t.Context(), "kept", []byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("database file has mode %o, want 600", info.Mode().Perm())
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "waxseal.db")
	if _, err := sqlite.Open(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want an error that names %s", err, path)
	}
}
