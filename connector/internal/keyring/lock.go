package keyring

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/filelock"
)

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("another connector runs on this keyring")

// LockRun keeps a second run off the keyring, whose journals have one writer.
func (k *Keyring) LockRun() (unlock func(), err error) { return k.lock("run.lock", false) }

// lock takes an advisory lock; the system frees it when the process ends.
func (k *Keyring) lock(name string, wait bool) (unlock func(), err error) {
	unlock, err = filelock.Lock(k.Path(name), wait)
	if errors.Is(err, filelock.ErrBusy) {
		return nil, ErrBusy
	}
	if err != nil {
		return nil, fmt.Errorf("locking the keyring: %w", err)
	}
	return unlock, nil
}
