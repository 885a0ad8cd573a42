package softca

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// Keys of journal entries beside "issued/" and "revoked/".
const (
	learnedPrefix = "learned/" // a page of what other connectors issued and revoked, by its hash
	cursorKey     = "cursor"   // the last change that was learnt of
)

// fact is what is known of one certificate, whichever connector issued it.
type fact struct {
	CA       keyring.AuthorityName `json:"ca"`
	NotAfter time.Time             `json:"notAfter,omitzero"`
	Revoked  bool                  `json:"revoked,omitempty"`
	Reason   int                   `json:"reason,omitempty"`
	At       time.Time             `json:"at,omitzero"` // of the revocation
}

// learned is a fact in a page of the journal.
type learned struct {
	Serial string `json:"serial"`
	fact
}

// book is the journal by serial number, in memory: about 200 bytes for a certificate. It is guarded by CA.issuing.
type book struct {
	facts map[string]fact
	// queue has the certificates whose OCSP answer shall be made and published.
	queue map[string]bool
	// revocations counts what belongs into lists.
	revocations int
}

// load reads the journal into the book, once.
func (c *CA) load() error {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	if c.book != nil {
		return nil
	}
	b := &book{facts: map[string]fact{}, queue: map[string]bool{}}
	for _, key := range c.journal.Keys(learnedPrefix) {
		var page []learned
		if _, err := c.journal.Get(key, &page); err != nil {
			return err
		}
		for _, l := range page {
			b.add(l.Serial, l.fact)
		}
	}
	if err := c.loadIssued(b); err != nil {
		return err
	}
	if err := c.loadRevoked(b); err != nil {
		return err
	}
	c.book = b
	return nil
}

func (c *CA) loadIssued(b *book) error {
	for _, key := range c.journal.Keys(intentKey("")) {
		var e issued
		if _, err := c.journal.Get(key, &e); err != nil {
			return err
		}
		if e.Issuer == "" {
			cert, err := x509.ParseCertificate(e.Certificate)
			if err != nil {
				return fmt.Errorf("reading the journal: certificate %s: %w", e.Serial, err)
			}
			e.Issuer, e.NotAfter = keyring.SoftCA, cert.NotAfter
		}
		b.add(e.Serial, fact{CA: e.Issuer, NotAfter: e.NotAfter})
	}
	return nil
}

func (c *CA) loadRevoked(b *book) error {
	for _, key := range c.journal.Keys(revokedKey("")) {
		var e revoked
		if _, err := c.journal.Get(key, &e); err != nil {
			return err
		}
		b.add(e.Serial, e.fact())
	}
	return nil
}

func (r revoked) fact() fact {
	return fact{CA: cmp.Or(r.Issuer, keyring.SoftCA), NotAfter: r.NotAfter, Revoked: true, Reason: r.Reason, At: r.At}
}

// add takes a fact in. The first revocation counts, and nothing takes it back; changed tells whether anything is new.
func (b *book) add(serial string, f fact) (changed bool) {
	old, known := b.facts[serial]
	switch {
	case known && (old.Revoked || !f.Revoked):
		if old.NotAfter.IsZero() {
			old.NotAfter = f.NotAfter
			b.facts[serial] = old
		}
		return false
	case known && f.NotAfter.IsZero():
		f.NotAfter = old.NotAfter
	}
	b.facts[serial] = f
	if f.Revoked {
		b.revocations++
	}
	return true
}

// note takes what this connector did into the book, and wakes the publisher. The caller holds the lock.
func (c *CA) note(serial string, f fact) {
	if c.book != nil && c.book.add(serial, f) {
		c.book.queue[serial] = true
	}
	select {
	case c.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// learn keeps a page of what others did: on the disk before in the book. It audits each revocation before.
func (c *CA) learn(page []learned) error {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	page = slices.DeleteFunc(page, func(l learned) bool {
		old, known := c.book.facts[l.Serial]
		return known && (old.Revoked || !l.Revoked)
	})
	if len(page) == 0 {
		return nil
	}
	var events []keyring.Event
	for _, l := range page {
		if l.Revoked {
			events = append(events, keyring.Event{Action: keyring.ActionRevoke, Detail: fmt.Sprintf("%s %s, reason %d: learnt from an OCSP answer of another connector", l.CA, l.Serial, l.Reason)})
		}
	}
	if err := c.keys.Audit(events...); err != nil {
		return err
	}
	raw, err := json.Marshal(page)
	if err != nil {
		return fmt.Errorf("writing to the journal: %w", err)
	}
	sum := sha256.Sum256(raw)
	if err := c.journal.Put(learnedPrefix+hex.EncodeToString(sum[:16]), page); err != nil {
		return err
	}
	for _, l := range page {
		c.book.add(l.Serial, l.fact)
	}
	return nil
}

// fact gives what is known of a certificate.
func (c *CA) fact(serial string) (fact, bool) {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	f, ok := c.book.facts[serial]
	return f, ok
}

// enqueue asks for the answers of certificates that are known.
func (c *CA) enqueue(serials ...string) {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	for _, s := range serials {
		if _, known := c.book.facts[s]; known {
			c.book.queue[s] = true
		}
	}
}

// dequeue takes up to most certificates from the queue, revoked ones first.
func (c *CA) dequeue(most int) []learned {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	var out []learned
	for _, revoked := range []bool{true, false} {
		for serial := range c.book.queue {
			if len(out) == most {
				return out
			}
			if f := c.book.facts[serial]; f.Revoked == revoked {
				out = append(out, learned{serial, f})
				delete(c.book.queue, serial)
			}
		}
	}
	return out
}

// unexpired are all certificates that somebody may ask about, by their serial numbers.
func (c *CA) unexpired(now time.Time) []link.StatusHave {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	var out []link.StatusHave
	for serial, f := range c.book.facts {
		if f.NotAfter.After(now) {
			out = append(out, link.StatusHave{CA: string(f.CA), Serial: serial, Revoked: f.Revoked})
		}
	}
	slices.SortFunc(out, func(a, b link.StatusHave) int { return strings.Compare(a.Serial, b.Serial) })
	return out
}

// revocations are the entries of one CA's list. Expired certificates stay in it, since mail outlives them.
func (c *CA) revocations(ca keyring.AuthorityName) ([]x509.RevocationListEntry, error) {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	var out []x509.RevocationListEntry
	for serial, f := range c.book.facts {
		if !f.Revoked || f.CA != ca {
			continue
		}
		n, ok := new(big.Int).SetString(serial, 16)
		if !ok {
			return nil, fmt.Errorf("reading the journal: %.64q is no serial number", serial)
		}
		out = append(out, x509.RevocationListEntry{SerialNumber: n, RevocationTime: f.At, ReasonCode: f.Reason})
	}
	slices.SortFunc(out, func(a, b x509.RevocationListEntry) int { return a.SerialNumber.Cmp(b.SerialNumber) })
	return out, nil
}

// count is the number of revocations.
func (c *CA) count() int {
	c.issuing.Lock()
	defer c.issuing.Unlock()
	return c.book.revocations
}
