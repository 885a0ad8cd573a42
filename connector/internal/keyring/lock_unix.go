//go:build unix

package keyring

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("another connector runs on this keyring")

// LockRun keeps a second run off the keyring, whose journals have one writer.
func (k *Keyring) LockRun() (unlock func(), err error) { return k.lock("run.lock", false) }

// lock takes an advisory lock; the system frees it when the process ends.
func (k *Keyring) lock(name string, wait bool) (unlock func(), err error) {
	f, err := os.OpenFile(k.Path(name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the keyring: %w", err)
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
		return nil, fmt.Errorf("locking the keyring: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
