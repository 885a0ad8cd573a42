// Package android is a simulated Android device with the companion app on it: the app enrols with a Waxseal server, asks
// it for the desired state, brings the key chain, the trusted CAs, the grants and the managed configurations of mail apps
// in line with it, and tells what it did and what is there.
//
// The phone under the app is package framework. The app shares the codec of the protocol (platforms/android/companion)
// and the CMS package with the rest of the house and nothing else.
//
// Life of the app:
//
//	         Enroll                        items: install, remove
//	blank ──────────────▶ enrolled ◀──────────────────────────────┐
//	  ▲                      │  └────────── Sync, Poll, Run ───────┘
//	  │                      │
//	  │                      │ Unenroll, policy.unenroll, 401, 410, the app is reinstalled
//	  └──────────────────────┘
//
// Life of an item (android.md section 8.4); each arrow is saved before the server is told, and is told until it answers:
//
//	new ──▶ installed, granted ──▶ new      another revision, or it is not there any more
//	 │ ▲
//	 │ └─── retry_wait, waiting_user, waiting_app, waiting_dependency
//	 ├────▶ failed                          until another revision, or until it is offered anew
//	 └────▶ removed
//
// A Device is not safe for concurrent use; many devices, each with a state folder of its own, may live in one process.
package android

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
)

// Clock is the time that a device lives in.
type Clock = device.Clock

// Config says how a device comes into being and what it is given from outside. Only State is required, and Source for
// Enroll.
type Config struct {
	State          string         // the state folder
	Source         string         // the enrolment link
	OSVersion      string         // of a new device: 15; 9 to 17 are simulated
	Model          string         // of a new device
	ManagementMode framework.Mode // of a new device: what the companion app may do; ModeCompanion if empty
	DiskEncrypted  bool           // of a new device: with full-disk encryption the key store wants a screen lock
	CA             []byte         // PEM roots that the app trusts for TLS; kept in the state. Without any, those of the machine

	Clock     Clock
	Offset    time.Duration // how far the device's own clock is ahead
	Rand      io.Reader     // for identifiers; keys always come from the machine
	NewKey    func(bits int) (*rsa.PrivateKey, error)
	Transport func(http.RoundTripper) http.RoundTripper // wraps every connection
	Log       *slog.Logger
}

// Device is a simulated Android device with its state folder open.
type Device struct {
	cfg    Config
	folder *device.Folder
	state  state
	roots  *x509.CertPool // the owner's; nil: those of the machine
	client *http.Client
	chaos  []string // beside those of the chaos file
}

// ErrNotEnrolled says that the companion app knows no server.
var ErrNotEnrolled = errors.New("the device is not enrolled")

// ErrCrashed says that the app died, as chaos wanted it. What a crash would leave is on disk; the next call goes on from
// there.
var ErrCrashed = errors.New("the companion app crashed")

// Open opens the state folder of an Android device, making one if there is none.
func Open(cfg Config) (*Device, error) {
	cfg = cfg.withDefaults()
	folder, err := device.OpenFolder(cfg.State)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg, folder: folder}
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
	d := &Device{cfg: cfg.withDefaults(), folder: folder}
	return d, d.load()
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
	if c.ManagementMode == "" {
		c.ManagementMode = framework.ModeCompanion
	}
	return c
}

// open loads the state and makes a new device where there was none.
func (d *Device) open() error {
	if err := d.load(); err != nil {
		return err
	}
	if d.cfg.CA != nil {
		if err := d.folder.SaveCA(d.cfg.CA); err != nil {
			return err
		}
	}
	if err := d.readRoots(); err != nil || d.state.UDID != "" {
		return err
	}
	return d.create()
}

func (d *Device) create() error {
	info, err := device.NewAndroidInfo(d.cfg.Rand, d.cfg.Model, d.cfg.OSVersion)
	if err != nil {
		return err
	}
	sdk, err := framework.SDKOf(info.OSVersion)
	if err != nil {
		return err
	}
	modes := []framework.Mode{framework.ModeDeviceOwner, framework.ModeProfileOwner, framework.ModeCompanion, framework.ModeNone}
	if !slices.Contains(modes, d.cfg.ManagementMode) {
		return fmt.Errorf("the management mode %q is not simulated; %v are", d.cfg.ManagementMode, modes)
	}
	info.BuildVersion = fmt.Sprintf("API %d", sdk)
	d.state.Info = info
	d.state.Phone = &framework.Phone{SDK: sdk, Mode: d.cfg.ManagementMode, Manager: Package, DiskEncrypted: d.cfg.DiskEncrypted}
	if err := ChangeWorld(d.folder, populate); err != nil {
		return err
	}
	if err := d.look(); err != nil {
		return err
	}
	if err := d.installApp(); err != nil {
		return err
	}
	return d.save()
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
	d.dropClient()
	return d.folder.Close()
}

// Info says which device it is.
func (d *Device) Info() device.Info { return d.state.Info }

// Enrolled reports whether the companion app has a server.
func (d *Device) Enrolled() bool { return d.state.App.Enrolment != nil }

// Folder is the state folder.
func (d *Device) Folder() *device.Folder { return d.folder }

// Phone is the device under the app. Save keeps what is changed through it.
func (d *Device) Phone() *framework.Phone { return d.state.Phone }

// Save writes the state folder.
func (d *Device) Save() error { return d.save() }

// Words of chaos: how the app misbehaves.
const (
	ChaosDuplicate    = "duplicate"     // every second request is sent twice
	ChaosLost         = "lost"          // the answer to every second request is lost, and the request is sent again
	ChaosReorder      = "reorder"       // what an item did on its way is told after how it ended
	ChaosCrashMake    = "crash-make"    // the app dies when the device has made a key and no certificate was asked for
	ChaosCrashInstall = "crash-install" // the app dies when the key chain took a key and the app has not noted it
	ChaosCrashReport  = "crash-report"  // the app dies when it has noted what it did and the server does not know
	ChaosReinstall    = "reinstall"     // the app is removed and installed again; what it put into the key chain stays
)

// Chaos switches misbehaviour on, beside what the chaos file says. Without words it switches off what was switched on.
func (d *Device) Chaos(words ...string) error {
	known := []string{ChaosDuplicate, ChaosLost, ChaosReorder, ChaosCrashMake, ChaosCrashInstall, ChaosCrashReport, ChaosReinstall}
	for _, word := range words {
		if !slices.Contains(known, word) {
			return fmt.Errorf("chaos knows no %q; there are %s", word, strings.Join(known, ", "))
		}
	}
	d.chaos = words
	return nil
}

func (d *Device) chaotic(word string) bool {
	return slices.Contains(d.chaos, word) || slices.Contains(d.folder.Chaos(), word)
}

// crash ends the app if chaos says so: what is not on disk is forgotten.
func (d *Device) crash(word string) error {
	if !d.chaotic(word) {
		return nil
	}
	if err := d.load(); err != nil {
		return err
	}
	return ErrCrashed
}

// Now is the device's time.
func (d *Device) Now() time.Time { return d.now() }

func (d *Device) now() time.Time { return d.cfg.Clock.Now().Add(d.cfg.Offset) }

// identifier makes up a random name of 128 bits.
func (d *Device) identifier() (string, error) {
	raw := make([]byte, 16)
	if _, err := io.ReadFull(d.cfg.Rand, raw); err != nil {
		return "", fmt.Errorf("reading randomness: %w", err)
	}
	return hex.EncodeToString(raw), nil
}
