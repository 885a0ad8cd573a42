package apple

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// The user channel of a Mac is a device of its own inside the device: it has its profiles, its results that wait, its
// push values, and the login keychain where the device has the System keychain. It speaks by the device's identity, names
// its user in every message, and its state is in the folder user of the state folder (apple.md sections 2 and 3).

// userFolder is the folder of the user channel.
const userFolder = "user"

// capabilityUsers in ServerCapabilities announces that the server speaks on user channels.
const capabilityUsers = "com.apple.mdm.per-user-connections"

// macUser is who a user channel speaks for.
type macUser struct {
	ID        string `json:"id"`
	ShortName string `json:"shortName"`
	LongName  string `json:"longName"`
}

func (d *Device) isMac() bool { return d.state.Platform == "macos" }

// loadUser reads the user channel, if there is one.
func (d *Device) loadUser() error {
	d.user = nil
	if !d.isMac() || d.owner != nil {
		return nil
	}
	u := d.newUser()
	if _, err := os.Stat(u.folder.Path("device.json")); err != nil {
		return nil //nolint:nilerr // there is none
	}
	if err := u.load(); err != nil {
		return fmt.Errorf("reading the user channel: %w", err)
	}
	d.user = u
	return nil
}

func (d *Device) newUser() *Device {
	return &Device{cfg: d.cfg, folder: &device.Folder{Dir: d.folder.Path(userFolder)}, owner: d, roots: d.roots, notNow: map[string]bool{}}
}

// hasUsers tells whether the server wants user channels, and nothing in the enrolment profile forbids them: PayloadScope
// System there suppresses them (apple.md section 4).
func (d *Device) hasUsers() bool {
	if !d.isMac() || d.state.MDM == nil || !d.state.MDM.Active {
		return false
	}
	entry := d.state.profile(d.state.MDM.Profile)
	return entry != nil && d.state.MDM.Users && proplist.String(entry.top, "PayloadScope") != "System"
}

// openUser lets the user who logged on speak to the server for the first time.
func (d *Device) openUser(ctx context.Context) error {
	id, err := d.uuid()
	if err != nil {
		return err
	}
	token, err := d.random(32)
	if err != nil {
		return err
	}
	magic, err := d.uuid()
	if err != nil {
		return err
	}
	mdm := *d.state.MDM
	u := d.newUser()
	if err := os.MkdirAll(u.folder.Dir, 0o700); err != nil {
		return fmt.Errorf("making the user channel: %w", err)
	}
	u.state = state{Info: d.state.Info, APNs: d.state.APNs, MDM: &mdm, PushToken: hex.EncodeToString(token), PushMagic: magic,
		User: &macUser{ID: id, ShortName: "owner", LongName: "Owner of " + d.state.DeviceName}}
	if u.keys, err = keychain.Open(u.folder.Path("keychain")); err != nil {
		return err
	}
	s, err := u.session()
	if err != nil {
		return err
	}
	if err := s.tokenUpdate(ctx, u.state); err != nil {
		return err
	}
	d.user = u
	return u.save()
}

// named adds to a message who it is from.
func (d *Device) named(message dict) dict {
	message["UDID"] = d.state.UDID
	if u := d.state.User; u != nil {
		message["UserID"], message["UserShortName"], message["UserLongName"] = u.ID, u.ShortName, u.LongName
	}
	return message
}

// root is the device itself, of a user channel too.
func (d *Device) root() *Device {
	if d.owner != nil {
		return d.owner
	}
	return d
}

// locked tells whether what a command touches is locked: the login keychain of a Mac, everything on an iPhone.
func (d *Device) locked() bool {
	if d.isMac() && d.owner == nil {
		return false
	}
	return d.root().folder.Locked()
}

// pollUser is the connection of the user channel; nobody logged on means none.
func (d *Device) pollUser(ctx context.Context, r *Report) error {
	if !d.hasUsers() || d.folder.Logon() != device.LogonUser {
		return nil
	}
	if d.user == nil {
		if err := d.openUser(ctx); err != nil {
			return fmt.Errorf("opening the user channel: %w", err)
		}
	}
	mine, err := d.user.pollChannel(ctx)
	r.Commands += mine.Commands
	r.Pending += mine.Pending
	r.Failures = append(r.Failures, mine.Failures...)
	r.NotNow = append(r.NotNow, mine.NotNow...)
	return err
}

// forgetUser takes the user channel away, with all that came by it.
func (d *Device) forgetUser() error {
	if d.owner != nil || !d.isMac() {
		return nil
	}
	d.user = nil
	if err := os.RemoveAll(d.folder.Path(userFolder)); err != nil {
		return fmt.Errorf("removing the user channel: %w", err)
	}
	return nil
}

// Preferences are the certificates that a Mac prefers for addresses, by kind of preference.
type Preference struct {
	Kind    string `json:"kind"` // PayloadType
	Name    string `json:"name"` // the address
	Profile string `json:"profile"`
	SHA256  string `json:"sha256"`
}

// Preferences lists what identitypreference and certificatepreference payloads set.
func (d *Device) Preferences() []Preference {
	out := []Preference{}
	if d.user == nil {
		return out
	}
	for _, entry := range d.user.state.Installed {
		for _, p := range payloadsOf(entry.top) {
			if !isPreference(p.kind()) {
				continue
			}
			pref := Preference{Kind: p.kind(), Name: proplist.String(p.dict, "Name"), Profile: entry.Identifier}
			if item, there := d.user.keys.Payload(entry.Identifier, proplist.String(p.dict, "PayloadCertificateUUID")); there {
				pref.SHA256 = item.ID()
			}
			out = append(out, pref)
		}
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

// preferred gives an account of a Mac the certificates that the preferences of its profile name for its address: so Mail
// finds them.
func (in *installation) preferred(a *Account) {
	for _, p := range in.profile.payloads {
		if proplist.String(p.dict, "Name") != a.Address {
			continue
		}
		uuid := proplist.String(p.dict, "PayloadCertificateUUID")
		item, there := in.keys.Payload(in.profile.id(), uuid)
		switch {
		case !there:
		case p.kind() == kindIdentityPreference && CanSign(item.Certificate):
			a.SigningUUID = uuid
		case p.kind() == kindCertificatePreference:
			a.EncryptionUUID = uuid
		}
	}
}

// onChannel checks that a profile may come by this channel of a Mac (apple.md sections 1.2 and 5.1).
func (in *installation) onChannel() error {
	d := in.device
	if !d.isMac() || !in.managed {
		return nil
	}
	scope := proplist.String(in.profile.top, "PayloadScope")
	switch {
	case d.owner == nil && scope == "User":
		return fail(domainInstall, 4001, "a profile with PayloadScope User came by the device channel")
	case d.owner != nil && scope == "System":
		return fail(domainInstall, 4001, "a profile with PayloadScope System came by the user channel")
	}
	for _, p := range in.profile.payloads {
		kind := p.kind()
		switch {
		case kind == kindEAS:
			return fail(domainInstall, 4001, "payload %s: a Mac has no Exchange ActiveSync accounts", p.id())
		case d.owner == nil && (kind == kindMail || kind == kindEWS || isPreference(kind)):
			return fail(domainInstall, 4001, "payload %s (%s) belongs to a user and came by the device channel", p.id(), kind)
		}
	}
	return nil
}

// capabilities tells whether the MDM payload names a capability.
func capabilities(p payload, name string) bool {
	return slices.ContainsFunc(proplist.Array(p.dict, "ServerCapabilities"), func(v any) bool {
		text, ok := v.(string)
		return ok && strings.EqualFold(text, name)
	})
}

// errNoUser says that a Mac has no user channel.
var errNoUser = errors.New("the Mac has no user channel")

// UserChannel gives the identifiers of the user channel, for tests of servers.
func (d *Device) UserChannel() (udid, userID string, err error) {
	if d.user == nil {
		return "", "", errNoUser
	}
	return d.state.UDID, d.user.state.User.ID, nil
}
