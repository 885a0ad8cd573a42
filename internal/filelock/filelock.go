// Package filelock keeps two processes off what only one may work with.
package filelock

import "errors"

// ErrBusy says that another process holds the lock.
var ErrBusy = errors.New("another process holds the lock")
