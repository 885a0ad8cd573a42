// Package androidmdm is what the companion app on an Android device speaks to (docs/protocols/android.md).
//
//	POST /agent/v1/enroll                  a token and a wrap key in, a credential out
//	POST /agent/v1/renew                   a further wrap key in, its certificate out
//	GET  /agent/v1/state                   what should be on the device; waits for a change
//	POST /agent/v1/items/{item}/payload    an identity's key, in an envelope to the wrap key
//	POST /agent/v1/items/{item}/csr        a request for the key that the device made, its certificate out
//	PUT  /agent/v1/items/{item}/status     what became of an item
//	POST /agent/v1/inventory               what is on the device
//	POST /agent/v1/events                  what happened on the device
//	POST /agent/v1/unenroll                the device's goodbye
//
// A refusal is a companion.Problem, and changes nothing.
package androidmdm

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// Delivery knows what should be on a device and takes what became of it. Everything is idempotent and durable on return;
// a *companion.Problem in the chain of an error is something that the app can do something about.
type Delivery interface {
	State(ctx context.Context, enr model.Enrolment, known string) (state companion.State, changed bool, err error)
	Envelope(ctx context.Context, enr model.Enrolment, item string, r companion.PayloadRequest) (companion.PayloadResponse, error)
	// Request is the id of the request that the certificate of an item's key is for; Asking notes that it takes its time.
	Request(ctx context.Context, enr model.Enrolment, item, revision string) (string, error)
	Asking(ctx context.Context, enr model.Enrolment, item, revision string) error
	Report(ctx context.Context, enr model.Enrolment, item string, r companion.StatusReport) error
	Inventory(ctx context.Context, enr model.Enrolment, inv companion.Inventory) error
}

// Issuance certifies devices' own keys. Errors are *issuance.Fault for what gets no certificate, issuance.ErrPending when no
// connector has answered in time, and faults of the machine.
type Issuance interface {
	BeginFor(ctx context.Context, enrolmentID, requestID string, csr *x509.CertificateRequest) (model.SCEPRequest, error)
	Answer(ctx context.Context, r model.SCEPRequest) (model.SCEPRequest, error)
}

// Users reads one user; model.ErrNotFound.
type Users interface {
	UserByID(ctx context.Context, id string) (model.User, error)
}

// Config is what the endpoint needs. Fields without a default must be set.
type Config struct {
	Identity *identity.Service
	// Authority tells whether anybody can certify wrap keys yet.
	Authority *identity.Authority
	Delivery  Delivery
	Issuance  Issuance
	Users     Users
	Refusals  *web.Refusals
	Auditor   web.Auditor
	// Kick wakes the connectors after a commit; may be nil.
	Kick func()
	// Ticks makes the ticker by which a long poll looks again; one of a second by default.
	Ticks func() (ticks <-chan time.Time, stop func())
	// Wait is how long an enrolment, or a request for a certificate, is held for the connector; 25 s by default.
	Wait   time.Duration
	Clock  func() time.Time
	Logger *slog.Logger
}

// Endpoint serves the routes.
type Endpoint struct {
	cfg     Config
	polls   polls
	stop    sync.Once
	stopped chan struct{}
}

const (
	lookEvery   = time.Second
	defaultWait = 25 * time.Second
	// maxPoll is the longest that a device may wait for a change.
	maxPoll = 55 * time.Second
	// pollInterval is told to apps whose long polls do not come through.
	pollInterval, pollJitter = 900, 20
)

// New makes the endpoint.
func New(cfg Config) *Endpoint {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Kick == nil {
		cfg.Kick = func() {}
	}
	if cfg.Wait == 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Ticks == nil {
		cfg.Ticks = func() (<-chan time.Time, func()) {
			t := time.NewTicker(lookEvery)
			return t.C, t.Stop
		}
	}
	return &Endpoint{cfg: cfg, stopped: make(chan struct{})}
}

// Stop ends the long polls of this process, so that a shutdown need not wait for them.
func (e *Endpoint) Stop() { e.stop.Do(func() { close(e.stopped) }) }

// Routes registers everything.
func (e *Endpoint) Routes(r *web.Router) {
	r.Handle(companion.PathEnroll, web.Options{Text: true, Limited: true, MaxBody: companion.MaxRequest}, e.problems(e.enroll), http.MethodPost)
	device := web.Options{Text: true, MaxBody: companion.MaxRequest}
	for _, route := range []struct {
		pattern, method string
		serve           func(context.Context, call) (any, error)
	}{
		{companion.PathRenew, http.MethodPost, e.renew},
		{companion.PathState, http.MethodGet, e.state},
		{companion.PathPayload, http.MethodPost, e.payload},
		{companion.PathCSR, http.MethodPost, e.csr},
		{companion.PathStatus, http.MethodPut, e.status},
		{companion.PathInventory, http.MethodPost, e.inventory},
		{companion.PathEvents, http.MethodPost, e.events},
		{companion.PathUnenroll, http.MethodPost, e.unenroll},
	} {
		r.Handle(route.pattern, device, e.problems(e.authenticated(route.serve)), route.method)
	}
}

// call is a request whose sender is proven.
type call struct {
	enr     model.Enrolment
	request *http.Request
	body    []byte
	item    string
}

// authenticated finds the enrolment of the bearer credential.
func (e *Endpoint) authenticated(serve func(context.Context, call) (any, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		enr, err := e.sender(r)
		if err != nil {
			return err
		}
		body, err := web.ReadBody(r)
		if err != nil {
			return e.fail(w, r, enr.ID, err)
		}
		answer, err := serve(r.Context(), call{enr: enr, request: r, body: body, item: web.Vars(r)["item"]})
		if err != nil {
			return e.fail(w, r, enr.ID, err)
		}
		return reply(w, http.StatusOK, answer)
	}
}

// sender is whose bearer credential the request carries.
func (e *Endpoint) sender(r *http.Request) (model.Enrolment, error) {
	credential, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return model.Enrolment{}, refuse(companion.CodeCredentialInvalid, "the request carries no bearer credential; enrol first")
	}
	enr, err := e.cfg.Identity.Bearer(context.WithoutCancel(r.Context()), credential)
	if errors.Is(err, model.ErrNotFound) || (err == nil && enr.Platform != profiles.Android) {
		return model.Enrolment{}, refuse(companion.CodeCredentialInvalid, "the bearer credential is not known here")
	}
	if err != nil {
		return model.Enrolment{}, err
	}
	web.Annotate(r.Context(), enr.ID, enr.DeviceID)
	if enr.State == model.EnrolmentEnded {
		return enr, refuse(companion.CodeEnded, "the enrolment of this device is over; remove what is left, and enrol again with a new link")
	}
	return enr, nil
}

func reply(w http.ResponseWriter, status int, answer any) error {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	switch a := answer.(type) {
	case companion.State:
		h.Set("ETag", strconv.Quote(a.Generation))
	case unchanged:
		h.Set("ETag", strconv.Quote(string(a)))
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	h.Set("Content-Type", companion.TypeMessage)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // lost on the way: the app asks again
	return nil
}
