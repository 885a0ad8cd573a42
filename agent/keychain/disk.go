package keychain

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/profiles"
)

const indexName = "index.json"

// entry is an item in index.json.
type entry struct {
	SHA256  string   `json:"sha256"`
	Subject string   `json:"subject"`
	Key     bool     `json:"key"`
	Trusted bool     `json:"trusted,omitempty"`
	Holders []Holder `json:"holders"`
}

// Open reads the keychain of a folder. A folder that does not exist is an empty keychain.
func Open(dir string) (*Keychain, error) {
	k := &Keychain{dir: dir}
	raw, err := os.ReadFile(filepath.Join(dir, indexName))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keychain: %w", err)
	}
	var entries []entry
	if err := json.Unmarshal(raw, &entries); err != nil {
		return nil, fmt.Errorf("reading %s of the keychain: %w", indexName, err)
	}
	for _, e := range entries {
		item, err := k.load(e)
		if err != nil {
			return nil, err
		}
		k.items = append(k.items, item)
	}
	return k, nil
}

func (k *Keychain) load(e entry) (Item, error) {
	item := Item{Trusted: e.Trusted, Holders: e.holders()}
	der, err := readPEM(filepath.Join(k.dir, e.SHA256+".pem"), "CERTIFICATE")
	if err != nil {
		return item, err
	}
	if item.Certificate, err = x509.ParseCertificate(der); err != nil {
		return item, fmt.Errorf("reading certificate %s of the keychain: %w", e.SHA256, err)
	}
	if !e.Key {
		return item, nil
	}
	if der, err = readPEM(filepath.Join(k.dir, e.SHA256+".key"), "PRIVATE KEY"); err != nil {
		return item, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return item, fmt.Errorf("reading private key %s of the keychain: malformed", e.SHA256)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return item, fmt.Errorf("reading private key %s of the keychain: not a signing key", e.SHA256)
	}
	item.Key = signer
	return item, nil
}

// holders are those of an entry. An index of before holders had flags does not say who brought key or trust: all did.
func (e entry) holders() []Holder {
	allKey := !slices.ContainsFunc(e.Holders, Holder.bringsKey)
	allTrust := !slices.ContainsFunc(e.Holders, Holder.bringsTrust)
	for n := range e.Holders {
		h := &e.Holders[n]
		h.Key, h.Trusted = e.Key && (h.Key || allKey), e.Trusted && (h.Trusted || allTrust)
	}
	return e.Holders
}

func readPEM(path, kind string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the keychain: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("%s of the keychain is not a PEM %s", filepath.Base(path), strings.ToLower(kind))
	}
	return block.Bytes, nil
}

// SaveWith writes the items of both keychains, this one's last. An installation writes old and new together first,
// then its own state, then the new keychain alone: wherever it is interrupted, what the state names is there.
func (k *Keychain) SaveWith(old *Keychain) error {
	both := k.Clone()
	if err := both.Merge(old); err != nil {
		return err
	}
	return both.write()
}

// Save writes the keychain and deletes the files of items that are gone.
func (k *Keychain) Save() error {
	if err := k.write(); err != nil {
		return err
	}
	keep := map[string]bool{indexName: true}
	for _, item := range k.items {
		keep[item.ID()+".pem"] = true
		keep[item.ID()+".key"] = item.Key != nil
	}
	files, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("writing the keychain: %w", err)
	}
	for _, file := range files {
		if keep[file.Name()] {
			continue
		}
		if err := os.Remove(filepath.Join(k.dir, file.Name())); err != nil {
			return fmt.Errorf("deleting from the keychain: %w", err)
		}
	}
	return nil
}

func (k *Keychain) write() error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return fmt.Errorf("writing the keychain: %w", err)
	}
	entries := make([]entry, 0, len(k.items))
	for _, item := range k.items {
		if err := writeItem(k.dir, item.ID(), item, false); err != nil {
			return err
		}
		entries = append(entries, entry{
			SHA256: item.ID(), Subject: profiles.NameString(item.Certificate.Subject),
			Key: item.Key != nil, Trusted: item.Trusted, Holders: item.Holders,
		})
	}
	raw, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the keychain: %w", err)
	}
	return device.WriteFile(filepath.Join(k.dir, indexName), append(raw, '\n'))
}

// writeItem writes certificate and key. Files that are there are left alone unless overwrite says otherwise: their
// names are made of the certificate, so that they cannot hold anything else.
func writeItem(dir, name string, item Item, overwrite bool) error {
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: item.Certificate.Raw})
	if err := writeOnce(filepath.Join(dir, name+".pem"), cert, overwrite); err != nil || item.Key == nil {
		return err
	}
	path := filepath.Join(dir, name+".key")
	if _, err := os.Stat(path); err == nil && !overwrite {
		return nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(item.Key)
	if err != nil {
		return fmt.Errorf("writing private key %s: %w", name, err)
	}
	return device.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func writeOnce(path string, data []byte, overwrite bool) error {
	if _, err := os.Stat(path); err == nil && !overwrite {
		return nil
	}
	return device.WriteFile(path, data)
}

// Export writes every item as SHA256.pem and SHA256.key into a folder. A real phone has no such door; the simulated
// one has it so that other programs can open what was delivered.
func (k *Keychain) Export(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("exporting the keychain: %w", err)
	}
	for _, item := range k.items {
		if err := writeItem(dir, item.ID(), item, true); err != nil {
			return err
		}
	}
	return nil
}
