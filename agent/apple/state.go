package apple

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// state is device.json.
type state struct {
	device.Info
	PushToken string      `json:"pushToken,omitempty"` // hex
	PushMagic string      `json:"pushMagic,omitempty"`
	APNs      string      `json:"apns,omitempty"`
	MDM       *enrollment `json:"mdm,omitempty"`
	Installed []installed `json:"installed,omitempty"`
	Outbox    []result    `json:"outbox,omitempty"`
	Accounts  []Account   `json:"accounts,omitempty"`
	Results   int         `json:"results"` // how many were made ever; chaos counts by it
	Gone      string      `json:"gone,omitempty"`
	User      *macUser    `json:"user,omitempty"` // in the state of a user channel
}

// enrollment is the installed com.apple.mdm payload.
type enrollment struct {
	Profile      string `json:"profile"` // top-level identifier
	Identity     string `json:"identity"`
	Topic        string `json:"topic"`
	ServerURL    string `json:"serverURL"`
	CheckInURL   string `json:"checkInURL"`
	SignMessage  bool   `json:"signMessage"`
	AccessRights int    `json:"accessRights"`
	CheckOut     bool   `json:"checkOutWhenRemoved"`
	Users        bool   `json:"perUserConnections,omitempty"`
	Bootstrap    bool   `json:"bootstrapToken,omitempty"` // the server wants a bootstrap token and has not got it yet
	Active       bool   `json:"active"`                   // Authenticate and TokenUpdate were accepted
}

// installed is the index entry of a profile; its content is in profiles/File.
type installed struct {
	Identifier string   `json:"identifier"`
	UUID       string   `json:"uuid"`
	File       string   `json:"file"`
	Managed    bool     `json:"managed"` // came by the MDM channel
	Encrypted  bool     `json:"encrypted,omitempty"`
	Signers    [][]byte `json:"signers,omitempty"`
	top        dict
}

// result is an answer that the server has not confirmed.
type result struct {
	UUID string `json:"uuid"`
	Body []byte `json:"body"`
	What string `json:"what"`
	// After is what the device does once the server has confirmed the result: leave or erase.
	After string `json:"after,omitempty"`
}

// Account is a mail account that a profile set up.
type Account struct {
	Profile        string `json:"profile"`
	Payload        string `json:"payload"`
	Kind           string `json:"kind"` // PayloadType
	Address        string `json:"address"`
	Name           string `json:"name,omitempty"`
	Host           string `json:"host"`
	User           string `json:"user,omitempty"`
	SignByDefault  bool   `json:"signByDefault"`
	EncryptDefault bool   `json:"encryptByDefault"`
	SigningUUID    string `json:"signingUUID,omitempty"`
	EncryptionUUID string `json:"encryptionUUID,omitempty"`
	// What its profile lets the user do: switch signing or encryption on, choose the identity for it.
	SigningOverride        bool `json:"signingOverrideable,omitempty"`
	SigningUUIDOverride    bool `json:"signingUUIDOverrideable,omitempty"`
	EncryptOverride        bool `json:"encryptOverrideable,omitempty"`
	EncryptionUUIDOverride bool `json:"encryptionUUIDOverrideable,omitempty"`
}

// load reads what is on disk.
func (d *Device) load() error {
	if _, err := d.folder.Load(&d.state); err != nil {
		return err
	}
	for n := range d.state.Installed {
		entry := &d.state.Installed[n]
		raw, err := os.ReadFile(d.folder.Path("profiles", entry.File))
		if err != nil {
			return fmt.Errorf("reading an installed profile: %w", err)
		}
		if entry.top, err = proplist.DecodeDict(raw, maxProfile); err != nil {
			return fmt.Errorf("reading installed profile %s: %w", entry.Identifier, err)
		}
	}
	keys, err := keychain.Open(d.folder.Path("keychain"))
	if err != nil {
		return err
	}
	keys.Retain(d.state.knows)
	d.keys = keys
	return d.loadUsers()
}

// knows reports whether a payload belongs to an installed profile.
func (s *state) knows(h keychain.Holder) bool {
	entry := s.profile(h.Profile)
	return entry != nil && slices.ContainsFunc(payloadsOf(entry.top), func(p payload) bool { return p.uuid() == h.Payload })
}

func payloadsOf(top dict) []payload {
	var out []payload
	for _, item := range proplist.Array(top, "PayloadContent") {
		if d, ok := item.(dict); ok {
			out = append(out, payload{d})
		}
	}
	return out
}

// profile finds an installed profile by its identifier.
func (s *state) profile(identifier string) *installed {
	for n := range s.Installed {
		if s.Installed[n].Identifier == identifier {
			return &s.Installed[n]
		}
	}
	return nil
}

// clone copies what an installation may change.
func (s *state) clone() state {
	out := *s
	out.Installed = slices.Clone(s.Installed)
	out.Accounts = slices.Clone(s.Accounts)
	out.Outbox = slices.Clone(s.Outbox)
	if s.MDM != nil {
		mdm := *s.MDM
		out.MDM = &mdm
	}
	return out
}

// commit makes a new state and keychain the device's own. Order matters for a process that dies in between: first
// everything that either of the two states names, then the state, then the keychain and the files alone.
func (d *Device) commit(next state, keys *keychain.Keychain) error {
	if err := keys.SaveWith(d.keys); err != nil {
		return err
	}
	if err := d.writeProfiles(next); err != nil {
		return err
	}
	if err := d.folder.Save(next); err != nil {
		return err
	}
	d.state, d.keys = next, keys
	if err := keys.Save(); err != nil {
		return err
	}
	return d.sweepProfiles()
}

// tidy ends what a process that died inside commit or forgetManagement had begun: keys and profiles that the state does
// not name go from the disk, and without an enrolment the user channels do.
func (d *Device) tidy() error {
	for _, channel := range append(slices.Clone(d.users), d) {
		if err := channel.keys.Save(); err != nil {
			return err
		}
		if err := channel.sweepProfiles(); err != nil {
			return err
		}
	}
	if d.state.MDM != nil {
		return nil
	}
	return d.forgetUsers()
}

// save writes device.json alone.
func (d *Device) save() error { return d.folder.Save(d.state) }

func (d *Device) writeProfiles(next state) error {
	dir := d.folder.Path("profiles")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing profiles: %w", err)
	}
	for _, entry := range next.Installed {
		path := filepath.Join(dir, entry.File)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		raw, err := proplist.Encode(entry.top)
		if err != nil {
			return fmt.Errorf("writing profile %s: %w", entry.Identifier, err)
		}
		if err := device.WriteFile(path, raw); err != nil {
			return err
		}
	}
	return nil
}

// sweepProfiles deletes the files of profiles that are not installed any more.
func (d *Device) sweepProfiles() error {
	dir := d.folder.Path("profiles")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sweeping profiles: %w", err)
	}
	for _, file := range files {
		used := slices.ContainsFunc(d.state.Installed, func(i installed) bool { return i.File == file.Name() })
		if used {
			continue
		}
		if err := os.Remove(filepath.Join(dir, file.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("sweeping profiles: %w", err)
		}
	}
	return nil
}

// fileName is a fresh name for the content of a profile.
func (d *Device) fileName() (string, error) {
	raw, err := d.random(8)
	return hex.EncodeToString(raw) + ".mobileconfig", err
}
