//go:build !unix

package keyring

import (
	"errors"
	"io/fs"
)

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("another connector runs on this keyring")

// LockRun does nothing where the system has no advisory locks: the operator must start one connector per keyring.
func (k *Keyring) LockRun() (unlock func(), err error) { return func() {}, nil }

func checkOwner(string, fs.FileInfo, int) error { return nil }

func (k *Keyring) lock(string, bool) (unlock func(), err error) { return func() {}, nil }
