package authorities

import (
	"bytes"
	"sync"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
)

// Book has the CAs of a keyring open, each with its journal, and follows the keyring: what `ca set` and `ca remove` change
// counts for whoever asks for the CA next.
type Book struct {
	keyring *keyring.Keyring
	env     ca.Env
	mu      sync.Mutex
	open    map[string]*entry
}

// entry is a CA as it was opened. The journal of one that was removed stays open, since jobs may be at work with it.
type entry struct {
	settings []byte
	ca       *ledger.CA
	journal  *journal.Journal
}

// Open opens every CA of the keyring. A CA whose settings do not work is an error that names it.
func Open(k *keyring.Keyring, env ca.Env) (*Book, error) {
	b := &Book{keyring: k, env: env, open: map[string]*entry{}}
	names, err := k.CANames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if _, err := b.Named(name); err != nil {
			b.Close()
			return nil, err
		}
	}
	return b, nil
}

// Named gives a CA as its settings are now, or ca.ErrUnknown. It asks nobody.
func (b *Book) Named(name string) (*ledger.CA, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	has, err := b.keyring.HasCA(name)
	if err != nil {
		return nil, err
	}
	if !has {
		return nil, ca.ErrUnknown
	}
	s, raw, err := read(b.keyring, name)
	if err != nil {
		return nil, err
	}
	e := b.open[name]
	if e != nil && bytes.Equal(e.settings, raw) {
		return e.ca, nil
	}
	up, err := Check(s, b.env)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return b.add(s, raw, up)
	}
	changed, err := e.ca.With(s, up)
	if err != nil {
		return nil, err
	}
	e.settings, e.ca = raw, changed
	return changed, nil
}

// add opens a CA that was not open before.
func (b *Book) add(s ca.Settings, raw []byte, up ledger.Upstream) (*ledger.CA, error) {
	j, err := journal.Open(b.keyring.CAJournal(s.Name))
	if err != nil {
		return nil, err
	}
	opened, err := ledger.New(s, up, j, b.keyring.Audit, b.env.Clock)
	if err != nil {
		_ = j.Close() // nothing was written
		return nil, err
	}
	b.open[s.Name] = &entry{settings: raw, ca: opened, journal: j}
	return opened, nil
}

// Close closes the journals; nobody is at work any more.
func (b *Book) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.open {
		_ = e.journal.Close() // every entry is on the disk already
	}
}
