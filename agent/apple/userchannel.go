package apple

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// The user channel of a Mac is a device of its own inside the device: it has its profiles, its results that wait, its
// push values, and the login keychain where the device has the System keychain. It speaks by the device's identity, names
// its user in every message, and its state is in a folder of the state folder (apple.md sections 2 and 3). That is called
// as the switch logon calls the user: `user`, who enrolled the Mac and has an account on it, and `others`, somebody of the
// company's directory, for whom the Mac asks first whether the server manages them.

// capabilityUsers in ServerCapabilities announces that the server speaks on user channels.
const capabilityUsers = "com.apple.mdm.per-user-connections"

// macUser is who a user channel speaks for.
type macUser struct {
	ID        string `json:"id"`
	ShortName string `json:"shortName"`
	LongName  string `json:"longName"`
	Directory bool   `json:"directory,omitempty"` // and not of this Mac
}

func (d *Device) isMac() bool { return d.state.Platform == device.PlatformMac }

// loadUsers reads the user channels that there are. With the enrolment all of them are gone, even if their folders are not
// yet: tidy takes those away.
func (d *Device) loadUsers() error {
	d.users = nil
	if !d.isMac() || d.owner != nil || d.state.MDM == nil {
		return nil
	}
	for _, who := range []string{device.LogonUser, device.LogonOthers} {
		u := d.newUser(who)
		if _, err := os.Stat(u.folder.Path("device.json")); err != nil {
			continue // there is none
		}
		if err := u.load(); err != nil {
			return fmt.Errorf("reading the user channel: %w", err)
		}
		d.users = append(d.users, u)
	}
	return nil
}

func (d *Device) newUser(who string) *Device {
	return &Device{cfg: d.cfg, folder: &device.Folder{Dir: d.folder.Path(who)}, owner: d, notNow: map[string]bool{}}
}

// userOf is the user channel of who is logged on, nil if there is none.
func (d *Device) userOf(who string) *Device {
	for _, u := range d.users {
		if u.folder.Dir == d.folder.Path(who) {
			return u
		}
	}
	return nil
}

// macUserOf says who somebody is. The ids stay the same for the life of the Mac, as those of accounts do.
func (d *Device) macUserOf(who string) *macUser {
	sum := sha256.Sum256([]byte(d.state.UDID + " " + who))
	out := &macUser{ID: formatUUID(sum[:16]), ShortName: "owner", LongName: "Owner of " + d.state.DeviceName}
	if who == device.LogonOthers {
		out.ShortName, out.LongName, out.Directory = "guest", "Guest at "+d.state.DeviceName, true
	}
	return out
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

// openUser lets somebody who logged on speak to the server for the first time; errNotManaged: the server does not want that.
func (d *Device) openUser(ctx context.Context, who string) (*Device, error) {
	u, err := d.makeUser(who)
	if err != nil {
		return nil, err
	}
	s, err := u.session()
	if err != nil {
		return nil, err
	}
	if u.state.User.Directory {
		if err := s.userAuthenticate(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.tokenUpdate(ctx, u.state); err != nil {
		return nil, err
	}
	if err := u.save(); err != nil {
		return nil, err
	}
	d.users = append(d.users, u)
	return u, nil
}

// makeUser gives somebody an empty login keychain and push values. Nothing counts before it is saved.
func (d *Device) makeUser(who string) (*Device, error) {
	token, err := d.random(32)
	if err != nil {
		return nil, err
	}
	magic, err := d.uuid()
	if err != nil {
		return nil, err
	}
	u, mdm := d.newUser(who), *d.state.MDM
	if err := os.RemoveAll(u.folder.Dir); err != nil {
		return nil, fmt.Errorf("making the user channel: %w", err)
	}
	if err := os.MkdirAll(u.folder.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the user channel: %w", err)
	}
	u.state = state{Info: d.state.Info, MDM: &mdm, PushToken: hex.EncodeToString(token), PushMagic: magic, User: d.macUserOf(who)}
	u.keys, err = keychain.Open(u.folder.Path("keychain"))
	return u, err
}

// errNotManaged says that the server answered 410 to UserAuthenticate.
var errNotManaged = errors.New("the server does not manage this user of the Mac")

// userAuthenticate asks whether the server manages a user of a directory. A challenge that is not empty would need the
// user's password, which a simulated user does not have (apple.md section 2; Apple: UserAuthenticate).
func (s *session) userAuthenticate(ctx context.Context) error {
	body, err := proplist.Encode(s.device.named(dict{"MessageType": "UserAuthenticate"}))
	if err != nil {
		return fmt.Errorf("making UserAuthenticate: %w", err)
	}
	got, err := s.put(ctx, s.mdm.CheckInURL, typeCheckin, body)
	var refused *refusedError
	switch {
	case errors.As(err, &refused) && refused.status == http.StatusGone:
		return errNotManaged
	case err != nil:
		return fail(domainMDM, 12020, "UserAuthenticate was not accepted: %v", err)
	case len(got.body) == 0:
		return nil
	}
	top, err := proplist.DecodeDict(got.body, maxAnswer)
	if err != nil {
		return fmt.Errorf("reading the answer to UserAuthenticate: %w", err)
	}
	if proplist.String(top, "DigestChallenge") != "" {
		return errors.New("the server wants the password of the user (DigestChallenge), and a simulated user has none")
	}
	return nil
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

// pollUser is the connection of the user channel; nobody logged on means none. Who was turned away asks again when they
// log on again.
func (d *Device) pollUser(ctx context.Context, r *Report) error {
	who := d.folder.Logon()
	d.turnedAway = d.turnedAway && who == device.LogonOthers
	if !d.hasUsers() || who == device.LogonNone || d.turnedAway {
		return nil
	}
	u, err := d.userOf(who), error(nil)
	if u == nil {
		u, err = d.openUser(ctx, who)
	}
	if errors.Is(err, errNotManaged) {
		d.turnedAway = true
		d.cfg.Log.Info("no user channel", "reason", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the user channel: %w", err)
	}
	mine, err := u.pollChannel(ctx)
	r.Commands += mine.Commands
	r.Pending += mine.Pending
	r.Failures = append(r.Failures, mine.Failures...)
	r.NotNow = append(r.NotNow, mine.NotNow...)
	r.Left = r.Left || mine.Left
	return err
}

// forgetUsers takes the user channels away, with all that came by them.
func (d *Device) forgetUsers() error {
	if d.owner != nil || !d.isMac() {
		return nil
	}
	d.users = nil
	for _, who := range []string{device.LogonUser, device.LogonOthers} {
		if err := os.RemoveAll(d.folder.Path(who)); err != nil {
			return fmt.Errorf("removing the user channel: %w", err)
		}
	}
	return nil
}

// DeleteCertificate is the user who deletes a certificate, with its key, in Keychain Access: of the login keychain, since
// the System keychain is an administrator's. It is named by the beginning of its SHA-256.
func (d *Device) DeleteCertificate(id string) error {
	u := d.userOf(d.folder.Logon())
	if u == nil {
		return errors.New("nobody is logged on who has a login keychain")
	}
	var found []string
	for _, item := range u.keys.Items() {
		if strings.HasPrefix(item.ID(), strings.ToLower(id)) {
			found = append(found, item.ID())
		}
	}
	if id == "" || len(found) != 1 {
		return fmt.Errorf("%d certificates in the login keychain have a SHA-256 that begins with %q; name one that keychain list shows", len(found), id)
	}
	keys := u.keys.Clone()
	keys.Delete(found[0])
	return u.commit(u.state, keys)
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
		return in.misplaced("the profile must be a system profile: PayloadScope User came by the device channel")
	case d.owner != nil && scope == "System":
		return in.misplaced("the profile must be a user profile: PayloadScope System came by the user channel")
	}
	for _, p := range in.profile.payloads {
		kind := p.kind()
		switch {
		case kind == kindEAS:
			return in.misplaced("payload %s: a Mac has no Exchange ActiveSync accounts", p.id())
		case d.owner == nil && (kind == kindMail || kind == kindEWS || isPreference(kind)):
			return in.misplaced("payload %s (%s) belongs to a user and came by the device channel", p.id(), kind)
		}
	}
	return nil
}

// misplaced is the refusal of what this channel of a Mac does not take. Apple documents no code for it; -107 is what macOS
// says of invalid profiles (apple.md section 3.1).
func (in *installation) misplaced(format string, args ...any) error {
	e := fail(domainPlugin, -107, format, args...)
	if other := in.device.cfg.Misplaced; other != nil {
		e.Domain, e.Code = other.Domain, other.Code
	}
	return e
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

// UserChannel gives the identifiers of the user channel of who enrolled, for tests of servers.
func (d *Device) UserChannel() (udid, userID string, err error) {
	u := d.userOf(device.LogonUser)
	if u == nil {
		return "", "", errNoUser
	}
	return d.state.UDID, u.state.User.ID, nil
}
