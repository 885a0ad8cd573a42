// Package windows is a simulated PC with Windows 10 or 11: it enrols with any MDM server by Microsoft's protocols
// (MS-MDE2, MS-XCEP, MS-WSTEP), holds OMA DM sessions with it, and carries its commands out on a management tree
// (package csp).
//
// It knows no server in particular. What it does is what Microsoft's documentation says PCs do, or what public traces
// and servers show; where neither is sure, there is a switch. It shares the SyncML codec, the CMS and the PKCS#12
// packages with the rest of the house and nothing else: it writes its own requests of the enrolment protocol and reads
// the answers by a parser of its own, so that a misunderstanding between the server and the PC does not cancel out.
//
// Life of a PC:
//
//	          Enroll                       sessions: Add, Delete, Exec, …
//	blank ──────────────▶ enrolled ◀──────────────────────────────┐
//	  ▲   Discover,          │  └────────── Sync, Poll, Run ──────┘
//	  │   (sign-in page),    │
//	  │   GetPolicies,       │ Unenroll, Exec …/Unenroll, Exec …/doWipe
//	  └──────────────────────┘
//
// A Device is not safe for concurrent use; many devices, each with a state folder of its own, may live in one process.
package windows

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows/csp"
)

// Clock is the time that a device lives in.
type Clock = device.Clock

// Config says how a PC comes into being and what it is given from outside. Only State is required, and Source for
// Enroll.
type Config struct {
	State     string // the state folder
	Source    string // enrolment: deep link, https URL, or mail address
	OSVersion string // of a new PC: 10.0.22631.3007; builds before 16299 open no PKCS#12 with AES
	Model     string // of a new PC
	CA        []byte // PEM roots that the owner trusts for TLS; kept in the state. Without any, those of the machine

	User           string   // who enrols, unless Source says it
	Secret         string   // the password, or the one-time secret of the enrolment; never kept
	AuthPolicies   []string // what the PC offers: OnPremise and Federated by default
	EnrollmentType string   // Full (default) or Device
	CSRString      string   // form of the request's common name: CSRPrintable (default), CSRPrintableNUL or CSRUTF8
	TokenTwice     bool     // a Federated token is sent in base64 of base64; who encodes is not known

	Clock     Clock
	Rand      io.Reader                                 // for identifiers; keys always come from the machine
	NewKey    func(bits int) (*rsa.PrivateKey, error)   // makes the device's keys
	Transport func(http.RoundTripper) http.RoundTripper // wraps every connection
	Sign      bool                                      // MDM-Signature on every message, even if the server does not ask
	Rules     csp.Rules                                 // how the management tree behaves where nobody knows
	Log       *slog.Logger
}

// Kinds of enrolment (windows.md section 1.6).
const (
	TypeFull   = "Full"   // the client certificate goes to My\User
	TypeDevice = "Device" // the client certificate goes to My\System
)

// Device is a simulated PC with its state folder open.
type Device struct {
	cfg    Config
	folder *device.Folder
	state  state
	roots  *x509.CertPool // the owner's; nil: those of the machine
	client *http.Client   // of the enrolment, kept so that connections are reused
	idOf   string         // the certificate that client shows
	chaos  []string       // beside those of the chaos file
}

// ErrNotEnrolled says that no server manages the PC.
var ErrNotEnrolled = errors.New("the device is not enrolled")

// Open opens the state folder of a PC, making one if there is none.
func Open(cfg Config) (*Device, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
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

// View opens a PC for looking only, while another process may run it. Nothing may be changed through it.
func View(cfg Config) (*Device, error) {
	folder, err := device.ReadFolder(cfg.State)
	if err != nil {
		return nil, err
	}
	d := &Device{cfg: cfg.withDefaults(), folder: folder}
	if err := d.load(); err != nil {
		return nil, err
	}
	return d, d.readRoots()
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
	if len(c.AuthPolicies) == 0 {
		c.AuthPolicies = []string{OnPremise, Federated}
	}
	if c.EnrollmentType == "" {
		c.EnrollmentType = TypeFull
	}
	if c.CSRString == "" {
		c.CSRString = CSRPrintable
	}
	return c
}

// check finds a value that is not simulated.
func (c Config) check() error {
	for _, policy := range c.AuthPolicies {
		if policy != OnPremise && policy != Federated {
			return fmt.Errorf("the authentication policy %q is not simulated; %s and %s are", policy, OnPremise, Federated)
		}
	}
	if c.EnrollmentType != TypeFull && c.EnrollmentType != TypeDevice {
		return fmt.Errorf("the enrolment type is %q; %s and %s are possible", c.EnrollmentType, TypeFull, TypeDevice)
	}
	if forms := []string{CSRPrintable, CSRPrintableNUL, CSRUTF8}; !slices.Contains(forms, c.CSRString) {
		return fmt.Errorf("the form of the request's name is %q; there are %s", c.CSRString, strings.Join(forms, ", "))
	}
	return nil
}

// open loads the state and makes a new PC where there was none.
func (d *Device) open() error {
	if err := d.load(); err != nil {
		return err
	}
	if d.state.Ending == endWipe {
		if err := d.wipe(); err != nil {
			return err
		}
	}
	if d.cfg.CA != nil {
		if err := d.folder.SaveCA(d.cfg.CA); err != nil {
			return err
		}
	}
	if err := d.readRoots(); err != nil || d.state.UDID != "" {
		return err
	}
	info, err := device.NewWindowsInfo(d.cfg.Rand, d.cfg.Model, d.cfg.OSVersion)
	if err != nil {
		return err
	}
	d.state.Info = info
	if d.state.MACs, err = d.newMACs(); err != nil {
		return err
	}
	d.configure()
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

// trust is what the PC trusts for TLS: the owner's roots, and those that its server brought into the Root store.
func (d *Device) trust() *x509.CertPool {
	brought := d.state.PC.Certificates(storeRoot)
	if len(brought) == 0 {
		return d.roots
	}
	pool := d.roots
	if pool == nil {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			pool = x509.NewCertPool()
		}
	} else {
		pool = pool.Clone()
	}
	for _, c := range brought {
		pool.AddCert(c.Cert)
	}
	return pool
}

// Close gives the state folder free.
func (d *Device) Close() error {
	d.dropClient()
	return d.folder.Close()
}

func (d *Device) dropClient() {
	if d.client != nil {
		d.client.CloseIdleConnections()
	}
	d.client, d.idOf = nil, ""
}

// Info says which PC it is.
func (d *Device) Info() device.Info { return d.state.Info }

// Enrolled reports whether a server manages the PC.
func (d *Device) Enrolled() bool { return d.state.MDM != nil }

// Folder is the state folder.
func (d *Device) Folder() *device.Folder { return d.folder }

// SetOSVersion is what an update of the system does.
func (d *Device) SetOSVersion(version string) error {
	d.state.OSVersion = version
	d.configure()
	return d.save()
}

// Words of chaos: how the PC misbehaves.
const (
	ChaosDuplicate = "duplicate" // every second message is sent twice
	ChaosLost      = "lost"      // the answer to some results is lost, which ends the session
	ChaosAbort     = "abort"     // some sessions stop when commands are carried out and nothing is answered yet
	ChaosSkew      = "skew"      // the clock of the PC is two days ahead
	ChaosKeyLost   = "key-lost"  // every second certificate by SCEP, from the first, is lost once it is issued: the request fails
	ChaosSilent    = "silent"    // how a request by SCEP ended is not told: the server has to look
)

// skew is how far ahead the clock of ChaosSkew is.
const skew = 48 * time.Hour

// Chaos switches misbehaviour on, beside what the chaos file says. Without words it switches off what was switched on.
func (d *Device) Chaos(words ...string) error {
	known := []string{ChaosDuplicate, ChaosLost, ChaosAbort, ChaosSkew, ChaosKeyLost, ChaosSilent}
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

// Now is the device's time.
func (d *Device) Now() time.Time { return d.now() }

func (d *Device) now() time.Time {
	now := d.cfg.Clock.Now()
	if d.chaotic(ChaosSkew) {
		return now.Add(skew)
	}
	return now
}

func (d *Device) random(n int) ([]byte, error) {
	out := make([]byte, n)
	if _, err := io.ReadFull(d.cfg.Rand, out); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	return out, nil
}

// guid makes a random GUID, upper case as Windows writes them.
func (d *Device) guid() (string, error) {
	raw, err := d.random(16)
	if err != nil {
		return "", err
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])), nil
}

// newMACs makes up the addresses of two network adapters, locally administered.
func (d *Device) newMACs() ([]string, error) {
	raw, err := d.random(12)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, mac := range [][]byte{raw[:6], raw[6:]} {
		mac[0] = mac[0]&0xfc | 0x02
		out = append(out, strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x-%x", mac[:1], mac[1:2], mac[2:3], mac[3:4], mac[4:5], mac[5:])))
	}
	return out, nil
}

// Management is what the PC knows of the server that manages it.
type Management struct {
	DeviceID   string    `json:"deviceID"`
	User       string    `json:"user"`
	ProviderID string    `json:"providerID"`
	Server     string    `json:"server"`
	Address    string    `json:"address"`
	NotAfter   time.Time `json:"notAfter"` // of the MDM certificate
}

// Management is nil if no server manages the PC.
func (d *Device) Management() *Management {
	mdm := d.state.MDM
	if mdm == nil {
		return nil
	}
	m := &Management{DeviceID: mdm.DeviceID, User: mdm.User, ProviderID: mdm.ProviderID, Server: mdm.Name, Address: mdm.Address}
	if id, err := mdm.identity(); err == nil {
		m.NotAfter = id.cert.NotAfter.UTC()
	}
	return m
}
