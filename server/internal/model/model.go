// Package model holds the nouns of the server: users, devices, enrolments, documents, certificates, jobs. It has no I/O.
package model

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Errors that stores and cores return; others are faults of the machine.
var (
	// ErrNotFound: there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrConflict: somebody else changed the same thing in between; gather again and retry.
	ErrConflict = errors.New("changed in between")
	// ErrSpent: a link, challenge or token that works once was used before.
	ErrSpent = errors.New("already used")
	// ErrExpired: a link, challenge or token is too old.
	ErrExpired = errors.New("expired")
	// ErrTooMany: somebody asks for more than anybody needs.
	ErrTooMany = errors.New("too many")
)

// User is a person. ID is random and never reused, so that a record sealed to it can never open for a namesake.
type User struct {
	ID        string
	UPN       string
	Spec      profiles.User
	CreatedAt time.Time
}

// DeviceState is where a device is in its life (docs/state-machines.md).
type DeviceState string

// The states of a device.
const (
	DeviceEnrolled DeviceState = "enrolled"
	DeviceRetiring DeviceState = "retiring" // documents are being removed, the enrolment last
	DeviceWiping   DeviceState = "wiping"
	DeviceLeft     DeviceState = "left"
)

// Removal says how we know that the keys left a device.
type Removal string

// The kinds of knowledge.
const (
	RemovalVerified    Removal = "verified"
	RemovalReported    Removal = "reported"
	RemovalUnconfirmed Removal = "unconfirmed"
)

// Reason is the same of one document.
func (r Removal) Reason() platforms.Reason {
	switch r {
	case RemovalVerified:
		return platforms.ReasonRemovalVerified
	case RemovalReported:
		return platforms.ReasonRemovalReported
	}
	return platforms.ReasonRemovalUnconfirmed
}

// Device is a phone, tablet or computer of one user.
type Device struct {
	ID           string
	UserID       string
	Platform     profiles.Platform
	ExternalID   string // UDID; HWDevID on Windows, where each enrolment has a DeviceID of its own
	Name         string
	Model        string
	OSVersion    string
	SerialNumber string
	IMEI         string
	State        DeviceState
	Removal      Removal // set when State is left, and unconfirmed when one that should leave is silent
	CreatedAt    time.Time
	StateAt      time.Time
	LastSeen     time.Time
}

// EnrolmentState is where a management channel is.
type EnrolmentState string

// The states of an enrolment.
const (
	EnrolmentIssued        EnrolmentState = "issued"        // it has a certificate, the device has not spoken yet
	EnrolmentAuthenticated EnrolmentState = "authenticated" // Authenticate seen, TokenUpdate not
	EnrolmentActive        EnrolmentState = "active"
	EnrolmentEnded         EnrolmentState = "ended"
)

// The channels.
const (
	ChannelDevice = "device"
	ChannelUser   = "user" // of a Mac
)

// Enrolment is one management channel of a device. Queue, push token and certificate binding belong to it.
type Enrolment struct {
	ID       string
	DeviceID string // empty until Authenticate
	UserID   string
	Platform profiles.Platform
	Channel  string // "device" or "user"
	// HolderID is, for a user channel, the enrolment of the device channel, whose certificate it speaks with.
	HolderID   string
	ExternalID string // UDID (apple.md 1.4), DeviceID (windows.md 1.6); empty until Authenticate
	State      EnrolmentState
	// CertStore is where a PC keeps its certificate, "User" or "System"; empty on other platforms.
	CertStore   string
	Certificate []byte // DER of the bound certificate
	CertSHA256  string // lower-case hex
	// NextCertificate is a renewed one that the device has not used yet; both are good until it does.
	NextCertificate []byte
	NextCertSHA256  string
	// CredentialHash is the SHA-256 of the bearer credential of a companion app; empty on other platforms.
	CredentialHash string
	PushToken      []byte
	PushMagic      string
	PushTopic      string
	// MustReenroll: enrolled while no push certificate was set; Topic can never change.
	MustReenroll bool
	// Version grows with each saved decision; Save compares it.
	Version int64
	// SettledGeneration is the generation for which nothing was left to do; Dirty overrides it.
	SettledGeneration int64
	Dirty             bool
	// InventoryAt is when the inventory is due again.
	InventoryAt time.Time
	LastSeen    time.Time
}

// DocumentStatus is where a document is on its way to one device.
type DocumentStatus string

// The states of a document (docs/state-machines.md).
const (
	DocumentWaiting   DocumentStatus = "waiting"   // Reason says for what
	DocumentReady     DocumentStatus = "ready"     // can be sent
	DocumentSent      DocumentStatus = "sent"      // a command is under way
	DocumentInstalled DocumentStatus = "installed" // acknowledged, not yet seen in the inventory
	DocumentVerified  DocumentStatus = "verified"
	DocumentFailed    DocumentStatus = "failed"
	DocumentRemoving  DocumentStatus = "removing"
	// DocumentRemoved: RemoveProfile acknowledged, inventory still to confirm; or the record of a device that left (IsRecord).
	DocumentRemoved DocumentStatus = "removed"
)

// DocumentState is one document of one enrolment: what is wanted, what is there, and the payload in between.
type DocumentState struct {
	EnrolmentID string
	Document    platforms.Document // the latest plan
	Status      DocumentStatus
	Reason      platforms.Reason
	Detail      string
	// InstalledRevision and InstalledProof are what the device acknowledged last; empty when it has nothing.
	InstalledRevision string
	InstalledProof    string
	// InstalledIdentifier is what the platform calls the installed revision. Where a new revision has another one (Windows
	// names nodes by certificates), the former ones are Leftovers, and go once the new revision is verified.
	InstalledIdentifier string
	Leftovers           []string
	// InstalledCredentials are the SHA-256 of the identities that the installed revision carries.
	InstalledCredentials []string
	// InstalledAt is when the device acknowledged.
	InstalledAt time.Time
	// Payload is the rendered document for PayloadRevision and PayloadRecipient (SHA-256 of the device certificate);
	// erased when the device confirms or when revision or recipient changes.
	Payload          []byte
	PayloadRevision  string
	PayloadRecipient string
	// SentRevision, SentProof, SentIdentifier and SentCredentials belong to the command that is under way; they become the installed ones
	// when the device acknowledges, whatever the plan says by then.
	SentRevision    string
	SentProof       string
	SentIdentifier  string
	SentCredentials []string
	// ReportedSeq is the number of the device's latest report about the document, where its reports are numbered.
	ReportedSeq int64
	// Renders counts payloads that were used up, so that the next render job has a key of its own.
	Renders int
	// Redeliver counts, per certificate SHA-256, how often a vanished identity was delivered again. It only grows, since each
	// delivery has a UUID of its own.
	Redeliver map[string]int
	// Losses counts, under the same names, the losses in a row: what was there for long begins a new count.
	Losses    map[string]int
	Attempts  int
	RetryAt   time.Time
	UpdatedAt time.Time
}

// Identifier is what the platform calls what the device has of the document, or would have.
func (d DocumentState) Identifier() string {
	if d.InstalledIdentifier != "" {
		return d.InstalledIdentifier
	}
	return d.Document.Identifier
}

// IsRecord tells whether the row is kept for the record alone: the device left, or leaves, and the reason says how it is known
// that the document is gone.
func (d DocumentState) IsRecord() bool {
	switch d.Reason {
	case platforms.ReasonRemovalVerified, platforms.ReasonRemovalReported, platforms.ReasonRemovalUnconfirmed:
		return d.Status == DocumentRemoved
	}
	return false
}

// AsRecord is what stays of a document of a device that leaves; false: the device never had any of it.
func (d DocumentState) AsRecord(how Removal) (DocumentState, bool) {
	if d.InstalledRevision == "" && d.SentRevision == "" && len(d.Leftovers) == 0 {
		return d, false
	}
	d.Status, d.Reason, d.Detail = DocumentRemoved, how.Reason(), ""
	d.Payload, d.PayloadRevision, d.PayloadRecipient = nil, "", ""
	d.Attempts, d.RetryAt = 0, time.Time{}
	return d, true
}

// CommandState is where a command is.
type CommandState string

// The states of a command. Done and failed commands are kept for the record and for duplicates.
const (
	CommandSent   CommandState = "sent"
	CommandNotNow CommandState = "notNow"
	CommandDone   CommandState = "done"
	CommandFailed CommandState = "failed"
)

// Command is one MDM command that was handed to the device; its body is made when it is sent.
type Command struct {
	UUID        string
	EnrolmentID string
	RequestType string // InstallProfile, RemoveProfile, ProfileList, CertificateList, DeviceInformation, EraseDevice …
	DocumentID  string
	Revision    string
	State       CommandState
	Error       string
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Session is the conversation that a Windows device has with us (OMA DM): one for each enrolment, the latest.
type Session struct {
	EnrolmentID string
	ID          string // the device's SessionID
	// Heard is the MsgID of the device's last message; our answer to it has the same one.
	Heard int
	// Login is the last LoginStatus of the session: "user", "others", "none"; empty: not said.
	Login string
	// State is what the commands of our last answer wait for; empty: nothing.
	State json.RawMessage
	// Version is that of the row as it was read; 0: there is none yet.
	Version   int64
	UpdatedAt time.Time
}

// Inventory is what the device last said that it has.
type Inventory struct {
	// A zero time means that the list is not fresh: something changed on the device since.
	FactsAt        time.Time
	ProfilesAt     time.Time
	Profiles       map[string]string // PayloadIdentifier → PayloadUUID (upper case)
	CertificatesAt time.Time
	Certificates   map[string]bool // SHA-256 → has private key
}

// CertificateStatus is where a certificate is in its life.
type CertificateStatus string

// The states of a certificate.
const (
	CertificateCurrent    CertificateStatus = "current"
	CertificateSuperseded CertificateStatus = "superseded"
	CertificateRemoved    CertificateStatus = "removed" // the device left or the record was deleted; not revoked
	CertificateRevoking   CertificateStatus = "revoking"
	CertificateRevoked    CertificateStatus = "revoked"
)

// CertificateKind says where a certificate comes from.
type CertificateKind string

// The kinds.
const (
	CertificateImported CertificateKind = "imported"
	CertificateIssued   CertificateKind = "issued"
	CertificateIdentity CertificateKind = "deviceIdentity"
)

// Certificate is one certificate that the server knows: a row of `waxctl get certificates`.
type Certificate struct {
	profiles.Certificate
	Kind        CertificateKind
	UserID      string
	DeviceID    string
	EnrolmentID string
	Profile     string
	CA          string
	Subject     string
	Issuer      string
	Serial      string // lower-case hex
	Status      CertificateStatus
	StatusAt    time.Time
	RevokeOn    []profiles.Event
	CreatedAt   time.Time
}

// EscrowRecord is an imported certificate with its sealed key.
type EscrowRecord struct {
	Record  escrow.Record
	UserID  string
	Purpose profiles.Purpose
}

// Job is work for a connector, as the store keeps it.
type Job struct {
	ID          string
	Key         string // unique; a second job with the same key is not created while the first is open or done
	Kind        link.JobKind
	Payload     json.RawMessage
	UserID      string   // fairness
	EnrolmentID string   // "" for jobs of no enrolment
	DocumentID  string   // render
	Revision    string   // render
	Recipient   string   // render: SHA-256 of the recipient certificate
	Needs       []string // member ids that can do it; empty means any trusted connector
	State       JobState
	Attempt     int
	LeasedBy    string
	LeaseUntil  time.Time
	RunAt       time.Time
	Error       string
	Reason      platforms.Reason
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// JobState is where a job is.
type JobState string

// The states of a job.
const (
	JobOpen     JobState = "open"
	JobLeased   JobState = "leased"
	JobDone     JobState = "done"
	JobFailed   JobState = "failed"
	JobObsolete JobState = "obsolete"
)

// Connector is a registered connector.
type Connector struct {
	ID             string
	Name           string
	Member         escrow.Member
	CredentialHash string // lower-case hex SHA-256
	State          ConnectorState
	SealedCAs      []byte
	CreatedAt      time.Time
	LastSeen       time.Time
}

// ConnectorState is pending until a trusted connector approves.
type ConnectorState string

// The states of a connector.
const (
	ConnectorPending ConnectorState = "pending"
	ConnectorTrusted ConnectorState = "trusted"
)

// Link is an enrolment link, or a one-time enrolment secret of Windows; only the hash of its token is kept.
type Link struct {
	ID        string
	TokenHash string
	UserID    string
	Platform  profiles.Platform
	CreatedAt time.Time
	ExpiresAt time.Time
	SpentAt   time.Time // zero: not spent
}

// Challenge is one SCEP challenge of a downloaded enrolment profile, the token of a Windows sign-in, or a renewal, which
// has no link; only its hash is kept. EnrolmentID is chosen at the download and becomes the certificate's name.
type Challenge struct {
	Hash        string
	LinkID      string
	UserID      string
	Platform    profiles.Platform
	EnrolmentID string
	CreatedAt   time.Time
	ExpiresAt   time.Time
	// KeySHA256 is set by the first request: the hash of its public key (SubjectPublicKeyInfo). Another key is refused.
	KeySHA256 string
	JobID     string
	// Certificate and Chain are the answer, once there.
	Certificate []byte
	Chain       [][]byte
}

// SCEPRequest is what became of one SCEP challenge of a certificate profile: a challenge is good for one key.
type SCEPRequest struct {
	// Hash is the SHA-256 of the challenge, lower-case hex.
	Hash        string
	EnrolmentID string
	RequestID   string
	KeySHA256   string // of the SubjectPublicKeyInfo
	// SignerSHA256 is the same of the key that signed the message, where that is another: that of the certificate to renew.
	SignerSHA256 string
	// TransactionID is the client's name for it, by which it polls (RFC 8894 section 3.2.1.1).
	TransactionID string
	JobID         string
	CreatedAt     time.Time
	// Certificate and Chain are the answer, once there.
	Certificate []byte
	Chain       [][]byte
}

// Notice is something that somebody outside is told, once; Payload is JSON.
type Notice struct {
	Key     string
	Payload []byte
	At      time.Time
	TakenAt time.Time // zero: nobody has taken it
}

// AuditEntry is one line of the audit log: who did what to which thing. It never holds a secret.
type AuditEntry struct {
	ID      int64             `json:"id"`
	At      time.Time         `json:"at"`
	Actor   string            `json:"actor"`  // "admin", "device ID", "connector ID", "server"
	Action  string            `json:"action"` // "escrow.import", "device.enrol", "document.verified" …
	Object  string            `json:"object"`
	Outcome string            `json:"outcome"` // "ok", "refused"
	Detail  map[string]string `json:"detail,omitempty"`
}
