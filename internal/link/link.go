// Package link is the wire between server and connector: JSON over HTTPS, the connector dials out.
//
//	POST /connector/v1/register          RegisterRequest → RegisterResponse   (authorised by a one-time token)
//	POST /connector/v1/publish           PublishRequest → PublishResponse     (all below: Authorization: Bearer ID.CREDENTIAL)
//	POST /connector/v1/claim             ClaimRequest → ClaimResponse         (long poll)
//	POST /connector/v1/jobs/{id}/result  Result → 204; 409 when the job was already answered by another (not an error)
//	GET  /connector/v1/keyset            → escrow.SignedKeySet; 404 before the first
//	GET  /connector/v1/pending           → PendingResponse: connectors that wait for approve
//
// Errors are problem+json (internal/api.Problem).
package link

import (
	"encoding/json"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// RegisterRequest carries the public halves of the keys that `waxseal-connector init` made. Repeating it with the same
// keys and a spent token of the same connector answers as before.
type RegisterRequest struct {
	Token      string        `json:"token"`
	Name       string        `json:"name"`
	Member     escrow.Member `json:"member"`
	EscrowRoot []byte        `json:"escrowRoot,omitempty"` // Ed25519 public key; only the first connector has one
}

// RegisterResponse is kept in the keyring.
type RegisterResponse struct {
	ConnectorID string `json:"connectorId"`
	Credential  string `json:"credential"` // 256 bits, base64url; the server keeps its SHA-256
	Pending     bool   `json:"pending"`    // true for a further connector until it is approved
}

// CA is a certification authority that the connector can issue from.
type CA struct {
	Name        string   `json:"name"` // "softca"
	Kind        string   `json:"kind"` // "softca"
	Certificate []byte   `json:"certificate"`
	Chain       [][]byte `json:"chain,omitempty"` // up to the root
	Templates   []string `json:"templates"`
	// Members are the connectors that offer the CA, by the ids of their escrow keys. The server fills it in.
	Members []string `json:"members,omitempty"`
	// URL is where devices ask a partner CA by SCEP; the server fills it in. Empty: they ask the server.
	URL string `json:"url,omitempty"`
}

// Offering are the connectors that offer a CA; nil: nobody is known to.
func Offering(cas []CA, name string) []string {
	for _, ca := range cas {
		if ca.Name == name {
			return ca.Members
		}
	}
	return nil
}

// PublishRequest tells the server what the connector has; it is sent by init, by approve and at each start of run.
type PublishRequest struct {
	DeviceCA      []byte               `json:"deviceCA"` // DER; must not change once set
	CAs           []CA                 `json:"cas"`
	KeySet        *escrow.SignedKeySet `json:"keySet,omitempty"`
	RACertificate []byte               `json:"raCertificate,omitempty"` // answer to RACSR
	// SealedCAs maps a pending connector's id to the CA keys sealed to it (approve).
	SealedCAs map[string][]byte `json:"sealedCAs,omitempty"`
}

// PublishResponse asks for what the server lacks.
type PublishResponse struct {
	// RACSR is the server's request (DER PKCS#10) for a SCEP RA certificate of the device CA; empty when it has a valid one.
	RACSR []byte `json:"racsr,omitempty"`
	// SealedCAs are the CA keys that another connector sealed to this one.
	SealedCAs []byte `json:"sealedCAs,omitempty"`
	// PKIURL is the plain http base URL of CRLs, for the CRL distribution point.
	PKIURL string `json:"pkiUrl,omitempty"`
}

// Pending is a registered connector that no trusted one has approved yet.
type Pending struct {
	ConnectorID string        `json:"connectorId"`
	Name        string        `json:"name"`
	Member      escrow.Member `json:"member"`
}

// PendingResponse lists them.
type PendingResponse struct {
	Pending []Pending `json:"pending"`
}

// JobKind says what a job asks for.
type JobKind string

// The kinds of jobs; the payload and answer types stand beside each.
const (
	JobIdentity JobKind = "identity" // IdentityJob → IdentityAnswer
	JobIssue    JobKind = "issue"    // IssueJob → IssueAnswer
	JobRender   JobKind = "render"   // RenderJob → RenderAnswer
	JobRevoke   JobKind = "revoke"   // RevokeJob → RevokeAnswer
	JobRewrap   JobKind = "rewrap"   // RewrapJob → RewrapAnswer
	JobTestCA   JobKind = "testca"   // TestCAJob → TestCAAnswer
	JobCertify  JobKind = "certify"  // CertifyJob → CertifyAnswer
)

// ClaimRequest asks for up to Max jobs and waits up to WaitSeconds (at most 25) for the first.
type ClaimRequest struct {
	Max         int `json:"max"`
	WaitSeconds int `json:"waitSeconds"`
}

// ClaimResponse holds leased jobs; empty after the wait.
type ClaimResponse struct {
	Jobs []Job `json:"jobs"`
}

// Job is leased to one connector until LeaseUntil; then another may get it. Key is the idempotency key: the same key
// means the same intent, whatever the job's id.
type Job struct {
	ID         string          `json:"id"`
	Key        string          `json:"key"`
	Kind       JobKind         `json:"kind"`
	Attempt    int             `json:"attempt"`
	LeaseUntil time.Time       `json:"leaseUntil"`
	Payload    json.RawMessage `json:"payload"`
}

// Result answers a job: Answer, or Error.
type Result struct {
	Attempt int             `json:"attempt"`
	Answer  json.RawMessage `json:"answer,omitempty"`
	Error   *JobError       `json:"error,omitempty"`
}

// JobError says why a job was not done. It never holds a secret.
type JobError struct {
	Message string `json:"message"`
	// Final: trying again cannot help (refused by rule or by the CA).
	Final bool `json:"final"`
	// Reason is the waiting reason that explain shows.
	Reason platforms.Reason `json:"reason,omitempty"`
}

// EnrolmentURN and UserURN are the SAN URIs of device certificates and the owners of sealed records.
func EnrolmentURN(id string) string { return "urn:waxseal:enrolment:" + id }

// UserURN is the owner of an imported certificate.
func UserURN(id string) string { return "urn:waxseal:user:" + id }

// IdentityJob asks the device CA for a device certificate. Names come from here (the challenge's binding); of the CSR only
// the key is used, after its self-signature was checked.
type IdentityJob struct {
	CSR         []byte `json:"csr"`
	EnrolmentID string `json:"enrolmentId"`
	UserID      string `json:"userId"`
	Platform    string `json:"platform"`
	// Ticket is reserved for the enrolment ticket (import-and-escrow).
	Ticket []byte `json:"ticket,omitempty"`
}

// IdentityAnswer holds the certificate and its chain.
type IdentityAnswer struct {
	Certificate []byte   `json:"certificate"`
	Chain       [][]byte `json:"chain"`
}

// IssueJob asks a CA for a certificate with a key that the connector makes. IntentID is also the record's id.
type IssueJob struct {
	IntentID    string `json:"intentId"`
	EnrolmentID string `json:"enrolmentId"`
	// HolderID is the enrolment that the device certificate names, where it is another one: a Mac's user channel speaks with
	// the certificate of its device channel. Empty: EnrolmentID.
	HolderID string                            `json:"holderId,omitempty"`
	DeviceID string                            `json:"deviceId"`
	UserID   string                            `json:"userId"`
	Profile  string                            `json:"profile"`
	Request  profiles.CertificateRequest       `json:"request"`
	Subject  []byte                            `json:"subject"` // DER RDNSequence, variables already expanded
	SANs     []profiles.SubjectAlternativeName `json:"sans"`    // expanded
}

// Holder is the enrolment that the device certificate names: the owner of the key.
func (j IssueJob) Holder() string {
	if j.HolderID != "" {
		return j.HolderID
	}
	return j.EnrolmentID
}

// IssueAnswer is the same for the same IntentID until the server has accepted it. An intent that is asked for again after
// that (a server put back from a backup) gets a new certificate, and the old one is revoked: the connector keeps no key
// that the server has.
type IssueAnswer struct {
	Certificate []byte        `json:"certificate"`
	Chain       [][]byte      `json:"chain"`
	Record      escrow.Record `json:"record"` // owner EnrolmentURN, sealed to connectors only
}

// CertifyJob asks a CA for a certificate for a key that the device has. Names come from here, never from the CSR.
type CertifyJob struct {
	// IntentID is of one challenge, RequestID of what the profile wants: each challenge gives a certificate of its own.
	IntentID    string                            `json:"intentId"`
	RequestID   string                            `json:"requestId"`
	EnrolmentID string                            `json:"enrolmentId"`
	DeviceID    string                            `json:"deviceId"`
	UserID      string                            `json:"userId"`
	Profile     string                            `json:"profile"`
	Request     profiles.CertificateRequest       `json:"request"`
	Subject     []byte                            `json:"subject"` // DER RDNSequence, variables already expanded
	SANs        []profiles.SubjectAlternativeName `json:"sans"`    // expanded
	CSR         []byte                            `json:"csr"`
	// Needs are the connectors that offer the CA, Platform is the device's; the server's own notes.
	Needs    []string          `json:"-"`
	Platform profiles.Platform `json:"-"`
}

// CertifyAnswer is the same for the same IntentID.
type CertifyAnswer struct {
	Certificate []byte   `json:"certificate"`
	Chain       [][]byte `json:"chain"`
}

// RenderJob asks for one document encrypted to one device.
type RenderJob struct {
	Document  platforms.Document `json:"document"`
	Platform  profiles.Platform  `json:"platform"`
	OSVersion string             `json:"osVersion"`
	Recipient []byte             `json:"recipient"` // device certificate, DER
	// Records hold the private keys of Document.Credentials, by record id. The connector releases one only when the
	// recipient is a certificate of its device CA that names the record's owner.
	Records []escrow.Record `json:"records"`
	// Challenges are the SCEP challenges of Document.Challenges, by profile. They are the server's own secrets.
	Challenges map[string]string `json:"challenges,omitempty"`
}

// RenderAnswer is the document for the device; the server signs the outer profile.
type RenderAnswer struct {
	Payload []byte `json:"payload"`
}

// RevokeJob asks the CA that issued a certificate to revoke it.
type RevokeJob struct {
	CA          string    `json:"ca"`
	Certificate []byte    `json:"certificate"`
	ReasonCode  int       `json:"reasonCode"` // RFC 5280 CRLReason
	At          time.Time `json:"at"`
}

// RevokeAnswer confirms it.
type RevokeAnswer struct {
	RevokedAt time.Time `json:"revokedAt"`
}

// RewrapJob asks for a record sealed to the members of the current key set.
type RewrapJob struct {
	Record escrow.Record `json:"record"`
}

// RewrapAnswer holds the record with new wraps; ciphertext and id are unchanged.
type RewrapAnswer struct {
	Record escrow.Record `json:"record"`
}

// TestCAJob asks whether the settings of a CA are right; no certificate comes of it.
type TestCAJob struct {
	CA string `json:"ca"`
}

// TestCAAnswer has a finding for each thing that must be right.
type TestCAAnswer struct {
	Findings []CAFinding `json:"findings"`
}

// CAFinding is one thing that was looked at. Detail says what was found, and if it is wrong, what would be right; it never
// holds a secret.
type CAFinding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}
