// Package pin decides which key set waxctl seals to. Whom to seal to is never the server's word: the set must verify under
// the pinned escrow root, and its serial is never lower than one seen before.
package pin

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/waxseal/waxseal/internal/escrow"
)

// Store keeps one pin per server URL in a folder of its own.
type Store struct{ Dir string }

// Pin is what is remembered of one server.
type Pin struct {
	Server string `json:"server"`
	Root   string `json:"root"` // fingerprint
	Serial uint64 `json:"serial"`
}

// Result is the verified set, and whether the root was pinned just now, at first use.
type Result struct {
	Set      escrow.KeySet
	Root     string
	FirstUse bool
}

// Check verifies a key set for a server. given is the fingerprint that the operator passed, empty for trust at first use.
// A set under another root than the pinned one, or with a lower serial than one seen before, is an error.
func (s Store) Check(server, given string, signed escrow.SignedKeySet) (Result, error) {
	server = strings.TrimRight(server, "/") // the same server must not be met for the first time twice
	pin, known, err := s.read(server)
	if err != nil {
		return Result{}, err
	}
	root, lowest := pin.Root, pin.Serial
	if given != "" {
		if root, err = escrow.ParseFingerprint(given); err != nil {
			return Result{}, fmt.Errorf("--escrow-root: %w", err)
		}
		if root != pin.Root {
			lowest = 0
		}
	}
	if root == "" {
		root = escrow.Fingerprint(signed.Root)
	}
	set, err := signed.Verify(root, lowest)
	if err != nil {
		return Result{}, err
	}
	return Result{Set: set, Root: root, FirstUse: !known && given == ""}, s.remember(Pin{Server: server, Root: root, Serial: set.Serial})
}

// remember writes a pin unless another run has seen a newer set in between.
func (s Store) remember(p Pin) error {
	if newest, known, err := s.read(p.Server); err != nil || known && newest.Root == p.Root && newest.Serial >= p.Serial {
		return err
	}
	return s.write(p)
}

func (s Store) path(server string) string {
	server = strings.TrimRight(server, "/")
	sum := sha256.Sum256([]byte(server))
	return filepath.Join(s.Dir, "pin-"+hex.EncodeToString(sum[:8])+".json")
}

// Path is the file that holds the pin of a server, for the message that says how to pin anew.
func (s Store) Path(server string) string { return s.path(server) }

func (s Store) read(server string) (Pin, bool, error) {
	raw, err := os.ReadFile(s.path(server))
	if errors.Is(err, fs.ErrNotExist) {
		return Pin{}, false, nil
	}
	if err != nil {
		return Pin{}, false, fmt.Errorf("read the pinned escrow root: %w", err)
	}
	var p Pin
	if err := json.Unmarshal(raw, &p); err != nil || p.Server != server {
		return Pin{}, false, fmt.Errorf("%s is not a pin of %s; remove it and pin anew with --escrow-root", s.path(server), server)
	}
	return p, true, nil
}

func (s Store) write(p Pin) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("keep the pinned escrow root: %w", err)
	}
	temp, err := os.CreateTemp(s.Dir, "pin-*")
	if err != nil {
		return fmt.Errorf("keep the pinned escrow root: %w", err)
	}
	_, err = temp.Write(raw)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return errors.Join(fmt.Errorf("keep the pinned escrow root: %w", err), os.Remove(temp.Name()))
	}
	return os.Rename(temp.Name(), s.path(p.Server))
}
