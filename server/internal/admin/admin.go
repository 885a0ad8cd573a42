// Package admin is the operator's API: what internal/api declares, over the admin token, described as OpenAPI 3.1 at
// /openapi.json. Every act that changes something, and every refusal, is a line of the audit log.
package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humamux"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/expiry"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	actor = "admin"
	// maxImport bounds one sealed record with its certificates.
	maxImport = 2 << 20
)

// Links makes enrolment links.
type Links interface {
	// CreateLink stores a link for the user and gives its URL, which is known only now. It audits itself.
	CreateLink(ctx context.Context, user model.User, platform profiles.Platform, expires time.Duration) (api.Link, error)
}

// Connectors is what the connectors' endpoint knows.
type Connectors interface {
	Connectors(ctx context.Context) ([]model.Connector, error)
	// CreateToken makes a one-time registration token. It audits itself.
	CreateToken(ctx context.Context) (token string, expires time.Time, err error)
	// KeySet is nil before the first connector published one.
	KeySet(ctx context.Context) (*escrow.SignedKeySet, error)
	// Authorities are the CAs that connectors offer; nil before the first publish.
	Authorities(ctx context.Context) ([]link.CA, error)
}

// Config is what the admin API is made of.
type Config struct {
	Store      Store
	Links      Links
	Connectors Connectors
	// CheckCustom refuses an uploaded profile with keys, passwords or identifiers of ours.
	CheckCustom func(content []byte) error
	// PushTopic is the push certificate's topic; empty without one, and then real devices are never woken.
	PushTopic string
	// ConnectorSilence is how long a connector that polls every 25 s may be silent before it counts as down [2 min].
	ConnectorSilence time.Duration
	// Preview gives the documents of an enrolment as they would be decided now, without any effect; may be nil.
	Preview func(ctx context.Context, enrolmentID string) ([]model.DocumentState, error)
	// Expiring is what ends within a time, soonest first.
	Expiring func(ctx context.Context, within time.Duration) ([]expiry.Item, error)
	// Kick tells connectors that there is a job; may be nil.
	Kick func()
	// TestWait is how long a test of a CA is waited for [60 s], TestTick how often its answer is looked for [250 ms].
	TestWait, TestTick time.Duration
	// Wake has the push worker look for work after a change; it does not block. May be nil.
	Wake func()
	// Refusals audits what strangers are refused, bounded; may be nil.
	Refusals *web.Refusals
	// PublicURL is the base of what partner CAs ask.
	PublicURL string
	// Rand makes the secrets of partner CAs [crypto/rand].
	Rand io.Reader
	// Token is the admin's bearer token.
	Token   string
	Version string
	Clock   func() time.Time
	Logger  *slog.Logger
}

// Service answers the admin API.
type Service struct {
	Config
	tokenHash [sha256.Size]byte
	openAPI   []byte
}

// New makes the service. Only the hash of the token is kept.
func New(c Config) *Service {
	if c.ConnectorSilence == 0 {
		c.ConnectorSilence = 2 * time.Minute
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	if c.TestWait == 0 {
		c.TestWait = time.Minute
	}
	if c.TestTick == 0 {
		c.TestTick = 250 * time.Millisecond
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Wake == nil {
		c.Wake = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{Config: c, tokenHash: sha256.Sum256([]byte(c.Token))}
	s.Token = ""
	return s
}

// Register adds the routes of the API and of its description.
func (s *Service) Register(r *web.Router) error {
	config := huma.DefaultConfig("Waxseal admin API", s.Version)
	// The document is made once, below; huma's own would be made by the first of several concurrent requests.
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	config.Transformers = []huma.Transformer{withoutValues}
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"adminToken": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"adminToken": {}}}
	h := humamux.New(r.Mux(), config)
	h.UseMiddleware(s.authorise)
	s.registerObjects(h)
	s.registerPeople(h)
	s.registerDevices(h)
	s.registerEscrow(h)
	s.registerConnectors(h)
	s.registerAuthorities(h)
	s.registerPartners(h)
	var err error
	if s.openAPI, err = json.Marshal(h.OpenAPI()); err != nil {
		return fmt.Errorf("describing the admin API: %w", err)
	}
	r.Handle("/openapi.json", web.Options{}, s.describe, http.MethodGet)
	return nil
}

// withoutValues keeps what was sent out of the error that answers it: the place is enough, and the value may be the whole
// body, with whatever secret somebody put into it.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if e, ok := v.(*huma.ErrorModel); ok {
		for _, d := range e.Errors {
			d.Value = nil
		}
	}
	return v, nil
}

func (s *Service) describe(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(s.openAPI)
	return nil
}

// authorise compares hashes, so that neither time nor length tells anything of the token.
func (s *Service) authorise(ctx huma.Context, next func(huma.Context)) {
	scheme, token, _ := strings.Cut(ctx.Header("Authorization"), " ")
	sum := sha256.Sum256([]byte(token))
	if strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(sum[:], s.tokenHash[:]) == 1 {
		next(ctx)
		return
	}
	_, w := humamux.Unwrap(ctx)
	if s.Refusals != nil {
		s.Refusals.Note(ctx.Context(), actor, "admin.authorise", ctx.Operation().OperationID, "admin token missing or wrong", nil)
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="waxseal admin"`)
	web.Render(w, web.Errorf(http.StatusUnauthorized, "the admin token is missing or wrong; send the content of the server's admin-token file as a bearer token"), false)
}

// operation is what all operations share.
func operation(id, method, path, summary string) huma.Operation {
	return huma.Operation{OperationID: id, Method: method, Path: api.BasePath + path, Summary: summary}
}

// body is an answer with a JSON body.
type body[T any] struct{ Body T }

// handle registers an operation whose errors become problems: a *api.Problem as it stands, the model's errors by their
// meaning, and others as an internal error whose cause only the log tells.
func handle[I, O any](s *Service, h huma.API, op huma.Operation, f func(context.Context, *I) (*O, error)) {
	huma.Register(h, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

func (s *Service) problem(ctx context.Context, operation string, err error) *api.Problem {
	var p *api.Problem
	if errors.As(err, &p) {
		return p
	}
	e := web.AsError(err)
	if e.Status >= http.StatusInternalServerError {
		s.Logger.ErrorContext(ctx, "admin request failed", "operation", operation, "request", web.RequestID(ctx), "error", err.Error())
	}
	return &api.Problem{Title: http.StatusText(e.Status), Status: e.Status, Detail: e.Detail}
}

// refuse makes a problem with one place.
func refuse(status int, location, format string, args ...any) *api.Problem {
	message := fmt.Sprintf(format, args...)
	p := &api.Problem{Title: http.StatusText(status), Status: status, Detail: message}
	if location != "" {
		p.Errors = []api.ProblemError{{Location: location, Message: message}}
		p.Detail = "the request is refused"
	}
	return p
}

// entry is a line of the audit log for an act that succeeds with the transaction that stores it.
func (s *Service) entry(action, object string, detail map[string]string) model.AuditEntry {
	return model.AuditEntry{At: s.Clock(), Actor: actor, Action: action, Object: object, Outcome: "ok", Detail: detail}
}

// refused audits what was not done. A failing audit log does not turn a refusal into an internal error.
func (s *Service) refused(ctx context.Context, action, object, why string) {
	e := s.entry(action, object, map[string]string{"reason": why})
	e.Outcome = "refused"
	if err := s.Store.AppendAudit(ctx, e); err != nil {
		s.Logger.ErrorContext(ctx, "writing the audit log failed", "action", action, "error", err.Error())
	}
}
