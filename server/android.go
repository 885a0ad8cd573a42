package main

import (
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/web"
)

func (s *server) android(core *delivery.Service, authority *identity.Authority, refusals *web.Refusals) *androidmdm.Endpoint {
	return androidmdm.New(androidmdm.Config{Identity: s.identity, Authority: authority, Delivery: &delivery.Android{Service: core}, Users: s.db,
		Refusals: refusals, Auditor: s.db, Kick: s.connectors.Notify, Clock: s.Clock, Logger: s.Logger})
}
