package admin

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const partnerSecretBytes = 32

func (s *Service) registerPartners(h huma.API) {
	add := operation("add-partner", http.MethodPost, "/partners", "Add a CA of others that asks whether requests are right; its secret is shown once")
	add.DefaultStatus = http.StatusCreated
	handle(s, h, add, s.addPartner)
	handle(s, h, operation("list-partners", http.MethodGet, "/partners", "List partner CAs"), s.partners)
	remove := operation("remove-partner", http.MethodDelete, "/partners/{name}", "Remove a partner CA; its access ends at once")
	remove.DefaultStatus = http.StatusNoContent
	handle(s, h, remove, s.removePartner)
}

type partnerInput struct{ Body api.PartnerRequest }

func (s *Service) addPartner(ctx context.Context, in *partnerInput) (*body[api.Partner], error) {
	if err := checkPartnerURL(in.Body.URL); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "body.url", "%v", err)
	}
	if err := checkPartnerChain(in.Body.Chain); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "body.chain", "%v", err)
	}
	p := model.Partner{Name: in.Body.Name, URL: in.Body.URL, Chain: in.Body.Chain, CreatedAt: s.Clock().UTC()}
	secret, err := s.credentials(&p)
	if err != nil {
		return nil, err
	}
	err = s.Store.AddPartner(ctx, p, s.entry("partner.add", p.Name, map[string]string{"url": p.URL, "appId": p.AppID}))
	if errors.Is(err, model.ErrConflict) {
		return nil, refuse(http.StatusConflict, "body.name", "there is a CA %q; waxctl get cas lists them", p.Name)
	}
	if err != nil {
		return nil, err
	}
	s.Wake()
	out := s.describePartner(p)
	out.Secret = secret
	return &body[api.Partner]{Body: out}, nil
}

// credentials are an app id, which libraries want to be a GUID, and a secret of which the hash alone is kept.
func (s *Service) credentials(p *model.Partner) (secret string, err error) {
	id, err := uuid.NewRandomFromReader(s.Rand)
	if err != nil {
		return "", fmt.Errorf("making an app id: %w", err)
	}
	b := make([]byte, partnerSecretBytes)
	if _, err := io.ReadFull(s.Rand, b); err != nil {
		return "", fmt.Errorf("making a secret: %w", err)
	}
	secret = base64.RawURLEncoding.EncodeToString(b)
	p.AppID, p.SecretHash = id.String(), model.PartnerSecretHash(secret)
	return secret, nil
}

// checkPartnerURL takes http as well: SCEP protects its messages by itself (RFC 8894 section 4.1).
func checkPartnerURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q is no plain URL such as https://ca.example.com/scep", text)
	}
	return nil
}

// checkPartnerChain wants the issuing certificate first, each signed by the next, up to a root, which devices will trust.
func checkPartnerChain(chain [][]byte) error {
	if len(chain) == 0 {
		return errors.New("give the issuing certificate, then those above it up to the root")
	}
	var before *x509.Certificate
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return fmt.Errorf("certificate %d: it cannot be read: %w", i+1, err)
		case !c.IsCA:
			return fmt.Errorf("certificate %d: %q is no CA certificate", i+1, profiles.NameString(c.Subject))
		case before != nil && before.CheckSignatureFrom(c) != nil:
			return fmt.Errorf("certificate %d: %q has not signed the one before it; the issuing certificate comes first, the root last", i+1, profiles.NameString(c.Subject))
		}
		before = c
	}
	if !bytes.Equal(before.RawIssuer, before.RawSubject) || before.CheckSignatureFrom(before) != nil {
		return fmt.Errorf("the last certificate, %q, is no root: devices need the whole chain", profiles.NameString(before.Subject))
	}
	return nil
}

func (s *Service) describePartner(p model.Partner) api.Partner {
	out := api.Partner{Name: p.Name, URL: p.URL, AppID: p.AppID, Server: s.PublicURL + "/", CreatedAt: p.CreatedAt}
	if c, err := x509.ParseCertificate(p.Chain[0]); err == nil {
		out.Subject, out.NotAfter = profiles.NameString(c.Subject), c.NotAfter.UTC()
	}
	return out
}

func (s *Service) partners(ctx context.Context, in *pageInput) (*body[api.Page[api.Partner]], error) {
	all, err := s.Store.Partners(ctx)
	if err != nil {
		return nil, err
	}
	return pageOfAll(in, all, func(p model.Partner) string { return p.Name }, s.describePartner), nil
}

func (s *Service) removePartner(ctx context.Context, in *caInput) (*struct{}, error) {
	err := s.Store.RemovePartner(ctx, in.Name, s.entry("partner.remove", in.Name, nil))
	if errors.Is(err, model.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, "", "there is no partner CA %q; waxctl partner list lists them", in.Name)
	}
	if err == nil {
		s.Wake()
	}
	return nil, err
}
