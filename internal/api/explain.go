package api

import (
	"time"

	"github.com/waxseal/waxseal/platforms"
)

// Explain says of one device what should be there, what is there, and why not.
type Explain struct {
	Device     Device      `json:"device"`
	User       User        `json:"user"`
	Enrolments []Enrolment `json:"enrolments"`
	// Removal is how it is known that the keys left: verified, reported or unconfirmed; empty while the device is here.
	Removal   string     `json:"removal,omitempty"`
	Documents []Document `json:"documents"`
	Warnings  []Warning  `json:"warnings,omitempty"`
}

// Enrolment is one management channel of the device.
type Enrolment struct {
	ID                  string    `json:"id"`
	Channel             string    `json:"channel"`
	State               string    `json:"state" enum:"issued,authenticated,active,ended"`
	CertificateSHA256   string    `json:"certificateSha256"`
	CertificateNotAfter time.Time `json:"certificateNotAfter"`
	HasPushToken        bool      `json:"hasPushToken"`
	MustReenroll        bool      `json:"mustReenroll,omitempty"`
	LastSeen            time.Time `json:"lastSeen"`
}

// Document is one thing that is delivered to the device.
type Document struct {
	ID string `json:"id"`
	// Channel is the enrolment's by which it comes: of a Mac that may be the user's, of others it is the device's.
	Channel  string   `json:"channel,omitempty"`
	Profiles []string `json:"profiles" doc:"The admin's profiles that it serves"`
	// Status is where it is on its way: waiting, ready, sent, installed, verified, failed, removing or removed. When the device
	// has left, it is removed, and Reason says how that is known: RemovalVerified, RemovalReported or RemovalUnconfirmed.
	Status string           `json:"status"`
	Reason platforms.Reason `json:"reason,omitempty"`
	Detail string           `json:"detail,omitempty"`
	// InstalledRevision is what the device has; WantedRevision is what it should have.
	InstalledRevision string    `json:"installedRevision,omitempty"`
	WantedRevision    string    `json:"wantedRevision,omitempty"`
	InstalledAt       time.Time `json:"installedAt"`
	DependsOn         []string  `json:"dependsOn,omitempty"`
	// Notes say what the profile asks for and the platform cannot do.
	Notes       []string     `json:"notes,omitempty"`
	Attempts    int          `json:"attempts,omitempty"`
	RetryAt     time.Time    `json:"retryAt"`
	Credentials []Credential `json:"credentials,omitempty"`
}

// Credential is a certificate whose private key the document carries.
type Credential struct {
	SHA256    string    `json:"sha256"`
	Subject   string    `json:"subject"`
	Addresses []string  `json:"addresses,omitempty"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	// Current: it is the one that the account uses for its address, or the device's own signing certificate.
	Current bool `json:"current"`
	// Installed: the device acknowledged a revision that carries it, and has not left.
	Installed bool `json:"installed"`
}

// Warning is something that keeps the device from being right though no document says so.
type Warning struct {
	Reason platforms.Reason `json:"reason"`
	Detail string           `json:"detail"`
}
