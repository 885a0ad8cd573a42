package android

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// Package is the companion app.
const Package = "com.waxseal.companion"

// What the app says of itself and of the device.
const (
	appVersion    = "1.0.0"
	manufacturer  = "Waxseal"
	securityPatch = "2026-10-05"
)

// state is device.json.
type state struct {
	device.Info
	Phone    *framework.Phone `json:"phone,omitempty"`
	App      app              `json:"app"`
	Gone     string           `json:"gone,omitempty"` // why the device is not enrolled any more
	Requests int              `json:"requests"`       // how many were sent ever; chaos counts by it
}

// app is what the companion app keeps in its own storage, which goes with the app.
type app struct {
	InstallID string `json:"installID"`
	WrapKey   []byte `json:"wrapKey,omitempty"` // PKCS#8; on a real device in the Android Keystore
	// NextWrapKey is one that a renewal is under way for.
	NextWrapKey []byte     `json:"nextWrapKey,omitempty"`
	Enrolment   *enrolment `json:"enrolment,omitempty"`
	// RenewedAt is when a certificate of the wrap key came last, other than by an enrolment.
	RenewedAt time.Time `json:"renewedAt,omitzero"`
	// Unknown is why the server refused the credential, though nobody said that the enrolment is over.
	Unknown string             `json:"unknown,omitempty"`
	Desired *companion.State   `json:"desired,omitempty"` // what the server said last
	Records map[string]*record `json:"records,omitempty"` // by item id
	Seq     int64              `json:"seq"`               // of the last report ever
	Events  []companion.Event  `json:"events,omitempty"`  // not told yet
	Seen    seen               `json:"seen"`
	// Inventoried is when the inventory was told last, Untold that it has changed since.
	Inventoried time.Time `json:"inventoried,omitzero"`
	Untold      bool      `json:"untold,omitempty"`
}

// enrolment is what the app knows of its server.
type enrolment struct {
	Server      string `json:"server"` // https://host
	DeviceID    string `json:"deviceID"`
	UserHint    string `json:"userHint"`
	Credential  string `json:"credential"`
	WrapKeyID   string `json:"wrapKeyID"`
	Certificate []byte `json:"certificate"` // of the wrap key
}

// record is what the app knows of one item: what it is doing or did with which revision.
type record struct {
	Item     companion.Item      `json:"item"`
	State    companion.ItemState `json:"state,omitempty"`
	Attempt  int                 `json:"attempt,omitempty"`
	Next     time.Time           `json:"next,omitzero"` // not before
	Error    *companion.Error    `json:"error,omitempty"`
	Observed *companion.Observed `json:"observed,omitempty"`
	At       time.Time           `json:"at,omitzero"`
	Seq      int64               `json:"seq,omitempty"`
	Unsent   bool                `json:"unsent,omitempty"` // the server does not know yet
	// Held is the certificate that the app put under the alias, whatever the revision; UID that of the app that a key was
	// granted to.
	Held string `json:"held,omitempty"`
	UID  int    `json:"uid,omitempty"`
	// Made: the app had the device make a key under the alias, whether it has a certificate or not.
	Made bool `json:"made,omitempty"`
	// Brought: the app put it on the device, in this revision or a former one, and it has not been seen to be gone.
	Brought bool `json:"brought,omitempty"`
}

// done reports whether the item is on the device.
func (r *record) done() bool { return r.Item.Op == companion.OpInstall && r.State.Well() }

// present reports whether something of the item is on the device, be it half, or of a former revision.
func (r *record) present() bool { return r.done() || r.Brought || r.Made || r.Held != "" }

// ended reports whether the server knows that it failed, or that it was removed.
func (r *record) ended() bool {
	return !r.Unsent && (r.State == companion.StateFailed || r.State == companion.StateRemoved)
}

// again puts the item back to the beginning.
func (r *record) again() {
	r.State, r.Attempt, r.Next, r.Error, r.Observed, r.Unsent = "", 0, time.Time{}, nil, nil, false
}

// load reads what is on disk.
func (d *Device) load() error {
	d.state = state{}
	there, err := d.folder.Load(&d.state)
	if err != nil {
		return err
	}
	if there && (d.state.Platform != device.PlatformAndroid || d.state.Phone == nil) {
		return fmt.Errorf("the state folder holds a device of platform %s and none with Android", d.state.Platform)
	}
	if d.state.App.Records == nil {
		d.state.App.Records = map[string]*record{}
	}
	return d.look()
}

// save writes device.json.
func (d *Device) save() error { return d.folder.Save(d.state) }

// wrapKey is the key that secrets are encrypted to.
func (a *app) wrapKey() (*rsa.PrivateKey, error) { return parseWrapKey(a.WrapKey) }

func parseWrapKey(pkcs8 []byte) (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the state holds no RSA wrap key")
	}
	return key, nil
}

func (e *enrolment) certificate() (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the wrap certificate of the state: %w", err)
	}
	return cert, nil
}
