package connectorapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Completion is the effect of one job's answer; exactly one of the pointers is set, or Failure.
type Completion struct {
	JobID       string
	ConnectorID string
	Attempt     int
	At          time.Time
	// Identity stores the device certificate: challenge answer, enrolment in state issued, certificate row, link spent.
	Identity *IdentityEffect
	// Issued stores certificate and sealed key; if the intent already has a certificate, the first stays and this one is
	// recorded as superseded with a revoke job.
	Issued *IssuedEffect
	// Certified stores a certificate for a device's own key, beside those that the device has; for an enrolment that has
	// ended it is recorded as superseded with a revoke job.
	Certified *CertifiedEffect
	// Rendered stores the payload of a document if it is still wanted (same revision and recipient); marks the enrolment dirty.
	Rendered *RenderedEffect
	// Tested keeps what a CA's settings were found to be.
	Tested *link.TestCAAnswer
	// Revoked marks the certificate revoked.
	Revoked *RevokedEffect
	// Rewrapped replaces the record's wraps.
	Rewrapped *escrow.Record
	// Failure reopens the job at RetryAt, or marks it failed (Final) and the enrolment dirty.
	Failure *Failure
	Audit   model.AuditEntry
}

// IdentityEffect is the answer of an identity job.
type IdentityEffect struct {
	EnrolmentID string
	Certificate model.Certificate
	Chain       [][]byte
}

// IssuedEffect is the answer of an issue job.
type IssuedEffect struct {
	Certificate model.Certificate
	Record      escrow.Record
	CA          string
}

// CertifiedEffect is the answer of a certify job.
type CertifiedEffect struct {
	Certificate model.Certificate
	Chain       [][]byte
}

// RenderedEffect is the answer of a render job.
type RenderedEffect struct {
	EnrolmentID, DocumentID, Revision, Recipient string
	Payload                                      []byte
}

// RevokedEffect is the answer of a revoke job.
type RevokedEffect struct {
	CertSHA256 string
	At         time.Time
}

// Failure is an error answer.
type Failure struct {
	Message string
	Final   bool
	Reason  platforms.Reason
	RetryAt time.Time
}

// Store is what the connector's endpoint needs of the database. Every method is one transaction, durable on return.
type Store interface {
	// CreateConnectorToken keeps the hash of a one-time registration token.
	CreateConnectorToken(ctx context.Context, tokenHash string, expires time.Time, audit model.AuditEntry) error
	// RegisterConnector spends the token and stores the connector; the first ever is trusted, others pending. The same member
	// again with the token that it spent gets its own row back with the new credential hash. model.ErrNotFound, ErrExpired, ErrSpent.
	RegisterConnector(ctx context.Context, tokenHash string, c model.Connector, root []byte, now time.Time, audit model.AuditEntry) (model.Connector, error)
	// ConnectorByID reads one; model.ErrNotFound.
	ConnectorByID(ctx context.Context, id string) (model.Connector, error)
	Connectors(ctx context.Context) ([]model.Connector, error)
	// Publish stores what a trusted connector offers: device CA (model.ErrConflict when another is stored), CAs, a key set whose serial is
	// higher than the stored one (lower or equal: ignored if equal bytes, else model.ErrConflict) – connectors named in it become trusted and every
	// escrow record not sealed to all its members gets a rewrap job –, sealed CA keys, RA certificate. Bumps the generation when CAs changed.
	Publish(ctx context.Context, connectorID string, p link.PublishRequest, now time.Time, audit model.AuditEntry) error
	// Trust reads what was published; zero values before the first publish.
	Trust(ctx context.Context) (Trust, error)
	// Claim leases up to max jobs that the connector's member may do (Needs), fair between users, oldest first; expired leases
	// are claimable. It marks the connector as seen.
	Claim(ctx context.Context, connectorID string, max int, lease time.Duration, now time.Time) ([]model.Job, error)
	// JobByID reads one; model.ErrNotFound.
	JobByID(ctx context.Context, id string) (model.Job, error)
	// Complete applies an answer; model.ErrConflict when the job is not leased by this connector any more or already done.
	Complete(ctx context.Context, c Completion) error
	// Setting and SetSetting keep small values such as the RA certificate's key id.
	Setting(ctx context.Context, name string) (json.RawMessage, error)
	SetSetting(ctx context.Context, name string, value json.RawMessage) error
}

// Trust is what the connectors published.
type Trust struct {
	DeviceCA      []byte
	CAs           []link.CA
	KeySet        *escrow.SignedKeySet
	RACertificate []byte
}
