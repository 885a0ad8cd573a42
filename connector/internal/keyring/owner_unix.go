//go:build unix

package keyring

import (
	"fmt"
	"io/fs"
	"os/user"
	"strconv"
	"syscall"
)

// checkOwner refuses root on somebody else's keyring: the connector of that user could not read what root writes there.
func checkOwner(dir string, info fs.FileInfo, euid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || euid != 0 || stat.Uid == 0 {
		return nil
	}
	owner := strconv.FormatUint(uint64(stat.Uid), 10)
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("%s belongs to the user %s, whose connector could not read what root writes there; run this as that user: sudo -u %s …, or chown the folder", dir, owner, owner)
}
