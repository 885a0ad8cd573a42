// Package expiry knows what ends soon: users' certificates, devices' identities, CAs, and the server's own certificates. It
// says so once at each threshold, in the audit log and to a webhook, and at any time to whoever asks.
package expiry

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Kind says what an item is; certificates of users and devices have the kinds of model.CertificateKind.
type Kind string

// The other kinds.
const (
	KindCA     Kind = "ca"
	KindServer Kind = "server"
)

// Item is one thing that ends.
type Item struct {
	Kind     Kind      `json:"kind"`
	Name     string    `json:"name"` // of a CA or setting; empty for a user's
	SHA256   string    `json:"sha256"`
	Subject  string    `json:"subject"`
	UserID   string    `json:"-"`
	User     string    `json:"user,omitempty"` // UPN
	DeviceID string    `json:"deviceId,omitempty"`
	Profile  string    `json:"profile,omitempty"`
	NotAfter time.Time `json:"notAfter"`
	// Remedy is what somebody can do about it.
	Remedy string `json:"remedy"`
}

// Notice is an item at a threshold: days before its end, 0 at the end.
type Notice struct {
	Item
	Days int       `json:"days"`
	At   time.Time `json:"at"`
}

// Key names a notice, so that it is given once.
func (n Notice) Key() string { return fmt.Sprintf("%s/%s/%d", n.SHA256, n.UserID, n.Days) }

// Audit is the notice as a line of the audit log.
func (n Notice) Audit() model.AuditEntry {
	action := "certificate.expiring"
	if n.Days == 0 {
		action = "certificate.expired"
	}
	detail := map[string]string{"kind": string(n.Kind), "notAfter": n.NotAfter.UTC().Format(time.RFC3339), "remedy": n.Remedy}
	for key, v := range map[string]string{"name": n.Name, "subject": n.Subject, "profile": n.Profile, "device": n.DeviceID, "user": n.User} {
		if v != "" {
			detail[key] = v
		}
	}
	return model.AuditEntry{At: n.At, Actor: "server", Action: action, Object: n.SHA256, Outcome: "ok", Detail: detail}
}

// thresholds are the days before the end at which it is said.
var thresholds = [...]int{0, 1, 7, 30}

// Horizon is how far ahead somebody is told without asking.
const Horizon = 30 * 24 * time.Hour

// noticeOf is the notice that an item is due for now, if any: of the nearest threshold that has passed.
func noticeOf(i Item, now time.Time) (Notice, bool) {
	left := i.NotAfter.Sub(now)
	for _, days := range thresholds {
		if left <= time.Duration(days)*24*time.Hour {
			return Notice{Item: i, Days: days, At: now}, true
		}
	}
	return Notice{}, false
}

// Remedies by kind.
const (
	remedyImported = "import its successor: waxctl import pfx"
	remedyIssued   = "it renews itself when the device connects; see waxctl explain device"
	remedyIdentity = "the device renews it by itself, or is enrolled again by a new link"
)

// OfCertificate is the item of a user's or a device's certificate.
func OfCertificate(c model.Certificate) Item {
	i := Item{Kind: Kind(c.Kind), SHA256: c.SHA256, Subject: c.Subject, UserID: c.UserID, DeviceID: c.DeviceID, Profile: c.Profile, NotAfter: c.NotAfter.UTC()}
	switch c.Kind {
	case model.CertificateImported:
		i.Remedy = remedyImported
	case model.CertificateIssued:
		i.Remedy = remedyIssued
	default:
		i.Remedy = remedyIdentity
	}
	return i
}

// Of is the item of a certificate of the server or of a CA.
func Of(kind Kind, name string, c *x509.Certificate, sha256, remedy string) Item {
	return Item{Kind: kind, Name: name, SHA256: sha256, Subject: c.Subject.String(), NotAfter: c.NotAfter.UTC(), Remedy: remedy}
}

// Store is what the board needs of the database.
type Store interface {
	// Expiring are the certificates of users and devices that are in use and end before a time, soonest first, at most limit:
	// issued ones and identities that are current, and imported ones that have no successor of their purpose.
	Expiring(ctx context.Context, before time.Time, limit int) ([]model.Certificate, error)
	// Unsaid are those of them that end after one time and not after another, and of which no notice with these days is there.
	Unsaid(ctx context.Context, after, until time.Time, days, limit int) ([]model.Certificate, error)
	// Notify stores a notice with its audit entry, unless one with the key is there; fresh tells which.
	Notify(ctx context.Context, key string, payload []byte, audit model.AuditEntry) (fresh bool, err error)
	// Notices are those that no webhook has taken yet, oldest first.
	Notices(ctx context.Context, limit int) ([]model.Notice, error)
	// Taken notes that the webhook has a notice.
	Taken(ctx context.Context, key string, at time.Time) error
	// UserByID reads one; model.ErrNotFound.
	UserByID(ctx context.Context, id string) (model.User, error)
}

// Board knows everything that ends.
type Board struct {
	Store Store
	// Own are the certificates of CAs and of the server itself.
	Own   func(ctx context.Context) ([]Item, error)
	Clock func() time.Time
}

// maxItems bounds a list.
const maxItems = 1000

// List is what ends within a time, soonest first; what has ended is in it.
func (b *Board) List(ctx context.Context, within time.Duration) ([]Item, error) {
	before := b.Clock().Add(within)
	certs, err := b.Store.Expiring(ctx, before, maxItems)
	if err != nil {
		return nil, fmt.Errorf("reading what expires: %w", err)
	}
	items, err := b.own(ctx, before)
	if err != nil {
		return nil, err
	}
	theirs, err := b.named(ctx, certs)
	if err != nil {
		return nil, err
	}
	items = append(items, theirs...)
	sooner(items)
	return items[:min(len(items), maxItems)], nil
}

func sooner(items []Item) {
	slices.SortStableFunc(items, func(a, b Item) int { return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.SHA256, b.SHA256)) })
}

func (b *Board) own(ctx context.Context, before time.Time) ([]Item, error) {
	items, err := b.Own(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading which CAs expire: %w", err)
	}
	return slices.DeleteFunc(items, func(i Item) bool { return i.NotAfter.After(before) }), nil
}

// named are the items of certificates, with their owners.
func (b *Board) named(ctx context.Context, certs []model.Certificate) (items []Item, err error) {
	names := map[string]string{}
	for _, c := range certs {
		i := OfCertificate(c)
		if _, known := names[c.UserID]; !known {
			u, err := b.Store.UserByID(ctx, c.UserID)
			if err != nil {
				return nil, fmt.Errorf("reading the owner of certificate %s: %w", c.SHA256, err)
			}
			names[c.UserID] = u.UPN
		}
		i.User = names[c.UserID]
		items = append(items, i)
	}
	return items, nil
}

// unsaid are the items that are, or may be, due for a notice, soonest first. At each threshold there are at most maxItems; what
// is beyond comes when these have been said, so that nothing hides behind what ended long ago.
func (b *Board) unsaid(ctx context.Context) ([]Item, error) {
	now := b.Clock()
	items, err := b.own(ctx, now.Add(Horizon))
	if err != nil {
		return nil, err
	}
	after := time.Time{}
	for _, days := range thresholds {
		until := now.Add(time.Duration(days) * 24 * time.Hour)
		certs, err := b.Store.Unsaid(ctx, after, until, days, maxItems)
		if err != nil {
			return nil, fmt.Errorf("reading what expires: %w", err)
		}
		theirs, err := b.named(ctx, certs)
		if err != nil {
			return nil, err
		}
		items, after = append(items, theirs...), until
	}
	sooner(items)
	return items, nil
}

// Look gives the notices that are due and were not given yet. It is safe to repeat, and on several nodes at once.
func (b *Board) Look(ctx context.Context) (fresh []Notice, err error) {
	items, err := b.unsaid(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range items {
		n, due := noticeOf(i, b.Clock())
		if !due {
			continue
		}
		payload, err := encode(n)
		if err != nil {
			return fresh, err
		}
		is, err := b.Store.Notify(ctx, n.Key(), payload, n.Audit())
		if err != nil {
			return fresh, fmt.Errorf("noting that %s expires: %w", i.SHA256, err)
		}
		if is {
			fresh = append(fresh, n)
		}
	}
	return fresh, nil
}

// SHA256 is the fingerprint of a certificate, for Of.
func SHA256(sum [32]byte) string { return hex.EncodeToString(sum[:]) }
