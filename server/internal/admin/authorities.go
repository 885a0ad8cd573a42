package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func (s *Service) registerAuthorities(h huma.API) {
	handle(s, h, operation("list-cas", http.MethodGet, "/cas", "List the certification authorities that connectors offer"), s.authorities)
	handle(s, h, operation("list-expiring", http.MethodGet, "/expiring", "List what ends soon: certificates in use, CAs, the server's own"), s.expiring)
	handle(s, h, operation("test-ca", http.MethodPost, "/cas/{name}/test", "Have a connector look whether a CA's settings are right; nothing is issued"), s.testCA)
}

type expiringInput struct {
	Within string `query:"within" default:"720h" doc:"Duration such as 720h"`
}

type expiringList struct {
	Items []api.Expiring `json:"items"`
}

func (s *Service) expiring(ctx context.Context, in *expiringInput) (*body[expiringList], error) {
	within, err := time.ParseDuration(in.Within)
	if err != nil || within < 0 {
		return nil, refuse(http.StatusUnprocessableEntity, "query.within", "%q is no duration; 720h is one", in.Within)
	}
	items, err := s.Expiring(ctx, within)
	if err != nil {
		return nil, err
	}
	out := expiringList{Items: []api.Expiring{}}
	for _, i := range items {
		out.Items = append(out.Items, api.Expiring{Kind: string(i.Kind), Name: i.Name, SHA256: i.SHA256, Subject: i.Subject, User: i.User, DeviceID: i.DeviceID,
			Profile: i.Profile, NotAfter: i.NotAfter, Remedy: i.Remedy})
	}
	return &body[expiringList]{Body: out}, nil
}

func (s *Service) authorities(ctx context.Context, in *pageInput) (*body[api.Page[api.CA]], error) {
	cas, err := s.Connectors.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	connectors, err := s.Connectors.Connectors(ctx)
	if err != nil {
		return nil, err
	}
	cas = slices.Clone(cas)
	slices.SortFunc(cas, func(a, b link.CA) int { return cmp.Compare(a.Name, b.Name) })
	return pageOfAll(in, cas, func(ca link.CA) string { return ca.Name }, func(ca link.CA) api.CA { return describeCA(ca, connectors) }), nil
}

func describeCA(ca link.CA, connectors []model.Connector) api.CA {
	out := api.CA{Name: ca.Name, Kind: ca.Kind, Templates: ca.Templates, Connectors: []string{}, URL: ca.URL}
	if cert, err := x509.ParseCertificate(ca.Certificate); err == nil {
		out.Subject, out.NotAfter = profiles.NameString(cert.Subject), cert.NotAfter.UTC()
	}
	for _, c := range connectors {
		if slices.Contains(ca.Members, c.Member.ID) {
			out.Connectors = append(out.Connectors, c.Name)
		}
	}
	return out
}

type caInput struct {
	Name string `path:"name" maxLength:"128" doc:"What profiles call the CA"`
}

// testCA makes a job of it and waits: the settings are the connector's, which alone can ask.
func (s *Service) testCA(ctx context.Context, in *caInput) (*body[api.CATest], error) {
	cas, err := s.Connectors.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(cas, func(ca link.CA) bool { return ca.Name == in.Name })
	if i >= 0 && cas[i].Kind == link.KindPartner {
		return nil, refuse(http.StatusConflict, "", "CA %q is a partner: no connector asks it, devices do, at %s", in.Name, cas[i].URL)
	}
	if i < 0 {
		return nil, refuse(http.StatusNotFound, "", "no connector offers a CA %q: waxctl get cas lists them, and waxseal-connector ca set adds one", in.Name)
	}
	payload, err := json.Marshal(link.TestCAJob{CA: in.Name})
	if err != nil {
		return nil, err
	}
	now := s.Clock()
	job := model.Job{Key: "testca:" + in.Name + ":" + uuid.NewString(), Kind: link.JobTestCA, Payload: payload, Needs: link.Offering(cas, in.Name), RunAt: now}
	audit := model.AuditEntry{At: now, Actor: actor, Action: "ca.test", Object: in.Name, Outcome: "ok"}
	id, err := s.Store.CreateJob(ctx, job, audit)
	if err != nil {
		return nil, err
	}
	s.Kick()
	return s.tested(ctx, in.Name, id)
}

// tested waits for the connector's answer.
func (s *Service) tested(ctx context.Context, name, id string) (*body[api.CATest], error) {
	waiting, cancel := context.WithTimeout(ctx, s.TestWait)
	defer cancel()
	ticker := time.NewTicker(s.TestTick)
	defer ticker.Stop()
	for {
		job, err := s.Store.JobByID(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case job.State == model.JobDone:
			return findings(name, job)
		case job.State == model.JobFailed || job.State == model.JobOpen && job.Error != "":
			return nil, refuse(http.StatusBadGateway, "", "the connector could not test CA %s: %s", name, job.Error)
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
			return nil, refuse(http.StatusServiceUnavailable, "", "no connector has answered; see that waxseal-connector run is at work (waxctl get connectors)")
		}
	}
}

func findings(name string, job model.Job) (*body[api.CATest], error) {
	var answer link.TestCAAnswer
	if err := json.Unmarshal(job.Payload, &answer); err != nil {
		return nil, err
	}
	out := api.CATest{CA: name, OK: true, Findings: []api.CAFinding{}}
	for _, f := range answer.Findings {
		out.OK = out.OK && f.OK
		out.Findings = append(out.Findings, api.CAFinding{Check: f.Check, OK: f.OK, Detail: f.Detail})
	}
	return &body[api.CATest]{Body: out}, nil
}
