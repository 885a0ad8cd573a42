package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Names in the table trust. The key set is kept in its parts: as one JSON document its signed bytes could be reformatted.
const (
	trustDeviceCA   = "device-ca"
	trustCAs        = "cas/" // and the member that offers them
	trustRA         = "ra-certificate"
	trustRoot       = "escrow-root"
	trustKeySet     = "keyset"
	trustKeySetRoot = "keyset-root"
	trustKeySetSig  = "keyset-signature"
)

// lockTrust is taken by everything that asks "is this sealed to the current key set?" or "is this the first connector?".
func (t *tx) lockTrust() error {
	_, err := one[int64](t, `SELECT value FROM meta WHERE name = 'trust'`+t.db.dialect.ForUpdate)
	return err
}

// trusted reads what was published under a name; nil without it.
func (t *tx) trusted(name string) ([]byte, error) {
	b, err := one[[]byte](t, `SELECT value FROM trust WHERE name = $1`, name)
	if isAbsent(err) {
		return nil, nil
	}
	return b, err
}

func (t *tx) setTrusted(name string, value []byte) error {
	return t.do(`INSERT INTO trust (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
}

// cas are the CAs that connectors offer, each once, with the connectors that offer it. Where two describe one name
// differently, the longer chain counts, since a connector may not have heard of the next issuing CA yet; of two as long, the
// first member's.
func (t *tx) cas() ([]link.CA, error) {
	type published struct {
		name  string
		value []byte
	}
	rows, err := collect(t, func(p *published) row { return row{{"name", &p.name}, {"value", &p.value}} },
		`SELECT name, value FROM trust WHERE name LIKE $1 ORDER BY name`, trustCAs+"%")
	if err != nil {
		return nil, err
	}
	var all []link.CA
	for _, r := range rows {
		var some []link.CA
		if err := json.Unmarshal(r.value, &some); err != nil {
			return nil, fmt.Errorf("reading the published CAs: %w", err)
		}
		all = merge(all, some, strings.TrimPrefix(r.name, trustCAs))
	}
	return t.withPartners(all)
}

func merge(all, some []link.CA, member string) []link.CA {
	for _, ca := range some {
		i := slices.IndexFunc(all, func(c link.CA) bool { return c.Name == ca.Name })
		var members []string
		if i < 0 {
			all, i = append(all, ca), len(all)
		} else {
			members = all[i].Members
		}
		if len(ca.Chain) > len(all[i].Chain) {
			all[i] = ca
		}
		all[i].Members, all[i].URL = append(members, member), ""
	}
	return all
}

// signedKeySet reads the key set's exact bytes; nil before the first.
func (t *tx) signedKeySet() (*escrow.SignedKeySet, error) {
	var parts [3][]byte
	for i, name := range []string{trustKeySet, trustKeySetRoot, trustKeySetSig} {
		b, err := t.trusted(name)
		if err != nil || b == nil {
			return nil, err
		}
		parts[i] = b
	}
	return &escrow.SignedKeySet{KeySet: parts[0], Root: parts[1], Signature: parts[2]}, nil
}

// keySet reads the members to whom records are sealed; empty before the first.
func (t *tx) keySet() (escrow.KeySet, error) {
	s, err := t.signedKeySet()
	if err != nil || s == nil {
		return escrow.KeySet{}, err
	}
	return parseKeySet(*s)
}

func parseKeySet(s escrow.SignedKeySet) (escrow.KeySet, error) {
	var set escrow.KeySet
	if err := json.Unmarshal(s.KeySet, &set); err != nil {
		return set, fmt.Errorf("reading the key set: %w", err)
	}
	return set, nil
}

// DeviceAuthority is the part of Trust that each check-in needs, read by one statement; nil before the first publish.
func (db *DB) DeviceAuthority(ctx context.Context) (deviceCA, raCertificate []byte, err error) {
	type pair struct {
		name  string
		value []byte
	}
	err = db.look(ctx, "reading the device CA", func(t *tx) error {
		pairs, err := collect(t, func(p *pair) row { return row{{"name", &p.name}, {"value", &p.value}} },
			`SELECT name, value FROM trust WHERE name IN ($1, $2)`, trustDeviceCA, trustRA)
		for _, p := range pairs {
			if p.name == trustDeviceCA {
				deviceCA = p.value
			} else {
				raCertificate = p.value
			}
		}
		return err
	})
	return deviceCA, raCertificate, err
}

// Trust implements connectorapi.Store.
func (db *DB) Trust(ctx context.Context) (trust connectorapi.Trust, err error) {
	err = db.read(ctx, "reading what the connectors published", func(t *tx) error {
		if trust.DeviceCA, err = t.trusted(trustDeviceCA); err != nil {
			return err
		}
		if trust.RACertificate, err = t.trusted(trustRA); err != nil {
			return err
		}
		if trust.CAs, err = t.cas(); err != nil {
			return err
		}
		trust.KeySet, err = t.signedKeySet()
		return err
	})
	return trust, err
}

// Publish implements connectorapi.Store.
func (db *DB) Publish(ctx context.Context, connectorID string, p link.PublishRequest, now time.Time, audit model.AuditEntry) error {
	return db.write(ctx, "storing what a connector published", func(t *tx) error {
		if err := t.lockTrust(); err != nil {
			return err
		}
		c, err := find(t, connectors(), `WHERE id = $1`, connectorID)
		if err != nil {
			return err
		}
		if c.State != model.ConnectorTrusted {
			return fmt.Errorf("connector %s is not approved yet: %w", connectorID, model.ErrConflict)
		}
		publishCAs := func(p link.PublishRequest, now time.Time) error { return t.publishCAs(p, c.Member.ID, now) }
		for _, part := range []func(link.PublishRequest, time.Time) error{
			t.publishDeviceCA, publishCAs, t.publishKeySet, t.publishSealedCAs,
		} {
			if err := part(p, now); err != nil {
				return err
			}
		}
		if err := t.do(`UPDATE connectors SET last_seen = $1 WHERE id = $2`, now, connectorID); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

func (t *tx) publishDeviceCA(p link.PublishRequest, _ time.Time) error {
	if len(p.RACertificate) > 0 {
		if err := t.setTrusted(trustRA, p.RACertificate); err != nil {
			return err
		}
	}
	if len(p.DeviceCA) == 0 {
		return nil
	}
	stored, err := t.trusted(trustDeviceCA)
	switch {
	case err != nil:
		return err
	case stored == nil:
		return t.setTrusted(trustDeviceCA, p.DeviceCA)
	case !bytes.Equal(stored, p.DeviceCA):
		return fmt.Errorf("the device CA is another one than the one that devices were enrolled with: %w", model.ErrConflict)
	}
	return nil
}

func (t *tx) publishCAs(p link.PublishRequest, member string, now time.Time) error {
	if p.CAs == nil {
		return nil
	}
	encoded, err := json.Marshal(p.CAs)
	if err != nil {
		return fmt.Errorf("writing the CAs: %w", err)
	}
	stored, err := t.trusted(trustCAs + member)
	if err != nil || bytes.Equal(stored, encoded) {
		return err
	}
	if err := t.setTrusted(trustCAs+member, encoded); err != nil {
		return err
	}
	if err := t.reassign(now); err != nil {
		return err
	}
	return t.bumpGeneration()
}

// publishKeySet stores a newer key set. Its signature was checked by the caller; the store compares root and serial.
func (t *tx) publishKeySet(p link.PublishRequest, now time.Time) error {
	if p.KeySet == nil {
		return nil
	}
	set, err := parseKeySet(*p.KeySet)
	if err != nil {
		return err
	}
	root, err := t.trusted(trustRoot)
	if err != nil {
		return err
	}
	if root != nil && !bytes.Equal(root, p.KeySet.Root) {
		return fmt.Errorf("the key set is signed by another escrow root: %w", model.ErrConflict)
	}
	stored, err := t.signedKeySet()
	if err != nil {
		return err
	}
	if stored != nil {
		newer, err := compareKeySets(*stored, *p.KeySet, set.Serial)
		if err != nil || !newer {
			return err
		}
	}
	return t.storeKeySet(*p.KeySet, set, now)
}

func compareKeySets(stored, given escrow.SignedKeySet, serial uint64) (newer bool, err error) {
	old, err := parseKeySet(stored)
	if err != nil {
		return false, err
	}
	if serial > old.Serial {
		return true, nil
	}
	same := bytes.Equal(stored.KeySet, given.KeySet) && bytes.Equal(stored.Root, given.Root) && bytes.Equal(stored.Signature, given.Signature)
	if !same {
		return false, fmt.Errorf("the key set has serial %d, but serial %d is stored: %w", serial, old.Serial, model.ErrConflict)
	}
	return false, nil
}

func (t *tx) storeKeySet(signed escrow.SignedKeySet, set escrow.KeySet, now time.Time) error {
	for name, value := range map[string][]byte{trustKeySet: signed.KeySet, trustKeySetRoot: signed.Root,
		trustKeySetSig: signed.Signature, trustRoot: signed.Root} {
		if err := t.setTrusted(name, value); err != nil {
			return err
		}
	}
	for _, m := range set.Connectors() {
		if err := t.do(`UPDATE connectors SET state = 'trusted' WHERE member_id = $1`, m.ID); err != nil {
			return err
		}
	}
	return t.rewrapStale(set, now)
}

// rewrapStale queues every record that some member cannot open. They are read by pages: there may be many.
func (t *tx) rewrapStale(set escrow.KeySet, now time.Time) error {
	after := ""
	for {
		page, err := list(t, records(), `WHERE id > $1 ORDER BY id LIMIT $2`, after, maxPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			after = s.Record.ID
			if !stale(s, set) {
				continue
			}
			if err := t.rewrapJob(s, set.Serial, now); err != nil {
				return err
			}
		}
	}
}

// rewrapIfStale queues one record that was sealed to an older key set while it was on its way.
func (t *tx) rewrapIfStale(s sealed, now time.Time) error {
	set, err := t.keySet()
	if err != nil || !stale(s, set) {
		return err
	}
	return t.rewrapJob(s, set.Serial, now)
}

// stale tells that a record is not sealed to exactly those who may open it. Issued keys are sealed to connectors only
// (design.md section 5). Before the first key set nothing is stale.
func stale(s sealed, set escrow.KeySet) bool {
	if set.Serial == 0 {
		return false
	}
	members := set.Members
	if s.Kind == model.CertificateIssued {
		members = set.Connectors()
	}
	for _, m := range members {
		if !s.Record.SealedTo(m.ID) {
			return true
		}
	}
	return len(s.Record.Wraps) != len(members)
}

func (t *tx) publishSealedCAs(p link.PublishRequest, _ time.Time) error {
	for id, blob := range p.SealedCAs {
		if err := must(t.run(`UPDATE connectors SET sealed_cas = $1 WHERE id = $2`, blob, id)); err != nil {
			return fmt.Errorf("CA keys sealed to connector %s: %w", id, err)
		}
	}
	return nil
}
