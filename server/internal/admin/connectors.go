package admin

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/server/internal/model"
)

func (s *Service) registerConnectors(h huma.API) {
	handle(s, h, operation("list-connectors", http.MethodGet, "/connectors", "List connectors"), s.connectors)
	handle(s, h, operation("list-jobs", http.MethodGet, "/jobs", "List jobs of connectors"), s.jobs)
	token := operation("create-connector-token", http.MethodPost, "/connector-tokens", "Make a one-time registration token, shown once")
	token.DefaultStatus = http.StatusCreated
	handle(s, h, token, s.createToken)
	handle(s, h, operation("get-key-set", http.MethodGet, "/key-set", "Read the signed key set; verify it under the pinned escrow root before use"), s.keySet)
}

func (s *Service) connectors(ctx context.Context, in *pageInput) (*body[api.Page[api.Connector]], error) {
	connectors, err := s.Connectors.Connectors(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(in, sortedConnectors(connectors), connectorKey, func(c model.Connector) api.Connector {
		return api.Connector{ID: c.ID, Name: c.Name, Member: c.Member.ID, Suite: c.Member.Suite, State: string(c.State),
			CreatedAt: c.CreatedAt, LastSeen: c.LastSeen}
	}), nil
}

func (s *Service) jobs(ctx context.Context, in *pageInput) (*body[api.Page[api.Job]], error) {
	jobs, err := s.Store.Jobs(ctx, in.page())
	if err != nil {
		return nil, err
	}
	names := s.upns()
	for _, j := range jobs {
		if err := names.load(ctx, j.UserID); err != nil {
			return nil, err
		}
	}
	return pageOf(in, jobs, jobKey, func(j model.Job) api.Job {
		return api.Job{ID: j.ID, Kind: string(j.Kind), Key: j.Key, State: string(j.State), Attempt: j.Attempt, User: names.of(j.UserID),
			EnrolmentID: j.EnrolmentID, DocumentID: j.DocumentID, LeasedBy: j.LeasedBy, LeaseUntil: j.LeaseUntil, RunAt: j.RunAt,
			Reason: string(j.Reason), Error: j.Error, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt}
	}), nil
}

func (s *Service) createToken(ctx context.Context, _ *struct{}) (*body[api.Token], error) {
	token, expires, err := s.Connectors.CreateToken(ctx)
	if err != nil {
		return nil, err
	}
	return &body[api.Token]{Body: api.Token{Token: token, Expires: expires}}, nil
}

func (s *Service) keySet(ctx context.Context, _ *struct{}) (*body[escrow.SignedKeySet], error) {
	set, err := s.Connectors.KeySet(ctx)
	if err != nil {
		return nil, err
	}
	if set == nil {
		return nil, refuse(http.StatusNotFound, "", "there is no key set yet: register a connector first (waxctl connector token, waxseal-connector init)")
	}
	return &body[escrow.SignedKeySet]{Body: *set}, nil
}
