package api

import (
	"encoding/json"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/profiles"
)

// Page is a part of a list. Next is the after of the next page; empty: there is no more.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// ApplyRequest brings objects as an array of profiles.Object.
type ApplyRequest struct {
	Objects json.RawMessage `json:"objects" doc:"Array of objects in the admin's file format"`
	DryRun  bool            `json:"dryRun,omitempty" doc:"Only report what would change"`
}

// ApplyResponse says what changed and what is probably not meant.
type ApplyResponse struct {
	Changes  []Change       `json:"changes"`
	Warnings []ProblemError `json:"warnings,omitempty"`
}

// Change is what apply did, or would do, to one object.
type Change struct {
	Kind   profiles.Kind `json:"kind"`
	Name   string        `json:"name"`
	Action string        `json:"action" enum:"created,updated,unchanged"`
}

// User is a person.
type User struct {
	ID              string   `json:"id" doc:"Random, never reused; owner of the user's escrow records"`
	UPN             string   `json:"upn"`
	DisplayName     string   `json:"displayName"`
	Addresses       []string `json:"addresses"`
	FormerAddresses []string `json:"formerAddresses,omitempty"`
	Groups          []string `json:"groups,omitempty"`
	SAMAccountName  string   `json:"samAccountName,omitempty"`
	// The directory's names of the user, for variables.
	OnPremisesDistinguishedName  string    `json:"onPremisesDistinguishedName,omitempty"`
	OnPremisesSecurityIdentifier string    `json:"onPremisesSecurityIdentifier,omitempty"`
	Department                   string    `json:"department,omitempty"`
	CreatedAt                    time.Time `json:"createdAt"`
}

// Group is derived from the users that are in it.
type Group struct {
	Name  string   `json:"name"`
	Users []string `json:"users" doc:"UPNs"`
}

// Profile is a profile with the assignments that name it.
type Profile struct {
	Object      profiles.Object `json:"object"`
	Assignments []string        `json:"assignments"`
}

// Device is a phone, tablet or computer of one user.
type Device struct {
	ID           string            `json:"id"`
	User         string            `json:"user" doc:"UPN"`
	UserID       string            `json:"userId"`
	Platform     profiles.Platform `json:"platform"`
	ExternalID   string            `json:"externalId" doc:"UDID"`
	Name         string            `json:"name,omitempty"`
	Model        string            `json:"model,omitempty"`
	OSVersion    string            `json:"osVersion,omitempty"`
	SerialNumber string            `json:"serialNumber,omitempty"`
	State        string            `json:"state" enum:"enrolled,retiring,wiping,left"`
	Removal      string            `json:"removal,omitempty" doc:"How it is known that the keys left: verified, reported or unconfirmed"`
	CreatedAt    time.Time         `json:"createdAt"`
	StateAt      time.Time         `json:"stateAt"`
	LastSeen     time.Time         `json:"lastSeen"`
}

// Certificate is one certificate that the server knows.
type Certificate struct {
	SHA256    string           `json:"sha256"`
	Subject   string           `json:"subject"`
	Issuer    string           `json:"issuer"`
	Serial    string           `json:"serial"`
	Addresses []string         `json:"addresses,omitempty"`
	NotBefore time.Time        `json:"notBefore"`
	NotAfter  time.Time        `json:"notAfter"`
	Purpose   profiles.Purpose `json:"purpose,omitempty"`
	Kind      string           `json:"kind" enum:"imported,issued,deviceIdentity"`
	User      string           `json:"user" doc:"UPN"`
	DeviceID  string           `json:"deviceId,omitempty"`
	Profile   string           `json:"profile,omitempty"`
	CA        string           `json:"ca,omitempty"`
	RecordID  string           `json:"recordId,omitempty"`
	Status    string           `json:"status" enum:"current,superseded,removed,revoking,revoked"`
	History   bool             `json:"history,omitempty" doc:"Imported and kept, for old mail: for each address of the user another one of its purpose is the current one"`
	StatusAt  time.Time        `json:"statusAt"`
	DER       []byte           `json:"der"`
}

// EscrowRecord is what can be told of a sealed record without opening it.
type EscrowRecord struct {
	ID         string           `json:"id"`
	User       string           `json:"user" doc:"UPN"`
	UserID     string           `json:"userId"`
	Purpose    profiles.Purpose `json:"purpose"`
	CertSHA256 string           `json:"certSha256"`
	SealedTo   []string         `json:"sealedTo" doc:"Ids of key set members"`
}

// Connector is a registered connector.
type Connector struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Member    string       `json:"member" doc:"Id of its escrow key, which waxseal-connector approve takes"`
	Suite     escrow.Suite `json:"suite"`
	State     string       `json:"state" enum:"pending,trusted"`
	CreatedAt time.Time    `json:"createdAt"`
	LastSeen  time.Time    `json:"lastSeen"`
}

// CA is a certification authority that connectors offer.
type CA struct {
	Name       string    `json:"name" doc:"What profiles call it"`
	Kind       string    `json:"kind" doc:"softca, or the protocol by which the connector asks another CA"`
	Subject    string    `json:"subject" doc:"Of the issuing certificate"`
	NotAfter   time.Time `json:"notAfter" doc:"When the issuing certificate ends"`
	Templates  []string  `json:"templates,omitempty"`
	Connectors []string  `json:"connectors" doc:"Names of the connectors that can ask it"`
	URL        string    `json:"url,omitempty" doc:"Where devices ask a partner CA by SCEP"`
}

// PartnerRequest adds a CA of others that asks this server whether requests of devices are right.
type PartnerRequest struct {
	Name  string   `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]*$" doc:"What profiles call it"`
	URL   string   `json:"url" maxLength:"2048" doc:"Where devices ask it by SCEP"`
	Chain [][]byte `json:"chain" minItems:"1" maxItems:"8" doc:"DER: the issuing certificate, then those above it up to the root"`
}

// Partner is such a CA. Secret is known only when it is added.
type Partner struct {
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	AppID     string    `json:"appId" doc:"OAuth 2.0 client id"`
	Secret    string    `json:"secret,omitempty" doc:"OAuth 2.0 client secret, shown once"`
	Server    string    `json:"server" doc:"The base of the addresses in the partner's settings"`
	Subject   string    `json:"subject" doc:"Of the issuing certificate"`
	NotAfter  time.Time `json:"notAfter" doc:"When the issuing certificate ends"`
	CreatedAt time.Time `json:"createdAt"`
}

// Expiring is one thing that ends soon, or has ended.
type Expiring struct {
	Kind     string    `json:"kind" enum:"imported,issued,deviceIdentity,ca,server"`
	Name     string    `json:"name,omitempty" doc:"Of a CA, or of a setting of the server"`
	SHA256   string    `json:"sha256"`
	Subject  string    `json:"subject"`
	User     string    `json:"user,omitempty" doc:"UPN"`
	DeviceID string    `json:"deviceId,omitempty"`
	Profile  string    `json:"profile,omitempty"`
	NotAfter time.Time `json:"notAfter"`
	Remedy   string    `json:"remedy" doc:"What somebody can do about it"`
}

// CATest is what a connector found out about a CA's settings.
type CATest struct {
	CA       string      `json:"ca"`
	OK       bool        `json:"ok"`
	Findings []CAFinding `json:"findings"`
}

// CAFinding is one thing that was looked at.
type CAFinding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail" doc:"What was found; if it is wrong, what would be right"`
}

// Job is work for a connector.
type Job struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind" enum:"identity,issue,certify,render,revoke,rewrap,testca"`
	Key         string    `json:"key"`
	State       string    `json:"state" enum:"open,leased,done,failed,obsolete"`
	Attempt     int       `json:"attempt"`
	User        string    `json:"user,omitempty" doc:"UPN"`
	EnrolmentID string    `json:"enrolmentId,omitempty"`
	DocumentID  string    `json:"documentId,omitempty"`
	LeasedBy    string    `json:"leasedBy,omitempty"`
	LeaseUntil  time.Time `json:"leaseUntil"`
	RunAt       time.Time `json:"runAt"`
	Reason      string    `json:"reason,omitempty"`
	Error       string    `json:"error,omitempty"`
	CreatedAt   time.Time `json:"createdAt"`
	UpdatedAt   time.Time `json:"updatedAt"`
}

// LinkRequest asks for an enrolment link.
type LinkRequest struct {
	User     string            `json:"user" doc:"UPN"`
	Platform profiles.Platform `json:"platform,omitempty" doc:"ios (default), macos, windows or android"`
	// Expires is a duration such as "72h", which is the default.
	Expires string `json:"expires,omitempty" doc:"Duration such as 72h, the default; at most 90 days"`
}

// Link is an enrolment link; it is shown once.
type Link struct {
	URL string `json:"url"`
	// Secret is the one-time enrolment secret that the user types on a PC; empty on other platforms, where it is in the URL.
	Secret string `json:"secret,omitempty"`
	// Token and QRCode bring an Android device under Google's management, which installs the companion app; empty where the
	// server does not use it. QRCode is the content of the code that is scanned at a device's first start.
	Token   string    `json:"token,omitempty"`
	QRCode  string    `json:"qrCode,omitempty"`
	Expires time.Time `json:"expires"`
	// Warnings tell of what will keep a real device from working, such as NoPushCertificate.
	Warnings []Warning `json:"warnings,omitempty"`
}

// Token is a one-time registration token of a connector; it is shown once.
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// ImportRequest brings one certificate whose private key was sealed before.
type ImportRequest struct {
	Record      escrow.Record    `json:"record"`
	Certificate []byte           `json:"certificate" doc:"DER"`
	Chain       [][]byte         `json:"chain,omitempty" doc:"Issuers, DER"`
	User        string           `json:"user" doc:"UPN"`
	Purpose     profiles.Purpose `json:"purpose" doc:"smimeSigning, smimeEncryption or unassigned"`
}

// ImportResponse: Created is false when the user already had a record of that certificate; nothing changed then.
type ImportResponse struct {
	Created bool `json:"created"`
}

// AuditEntry is one line of the audit log.
type AuditEntry struct {
	ID      int64             `json:"id"`
	At      time.Time         `json:"at"`
	Actor   string            `json:"actor"`
	Action  string            `json:"action"`
	Object  string            `json:"object"`
	Outcome string            `json:"outcome"`
	Detail  map[string]string `json:"detail,omitempty"`
}
