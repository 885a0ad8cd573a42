package admin

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Change is what apply did or would do to one object.
type Change struct {
	Kind   profiles.Kind
	Name   string
	Action string // "created", "updated", "unchanged"
}

// Page bounds a list; After is the last key of the page before.
type Page struct {
	After string
	Limit int // at most 1000
}

// Store is what the admin API needs of the database. Every method is one transaction, durable on return.
type Store interface {
	// Apply upserts objects (users by UPN, others by kind and name) and bumps the generation if a profile or assignment changed; a
	// changed user makes that user's enrolments dirty. dryRun only reports. It is atomic: all or nothing.
	Apply(ctx context.Context, objects []profiles.Object, dryRun bool, now time.Time, audit model.AuditEntry) ([]Change, error)
	// DeleteObject removes a profile, assignment or (without devices) user; model.ErrNotFound, model.ErrConflict when still referenced.
	DeleteObject(ctx context.Context, kind profiles.Kind, name string, now time.Time, audit model.AuditEntry) error
	// Objects are all profiles and assignments, by kind and name.
	Objects(ctx context.Context) ([]profiles.Object, error)
	Users(ctx context.Context, p Page) ([]model.User, error)
	UserByUPN(ctx context.Context, upn string) (model.User, error)
	UserByID(ctx context.Context, id string) (model.User, error)
	Devices(ctx context.Context, p Page) ([]model.Device, error)
	DeviceByID(ctx context.Context, id string) (model.Device, error)
	// EnrolmentsOfDevice are all, newest first.
	EnrolmentsOfDevice(ctx context.Context, deviceID string) ([]model.Enrolment, error)
	// DocumentsOfEnrolment without payloads.
	DocumentsOfEnrolment(ctx context.Context, enrolmentID string) ([]model.DocumentState, error)
	Certificates(ctx context.Context, p Page) ([]model.Certificate, error)
	// Imported are all certificates that were imported for a user and not removed since.
	Imported(ctx context.Context, userID string) ([]model.Certificate, error)
	EscrowRecords(ctx context.Context, p Page) ([]model.EscrowRecord, error)
	Jobs(ctx context.Context, p Page) ([]model.Job, error)
	// CreateJob stores a job for a connector; JobByID reads one, model.ErrNotFound.
	CreateJob(ctx context.Context, j model.Job, audit model.AuditEntry) (id string, err error)
	JobByID(ctx context.Context, id string) (model.Job, error)
	// Import stores a record with its public certificate and makes the user's enrolments dirty. created is false, and nothing changes, when
	// the user already has a record of that certificate.
	Import(ctx context.Context, r model.EscrowRecord, c model.Certificate, audit model.AuditEntry) (created bool, err error)
	// DeleteRecord removes an escrow record: devices lose it at their next check-in; it is never revoked.
	DeleteRecord(ctx context.Context, recordID string, now time.Time, audit model.AuditEntry) error
	// SetDeviceState moves a device (enrolled → retiring or wiping; left stays) and makes its enrolments dirty. Idempotent.
	SetDeviceState(ctx context.Context, deviceID string, s model.DeviceState, now time.Time, audit model.AuditEntry) error
	// MarkDirty makes the device's active enrolments be planned and inventoried at their next check-in, failed documents and jobs retried.
	MarkDirty(ctx context.Context, deviceID string, now time.Time, audit model.AuditEntry) error
	// AddPartner stores a partner CA and bumps the generation; model.ErrConflict: there is a CA of that name.
	AddPartner(ctx context.Context, p model.Partner, audit model.AuditEntry) error
	// RemovePartner removes it; model.ErrNotFound.
	RemovePartner(ctx context.Context, name string, audit model.AuditEntry) error
	// Partners are all of them, by name.
	Partners(ctx context.Context) ([]model.Partner, error)
	Audit(ctx context.Context, afterID int64, limit int) ([]model.AuditEntry, error)
	// AppendAudit writes entries of their own (refusals).
	AppendAudit(ctx context.Context, entries ...model.AuditEntry) error
	// Ping tells whether the database answers.
	Ping(ctx context.Context) error
}
