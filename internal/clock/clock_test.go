//go:build !waxseal_testclock

package clock

import (
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// The real build has one file, which imports time alone: it reads no file and no environment variable.
func TestNothingMovesTheRealClock(t *testing.T) {
	pkg, err := build.Default.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(pkg.GoFiles, []string{"clock.go"}) || !slices.Equal(pkg.Imports, []string{"time"}) {
		t.Fatalf("the real clock is made of %v and imports %v", pkg.GoFiles, pkg.Imports)
	}
	file := filepath.Join(t.TempDir(), "offset")
	if err := os.WriteFile(file, []byte("8760h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WAXSEAL_TEST_CLOCK", file)
	before := time.Now()
	if now := Now(); now.Before(before) || now.After(time.Now()) {
		t.Fatalf("%s is not the present", now)
	}
}
