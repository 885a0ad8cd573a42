// Package csp is the management tree of a simulated Windows PC: the configuration service providers on which OMA DM
// commands act, and the certificate stores and policies behind them (windows.md sections 2.4 and 3 to 6).
//
//	ClientCertificateInstall     PFX files and SCEP requests
//	RootCATrustedCertificates    trusted CAs
//	CertificateStore             the same stores seen from elsewhere, and the renewal settings of the MDM certificate
//	DMClient                     the management client itself
//	Policy                       ingested ADMX files and the policies that they define
//	RemoteWipe, DevInfo, DevDetail, DeviceStatus
//
// Every node stands in a table (type row) with what Microsoft's DDF files say of it: which commands it takes, its format,
// its default. What the DDF does not say is a function beside the row.
//
// The package knows nothing of HTTP and sessions. Where Microsoft does not say what Windows does, Rules decide.
package csp

import (
	"strconv"
	"strings"
	"time"
)

// Config is what the PC is, and what it needs from outside.
type Config struct {
	// Build is the version of Windows in four parts ("10.0.22631.3007").
	Build string
	// DeviceID names the enrolment, HWDevID the hardware, ProviderID the management server.
	DeviceID, HWDevID, ProviderID string
	DeviceName                    string
	Manufacturer, Model           string
	SerialNumber                  string
	// Decrypt opens a CMS EnvelopedData with the key of the MDM certificate (PFXCertPasswordEncryptionType 1).
	Decrypt func(cms []byte) ([]byte, error)
	// Now is the PC's clock.
	Now func() time.Time
	// Rules choose between the behaviours of which nobody knows which one Windows has.
	Rules Rules
}

// Rules are what windows.md section 11 lists as not verified. The zero value is the most likely behaviour.
type Rules struct {
	// OutsideAtomic is the status of a write to a PFX, SCEP or renewal node outside an Atomic: 405 or 500. 0 accepts it.
	OutsideAtomic int `json:"outsideAtomic,omitempty"`
	// NoUser is the status of every command on ./User while the enrolled user is not logged on: 404, 405; 0 is 500.
	NoUser int `json:"noUser,omitempty"`
	// ReplaceMissing is the status of a Replace where a provider creates nothing by it: 405; 0 is 404.
	ReplaceMissing int `json:"replaceMissing,omitempty"`
	// Added is the status of a successful Add: 201; 0 is 200.
	Added int `json:"added,omitempty"`
	// Executed is the status of a successful Exec: 200; 0 is 202.
	Executed int `json:"executed,omitempty"`
	// KeepNode leaves the node of a certificate that its user deleted; otherwise it goes with the certificate.
	KeepNode bool `json:"keepNode,omitempty"`
	// StrictExportable fails an import into the TPM or Hello whose PFXKeyExportable was left out, since its default is true.
	StrictExportable bool `json:"strictExportable,omitempty"`
	// NoTPM makes a PC without a TPM.
	NoTPM bool `json:"noTPM,omitempty"`
}

// or is the rule's status, or the usual one.
func or(rule, usual int) int {
	if rule != 0 {
		return rule
	}
	return usual
}

// PC is the management tree with the certificate stores. It is not safe for concurrent use. Its JSON form is everything
// that management changed, private keys included, so that it belongs into a file that only its owner reads.
type PC struct {
	cfg       Config
	providers []*provider
	state     state
}

// New makes the tree of a PC on which nothing is installed and whose enrolled user is logged on.
func New(cfg Config) *PC {
	p := &PC{state: state{login: "user"}}
	p.Configure(cfg)
	return p
}

// Configure gives the PC what its JSON form does not hold.
func (p *PC) Configure(cfg Config) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p.cfg = cfg
	p.providers = providers()
	if p.state.nodes == nil {
		p.state.nodes = map[string]node{}
	}
}

// SetLogin says who is logged on: "user" (the enrolled one), "others" or "none" (windows.md section 2.3, LoginStatus).
func (p *PC) SetLogin(status string) { p.state.login = status }

// Login is what SetLogin said last.
func (p *PC) Login() string { return p.state.login }

// Unenrolled drops what goes away with the enrolment: the certificates and keys that management installed, the policies,
// the settings of the management client (windows.md section 2.8).
func (p *PC) Unenrolled() { p.state = state{login: p.state.login, nodes: map[string]node{}} }

// Effects are what commands ask of the PC beyond its tree.
type Effects struct {
	// Unenroll ends the management; commands behind it are not executed.
	Unenroll bool
	// Wipe resets the PC.
	Wipe bool
	// Renew asks for a new MDM certificate at once.
	Renew bool
	// SCEP are the ids of certificates to enrol, for SCEPInstall and SCEPDone.
	SCEP []string
}

func (e *Effects) merge(other Effects) {
	e.Unenroll = e.Unenroll || other.Unenroll
	e.Wipe = e.Wipe || other.Wipe
	e.Renew = e.Renew || other.Renew
	e.SCEP = append(e.SCEP, other.SCEP...)
}

// buildModernPFX is Windows 10 1709, the first that opens PFX files under AES (windows.md section 4).
const buildModernPFX = 16299

// build is the third part of the version. A version that is not four parts is a new one.
func (c Config) build() int {
	parts := strings.Split(c.Build, ".")
	if len(parts) < 3 {
		return 1 << 20
	}
	n, err := strconv.Atoi(parts[2])
	if err != nil {
		return 1 << 20
	}
	return n
}
