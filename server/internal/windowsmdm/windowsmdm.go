// Package windowsmdm is what Windows PCs speak to: discovery, sign-in and enrolment (MS-MDE2, windows.md section 1), and
// the management session (section 2).
//
//	GET  /EnrollmentServer/Discovery.svc   an empty 200: there is a server
//	POST /EnrollmentServer/Discovery.svc   Discover: how to prove oneself, and where
//	GET  /EnrollmentServer/Auth            Federated only: the sign-in page, in a web view of Windows
//	POST /EnrollmentServer/Auth            user name and enrolment secret in, a token for the device out
//	POST /EnrollmentServer/Policy.svc      GetPolicies: which key to make
//	POST /EnrollmentServer/Enrollment.svc  RequestSecurityToken: a request in, the provisioning document out; renewal too
//	POST /ManagementServer/MDM.svc         a message of the management session in, the next commands out
//
// Every answer is complete before its first byte is written and carries Content-Length, since Windows refuses chunked
// ones (windows.md section 0). What is refused is a SOAP fault, audited, and changes nothing.
package windowsmdm

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

// The addresses of enrolment. Windows fixes the first one; the others follow common servers (windows.md section 0).
const (
	DiscoveryPath  = "/EnrollmentServer/Discovery.svc"
	AuthPath       = "/EnrollmentServer/Auth"
	PolicyPath     = "/EnrollmentServer/Policy.svc"
	EnrollmentPath = "/EnrollmentServer/Enrollment.svc"
)

// SettingsApp is where the web view of the Settings app wants its token posted (windows.md section 1.4).
const SettingsApp = "ms-app://windows.immersivecontrolpanel"

const (
	// maxBody caps a SOAP message; real ones stay below 20 KiB.
	maxBody = 256 << 10
	// maxForm caps the filled-in sign-in page.
	maxForm = 16 << 10
	// defaultWait is how long an answer is held for the connector.
	defaultWait = 25 * time.Second
	// defaultRenewWindow is the longest that Microsoft's page on certificate renewal advises.
	defaultRenewWindow = 60 * 24 * time.Hour
	defaultValidity    = 365 * 24 * time.Hour
)

// Users reads one user; model.ErrNotFound.
type Users interface {
	UserByID(ctx context.Context, id string) (model.User, error)
}

// Config is what the endpoint needs. Fields without a default must be set.
type Config struct {
	Identity  *identity.Service
	Authority *identity.Authority
	// Sender finds whose messages those of the management session are.
	Sender   *sender.Sender
	Delivery Delivery
	Sessions Sessions
	Devices  Devices
	// ProviderID is what provisioning documents call this server.
	ProviderID string
	Users      Users
	Refusals   *web.Refusals
	// URL is the address of the enrolment services, without a slash at the end. Policy and enrolment must share one host.
	URL func() string
	// Provision fills in the document that makes a device ours, for a certificate in the store "User" or "System".
	Provision func(ctx context.Context, enr model.Enrolment, certificate []byte, store string, user model.User) (mde.ProvisioningDocument, error)

	// AuthPolicy is preferred where the device can do both; mde.AuthOnPremise by default.
	AuthPolicy string
	// AppRUs are the addresses that the sign-in page may hand a token to; SettingsApp by default.
	AppRUs []string
	// AppRUPrefix also lets longer addresses below those of AppRUs through.
	AppRUPrefix bool
	// CryptoProviders are asked for in this order; none leaves the choice to Windows.
	CryptoProviders []string
	// Validity is what GetPolicies says of the certificates to come; a year by default.
	Validity time.Duration
	// RenewWindow is how long before its end a certificate can be renewed; 60 days by default.
	RenewWindow time.Duration
	// FaultStatus is the HTTP status of SOAP faults; 200 by default, as Fleet sends them (unverified, windows.md section 1.9).
	FaultStatus int
	// LowerCaseFaults writes the element names of faults as Microsoft's pages print them (unverified, section 1.9).
	LowerCaseFaults bool
	// Wait is how long an answer is held for the connector; 25 s by default.
	Wait time.Duration
	// Kick wakes the connectors after a commit; may be nil.
	Kick func()
	// Organization is named on the sign-in page.
	Organization string
	Clock        func() time.Time
	// Rand makes the nonces of pages; crypto/rand by default.
	Rand   io.Reader
	Logger *slog.Logger
}

// Endpoint serves the routes.
type Endpoint struct{ cfg Config }

// New makes the endpoint.
func New(cfg Config) *Endpoint {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Kick == nil {
		cfg.Kick = func() {}
	}
	cfg.defaults()
	return &Endpoint{cfg: cfg}
}

func (c *Config) defaults() {
	if c.AuthPolicy == "" {
		c.AuthPolicy = mde.AuthOnPremise
	}
	if len(c.AppRUs) == 0 {
		c.AppRUs = []string{SettingsApp}
	}
	if c.Validity == 0 {
		c.Validity = defaultValidity
	}
	if c.RenewWindow == 0 {
		c.RenewWindow = defaultRenewWindow
	}
	if c.FaultStatus == 0 {
		c.FaultStatus = http.StatusOK
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
}

// Routes registers everything.
func (e *Endpoint) Routes(r *web.Router) {
	open := web.Options{Text: true, Limited: true}
	r.Handle(DiscoveryPath, open, there, http.MethodGet, http.MethodHead)
	r.Handle(AuthPath, open, e.signInPage, http.MethodGet, http.MethodHead)
	r.Handle(AuthPath, web.Options{Text: true, Limited: true, MaxBody: maxForm}, e.signIn, http.MethodPost)
	soap := web.Options{Text: true, Limited: true, MaxBody: maxBody}
	r.Handle(DiscoveryPath, soap, e.soap(discoverStep, e.discover), http.MethodPost)
	r.Handle(PolicyPath, soap, e.soap(policyStep, e.policies), http.MethodPost)
	r.Handle(EnrollmentPath, soap, e.soap(enrollStep, e.enroll), http.MethodPost)
	e.manageRoutes(r)
}

// ready reports whether a device that asks now could get a certificate; model.ErrNotFound when not.
func (e *Endpoint) ready(ctx context.Context) error {
	_, err := e.cfg.Authority.DeviceCA(ctx)
	return err
}

// send writes a whole answer. None is for a cache: some carry secrets.
func send(w http.ResponseWriter, status int, kind string, body []byte) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", kind)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // lost on the way: the device asks again and gets the same certificate
}

// gone reports whether an error says that a link or token does not work any more.
func gone(err error) bool { return errors.Is(err, model.ErrSpent) || errors.Is(err, model.ErrExpired) }
