package apple

import (
	"slices"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// This file holds what decides on a Mac which certificates Mail takes. Its accounts have no S/MIME keys; preferences in
// the user's keychain say which certificate is for which address (apple.md sections 5.8 and 5.9).

// Preference is a certificate that a Mac prefers for an address.
type Preference struct {
	Kind    string `json:"kind"` // PayloadType
	Name    string `json:"name"` // the address
	Profile string `json:"profile"`
	SHA256  string `json:"sha256"`
}

// Preferences lists what identitypreference and certificatepreference payloads set.
func (d *Device) Preferences() []Preference {
	out := []Preference{}
	for _, u := range d.users {
		for _, entry := range u.state.Installed {
			out = append(out, u.preferencesOf(entry)...)
		}
	}
	return out
}

func (d *Device) preferencesOf(entry installed) []Preference {
	var out []Preference
	for _, p := range payloadsOf(entry.top) {
		if !isPreference(p.kind()) {
			continue
		}
		pref := Preference{Kind: p.kind(), Name: proplist.String(p.dict, "Name"), Profile: entry.Identifier}
		if item, there := d.keys.Payload(entry.Identifier, proplist.String(p.dict, "PayloadCertificateUUID")); there {
			pref.SHA256 = item.ID() // empty: the user has deleted it
		}
		out = append(out, pref)
	}
	return out
}

func isPreference(kind string) bool {
	return kind == kindIdentityPreference || kind == kindCertificatePreference
}

// preference installs one of the two payloads: what it names must be in the same profile (apple.md section 5.9).
func (in *installation) preference(p payload) error {
	name, err := required[string](p, "Name")
	if err != nil {
		return err
	}
	uuid, err := required[string](p, "PayloadCertificateUUID")
	if err != nil {
		return err
	}
	item, there := in.keys.Payload(in.profile.id(), uuid)
	if !there || in.profile.find(uuid) == nil || (p.kind() == kindIdentityPreference && item.Key == nil) {
		return fail(domainPayload, 2004, "payload %s: PayloadCertificateUUID %q names no certificate of this profile for %s", p.id(), uuid, name)
	}
	return nil
}

// User is a Mac as the mail program of who is logged on sees it.
type User struct{ *Device }

// User is what a mail program works on.
func (d *Device) User() User { return User{d} }

// channel is the user channel of who is logged on, nil if there is none.
func (u User) channel() *Device { return u.userOf(u.folder.Logon()) }

// Keychain is what Mail searches: the login keychain of who is logged on and the System keychain, and nobody else's
// (apple.md section 7.3).
func (u User) Keychain() *keychain.Keychain {
	if own := u.channel(); own != nil {
		return together(own, u.Device)
	}
	return u.keys
}

// Accounts are those of who is logged on, and those of profiles that were installed by hand.
func (u User) Accounts() []Account {
	out := slices.Clone(u.state.Accounts)
	if own := u.channel(); own != nil {
		out = append(out, own.state.Accounts...)
	}
	return out
}

// PreferredIdentity is the own identity that a preference names for an address, spelled as it is there.
func (u User) PreferredIdentity(address string) (keychain.Item, bool) {
	item, there := u.preferred(kindIdentityPreference, address)
	return item, there && item.Key != nil
}

// PreferredCertificate is the certificate that a preference names for mail to an address.
func (u User) PreferredCertificate(address string) (keychain.Item, bool) {
	return u.preferred(kindCertificatePreference, address)
}

// preferred takes the latest of several preferences.
func (u User) preferred(kind, address string) (keychain.Item, bool) {
	own := u.channel()
	if own == nil {
		return keychain.Item{}, false
	}
	for _, entry := range slices.Backward(own.state.Installed) {
		for _, pref := range own.preferencesOf(entry) {
			if pref.Kind == kind && pref.Name == address && pref.SHA256 != "" {
				return own.keys.ByFingerprint(pref.SHA256)
			}
		}
	}
	return keychain.Item{}, false
}

// together are the items of several keychains.
func together(first *Device, others ...*Device) *keychain.Keychain {
	all := first.keys.Clone()
	for _, other := range others {
		_ = all.Merge(other.keys) // one certificate has one key, whatever keychain it is in
	}
	return all
}

// Names of a Mac's keychains.
const (
	KeychainSystem = "System"
	KeychainLogin  = "login"
)

// KeychainsOf names the keychains of a Mac that hold a certificate, by its SHA-256. Other devices have one keychain,
// which has no name.
func (d *Device) KeychainsOf(sha256 string) []string {
	var out []string
	inLogin := func(u *Device) bool { _, there := u.keys.ByFingerprint(sha256); return there }
	if slices.ContainsFunc(d.users, inLogin) {
		out = append(out, KeychainLogin)
	}
	if _, there := d.keys.ByFingerprint(sha256); there && d.state.Platform == device.PlatformMac {
		out = append(out, KeychainSystem)
	}
	return out
}
