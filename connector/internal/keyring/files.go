package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// The files of a keyring.
const (
	fileSettings   = "keyring.json"
	fileServerCA   = "server-ca.pem"
	fileCredential = "credential"
	fileEscrowKey  = "escrow.key"
	fileRoot       = "escrow-root"
	fileRootKey    = "escrow-root.key"
	fileKeySet     = "keyset.json"
	fileAudit      = "audit.jsonl"
	// FileJobs is the worker's journal.
	FileJobs = "jobs.jsonl"
	// FileSoftCA is the built-in CA's journal.
	FileSoftCA = "softca.jsonl"
)

// maxFile bounds what is read of a file of the keyring.
const maxFile = 4 << 20

// Path is the place of a file of the keyring.
func (k *Keyring) Path(name string) string { return filepath.Join(k.dir, name) }

// has tells whether the file is there.
func (k *Keyring) has(name string) bool {
	_, err := os.Stat(k.Path(name))
	return err == nil
}

// read gives a file's content.
func (k *Keyring) read(name string) ([]byte, error) {
	info, err := os.Stat(k.Path(name))
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("reading the keyring: %s is longer than %d bytes", name, maxFile)
	}
	data, err := os.ReadFile(k.Path(name))
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	return data, nil
}

// write replaces a file: whole or not at all, on the disk when it returns.
func (k *Keyring) write(name string, data []byte) error {
	if err := WriteFile(k.Path(name), data); err != nil {
		return fmt.Errorf("writing the keyring: %w", err)
	}
	return nil
}

// readPrivate and writePrivate go through the passphrase, if there is one.
func (k *Keyring) readPrivate(name string) ([]byte, error) {
	data, err := k.read(name)
	if err != nil {
		return nil, err
	}
	return k.lockbox.open(name, data)
}

func (k *Keyring) writePrivate(name string, data []byte) error {
	sealed, err := k.lockbox.seal(k.rand, name, data)
	if err != nil {
		return err
	}
	return k.write(name, sealed)
}

// WriteFile replaces the file at path with mode 0600: whole or not at all, on the disk when it returns.
func WriteFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename durable. Not every system can sync a folder; there the rename alone must do.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// checkFolder refuses a folder that others can look into, or that is another user's.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others must not look into a keyring; run chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return checkOwner(dir, info, os.Geteuid())
}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
