// Package apple is a simulated iPhone, iPad or Mac: it enrols with any Apple MDM server by a configuration profile,
// follows its commands, and installs, replaces and removes profiles by Apple's rules, with Apple's error codes.
//
// It knows no server in particular. What it does is what Apple's documentation and schema say devices do, or what
// captured messages of real devices show; where neither is sure, there is a switch. It shares the property list codec
// and the CMS package with the rest of the house and nothing else, so that a misunderstanding between the server and
// the device does not cancel out.
//
// Life of a device:
//
//	          Enroll                    InstallProfile, RemoveProfile, …
//	blank ──────────────▶ enrolled ◀──────────────────────────┐
//	  ▲   profile, SCEP,      │  └──────────── Sync, Run ──────┘
//	  │   Authenticate,       │
//	  │   TokenUpdate         │ Unenroll, RemoveProfile of the MDM profile,
//	  └───────────────────────┘ 401, 403 com.apple.unrecognized.device, EraseDevice
//
// A Device is not safe for concurrent use; many devices, each with a state folder of its own, may live in one process.
package apple

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Clock is the time that a device lives in.
type Clock = device.Clock

// Config says how a device comes into being and what it is given from outside. Only State is required, and Source for
// Enroll.
type Config struct {
	State     string // the state folder
	Source    string // enrolment: https URL, or the name of a .mobileconfig file
	Platform  string // ios (default) or macos
	OSVersion string // of a new device
	Model     string // of a new device, as iPhone15,2 or iPad14,3
	CA        []byte // PEM roots that the owner trusts for TLS; kept in the state. Without any, those of the machine
	APNs      string // URL of the simulated push service, whose pokes Run listens to
	APNsCA    []byte // PEM roots for it

	Clock     Clock
	Rand      io.Reader                                 // for identifiers; keys always come from the machine
	NewKey    func(bits int) (*rsa.PrivateKey, error)   // makes the keys of SCEP payloads
	Transport func(http.RoundTripper) http.RoundTripper // wraps every connection
	Signature SignatureStyle                            // form of Mdm-Signature
	Bootstrap []byte                                    // of a Mac: the bootstrap token that it gives a server which keeps such
	Misplaced *Error                                    // of a Mac: domain and code for what the wrong channel brought, since Apple names none
	Log       *slog.Logger
}

// Device is a simulated device with its state folder open.
type Device struct {
	cfg    Config
	folder *device.Folder
	state  state
	keys   *keychain.Keychain
	roots  *x509.CertPool // nil: those of the machine
	// clients are kept per certificate, so that connections are reused.
	client *http.Client
	idOf   string
	chaos  []string // beside those of the chaos file
	// users are the user channels of a Mac, owner the device that a user channel belongs to. turnedAway: the server does
	// not manage who is logged on now.
	users      []*Device
	owner      *Device
	turnedAway bool
	notNow     map[string]bool
}

// identity is the certificate and key by which the device speaks to its server.
type identity struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// ErrNotEnrolled says that the device has no MDM profile.
var ErrNotEnrolled = errors.New("the device is not enrolled")

// Open opens the state folder of a device, making a device if there is none.
func Open(cfg Config) (*Device, error) {
	folder, err := device.OpenFolder(cfg.State)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg.withDefaults(), folder: folder, notNow: map[string]bool{}}
	if err := d.open(); err != nil {
		_ = folder.Close()
		return nil, err
	}
	return d, nil
}

// View opens a device for looking only, while another process may run it. Nothing may be changed through it.
func View(cfg Config) (*Device, error) {
	folder, err := device.ReadFolder(cfg.State)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg.withDefaults(), folder: folder, notNow: map[string]bool{}}
	// A running device may replace a file between two that belong together: look again.
	for try := 0; ; try++ {
		d.state = state{}
		err := d.load()
		if err == nil {
			return d, d.readRoots()
		}
		if try == 5 {
			return nil, err
		}
	}
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = device.SystemClock{}
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.NewKey == nil {
		c.NewKey = func(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Platform == "" {
		c.Platform = "ios"
	}
	return c
}

// open loads the state, ends what was interrupted, and makes a new device where there was none.
func (d *Device) open() error {
	if err := d.load(); err != nil {
		return err
	}
	if err := d.keep(); err != nil {
		return err
	}
	if err := d.readRoots(); err != nil {
		return err
	}
	if d.state.UDID != "" {
		return d.tidy()
	}
	info, err := device.NewInfo(d.cfg.Rand, d.cfg.Platform, d.cfg.Model, d.cfg.OSVersion)
	if err != nil {
		return err
	}
	d.state.Info = info
	return d.save()
}

// keep writes the roots that were given now into the folder.
func (d *Device) keep() error {
	if d.cfg.CA != nil {
		if err := d.folder.SaveCA(d.cfg.CA); err != nil {
			return err
		}
	}
	if d.cfg.APNs != "" {
		d.state.APNs = d.cfg.APNs
	}
	if d.cfg.APNsCA != nil {
		return d.folder.SaveAPNsCA(d.cfg.APNsCA)
	}
	return nil
}

func (d *Device) readRoots() error {
	pem, err := d.folder.CA()
	if err != nil || pem == nil {
		return err
	}
	d.roots = x509.NewCertPool()
	if !d.roots.AppendCertsFromPEM(pem) {
		return errors.New("the file given as --ca holds no PEM certificate")
	}
	return nil
}

// Close gives the state folder free.
func (d *Device) Close() error {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	return d.folder.Close()
}

// Info says which device it is.
func (d *Device) Info() device.Info { return d.state.Info }

// Enrolled reports whether the device has an MDM profile.
func (d *Device) Enrolled() bool { return d.state.MDM != nil && d.state.MDM.Active }

// Folder is the state folder.
func (d *Device) Folder() *device.Folder { return d.folder }

// Keychain is the device's keychain, of a Mac the System and the login keychains together; it must not be changed.
func (d *Device) Keychain() *keychain.Keychain {
	if len(d.users) == 0 {
		return d.keys
	}
	return together(d.users[0], append(slices.Clone(d.users[1:]), d)...)
}

// Accounts are the mail accounts that profiles set up.
func (d *Device) Accounts() []Account {
	out := slices.Clone(d.state.Accounts)
	for _, u := range d.users {
		out = append(out, u.state.Accounts...)
	}
	return out
}

// Roots are the certificates that mail and servers are trusted by: the owner's and those of profiles. Nil pool and
// no certificates means the machine's.
func (d *Device) Roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	pem, err := d.folder.CA()
	if err != nil {
		return nil, err
	}
	pool.AppendCertsFromPEM(pem)
	for _, cert := range d.Keychain().Trusted() {
		pool.AddCert(cert)
	}
	return pool, nil
}

// SetOSVersion is what an update of the system does.
func (d *Device) SetOSVersion(version string) error {
	for _, channel := range append(slices.Clone(d.users), d) {
		channel.state.OSVersion = version
		if err := channel.save(); err != nil {
			return err
		}
	}
	return nil
}

// Lock locks or unlocks the screen. A locked device answers NotNow to what touches protected data.
func (d *Device) Lock(locked bool) error { return d.folder.SetLocked(locked) }

// Words of chaos: how the device misbehaves.
const (
	ChaosDuplicate     = "duplicate"      // every second result is sent twice
	ChaosLost          = "lost"           // the answer to every second result is lost; it is sent again at the next connection
	ChaosForgotten     = "forgotten"      // every third result is never sent: the server must offer the command again
	ChaosNotNow        = "notnow"         // the first offer of each InstallProfile is answered NotNow
	ChaosDropShared    = "drop-shared"    // a removed profile takes keychain items with it that another profile holds too
	ChaosRejectExpired = "reject-expired" // an account may not name an expired identity
	ChaosRemovable     = "removable"      // RemoveFile takes what the server installed too, so that it has vanished
)

// Chaos switches misbehaviour on, beside what the chaos file says. Without words it switches off what was switched on.
func (d *Device) Chaos(words ...string) error {
	known := []string{ChaosDuplicate, ChaosLost, ChaosForgotten, ChaosNotNow, ChaosDropShared, ChaosRejectExpired, ChaosRemovable}
	for _, word := range words {
		if !slices.Contains(known, word) {
			return fmt.Errorf("chaos knows no %q; there are %s", word, strings.Join(known, ", "))
		}
	}
	d.chaos = words
	return nil
}

func (d *Device) chaotic(word string) bool {
	d = d.root()
	return slices.Contains(d.chaos, word) || slices.Contains(d.folder.Chaos(), word)
}

func (d *Device) now() time.Time { return d.cfg.Clock.Now() }

// Now is the device's time.
func (d *Device) Now() time.Time { return d.now() }

func (d *Device) random(n int) ([]byte, error) {
	out := make([]byte, n)
	if _, err := io.ReadFull(d.cfg.Rand, out); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	return out, nil
}

// Profile is an installed profile, for looking at.
type Profile struct {
	Identifier string
	UUID       string
	Name       string
	Managed    bool
	Encrypted  bool
	Signers    []string
	Payloads   []string // their types
}

// Profiles lists what is installed.
func (d *Device) Profiles() []Profile {
	var out []Profile
	for _, entry := range d.installed() {
		p := profile{top: entry.top}
		view := Profile{Identifier: entry.Identifier, UUID: entry.UUID, Name: p.name(), Managed: entry.Managed, Encrypted: entry.Encrypted, Signers: signerNames(entry.Signers)}
		for _, pl := range payloadsOf(entry.top) {
			view.Payloads = append(view.Payloads, pl.kind())
		}
		out = append(out, view)
	}
	return out
}

// installed are the profiles of all channels.
func (d *Device) installed() []installed {
	out := slices.Clone(d.state.Installed)
	for _, u := range d.users {
		out = append(out, u.state.Installed...)
	}
	return out
}

// InstallFile installs a profile by hand, as a user does in Settings.
func (d *Device) InstallFile(ctx context.Context, data []byte) error {
	return d.install(ctx, data, false)
}

// RemoveFile is the user who removes a profile by hand. With the MDM profile the enrolment goes; what came through it, no
// user can remove alone (apple.md section 1.2; Apple: PayloadRemovalDisallowed).
func (d *Device) RemoveFile(ctx context.Context, identifier string) error {
	if d.state.MDM != nil && d.state.MDM.Profile == identifier {
		return d.Unenroll(ctx)
	}
	channel := d
	if at := slices.IndexFunc(d.users, func(u *Device) bool { return u.state.profile(identifier) != nil }); at >= 0 {
		channel = d.users[at]
	}
	switch entry := channel.state.profile(identifier); {
	case entry == nil:
		return fmt.Errorf("no profile %q is installed", identifier)
	case entry.Managed && !d.chaotic(ChaosRemovable):
		return fmt.Errorf("the profile %q was installed by the MDM server, and its user cannot remove it; it goes with the MDM profile", identifier)
	}
	return channel.removeProfile(identifier)
}

// ExportProfiles writes the installed profiles, opened, as XML property lists named by their identifiers.
func (d *Device) ExportProfiles(dir string) error {
	if dir == "" {
		return errors.New("no folder given: use --out DIR")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("exporting profiles: %w", err)
	}
	for _, entry := range d.installed() {
		raw, err := proplist.Encode(entry.top)
		if err != nil {
			return fmt.Errorf("exporting profile %s: %w", entry.Identifier, err)
		}
		name := strings.Map(func(r rune) rune {
			if r == '/' || r == '\\' || r < ' ' {
				return '_'
			}
			return r
		}, entry.Identifier)
		if err := device.WriteFile(filepath.Join(dir, filepath.Base(name)+".mobileconfig"), raw); err != nil {
			return err
		}
	}
	return nil
}
