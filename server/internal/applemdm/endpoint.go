// Package applemdm is what Apple devices speak to: the enrolment link, check-in and the command channel.
//
//	GET      /enroll/{token}                      a page for browsers, the enrolment profile for everybody else
//	GET      /enroll/{token}/enroll.mobileconfig  the enrolment profile
//	PUT POST /mdm/apple/checkin                   check-in messages (apple.md section 2)
//	PUT POST /mdm/apple/command                   reports in, commands out (apple.md section 3)
//	PUT POST /mdm/apple                           both, told apart by Content-Type
//
// Nothing here ever answers 401, since that makes a device drop its management and all that came with it. Faults of
// ours are 5xx, what we refuse is 400, and 403 with com.apple.unrecognized.device is for a device whose enrolment ended
// on purpose.
package applemdm

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

// Delivery takes what a device reports and says what it should do next. The report is idempotent by command; command is
// nil when there is nothing to do, and pending then counts what will come by itself. Durable on return.
type Delivery interface {
	Report(ctx context.Context, enr model.Enrolment, r *mdm.Report) (command []byte, pending int, err error)
}

// Devices reads one device; model.ErrNotFound.
type Devices interface {
	DeviceByID(ctx context.Context, id string) (model.Device, error)
}

// Config is what the endpoint needs. Fields without a default must be set.
type Config struct {
	Identity  *identity.Service
	Authority *identity.Authority
	Sender    *sender.Sender
	Delivery  Delivery
	Devices   Devices
	// Bootstrap keeps the bootstrap tokens of Macs; nil: none is kept.
	Bootstrap Bootstrap
	Refusals  *web.Refusals
	// Profile makes the bytes of an enrolment profile for a challenge, unsigned or signed.
	Profile func(challenge, enrolmentID string) ([]byte, error)
	// Keep stores a message that could not be parsed, one for each enrolment; may be nil.
	Keep func(ctx context.Context, enrolmentID string, kind string, body []byte) error
	// Kick wakes the push worker and the connectors after a commit; may be nil.
	Kick func()
	// Raise counts messages that could not be parsed, for metrics; may be nil.
	Raise func(kind string)
	// Organization is named on the enrolment page.
	Organization string
	// PushTopic is the push certificate's topic; empty without one, and then devices cannot be woken.
	PushTopic string
	Clock     func() time.Time
	Logger    *slog.Logger
}

// Endpoint serves the routes.
type Endpoint struct{ cfg Config }

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
	if cfg.Raise == nil {
		cfg.Raise = func(string) {}
	}
	if cfg.Keep == nil {
		cfg.Keep = func(context.Context, string, string, []byte) error { return nil }
	}
	return &Endpoint{cfg: cfg}
}

// Routes registers everything.
func (e *Endpoint) Routes(r *web.Router) {
	open := web.Options{Text: true, Limited: true}
	r.Handle("/enroll/{token}", open, e.enroll, http.MethodGet, http.MethodHead)
	r.Handle("/enroll/{token}/enroll.mobileconfig", open, e.download, http.MethodGet, http.MethodHead)
	device := web.Options{Text: true, MaxBody: web.MaxMDM}
	for pattern, h := range map[string]web.Handler{"/mdm/apple/checkin": e.checkin, "/mdm/apple/command": e.either, "/mdm/apple": e.either} {
		r.Handle(pattern, device, h, http.MethodPut, http.MethodPost)
		r.Handle(pattern, open, help, http.MethodGet, http.MethodHead)
	}
}
