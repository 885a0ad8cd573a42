// Package authorities opens the certification authorities of others that a keyring has settings for. It is the one room
// that knows every adapter.
package authorities

import (
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
	"github.com/waxseal/waxseal/connector/internal/journal"
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
		raw, err := k.CASettings(name)
		if err != nil {
			return nil, err
		}
		var s ca.Settings
		if err := json.Unmarshal(raw, &s); err != nil {
			return nil, fmt.Errorf("the settings of CA %s are damaged: %w", name, err)
		}
		out = append(out, s)
	}
	return out, nil
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

// Open opens every CA of the keyring with its journal. A CA whose settings do not work is an error that names it.
func Open(k *keyring.Keyring, env ca.Env) (map[string]*ledger.CA, func(), error) {
	all, err := Settings(k)
	if err != nil {
		return nil, nil, err
	}
	out, closers := map[string]*ledger.CA{}, []func() error{}
	done := func() {
		for _, c := range closers {
			_ = c() // every entry is on the disk already
		}
	}
	for _, s := range all {
		up, err := Check(s, env)
		if err != nil {
			done()
			return nil, nil, err
		}
		j, err := journal.Open(k.CAJournal(s.Name))
		if err != nil {
			done()
			return nil, nil, err
		}
		closers = append(closers, j.Close)
		if out[s.Name], err = ledger.New(s, up, j, k.Audit, env.Clock); err != nil {
			done()
			return nil, nil, err
		}
	}
	return out, done, nil
}
