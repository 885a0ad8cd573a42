package companion

import (
	"net/url"
	"strings"
)

// Supported tells whether the server understands an app of that protocol; one that is older gets CodeProtocolTooOld.
func Supported(protocol int) bool { return protocol >= Protocol }

// PathPayloadOf is the path of an item's envelope.
func PathPayloadOf(item string) string { return path(PathPayload, item) }

// PathCSROf is the path where the certificate of an item's key is asked for.
func PathCSROf(item string) string { return path(PathCSR, item) }

// PathStatusOf is the path of an item's status.
func PathStatusOf(item string) string { return path(PathStatus, item) }

func path(pattern, item string) string {
	return strings.Replace(pattern, "{item}", url.PathEscape(item), 1)
}

// MIME types of the bodies.
const (
	TypeMessage = "application/json"
	TypeProblem = "application/problem+json"
)

// SecretFormat is the only format of a Secret: PKCS #8 and X.509, since no PKCS#12 is read by all versions of Android
// (android.md P12-1).
const SecretFormat = "pkcs8+chain"

// EnvelopeCMS is the only algorithm family of an envelope.
const EnvelopeCMS = "CMS"

// WrapKeyRSA is the only type of a wrap key.
const WrapKeyRSA = "RSA"

// How an identity's key comes.
const (
	PayloadFetch    = "fetch"    // it is fetched (POST PathPayload)
	PayloadGenerate = "generate" // the device makes it, and asks for its certificate (POST PathCSR)
)

// KeyAlgRSA is the only algorithm of a key that the device makes.
const KeyAlgRSA = "RSA"

// Types of subject alternative names.
const (
	NameEmail = "email"
	NameDNS   = "dns"
	NameURI   = "uri"
	NameUPN   = "upn"
)

// Purposes of identities.
const (
	PurposeSign    = "smime_sign"
	PurposeEncrypt = "smime_encrypt"
	PurposeBoth    = "both"
)

// RevisionRemoval is the revision of each item whose op is remove: what is removed has no content.
const RevisionRemoval = "removal"

// Types of events.
const (
	EventKeychainChanged     = "keychain_changed"
	EventTrustStoreChanged   = "trust_store_changed"
	EventPackageAdded        = "package_added"
	EventPackageRemoved      = "package_removed"
	EventRestrictionsChanged = "restrictions_changed"
)

// Reasons of Unenroll.
const (
	UnenrollUser   = "user"
	UnenrollPolicy = "policy"
	UnenrollWipe   = "wipe"
)

// states are all that there are.
func states() []ItemState {
	return []ItemState{StateOffered, StateFetching, StateFetched, StateInstalling, StateInstalled, StateGranted,
		StateVerified, StateRemoving, StateRemoved, StateWaitingDependency, StateWaitingUser, StateWaitingApp,
		StateRetryWait, StateFailed, StateSuperseded}
}

// Terminal tells whether the item stays as it is until its next revision.
func (s ItemState) Terminal() bool { return s.Well() || s == StateFailed || s == StateSuperseded }

// Well tells whether the item's op is done.
func (s ItemState) Well() bool {
	switch s {
	case StateInstalled, StateGranted, StateVerified, StateRemoved:
		return true
	}
	return false
}

// Waiting tells whether the app waits for something that it cannot bring about.
func (s ItemState) Waiting() bool {
	return s == StateWaitingDependency || s == StateWaitingUser || s == StateWaitingApp
}
