// Package authorities opens the certification authorities of others that a keyring has settings for. It is the one room
// that knows every adapter.
package authorities

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/acmeca"
	"github.com/waxseal/waxseal/connector/internal/ca/adcs"
	"github.com/waxseal/waxseal/connector/internal/ca/digicert"
	"github.com/waxseal/waxseal/connector/internal/ca/estca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/scepca"
	"github.com/waxseal/waxseal/connector/internal/ca/stepca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// Maker makes an adapter of one kind. It asks nobody: what the CA says is Test's.
type Maker func(s ca.Settings, env ca.Env) (ledger.Upstream, error)

// makers has every kind.
func makers() map[string]Maker {
	return map[string]Maker{
		"acme":            acmeca.New,
		"adcs":            adcs.New,
		"digicert":        digicert.New,
		"digicert-legacy": digicert.NewLegacy,
		"est":             estca.New,
		"scep":            scepca.New,
		"stepca":          stepca.New,
	}
}

// Check makes the adapter of the settings and lets go of it.
func Check(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	kinds := makers()
	maker, ok := kinds[s.Kind]
	if !ok {
		return nil, fmt.Errorf("kind %q: it is one of %s", s.Kind, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	up, err := maker(s, env)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", s.Name, err)
	}
	return up, nil
}

// Settings reads the settings of every CA of the keyring.
func Settings(k *keyring.Keyring) ([]ca.Settings, error) {
	names, err := k.CANames()
	if err != nil {
		return nil, err
	}
	var out []ca.Settings
	for _, name := range names {
		s, _, err := read(k, name)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// read gives the settings of one CA, and their bytes.
func read(k *keyring.Keyring, name string) (s ca.Settings, raw []byte, err error) {
	if raw, err = k.CASettings(name); err != nil {
		return s, nil, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, nil, fmt.Errorf("the settings of CA %s are damaged: %w", name, err)
	}
	return s, raw, nil
}

// Digest changes with what those CAs offer. Settings that cannot be read offer nothing.
func Digest(k *keyring.Keyring) string {
	offers, err := Describe(k)
	if err != nil {
		return err.Error()
	}
	text, err := json.Marshal(offers)
	if err != nil {
		return err.Error()
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Describe says what those CAs offer.
func Describe(k *keyring.Keyring) ([]link.CA, error) {
	all, err := Settings(k)
	var out []link.CA
	for _, s := range all {
		out = append(out, ledger.Describe(s))
	}
	return out, err
}
