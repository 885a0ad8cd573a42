package windowsmdm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// tryAgain is what a device hears when the connector took too long; the link stays usable.
const tryAgain = "no connector has answered yet; try again in a minute, the enrolment link stays usable"

// fault is a request that gets a SOAP fault (windows.md section 1.9). The reason is shown, audited and logged, so it
// holds no secret; the cause is logged only.
type fault struct {
	subcode mde.Subcode
	detail  mde.ErrorType
	reason  string
	// enrolment is whose request it is, where that is proven.
	enrolment string
	cause     error
}

func (f *fault) Error() string { return f.reason }

func (f *fault) Unwrap() error { return f.cause }

// ours reports whether the fault lies with the server and not with the request.
func (f *fault) ours() bool {
	return f.subcode == mde.EnrollmentServer && f.detail != mde.InvalidEnrollmentData || f.subcode == mde.InternalServiceFault
}

func refuse(code mde.Subcode, reason string) error { return &fault{subcode: code, reason: reason} }

// refuseBecause is for rules that Windows has a name for.
func refuseBecause(code mde.Subcode, detail mde.ErrorType, reason string) error {
	return &fault{subcode: code, detail: detail, reason: reason}
}

// refuseAs gives the sentence of an identity.Refusal the code of the step that it happened in; other errors stay.
func refuseAs(code mde.Subcode, err error) error {
	var refusal *identity.Refusal
	if errors.As(err, &refusal) {
		return &fault{subcode: code, reason: refusal.Reason}
	}
	return err
}

// faultOf turns whatever a step returned into a fault; an unknown error is ours and says nothing of itself outside.
func faultOf(err error) *fault {
	var known *fault
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, identity.ErrPending):
		return &fault{subcode: mde.EnrollmentServer, detail: mde.InMaintenance, reason: tryAgain, cause: err}
	case errors.Is(err, model.ErrConflict):
		return &fault{subcode: mde.EnrollmentServer, detail: mde.InMaintenance, reason: "the same enrolment is busy; try again in a minute", cause: err}
	}
	return &fault{subcode: mde.EnrollmentServer, reason: "the server failed; its log says why under the trace id", cause: err}
}

// step is one kind of request: the action of its answers and what its refusals are called in the audit log.
type step struct{ action, audit string }

var (
	discoverStep = step{mde.ActionDiscoverResponse, "mde.discover"}
	policyStep   = step{mde.ActionGetPoliciesResponse, "mde.policies"}
	enrollStep   = step{mde.ActionTokenResponse, "mde.enrol"}
)

// soap serves one step: a message in, a message or a fault out.
func (e *Endpoint) soap(s step, serve func(context.Context, *mde.Request) ([]byte, error)) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		req, err := decode(r)
		var answer []byte
		if err == nil {
			answer, err = guarded(serve)(r.Context(), req)
		}
		if err != nil {
			return e.fail(w, r, s, req.MessageID, faultOf(err))
		}
		send(w, http.StatusOK, mde.ContentType, answer)
		return nil
	}
}

// decode never returns nil, so that a fault can name the message where that much was read.
func decode(r *http.Request) (*mde.Request, error) {
	body, err := web.ReadBody(r)
	if err != nil {
		return &mde.Request{}, &fault{subcode: mde.MessageFormat, reason: web.AsError(err).Detail, cause: err}
	}
	req, err := mde.Decode(body)
	if err != nil {
		return &mde.Request{}, &fault{subcode: mde.MessageFormat, reason: "the message cannot be read: " + err.Error()}
	}
	return req, nil
}

// guarded turns a panic into the fault that Windows has for it; without, the device would get an answer it cannot read.
func guarded(serve func(context.Context, *mde.Request) ([]byte, error)) func(context.Context, *mde.Request) ([]byte, error) {
	return func(ctx context.Context, req *mde.Request) (answer []byte, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = &fault{subcode: mde.InternalServiceFault, reason: "the server failed; its log says why under the trace id", cause: panicked{p, debug.Stack()}}
			}
		}()
		return serve(ctx, req)
	}
}

// fail audits or logs a fault and writes it.
func (e *Endpoint) fail(w http.ResponseWriter, r *http.Request, s step, relatesTo string, f *fault) error {
	ctx := r.Context()
	if f.ours() {
		e.cfg.Logger.ErrorContext(ctx, "an enrolment step failed", "step", s.audit, "reason", f.reason, "error", f.cause, "request", web.RequestID(ctx))
	} else {
		e.cfg.Refusals.Note(ctx, actor(f.enrolment), s.audit, f.enrolment, f.reason, nil)
	}
	body, err := mde.FaultResponse(relatesTo, s.action, mde.Fault{Subcode: f.subcode, Detail: f.detail, Reason: f.reason,
		TraceID: web.RequestID(ctx), LowerCase: e.cfg.LowerCaseFaults})
	if err != nil {
		return err
	}
	send(w, e.cfg.FaultStatus, mde.ContentType, body)
	return nil
}

func actor(enrolmentID string) string {
	if enrolmentID == "" {
		return "unknown device"
	}
	return "enrolment " + enrolmentID
}

// panicked is a panic as an error, with where it happened.
type panicked struct {
	value any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }
