package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
)

func TestBootstrapTokens(t *testing.T) {
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "waxseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b := bootstrapTokens{db}
	for _, tt := range []struct {
		device, set, want string
	}{{"iphone", "", ""}, {"mac", "token", "token"}, {"mac", "another", "another"}, {"mac", "", ""}} {
		if err := b.SetBootstrapToken(t.Context(), tt.device, []byte(tt.set)); err != nil {
			t.Fatal(err)
		}
		if got, err := b.BootstrapToken(t.Context(), tt.device); err != nil || string(got) != tt.want {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
	if _, err := db.Setting(t.Context(), store.BootstrapSetting("iphone")); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("a device that never had a token leaves a setting behind: %v", err)
	}
}
