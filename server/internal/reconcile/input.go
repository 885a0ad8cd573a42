package reconcile

import (
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Snapshot is everything that a decision about one enrolment is made from, read in one transaction.
type Snapshot struct {
	Device     model.Device
	Enrolment  model.Enrolment
	User       model.User
	Generation int64
	// Objects are all profiles and assignments; the core works out which apply.
	Objects []profiles.Object
	// Documents are without those that are kept for the record alone.
	Documents []model.DocumentState
	// Commands are the ones in state sent or notNow, oldest first.
	Commands []model.Command
	// Issued are the certificates of kind issued of this enrolment, every status.
	Issued []model.Certificate
	// Imported are the current escrow certificates of the user.
	Imported []model.Certificate
	// Records are the sealed records of Imported and of Issued with status current or superseded, by record id.
	Records map[string]escrow.Record
	// CAs are what the connectors published; nil before the first publish.
	CAs []link.CA
	// ConnectorSeen is when any trusted connector was last seen; zero: never.
	ConnectorSeen time.Time
	// Members are the ids of trusted connectors' members.
	Members   []string
	Inventory model.Inventory
	// UserDocuments counts the documents of the user channels that hang on this enrolment.
	UserDocuments int64
	// Jobs are the enrolment's jobs that are not done, and failed ones, by key.
	Jobs map[string]model.Job
}

// Decision is what changes for one enrolment. Save applies all of it or nothing.
type Decision struct {
	EnrolmentID string
	// Version is the version of the snapshot; Save returns model.ErrConflict when the enrolment has moved on.
	Version int64
	// Documents are written whole (upsert by enrolment and document id); Forget are deleted. Records take the place of those
	// deleted that a leaving device had; no snapshot has them.
	Documents []model.DocumentState
	Forget    []string
	Records   []model.DocumentState
	// Jobs are created unless a job with the same key exists in a state other than failed or obsolete; a failed one is
	// opened again with the new payload and RunAt.
	Jobs []model.Job
	// Obsolete are keys of open jobs that are not wanted any more.
	Obsolete []string
	// Commands are written whole (upsert by UUID).
	Commands []model.Command
	// Certificates change status (by SHA-256 and enrolment).
	Certificates []CertificateChange
	// Inventory replaces the stored one when not nil.
	Inventory *model.Inventory
	// Device and Enrolment replace the stored rows when not nil (Version is handled by Save; LastSeen too).
	Device    *model.Device
	Enrolment *model.Enrolment
	Audit     []model.AuditEntry
	// Seen is when the device spoke, if this was decided in answer to it: it is noted even where nothing else changes, and
	// the device needs no wake-up for what was decided.
	Seen time.Time
}

// CertificateChange moves one issued certificate to another status.
type CertificateChange struct {
	SHA256 string
	Status model.CertificateStatus
	At     time.Time
	// DropKey deletes the sealed issued key.
	DropKey bool
}
