package windows

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/windows/csp"
	"github.com/waxseal/waxseal/internal/cms"
)

// Names of certificate stores in the management tree.
const (
	storeUser   = "User/My"   // CurrentUser\My, the only one that mail programs look at
	storeDevice = "Device/My" // LocalMachine\My
	storeRoot   = "Device/Root"
	storeCA     = "Device/CA"
)

// manufacturer is ./DevInfo/Man of every simulated PC.
const manufacturer = "Waxseal"

// state is device.json.
type state struct {
	device.Info
	MACs     []string    `json:"macs,omitempty"`
	MDM      *enrollment `json:"mdm,omitempty"`
	PC       *csp.PC     `json:"pc,omitempty"`
	Sessions int         `json:"sessions"`         // how many there were ever; session ids count by it
	Messages int         `json:"messages"`         // how many were sent ever; chaos counts by it
	Results  int         `json:"results"`          // how often commands were answered; chaos counts by it
	Gone     string      `json:"gone,omitempty"`   // why the PC is not enrolled any more
	Ending   string      `json:"ending,omitempty"` // what ends the management and is not done: endWipe or endUnenroll

	Asking     map[string]*asking `json:"asking,omitempty"`     // requests for certificates that are under way, by node
	Asked      []string           `json:"asked,omitempty"`      // nodes of those that ended and the server was not told of
	Enrolments int                `json:"enrolments,omitempty"` // how many ended ever; chaos counts by it
}

// enrollment is what the PC knows of its server.
type enrollment struct {
	DeviceID    string    `json:"deviceID"`
	User        string    `json:"user"`
	Type        string    `json:"type"` // Full or Device
	ProviderID  string    `json:"providerID"`
	Name        string    `json:"name"`
	Address     string    `json:"address"`   // of the management service
	EnrollURL   string    `json:"enrollURL"` // of the enrolment service, for renewal
	Certificate []byte    `json:"certificate"`
	Key         []byte    `json:"key"`               // PKCS#8
	NextKey     []byte    `json:"nextKey,omitempty"` // of a renewal that has not been answered
	KeyBits     int       `json:"keyBits"`
	Renew       *renewal  `json:"renew,omitempty"`
	Attempted   time.Time `json:"attempted,omitzero"` // when a renewal was tried last
}

// store is where the client certificate is.
func (e *enrollment) store() string {
	if e.Type == TypeDevice {
		return storeDevice
	}
	return storeUser
}

// systemStore is the name of that place in a provisioning document.
func systemStore(enrollmentType string) string {
	if enrollmentType == TypeDevice {
		return "System"
	}
	return "User"
}

// identity reads certificate and key.
func (e *enrollment) identity() (*identity, error) {
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the MDM certificate of the state: %w", err)
	}
	key, err := parseKey(e.Key)
	if err != nil {
		return nil, err
	}
	return &identity{cert: cert, key: key}, nil
}

func parseKey(der []byte) (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the state holds no RSA key for the MDM certificate")
	}
	return key, nil
}

// load reads what is on disk.
func (d *Device) load() error {
	there, err := d.folder.Load(&d.state)
	if err != nil {
		return err
	}
	if there && d.state.Platform != device.PlatformWindows {
		return fmt.Errorf("the state folder holds a device of platform %s and no PC", d.state.Platform)
	}
	if d.state.PC == nil {
		d.state.PC = csp.New(d.treeConfig())
	}
	d.configure()
	return nil
}

// configure tells the management tree who the PC is.
func (d *Device) configure() { d.state.PC.Configure(d.treeConfig()) }

func (d *Device) treeConfig() csp.Config {
	info := d.state.Info
	c := csp.Config{
		Build: info.OSVersion, HWDevID: info.UDID, DeviceName: info.DeviceName, Manufacturer: manufacturer,
		Model: info.Model, SerialNumber: info.SerialNumber, Decrypt: d.decrypt, Now: d.now, Rules: d.cfg.Rules,
	}
	if d.state.MDM != nil {
		c.DeviceID, c.ProviderID = d.state.MDM.DeviceID, d.state.MDM.ProviderID
	}
	return c
}

// decrypt opens what a server encrypted to the MDM certificate.
func (d *Device) decrypt(enveloped []byte) ([]byte, error) {
	if d.state.MDM == nil {
		return nil, ErrNotEnrolled
	}
	id, err := d.state.MDM.identity()
	if err != nil {
		return nil, err
	}
	return cms.Decrypt(enveloped, id.cert, id.key)
}

// save writes device.json.
func (d *Device) save() error { return d.folder.Save(d.state) }
