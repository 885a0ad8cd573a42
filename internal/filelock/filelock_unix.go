//go:build unix

package filelock

import (
	"errors"
	"os"
	"syscall"
)

// Lock takes an advisory lock on the file at path, which it makes with mode 0600 if need be. The system frees the lock when the
// process ends, however it ends. Unless it shall wait, it gives ErrBusy for a lock that another process, or this one, holds.
func Lock(path string, wait bool) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}
