//go:build !unix

package keyring

import "io/fs"

// checkOwner does nothing where files have no owner that a number tells.
func checkOwner(string, fs.FileInfo, int) error { return nil }
