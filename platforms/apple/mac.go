package apple

import (
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// channelUser is the value of platforms.Input.Channel for the second channel of a Mac.
const channelUser = "user"

// userPrefix follows the namespace in identifiers of a Mac's user channel: the two channels never replace each other's
// profiles.
const userPrefix = ".user"

// The values of PayloadScope.
const (
	scopeUser   = "User"
	scopeSystem = "System"
)

func (p *planner) mac() bool { return p.in.Device.Platform == profiles.MacOS }

// user: the plan is for the user channel of a Mac.
func (p *planner) user() bool { return p.mac() && p.in.Channel == channelUser }

// scope is the PayloadScope of all documents; a channel of a Mac refuses the other's profiles, and an iPhone has none
// (apple.md section 1.2).
func (p *planner) scope() string {
	switch {
	case p.user():
		return scopeUser
	case p.mac():
		return scopeSystem
	}
	return ""
}

// planSystem is what all users of a Mac get, by the device channel: mail and identities belong to one user, and reach
// the login keychain by the user channel only (apple.md section 5.1).
func (p *planner) planSystem() []platforms.Document {
	trust := p.planTrust()
	return append(trust, afterTrust(trust, p.planCustoms())...)
}

// ownScope tells whether an uploaded profile comes by this channel. Its PayloadScope says so; without one it is for all
// users. What cannot be read stays with the device channel, so that the complaint about it is heard once.
func (p *planner) ownScope(spec *profiles.Custom) bool {
	if !p.mac() {
		return true
	}
	profile, err := ParseProfile(spec.Content)
	return (err == nil && profile.Scope == scopeUser) == p.user()
}

// checkChannel finds the payloads for which a Mac would refuse the whole profile (apple.md section 5.1).
func (p *planner) checkChannel(profile *Profile) error {
	if !p.mac() {
		return nil
	}
	for _, pl := range profile.Payloads {
		switch strings.ToLower(pl.Type) {
		case typeEAS:
			return fmt.Errorf("payload %s: a Mac has no accounts of type %s; %s is the one for Macs", pl.Identifier, typeEAS, typeEWS)
		case typeMail, typeEWS, typeIdentityPref, typeCertPref:
			if !p.user() {
				return fmt.Errorf("payload %s (%s) belongs to a user of the Mac: set the profile's PayloadScope to %s",
					pl.Identifier, pl.Type, scopeUser)
			}
		}
	}
	return nil
}

// prefer writes the two preferences by which Mail on a Mac finds certificates of an address; its account payloads know no
// S/MIME keys (apple.md sections 5.1 and 5.9). Both name payloads of the same profile. An account without a
// signing identity has its encryption identity for its own.
// Source: https://developer.apple.com/documentation/devicemanagement/identitypreference and …/certificatepreference.
func (p *planner) prefer(a *account, signing, encryption identity) {
	own := signing.uuid
	if own == "" {
		own = encryption.uuid
	}
	for _, pref := range []struct{ kind, suffix, uuid, title string }{
		{typeIdentityPref, ".identitypreference", own, "Own certificate for "},
		{typeCertPref, ".certificatepreference", encryption.uuid, "Certificate for mail to "},
	} {
		if pref.uuid == "" {
			continue
		}
		a.body.Payloads = append(a.body.Payloads, planned{Type: pref.kind, Identifier: a.doc.Identifier + pref.suffix,
			UUID: p.payloadUUID(a.doc.ID, pref.suffix, ""), DisplayName: pref.title + a.address,
			Settings: map[string]any{"Name": a.address, "PayloadCertificateUUID": pref.uuid}})
	}
}

// wish is a field of an Email profile that may ask for what a Mac does not do.
type wish struct {
	asked       bool
	field, fact string
}

// NotOnMac lists what an Email profile asks for and no management can do on a Mac, and what is left to the user, a
// sentence each.
func NotOnMac(spec *profiles.Email) []string {
	const none = "Mail on a Mac has no such setting"
	wishes := append(smimeWishes(spec.SMIME),
		wish{spec.BlockMovingMessages, "blockMovingMessages", none},
		wish{spec.BlockThirdPartyApps, "blockThirdPartyApps", none})
	if x := spec.Exchange; x != nil {
		const none = "the Exchange account of a Mac has no such setting"
		wishes = append(wishes,
			wish{spec.BlockRecentAddressesSync, "blockRecentAddressesSync", none},
			wish{x.DaysToSync != nil, "exchange.daysToSync", none},
			wish{x.Services != nil, "exchange.services", none},
			wish{x.OAuthTokenRequestURL != "", "exchange.oauthTokenRequestURL", none})
	}
	var out []string
	for _, w := range wishes {
		if w.asked {
			out = append(out, w.field+": "+w.fact)
		}
	}
	return out
}

func smimeWishes(s *profiles.SMIME) []wish {
	if s == nil {
		return nil
	}
	const (
		buttons  = "no payload switches it on: the user does with the button in a new message, which Mail remembers"
		off      = "the user may always switch it off for a message"
		keychain = "the user may always choose another certificate in Keychain Access"
	)
	sign, encrypt := s.Signing, s.Encryption
	return []wish{
		{sign.Enabled, "smime.signing.enabled", buttons},
		{sign.Enabled && !sign.UserMayChange, "smime.signing.userMayChange", off},
		{sign.Enabled && !sign.UserMayChangeCertificate, "smime.signing.userMayChangeCertificate", keychain},
		{encrypt.ByDefault, "smime.encryption.byDefault", buttons + ", and which works if there is a certificate of every recipient"},
		{encrypt.ByDefault && !encrypt.UserMayChange, "smime.encryption.userMayChange", off},
		{!encrypt.UserMayChangeCertificate, "smime.encryption.userMayChangeCertificate", keychain},
		{!encrypt.PerMessageSwitch, "smime.encryption.perMessageSwitch", "Mail always shows the button"},
		{sign.Certificate+encrypt.Certificate != "", "smime", "at the first use of a key the Mac may ask whether Mail may have it, and the user answers Always Allow"},
	}
}
