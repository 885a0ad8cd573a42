//go:build waxseal_testclock

package clock

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheTestClockFollowsItsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "offset")
	t.Setenv(Variable, file)
	for _, c := range []struct {
		text string
		want time.Duration
	}{{"0s", 0}, {"8760h\n", 8760 * time.Hour}, {"8761h", 8761 * time.Hour}} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(c.want)
		if now := Now(); now.Before(before) || now.After(time.Now().Add(c.want)) {
			t.Errorf("%q: %s, want %s", c.text, now, before)
		}
	}
}
