// Package scep gives devices their identity by SCEP (RFC 8894). The server is a registration authority only: it opens
// the request with its RA key, checks it against the challenge, and asks a connector, which alone can certify.
//
//	GET      /scep?operation=GetCACaps
//	GET      /scep?operation=GetCACert                RA certificate, then the device CA
//	GET      /scep?operation=PKIOperation&message=…   base64
//	POST     /scep?operation=PKIOperation
//
// The same at /scep/pkiclient.exe, which some clients insist on; and at /scep/{ca}, with or without /pkiclient.exe, for mail
// certificates of that CA, with the challenges of SCEPCertificate profiles.
package scep

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// capabilities of GetCACaps (RFC 8894 section 3.5.2). iOS gives up unless SHA-1 or better is named.
// Certificates of profiles are renewed by RenewalReq, devices' identities by a profile with a new challenge.
const (
	capabilities = "POSTPKIOperation\nSHA-256\nSHA-512\nSHA-1\nAES\nDES3\nSCEPStandard\n"
	canRenew     = capabilities + "Renewal\n"
)

// Key is the RA key: it signs answers and opens requests.
type Key interface {
	crypto.Signer
	crypto.Decrypter
}

// Config is what the endpoint needs; Wait, Kick and Logger have defaults.
type Config struct {
	Identity  *identity.Service
	Authority *identity.Authority
	RAKey     Key
	// Renew takes a challenge for a further identity of a device that has one; model.ErrNotFound: it is none. Errors are those
	// of identity.Service.Redeem. May be nil.
	Renew func(ctx context.Context, challenge string, csr *x509.CertificateRequest) (model.Challenge, error)
	// Issuance and Authorities are needed for SCEPCertificate profiles.
	Issuance    Issuance
	Authorities Authorities
	Refusals    *web.Refusals
	// Wait is how long a request waits for a connector [25 s].
	Wait time.Duration
	// Kick tells the connectors' long polls that there is a job; may be nil.
	Kick   func()
	Logger *slog.Logger
}

// Endpoint serves the routes.
type Endpoint struct{ cfg Config }

// New makes the endpoint.
func New(cfg Config) *Endpoint {
	if cfg.Wait == 0 {
		cfg.Wait = 25 * time.Second
	}
	if cfg.Kick == nil {
		cfg.Kick = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Endpoint{cfg: cfg}
}

// Routes registers everything.
func (e *Endpoint) Routes(r *web.Router) {
	opts := web.Options{Text: true, Limited: true, MaxBody: web.MaxSCEP}
	for _, pattern := range []string{"/scep", "/scep/pkiclient.exe"} {
		r.Handle(pattern, opts, e.ofDevices, http.MethodGet, http.MethodPost)
	}
	if e.cfg.Issuance == nil {
		return
	}
	for _, pattern := range []string{"/scep/{ca}", "/scep/{ca}/pkiclient.exe"} {
		r.Handle(pattern, opts, e.ofProfile, http.MethodGet, http.MethodPost)
	}
}

// ofDevices serves the device CA.
func (e *Endpoint) ofDevices(w http.ResponseWriter, r *http.Request) error {
	_, ca, err := e.authority(r.Context())
	if err != nil && r.URL.Query().Get("operation") != "GetCACaps" {
		return err
	}
	return e.answer(w, r, capabilities, []*x509.Certificate{ca}, e.identify)
}

// enrolment brings an opened request to its certificate. A *refused goes back to the client, and errPending tells it to
// poll.
type enrolment func(ctx context.Context, req *scepmsg.Request) (*x509.Certificate, []*x509.Certificate, error)

func (e *Endpoint) answer(w http.ResponseWriter, r *http.Request, caps string, chain []*x509.Certificate, enrol enrolment) error {
	query := r.URL.Query()
	switch operation := query.Get("operation"); {
	case operation == "GetCACaps" && r.Method == http.MethodGet:
		send(w, "text/plain", []byte(caps))
		return nil
	case operation == "GetCACert" && r.Method == http.MethodGet:
		return e.certificates(w, r, chain)
	case operation == "PKIOperation":
		message, err := message(r)
		if err != nil {
			return err
		}
		return e.operate(w, r, message, enrol)
	}
	return web.Errorf(http.StatusBadRequest, "operation: GetCACaps, GetCACert and PKIOperation are answered here")
}

func send(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client repeats what it did not get
}

// message reads the request's message: the body of a POST, base64 in the query of a GET. A plus sign that a client did
// not escape has become a space there.
func message(r *http.Request) ([]byte, error) {
	if r.Method == http.MethodPost {
		return web.ReadBody(r)
	}
	text := strings.ReplaceAll(r.URL.Query().Get("message"), " ", "+")
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(der) > web.MaxSCEP {
		return nil, web.Errorf(http.StatusBadRequest, "message: it is not base64 of a SCEP message")
	}
	return der, nil
}

// certificates answers GetCACert.
func (e *Endpoint) certificates(w http.ResponseWriter, r *http.Request, chain []*x509.Certificate) error {
	ra, issuer, err := e.authority(r.Context())
	if err != nil {
		return err
	}
	der, err := bag(ra, issuer, chain)
	if err != nil {
		return err
	}
	send(w, "application/x-x509-ca-ra-cert", der)
	return nil
}

func (e *Endpoint) authority(ctx context.Context) (ra, ca *x509.Certificate, err error) {
	ra, err = e.cfg.Authority.RA(ctx)
	if err == nil {
		ca, err = e.cfg.Authority.DeviceCA(ctx)
	}
	if errors.Is(err, model.ErrNotFound) {
		return nil, nil, web.Hide(http.StatusServiceUnavailable,
			"no connector has registered with this server yet, and only it can certify devices; run waxseal-connector init and run", err)
	}
	return ra, ca, err
}
