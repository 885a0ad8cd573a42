//go:build unix

package keyring

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestRootOnAKeyringOfAnother: `sudo waxseal-connector ca set` would leave files that the connector cannot read.
func TestRootOnAKeyringOfAnother(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 { // only root can make a folder somebody else's
		if err := os.Chown(dir, 54321, -1); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkOwner(dir, info, 0); err == nil || !strings.Contains(err.Error(), "sudo -u ") {
		t.Errorf("root: %v", err)
	}
	if err := checkOwner(dir, info, int(info.Sys().(*syscall.Stat_t).Uid)); err != nil {
		t.Errorf("its owner: %v", err)
	}
}
