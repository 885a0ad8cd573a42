package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

// touchEvery is how exact LastSeen is; within it a check-in writes nothing.
const touchEvery = time.Minute

// Snapshot implements delivery.Store.
func (db *DB) Snapshot(ctx context.Context, enrolmentID string) (s delivery.Snapshot, err error) {
	err = db.read(ctx, "reading the state of an enrolment", func(t *tx) error {
		s = delivery.Snapshot{}
		for _, part := range []func(*delivery.Snapshot, string) error{
			t.snapshotSubject, t.snapshotObjects, t.snapshotDelivery, t.snapshotCertificates, t.snapshotConnectors,
		} {
			if err := part(&s, enrolmentID); err != nil {
				return err
			}
		}
		return nil
	})
	return s, err
}

// snapshotSubject reads whom it is about. Device and user stay empty before Authenticate and after the user was deleted.
func (t *tx) snapshotSubject(s *delivery.Snapshot, id string) (err error) {
	if s.Enrolment, err = find(t, enrolments(), `WHERE id = $1`, id); err != nil {
		return err
	}
	if s.Device, err = find(t, devices(), `WHERE id = $1`, s.Enrolment.DeviceID); err != nil && !errors.Is(err, model.ErrNotFound) {
		return err
	}
	if s.Enrolment.Platform == profiles.MacOS && s.Enrolment.Channel == model.ChannelDevice {
		s.UserDocuments, err = one[int64](t, `SELECT count(*) FROM documents WHERE reason <> $1 AND enrolment_id IN (
			SELECT id FROM enrolments WHERE holder_id = $2 AND holder_id <> '' AND state <> 'ended')`, platforms.ReasonRemovalVerified, id)
		if err != nil {
			return err
		}
	}
	s.User, err = find(t, users(), `WHERE id = $1`, s.Enrolment.UserID)
	if errors.Is(err, model.ErrNotFound) {
		s.User, err = model.User{ID: s.Enrolment.UserID}, nil
	}
	return err
}

func (t *tx) snapshotObjects(s *delivery.Snapshot, _ string) (err error) {
	if s.Generation, err = t.generation(); err != nil {
		return err
	}
	s.Objects, err = t.objectsOf(s.Generation)
	return err
}

func (t *tx) snapshotDelivery(s *delivery.Snapshot, id string) (err error) {
	if s.Documents, err = list(t, documents(), `WHERE enrolment_id = $1 ORDER BY document_id`, id); err != nil {
		return err
	}
	s.Documents = slices.DeleteFunc(s.Documents, model.DocumentState.IsRecord)
	s.Commands, err = list(t, commands(), `WHERE enrolment_id = $1 AND state IN ('sent', 'notNow') ORDER BY created_at, uuid`, id)
	if err != nil {
		return err
	}
	inv, err := find(t, inventories(), `WHERE enrolment_id = $1`, id)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return err
	}
	s.Inventory = inv.Inventory
	open, err := list(t, jobs(), `WHERE enrolment_id = $1 AND state IN ('open', 'leased', 'failed')`, id)
	s.Jobs = map[string]model.Job{}
	for _, j := range open {
		s.Jobs[j.Key] = j
	}
	return err
}

func (t *tx) snapshotCertificates(s *delivery.Snapshot, id string) (err error) {
	s.Issued, err = list(t, certificates(), `WHERE enrolment_id = $1 AND kind = 'issued' ORDER BY created_at, sha256`, id)
	if err != nil {
		return err
	}
	if s.Imported, err = t.imported(s.Enrolment.UserID); err != nil {
		return err
	}
	sealed, err := list(t, records(), `WHERE (user_id = $1 AND kind = 'imported') OR enrolment_id = $2`, s.Enrolment.UserID, id)
	if err != nil {
		return err
	}
	s.Records = wanted(s, sealed)
	return nil
}

// wanted keeps the records of the snapshot's living certificates.
func wanted(s *delivery.Snapshot, sealed []sealed) map[string]escrow.Record {
	living := map[string]bool{}
	for _, c := range s.Imported {
		living[c.RecordID] = true
	}
	for _, c := range s.Issued {
		if c.Status == model.CertificateCurrent || c.Status == model.CertificateSuperseded {
			living[c.RecordID] = true
		}
	}
	all := map[string]escrow.Record{}
	for _, r := range sealed {
		if living[r.Record.ID] {
			all[r.Record.ID] = r.Record
		}
	}
	return all
}

func (t *tx) snapshotConnectors(s *delivery.Snapshot, _ string) (err error) {
	if s.CAs, err = t.cas(); err != nil {
		return err
	}
	trusted, err := list(t, connectors(), `WHERE state = 'trusted' ORDER BY id`)
	for _, c := range trusted {
		s.Members = append(s.Members, c.Member.ID)
		if c.LastSeen.After(s.ConnectorSeen) {
			s.ConnectorSeen = c.LastSeen
		}
	}
	return err
}

// Save implements delivery.Store.
func (db *DB) Save(ctx context.Context, d delivery.Decision) error {
	return db.write(ctx, "saving a decision", func(t *tx) error {
		version, err := one[int64](t, `SELECT version FROM enrolments WHERE id = $1`+db.dialect.ForUpdate, d.EnrolmentID)
		if err != nil {
			return err
		}
		if version != d.Version {
			return model.ErrConflict
		}
		for _, part := range []func(delivery.Decision) error{
			t.ended, t.saveEnrolment, t.saveDocuments, t.saveCommands, t.saveCertificates, t.saveJobs,
		} {
			if err := part(d); err != nil {
				return err
			}
		}
		return t.audit(d.Audit...)
	})
}

// saveEnrolment writes device and enrolment and takes the version one up. When somebody was seen is the decision's Seen.
func (t *tx) saveEnrolment(d delivery.Decision) error {
	if d.Enrolment != nil {
		e := *d.Enrolment
		e.ID = d.EnrolmentID
		if err := put(t, enrolments(), enrolments().upsert([]string{"id"}, "version", "last_seen"), e); err != nil {
			return err
		}
	}
	if err := t.do(`UPDATE enrolments SET version = version + 1 WHERE id = $1`, d.EnrolmentID); err != nil {
		return err
	}
	if d.Device != nil {
		if err := put(t, devices(), devices().upsert([]string{"id"}, "last_seen", "created_at"), *d.Device); err != nil {
			return err
		}
		if d.Device.State == model.DeviceLeft {
			if err := t.dropBootstrap(d.Device.ID); err != nil {
				return err
			}
		}
	}
	if d.Seen.IsZero() {
		return nil
	}
	// The device hears of this decision now: only what comes after it is worth a wake-up.
	if err := t.do(`UPDATE enrolments SET pushed_version = version WHERE id = $1`, d.EnrolmentID); err != nil {
		return err
	}
	return t.seen(d.EnrolmentID, d.Seen)
}

func (t *tx) seen(enrolmentID string, at time.Time) error {
	if err := t.do(`UPDATE enrolments SET last_seen = $1 WHERE id = $2 AND last_seen < $1`, at, enrolmentID); err != nil {
		return err
	}
	return t.do(`UPDATE devices SET last_seen = $1 WHERE last_seen < $1 AND id = (SELECT device_id FROM enrolments WHERE id = $2)`, at, enrolmentID)
}

func (t *tx) saveDocuments(d delivery.Decision) error {
	statement := documents().upsert([]string{"enrolment_id", "document_id"})
	for _, doc := range d.Documents {
		doc.EnrolmentID = d.EnrolmentID
		if err := put(t, documents(), statement, doc); err != nil {
			return err
		}
	}
	for _, id := range d.Forget {
		if err := t.do(`DELETE FROM documents WHERE enrolment_id = $1 AND document_id = $2`, d.EnrolmentID, id); err != nil {
			return err
		}
	}
	for _, doc := range d.Records {
		doc.EnrolmentID = d.EnrolmentID
		if err := put(t, documents(), statement, doc); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) saveCommands(d delivery.Decision) error {
	statement := commands().upsert([]string{"enrolment_id", "uuid"})
	for _, c := range d.Commands {
		c.EnrolmentID = d.EnrolmentID
		if err := put(t, commands(), statement, c); err != nil {
			return err
		}
	}
	if d.Inventory == nil {
		return nil
	}
	return put(t, inventories(), inventories().upsert([]string{"enrolment_id"}), inventory{d.EnrolmentID, *d.Inventory})
}

func (t *tx) saveCertificates(d delivery.Decision) error {
	const change = `UPDATE certificates SET status = $1, status_at = $2 WHERE sha256 = $3 AND enrolment_id = $4`
	const drop = `DELETE FROM records WHERE cert_sha256 = $1 AND enrolment_id = $2 AND kind = 'issued'`
	for _, c := range d.Certificates {
		if err := t.do(change, c.Status, c.At, c.SHA256, d.EnrolmentID); err != nil {
			return err
		}
		if !c.DropKey {
			continue
		}
		if err := t.do(drop, c.SHA256, d.EnrolmentID); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) saveJobs(d delivery.Decision) error {
	for _, key := range d.Obsolete {
		if err := t.obsolete(`job_key = $1 AND state IN ('open', 'leased', 'failed')`, key); err != nil {
			return err
		}
	}
	for _, j := range d.Jobs {
		if _, err := t.createJob(j); err != nil {
			return err
		}
	}
	return nil
}

// Generation implements delivery.Store.
func (db *DB) Generation(ctx context.Context) (n int64, err error) {
	err = db.look(ctx, "reading the generation", func(t *tx) error {
		n, err = t.generation()
		return err
	})
	return n, err
}

func (t *tx) generation() (int64, error) {
	return one[int64](t, `SELECT value FROM meta WHERE name = 'generation'`)
}

// Touch implements delivery.Store. It reads first, so that most check-ins write nothing; the one that follows a wake-up is
// noted exactly.
func (db *DB) Touch(ctx context.Context, enrolmentID string, at time.Time) error {
	due := false
	err := db.look(ctx, "noting that a device was seen", func(t *tx) error {
		v, err := find(t, visits(), `WHERE id = $1`, enrolmentID)
		due = at.Sub(v.seen) >= touchEvery || (v.seen.Before(v.pushed) && !at.Before(v.pushed))
		return err
	})
	if err != nil || !due {
		return err
	}
	return db.write(ctx, "noting that a device was seen", func(t *tx) error { return t.seen(enrolmentID, at) })
}

// visit is when a device was seen and when it was woken.
type visit struct{ seen, pushed time.Time }

func visits() table[visit] {
	return table[visit]{"enrolments", func(v *visit) row { return row{{"last_seen", &v.seen}, {"pushed_at", &v.pushed}} }}
}

// EnrolmentOfDevice implements delivery.Store.
func (db *DB) EnrolmentOfDevice(ctx context.Context, deviceID, channel string) (e model.Enrolment, err error) {
	err = db.read(ctx, "looking for a device's enrolment", func(t *tx) error {
		e, err = find(t, enrolments(), `WHERE device_id = $1 AND channel = $2 AND state = 'active' ORDER BY created_at DESC, id LIMIT 1`, deviceID, channel)
		return err
	})
	return e, err
}

// LastCommand implements delivery.Store.
func (db *DB) LastCommand(ctx context.Context, enrolmentID, uuid string) (c model.Command, err error) {
	err = db.read(ctx, "looking for a command", func(t *tx) error {
		c, err = find(t, commands(), `WHERE enrolment_id = $1 AND uuid = $2`, enrolmentID, uuid)
		return err
	})
	return c, err
}
