package delivery

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// The snapshot and the decision are nouns of reconcile; the store speaks of them.
type (
	Snapshot          = reconcile.Snapshot
	Decision          = reconcile.Decision
	CertificateChange = reconcile.CertificateChange
)

// Store is what delivery needs of the database.
type Store interface {
	// Snapshot reads one consistent state; model.ErrNotFound when there is no such enrolment.
	Snapshot(ctx context.Context, enrolmentID string) (Snapshot, error)
	// Save applies the decision in one transaction and increments the enrolment's version. It is durable on return.
	// model.ErrConflict: the version differs, nothing was written; take a new snapshot.
	Save(ctx context.Context, d Decision) error
	// Generation is the number that grows with each change of profiles or assignments.
	Generation(ctx context.Context) (int64, error)
	// Touch notes that an enrolment was seen. It may be lazy: at most once a minute is written.
	Touch(ctx context.Context, enrolmentID string, at time.Time) error
	// EnrolmentOfDevice is the device's active enrolment of a channel; model.ErrNotFound without one.
	EnrolmentOfDevice(ctx context.Context, deviceID, channel string) (model.Enrolment, error)
	// LastCommand finds a command by UUID, done ones too; model.ErrNotFound for one that was never sent.
	LastCommand(ctx context.Context, enrolmentID, uuid string) (model.Command, error)
}
