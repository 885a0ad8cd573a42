package androidmdm

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// refusal is a companion.Problem as an error.
type refusal struct{ companion.Problem }

func (r *refusal) Error() string { return r.Detail }

// AsProblem is how errors of Delivery say what the app can do something about.
func (r *refusal) AsProblem() companion.Problem { return r.Problem }

func refuse(code, detail string) error {
	return &refusal{companion.Problem{Code: code, Detail: detail}}
}

// problems renders errors in the protocol's words.
func (e *Endpoint) problems(serve web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := serve(w, r); err != nil {
			return e.fail(w, r, "", err)
		}
		return nil
	}
}

// fail logs or audits an error and writes it. enrolment is whose request it is, where that is proven.
func (e *Endpoint) fail(w http.ResponseWriter, r *http.Request, enrolment string, err error) error {
	p := problemOf(err)
	status := companion.StatusOf(p.Code)
	if status >= http.StatusInternalServerError {
		e.cfg.Logger.ErrorContext(r.Context(), "a companion app could not be served", "code", p.Code, "error", err, "request", web.RequestID(r.Context()))
	}
	e.note(r.Context(), enrolment, p)
	if status == http.StatusUpgradeRequired && r.ProtoMajor == 1 { // RFC 9110 section 15.5.22; HTTP/2 knows no such header
		w.Header().Set("Upgrade", "waxseal-companion/"+strconv.Itoa(companion.Protocol))
		w.Header().Set("Connection", "Upgrade")
	}
	return write(w, status, p)
}

// note audits what broke a rule; what merely comes too early or too late is no offence.
func (e *Endpoint) note(ctx context.Context, enrolment string, p companion.Problem) {
	switch p.Code {
	case companion.CodeWaitingForConnector, companion.CodeRevisionStale, companion.CodeItemGone, companion.CodeEnded,
		companion.CodeInternal, companion.CodeUnavailable:
		return
	}
	actor := "unknown device"
	if enrolment != "" {
		actor = "enrolment " + enrolment
	}
	e.cfg.Refusals.Note(ctx, actor, "companion.message", enrolment, p.Detail, map[string]string{"code": p.Code})
}

func problemOf(err error) companion.Problem {
	var known interface{ AsProblem() companion.Problem }
	var broken *identity.Refusal
	var answer *web.Error
	switch {
	case errors.As(err, &known):
		return known.AsProblem()
	case errors.As(err, &broken):
		return companion.Problem{Code: companion.CodeMalformed, Detail: broken.Reason}
	case errors.Is(err, identity.ErrPending):
		return companion.Problem{Code: companion.CodeUnavailable, Detail: "no connector has answered yet; try again in a minute, the token stays usable", RetryAfterSeconds: 60}
	case errors.Is(err, model.ErrConflict):
		return companion.Problem{Code: companion.CodeUnavailable, Detail: "the same enrolment is busy; send it again", RetryAfterSeconds: 1}
	}
	if answer = web.AsError(err); answer.Status == http.StatusRequestEntityTooLarge {
		return companion.Problem{Code: companion.CodeTooLarge, Detail: answer.Detail}
	}
	if answer.Status == http.StatusBadRequest {
		return companion.Problem{Code: companion.CodeMalformed, Detail: answer.Detail}
	}
	return companion.Problem{Code: companion.CodeInternal, Detail: "the server failed; send it again later"}
}

func write(w http.ResponseWriter, status int, p companion.Problem) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", companion.TypeProblem)
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	if p.RetryAfterSeconds > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfterSeconds))
	}
	w.WriteHeader(status)
	_, _ = w.Write(raw)
	return nil
}

// malformed is a body that cannot be read.
func malformed(err error) error { return refuse(companion.CodeMalformed, err.Error()) }
