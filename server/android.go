package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/server/internal/amapi"
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

func (s *server) android(core *delivery.Service, authority *identity.Authority, refusals *web.Refusals) *androidmdm.Endpoint {
	return androidmdm.New(androidmdm.Config{Identity: s.identity, Authority: authority, Delivery: &delivery.Android{Service: core}, Issuance: s.issuance, Users: s.db,
		Refusals: refusals, Auditor: s.db, Kick: s.connectors.Notify, Clock: s.Clock, Logger: s.Logger})
}

// loadGoogle makes the client of the Android Management API, if the operator uses it.
func (s *server) loadGoogle() (err error) {
	a := s.Settings.Android
	if a.Enterprise == "" {
		return nil
	}
	s.google, err = amapi.New(amapi.Config{URL: a.URL, Enterprise: a.Enterprise, Package: a.Package, SigningCertSHA256: a.SigningCertSHA256,
		ServerURL: s.fixed.PublicURL, WorkProfile: !a.FullyManaged, Token: func() (string, error) {
			raw, err := os.ReadFile(a.TokenFile)
			if err != nil {
				return "", fmt.Errorf("amapi-token-file: %w", err)
			}
			return strings.TrimSpace(string(raw)), nil
		}})
	return err
}

// throughGoogle lets Google's management install the companion app with the link's token. The policy has a random name,
// since the token itself must not be in one.
func (l links) throughGoogle(ctx context.Context, link api.Link, user model.User, token string, life time.Duration) (api.Link, error) {
	prepared, err := l.google.Prepare(ctx, "waxseal-"+uuid.NewString(), user.ID, token, life)
	if err != nil {
		return api.Link{}, web.Hide(502, "the link was made, but Google did not take its policy: "+err.Error(), err)
	}
	link.Token, link.QRCode = prepared.Value, prepared.QRCode
	return link, nil
}
