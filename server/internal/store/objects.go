package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/model"
)

// What Apply reports of an object.
const (
	created   = "created"
	updated   = "updated"
	unchanged = "unchanged"
)

// space is where an object's name is unique.
func space(kind profiles.Kind) string {
	if kind == profiles.KindAssignment {
		return "assignment"
	}
	return "profile"
}

func (t *tx) bumpGeneration() error {
	return t.do(`UPDATE meta SET value = value + 1 WHERE name = 'generation'`)
}

// lockObjects is taken by everybody who changes users, profiles or assignments.
func (t *tx) lockObjects() error {
	_, err := one[int64](t, `SELECT value FROM meta WHERE name = 'generation'`+t.db.dialect.ForUpdate)
	return err
}

// allObjects reads and decodes every profile and assignment.
func (t *tx) allObjects() ([]profiles.Object, error) {
	texts, err := values[string](t, `SELECT object FROM objects ORDER BY kind, name`)
	if err != nil {
		return nil, err
	}
	objects := make([]profiles.Object, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal([]byte(text), &objects[i]); err != nil {
			return nil, fmt.Errorf("reading a stored object: %w", err)
		}
	}
	return objects, nil
}

// objectsOf is allObjects for readers: objects change together with the generation, so those that were decoded for it
// serve every check-in. Callers must not change them.
func (t *tx) objectsOf(generation int64) ([]profiles.Object, error) {
	if c := t.db.objects.Load(); c != nil && c.generation == generation {
		return slices.Clone(c.objects), nil
	}
	objects, err := t.allObjects()
	if err != nil {
		return nil, err
	}
	t.db.objects.Store(&objectCache{generation, objects})
	return slices.Clone(objects), nil
}

// Objects implements admin.Store.
func (db *DB) Objects(ctx context.Context) (objects []profiles.Object, err error) {
	err = db.read(ctx, "reading profiles and assignments", func(t *tx) error {
		objects, err = t.allObjects()
		return err
	})
	return objects, err
}

// Apply implements admin.Store.
func (db *DB) Apply(ctx context.Context, objects []profiles.Object, dryRun bool, now time.Time, audit model.AuditEntry) (changes []admin.Change, err error) {
	act := db.write
	if dryRun {
		act = db.read
	}
	err = act(ctx, "applying objects", func(t *tx) error {
		changes, err = t.apply(objects, dryRun, now)
		if err != nil || dryRun {
			return err
		}
		return t.audit(audit)
	})
	return changes, err
}

func (t *tx) apply(objects []profiles.Object, dryRun bool, now time.Time) ([]admin.Change, error) {
	if !dryRun {
		if err := t.lockObjects(); err != nil {
			return nil, err
		}
	}
	changes := make([]admin.Change, 0, len(objects))
	bump := false
	for _, o := range objects {
		act := t.applyObject
		if o.Kind == profiles.KindUser {
			act = t.applyUser
		}
		action, err := act(o, dryRun, now)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", o.Kind, o.Name, err)
		}
		bump = bump || (o.Kind != profiles.KindUser && action != unchanged)
		changes = append(changes, admin.Change{Kind: o.Kind, Name: o.Name, Action: action})
	}
	if dryRun || !bump {
		return changes, nil
	}
	return changes, t.bumpGeneration()
}

func (t *tx) applyUser(o profiles.Object, dryRun bool, now time.Time) (string, error) {
	spec, ok := o.Spec.(*profiles.User)
	if !ok {
		return "", fmt.Errorf("its spec is a %T", o.Spec)
	}
	key := upnKey(o.Name)
	u, err := find(t, users(), `WHERE upn_key = $1`, key)
	if isAbsent(err) {
		if dryRun {
			return created, nil
		}
		return created, t.do(`INSERT INTO users (id, upn, upn_key, spec, created_at) VALUES ($1, $2, $3, $4, $5)`, t.db.newID(), o.Name, key, spec, now)
	}
	if err != nil {
		return "", err
	}
	same, err := equalJSON(u.Spec, spec)
	if err != nil {
		return "", err
	}
	if same && u.UPN == o.Name {
		return unchanged, nil
	}
	if dryRun {
		return updated, nil
	}
	if err := t.do(`UPDATE users SET upn = $1, spec = $2 WHERE id = $3`, o.Name, spec, u.ID); err != nil {
		return "", err
	}
	return updated, t.dirtyUser(u.ID)
}

func (t *tx) applyObject(o profiles.Object, dryRun bool, _ time.Time) (string, error) {
	encoded, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("writing it: %w", err)
	}
	stored, err := one[string](t, `SELECT object FROM objects WHERE space = $1 AND name = $2`, space(o.Kind), o.Name)
	if err != nil && !isAbsent(err) {
		return "", err
	}
	if err == nil && stored == string(encoded) {
		return unchanged, nil
	}
	action := created
	if err == nil {
		action = updated
		kind, err := one[profiles.Kind](t, `SELECT kind FROM objects WHERE space = $1 AND name = $2`, space(o.Kind), o.Name)
		if err != nil {
			return "", err
		}
		if kind != o.Kind {
			return "", fmt.Errorf("exists as %s and cannot change its kind: %w", kind, model.ErrConflict)
		}
	}
	if dryRun {
		return action, nil
	}
	return action, t.do(`INSERT INTO objects (space, name, kind, object) VALUES ($1, $2, $3, $4)
		ON CONFLICT (space, name) DO UPDATE SET object = excluded.object`, space(o.Kind), o.Name, o.Kind, string(encoded))
}

func equalJSON(a, b any) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return string(x) == string(y), err
}

// dirtyUser makes all of a user's enrolments be planned again.
func (t *tx) dirtyUser(userID string) error {
	return t.do(`UPDATE enrolments SET dirty = TRUE, version = version + 1 WHERE user_id = $1 AND state <> 'ended'`, userID)
}

// DeleteObject implements admin.Store.
func (db *DB) DeleteObject(ctx context.Context, kind profiles.Kind, name string, _ time.Time, audit model.AuditEntry) error {
	return db.write(ctx, fmt.Sprintf("deleting %s %q", kind, name), func(t *tx) error {
		if err := t.lockObjects(); err != nil {
			return err
		}
		act := t.deleteObject
		if kind == profiles.KindUser {
			act = t.deleteUser
		}
		if err := act(kind, name); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

func (t *tx) deleteObject(kind profiles.Kind, name string) error {
	if err := must(t.run(`DELETE FROM objects WHERE space = $1 AND name = $2 AND kind = $3`, space(kind), name, kind)); err != nil {
		return err
	}
	if kind.IsProfile() {
		objects, err := t.allObjects()
		if err != nil {
			return err
		}
		for _, o := range objects {
			if slices.Contains(references(o), name) {
				return fmt.Errorf("%s %q refers to it: %w", o.Kind, o.Name, model.ErrConflict)
			}
		}
	}
	return t.bumpGeneration()
}

// references are the names of the profiles that an object needs.
func references(o profiles.Object) []string {
	switch spec := o.Spec.(type) {
	case *profiles.Assignment:
		return spec.Profiles
	case *profiles.Email:
		var names []string
		if spec.Exchange != nil && spec.Exchange.IdentityCertificate != "" {
			names = append(names, spec.Exchange.IdentityCertificate)
		}
		if spec.SMIME != nil {
			names = append(names, spec.SMIME.Signing.Certificate, spec.SMIME.Encryption.Certificate)
		}
		return names
	}
	return nil
}

// deleteUser refuses while somebody could still miss the user: a device, or mail that only an escrow record opens.
func (t *tx) deleteUser(_ profiles.Kind, upn string) error {
	u, err := find(t, users(), `WHERE upn_key = $1`, upnKey(upn))
	if err != nil {
		return err
	}
	for _, check := range []struct{ query, what string }{
		{`SELECT count(*) FROM devices WHERE user_id = $1 AND state <> 'left'`, "devices"},
		{`SELECT count(*) FROM enrolments WHERE user_id = $1 AND state <> 'ended'`, "enrolments"},
		{`SELECT count(*) FROM records WHERE user_id = $1 AND kind = 'imported'`, "escrow records"},
	} {
		n, err := one[int64](t, check.query, u.ID)
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("the user still has %d %s: %w", n, check.what, model.ErrConflict)
		}
	}
	if err := t.obsolete(`user_id = $1 AND kind <> 'revoke' AND state IN ('open', 'leased', 'failed')`, u.ID); err != nil {
		return err
	}
	for _, statement := range []string{`DELETE FROM challenges WHERE user_id = $1`, `DELETE FROM links WHERE user_id = $1`, `DELETE FROM users WHERE id = $1`} {
		if err := t.do(statement, u.ID); err != nil {
			return err
		}
	}
	return nil
}
