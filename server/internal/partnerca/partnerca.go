// Package partnerca lets certification authorities of others ask this server whether a SCEP request is right, in the words of
// Microsoft's SCEP validation API, so that a CA built on Microsoft's libraries needs other settings and no other code
// (intune-smime.md section 7; docs/protocols/partner-ca.md). Nothing here certifies anything: the partner does.
//
//	POST /{tenant}/oauth2/v2.0/token                  OAuth 2.0 client credentials; also /oauth2/token, as older libraries ask
//	GET  /{tenant}/v2.0/.well-known/openid-configuration, /common/discovery/instance
//	GET  /v1.0/servicePrincipals/appId={app}/endpoints     where the services are; also /{tenant}/servicePrincipalsByAppId/…
//	POST /partnerca/ScepRequestValidationFEService/ScepActions/{validateRequest,successNotification,failureNotification}
//	POST /partnerca/PkiConnectorFEService/CertificateAuthorityRequests/{downloadRevocationRequests,uploadRevocationResults}
package partnerca

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	// maxBody is far above a request of 8192 bits with names.
	maxBody = 64 << 10
	// Prefix is where the services are; discovery tells partners.
	Prefix = "/partnerca"
	// The services by the names that libraries look for (IntuneScepValidator and IntuneRevocationClient).
	validationService = "ScepRequestValidationFEService"
	revocationService = "PkiConnectorFEService"
	// What the libraries of today speak.
	validationVersion = "2018-02-20"
	revocationVersion = "5019-05-05"
)

// Store is what partners need of the database. Every method is one transaction, durable on return, and audits itself.
type Store interface {
	// PartnerByApp finds the partner of an app id; model.ErrNotFound.
	PartnerByApp(ctx context.Context, appID string) (model.Partner, error)
	// JobByID reads one; model.ErrNotFound.
	JobByID(ctx context.Context, id string) (model.Job, error)
	// NotePartnerCertificate keeps what a partner tells of a certificate, once. model.ErrNotFound: there is no such request;
	// model.ErrConflict: the certificate is of no use, and will be revoked.
	NotePartnerCertificate(ctx context.Context, words model.PartnerCertificate, cert model.Certificate, audit model.AuditEntry) error
	// RefusePartnerRequest keeps why a partner does not issue; model.ErrNotFound.
	RefusePartnerRequest(ctx context.Context, hash, words string, audit model.AuditEntry) error
	// ClaimRevocations leases revocations of a partner's certificates, of one issuer or (empty) of all. It adds to audit.Detail,
	// and writes nothing where there are none.
	ClaimRevocations(ctx context.Context, partner, issuer string, limit int, lease time.Duration, audit model.AuditEntry) ([]model.Revocation, error)
	// AnswerRevocations stores what became of them; those that are not the partner's are counted in audit.Detail only.
	AnswerRevocations(ctx context.Context, partner string, answers []model.RevocationAnswer, audit model.AuditEntry) error
	// AppendAudit writes an entry of its own.
	AppendAudit(ctx context.Context, entries ...model.AuditEntry) error
}

// Issuance holds requests against profiles; issuance.Service is one.
type Issuance interface {
	Approve(ctx context.Context, partner, challenge, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error)
	Approved(ctx context.Context, partner, challenge string, csr *x509.CertificateRequest) (model.SCEPRequest, error)
}

// Config is what the endpoint needs; Kick, Logger and the limits have defaults.
type Config struct {
	Store    Store
	Issuance Issuance
	Tokens   *Tokens
	Refusals *web.Refusals
	// PublicURL is where partners reach the server, without a slash at the end.
	PublicURL string
	// Kick tells who waits for the database that something was committed; may be nil.
	Kick   func()
	Clock  func() time.Time
	Logger *slog.Logger
	// PerSecond and Burst bound each partner's calls [50, 500].
	PerSecond float64
	Burst     int
}

// Endpoint serves the routes.
type Endpoint struct {
	cfg  Config
	rate *rate
}

// New makes the endpoint.
func New(cfg Config) *Endpoint {
	if cfg.Kick == nil {
		cfg.Kick = func() {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.PerSecond == 0 {
		cfg.PerSecond = 50
	}
	if cfg.Burst == 0 {
		cfg.Burst = 500
	}
	return &Endpoint{cfg: cfg, rate: newRate(cfg.PerSecond, cfg.Burst)}
}

// Routes registers everything.
func (e *Endpoint) Routes(r *web.Router) {
	open := web.Options{Limited: true, MaxBody: maxBody}
	for _, pattern := range []string{"/{tenant}/oauth2/v2.0/token", "/{tenant}/oauth2/token", "/{tenant}/oauth2/token/"} {
		r.Handle(pattern, open, echo(e.token), http.MethodPost)
	}
	for _, pattern := range []string{"/{tenant}/v2.0/.well-known/openid-configuration", "/{tenant}/.well-known/openid-configuration"} {
		r.Handle(pattern, open, echo(e.openID), http.MethodGet)
	}
	r.Handle("/common/discovery/instance", open, echo(e.instance), http.MethodGet)
	for _, pattern := range []string{"/{version:v[0-9.]+|beta}/servicePrincipals/appId={app}/endpoints", "/{tenant}/servicePrincipalsByAppId/{app}/serviceEndpoints"} {
		r.Handle(pattern, open, echo(e.discover), http.MethodGet)
	}
	for call, answer := range map[string]answer{"validateRequest": e.validate, "successNotification": e.succeeded, "failureNotification": e.failed} {
		r.Handle(Prefix+"/"+validationService+"/ScepActions/"+call, web.Options{MaxBody: maxBody}, echo(e.call(call, validationVersion, answer)), http.MethodPost)
	}
	for call, answer := range map[string]answer{"downloadRevocationRequests": e.download, "uploadRevocationResults": e.upload} {
		r.Handle(Prefix+"/"+revocationService+"/CertificateAuthorityRequests/"+call, web.Options{MaxBody: maxUpload}, echo(e.call(call, revocationVersion, answer)), http.MethodPost)
	}
}

// answer is one of the five calls: it gives what is sent as JSON with status 200.
type answer func(ctx context.Context, p model.Partner, body []byte) (any, error)

// echo gives a client its own name for the request back, as Microsoft's services do; only when it is a GUID, as theirs are.
func echo(h web.Handler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if id, err := uuid.Parse(r.Header.Get("client-request-id")); err == nil {
			w.Header().Set("client-request-id", id.String())
		}
		return h(w, r)
	}
}

// call wraps one of the five: who asks, how often, in which version.
func (e *Endpoint) call(name, version string, f answer) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := e.partner(w, r)
		if err != nil {
			return err
		}
		if !e.rate.allow(p.AppID, e.cfg.Clock()) {
			w.Header().Set("Retry-After", "10")
			return web.Errorf(http.StatusTooManyRequests, "too many calls of the partner %s; wait ten seconds and try again", p.Name)
		}
		if got := r.Header.Get("api-version"); got != version {
			return web.Errorf(http.StatusBadRequest, "api-version: %q is not known to %s; %s is", clipped(got, 32), name, version)
		}
		body, err := web.ReadBody(r)
		if err != nil {
			return err
		}
		out, err := f(r.Context(), p, body)
		if err != nil {
			return e.broken(r.Context(), p, name, err)
		}
		return sendJSON(w, http.StatusOK, out)
	}
}

// broken notes bodies that cannot be understood; the rest is a fault of ours.
func (e *Endpoint) broken(ctx context.Context, p model.Partner, call string, err error) error {
	var bad *malformed
	if !errors.As(err, &bad) {
		return err
	}
	e.cfg.Refusals.Note(ctx, actor(p), "partner."+call, p.Name, bad.Error(), nil)
	return web.Errorf(http.StatusBadRequest, "%s", bad.Error())
}

// partner is who sent the request, by its bearer token.
func (e *Endpoint) partner(w http.ResponseWriter, r *http.Request) (model.Partner, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	app, ok := e.cfg.Tokens.open(token, e.cfg.Clock())
	if !strings.EqualFold(scheme, "Bearer") || !ok {
		return model.Partner{}, unauthorised(w)
	}
	p, err := e.cfg.Store.PartnerByApp(r.Context(), app)
	if errors.Is(err, model.ErrNotFound) {
		return p, unauthorised(w)
	}
	if err != nil {
		return p, fmt.Errorf("looking for the partner of a token: %w", err)
	}
	return p, nil
}

func unauthorised(w http.ResponseWriter) error {
	w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	return web.Errorf(http.StatusUnauthorized, "the access token is missing, wrong or expired, or its partner was removed; ask for another one at %s", tokenPath)
}

// sendJSON writes an answer; the client repeats what it did not get.
func sendJSON(w http.ResponseWriter, status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
	return nil
}

func actor(p model.Partner) string { return "partner " + p.Name }

// entry is a line of the audit log.
func (e *Endpoint) entry(p model.Partner, action, object string, detail map[string]string) model.AuditEntry {
	return model.AuditEntry{At: e.cfg.Clock(), Actor: actor(p), Action: action, Object: object, Outcome: "ok", Detail: detail}
}
