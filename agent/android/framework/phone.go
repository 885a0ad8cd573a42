// Package framework is the part of Android that a companion app calls: KeyChain with its grants, DevicePolicyManager, the
// package manager, the user's trusted CAs and managed configurations. It knows nothing of any server.
//
// Calls answer as Android does: some faults are a bare false, others a SecurityException or an IllegalArgumentException,
// and a call that the version lacks is a NoSuchMethodError (android.md sections 3 and 9). Source: developer.android.com,
// "DevicePolicyManager", "KeyChain", "UserManager".
//
// Keys belong to the key chain of a profile, not to the app that installed them: they outlive it, and the loss of its
// rights. A phone has a work and a personal profile; a managed app sees the work profile only.
package framework

import (
	"fmt"
	"slices"
)

// API levels at which calls came.
const (
	APIFlags     = 28 // installKeyPair with flags
	APIGenerate  = 28 // generateKeyPair, setKeyPairCertificate
	APISelection = 29 // DELEGATION_CERT_SELECTION
	APIGrants    = 30 // grantKeyPairToApp
	APIHasKey    = 31 // hasKeyPair, getKeyPairGrants
)

// Scopes that a device or profile owner can delegate to an app (DevicePolicyManager.setDelegatedScopes).
const (
	ScopeCertInstall   = "cert_install"
	ScopeCertSelection = "cert_selection"
)

// Mode is what manages the phone, as seen by the app that asks.
type Mode string

// The modes.
const (
	ModeDeviceOwner  Mode = "DEVICE_OWNER"  // the app owns the device
	ModeProfileOwner Mode = "PROFILE_OWNER" // the app owns the work profile
	ModeCompanion    Mode = "COMPANION"     // somebody else does, and delegates scopes to the app
	ModeNone         Mode = "NONE"
)

// Phone is an Android device. Its owner's side is World; the rest is what apps and management left on it. It is not safe
// for concurrent use.
type Phone struct {
	SDK     int    `json:"sdk"`
	Mode    Mode   `json:"mode"`
	Manager string `json:"manager"` // package of the app that may manage
	// DiskEncrypted: full-disk encryption, as before Android 10: the key store wants a screen lock first.
	DiskEncrypted bool  `json:"diskEncrypted,omitempty"`
	Work          Store `json:"work"`
	Personal      Store `json:"personal"`
	// Restrictions are the managed configurations of apps, by package.
	Restrictions map[string]map[string]any `json:"restrictions,omitempty"`

	World World `json:"-"`
	// Locked: the user has not unlocked the phone since it was started (UserManager.isUserUnlocked).
	Locked bool `json:"-"`
	// StorageFull makes the key store and the trust store refuse whatever is new.
	StorageFull bool `json:"-"`
	// Refusals is how many of the next installations are refused for no visible reason.
	Refusals int `json:"-"`
}

// Exception is what Android throws.
type Exception struct {
	Class   string // SecurityException
	Message string
}

func (e *Exception) Error() string { return e.Class + ": " + e.Message }

// Classes of exceptions.
const (
	Security        = "SecurityException"
	IllegalArgument = "IllegalArgumentException"
	IllegalState    = "IllegalStateException"
	NoSuchMethod    = "NoSuchMethodError"
)

func throw(class, format string, args ...any) error {
	return &Exception{Class: class, Message: fmt.Sprintf(format, args...)}
}

// May reports whether an app has the right of a scope at the moment: because it is the owner, or by delegation.
func (p *Phone) May(pkg, scope string) bool {
	if pkg != p.Manager || scope == ScopeCertSelection && p.SDK < APISelection {
		return false
	}
	switch p.Mode {
	case ModeDeviceOwner, ModeProfileOwner:
		return true
	case ModeCompanion:
		return !slices.Contains(p.World.Revoked, scope)
	}
	return false
}

func (p *Phone) needScope(pkg, scope string) error {
	if p.May(pkg, scope) {
		return nil
	}
	return throw(Security, "%s is neither an owner nor has it the delegated scope delegation-%s", pkg, scope)
}

func (p *Phone) needAPI(level int, call string) error {
	if p.SDK >= level {
		return nil
	}
	return throw(NoSuchMethod, "%s is there from API %d, and this is %d", call, level, p.SDK)
}

// needUnlocked: services of a user are reached after the first unlocking only.
func (p *Phone) needUnlocked() error {
	if p.Locked {
		return throw(IllegalState, "user 0 is locked")
	}
	return nil
}

// DeviceSecure is KeyguardManager.isDeviceSecure: there is a PIN, a pattern or a password.
func (p *Phone) DeviceSecure() bool { return !p.World.NoScreenLock }

// UserUnlocked is UserManager.isUserUnlocked.
func (p *Phone) UserUnlocked() bool { return !p.Locked }
