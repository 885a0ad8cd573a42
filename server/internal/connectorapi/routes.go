package connectorapi

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// maxSmall bounds requests that hold no documents.
const maxSmall = 64 << 10

// Routes registers the endpoint. Registration is open to anybody with a token and therefore rate-limited.
func (s *Service) Routes(r *web.Router) {
	r.Handle("/connector/v1/register", web.Options{MaxBody: maxSmall, Limited: true}, s.register, http.MethodPost)
	r.Handle("/connector/v1/publish", web.Options{MaxBody: web.MaxAdmin}, s.authorised(s.publish), http.MethodPost)
	r.Handle("/connector/v1/claim", web.Options{MaxBody: maxSmall}, s.authorised(s.claim), http.MethodPost)
	r.Handle("/connector/v1/jobs/{id}/result", web.Options{MaxBody: web.MaxAdmin}, s.authorised(s.result), http.MethodPost)
	r.Handle("/connector/v1/keyset", web.Options{}, s.authorised(s.keySet), http.MethodGet)
	r.Handle("/connector/v1/status", web.Options{MaxBody: link.MaxBody}, s.authorised(s.status), http.MethodPost)
	r.Handle("/connector/v1/pending", web.Options{}, s.authorised(s.pending), http.MethodGet)
}

type connectorHandler func(w http.ResponseWriter, r *http.Request, c model.Connector) error

// authorised finds the connector of "Authorization: Bearer ID.CREDENTIAL".
func (s *Service) authorised(h connectorHandler) web.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		c, ok, err := s.caller(r.Context(), r.Header.Get("Authorization"))
		if err != nil {
			return err
		}
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="waxseal connector"`)
			return web.Errorf(http.StatusUnauthorized, "this connector's credential is not known here; register it again with waxseal-connector init and a new token")
		}
		return h(w, r, c)
	}
}

func (s *Service) caller(ctx context.Context, header string) (model.Connector, bool, error) {
	scheme, value, _ := strings.Cut(header, " ")
	id, credential, found := strings.Cut(value, ".")
	if !strings.EqualFold(scheme, "Bearer") || !found || len(id) > 128 || len(credential) > 128 {
		return model.Connector{}, false, nil
	}
	c, err := s.cfg.Store.ConnectorByID(ctx, id)
	if errors.Is(err, model.ErrNotFound) {
		return model.Connector{}, false, nil
	}
	if err != nil {
		return model.Connector{}, false, err
	}
	return c, subtle.ConstantTimeCompare([]byte(hash(credential)), []byte(c.CredentialHash)) == 1, nil
}

// trusted refuses a connector that nobody approved yet.
func trusted(c model.Connector) error {
	if c.State == model.ConnectorTrusted {
		return nil
	}
	return web.Errorf(http.StatusForbidden, "this connector is not approved yet: run waxseal-connector approve %s beside a trusted keyring", c.Member.ID)
}

func readJSON(r *http.Request, into any) error {
	err := decodeStrict(r.Body, into)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return err
	}
	return web.Hide(http.StatusBadRequest, "the body is not the JSON that is expected here", err)
}

func writeJSON(w http.ResponseWriter, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(raw) // the connection is gone if this fails
	return nil
}

func (s *Service) keySet(w http.ResponseWriter, r *http.Request, _ model.Connector) error {
	set, err := s.KeySet(r.Context())
	if err != nil {
		return err
	}
	if set == nil {
		return web.Errorf(http.StatusNotFound, "there is no key set yet")
	}
	return writeJSON(w, set)
}

func (s *Service) pending(w http.ResponseWriter, r *http.Request, c model.Connector) error {
	if err := trusted(c); err != nil {
		return err
	}
	all, err := s.cfg.Store.Connectors(r.Context())
	if err != nil {
		return err
	}
	out := link.PendingResponse{Pending: []link.Pending{}}
	for _, other := range all {
		if other.State == model.ConnectorPending {
			out.Pending = append(out.Pending, link.Pending{ConnectorID: other.ID, Name: other.Name, Member: other.Member})
		}
	}
	return writeJSON(w, out)
}

// claim leases jobs; without any it waits for a notice of this process or looks again for another node's.
func (s *Service) claim(w http.ResponseWriter, r *http.Request, c model.Connector) error {
	var in link.ClaimRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if err := trusted(c); err != nil {
		return err
	}
	wait := min(max(time.Duration(in.WaitSeconds)*time.Second, 0), maxWait)
	jobs, err := s.waitForJobs(r.Context(), c.ID, min(max(in.Max, 1), maxClaim), wait)
	if err != nil {
		return err
	}
	out := link.ClaimResponse{Jobs: []link.Job{}}
	for _, j := range jobs {
		out.Jobs = append(out.Jobs, link.Job{ID: j.ID, Key: j.Key, Kind: j.Kind, Attempt: j.Attempt, LeaseUntil: j.LeaseUntil, Payload: j.Payload})
	}
	return writeJSON(w, out)
}

func (s *Service) waitForJobs(ctx context.Context, connectorID string, most int, wait time.Duration) ([]model.Job, error) {
	end := s.cfg.After(wait)
	for {
		notice := s.nextNotice() // taken before the look, so that no job falls in between
		jobs, err := s.cfg.Store.Claim(ctx, connectorID, most, s.cfg.Lease, s.cfg.Clock())
		if err != nil || len(jobs) > 0 || wait == 0 {
			return jobs, err
		}
		select {
		case <-notice:
		case <-s.cfg.After(pollEvery):
		case <-end:
			return nil, nil
		case <-s.stopped:
			return nil, nil
		case <-ctx.Done():
			return nil, nil
		}
	}
}
