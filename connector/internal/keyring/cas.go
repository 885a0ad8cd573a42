package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// casFolder holds a file for each CA of others: settings, sealed, and a journal.
	casFolder      = "cas"
	settingsSuffix = ".json"
	journalSuffix  = ".jsonl"
	noteSettings   = "settings of a CA"
)

// sealedSettings is what is on the disk.
type sealedSettings struct {
	Sealed []byte `json:"sealed"`
}

// CANames are the CAs of others that the keyring knows, in order.
func (k *Keyring) CANames() ([]string, error) {
	entries, err := os.ReadDir(k.Path(casFolder))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keyring: %w", err)
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), settingsSuffix); ok && !e.IsDir() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// HasCA tells whether there are settings of a CA; any text may be asked for.
func (k *Keyring) HasCA(name string) (bool, error) {
	names, err := k.CANames()
	return slices.Contains(names, name), err
}

// CASettings are the settings of a CA, which hold secrets. The name is one of CANames.
func (k *Keyring) CASettings(name string) ([]byte, error) {
	raw, err := k.read(filepath.Join(casFolder, name+settingsSuffix))
	if err != nil {
		return nil, err
	}
	var file sealedSettings
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("reading the keyring: the settings of CA %s are damaged: %w", name, err)
	}
	return k.OpenNote(noteSettings+" "+name, file.Sealed)
}

// SetCASettings keeps settings, sealed to this connector.
func (k *Keyring) SetCASettings(name string, settings []byte) error {
	sealed, err := k.SealNote(noteSettings+" "+name, settings)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(sealedSettings{Sealed: sealed})
	if err != nil {
		return fmt.Errorf("encoding the settings of CA %s: %w", name, err)
	}
	if err := os.MkdirAll(k.Path(casFolder), 0o700); err != nil {
		return fmt.Errorf("writing the keyring: %w", err)
	}
	return k.write(filepath.Join(casFolder, name+settingsSuffix), raw)
}

// DropCASettings forgets a CA; its journal stays, since its certificates do.
func (k *Keyring) DropCASettings(name string) error {
	has, err := k.HasCA(name)
	if err != nil {
		return err
	}
	if !has {
		return fmt.Errorf("this keyring has no settings for a CA %q: waxseal-connector ca list shows which there are", name)
	}
	return os.Remove(k.Path(filepath.Join(casFolder, name+settingsSuffix)))
}

// CAJournal is the place of a CA's journal.
func (k *Keyring) CAJournal(name string) string {
	return k.Path(filepath.Join(casFolder, name+journalSuffix))
}
