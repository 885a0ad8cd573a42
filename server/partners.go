package main

import (
	"github.com/waxseal/waxseal/server/internal/partnerca"
	"github.com/waxseal/waxseal/server/internal/web"
)

// partners serves CAs of others that ask whether requests of devices are right.
func (s *server) partners(refusals *web.Refusals) error {
	tokens, err := partnerca.NewTokens(s.raKey)
	if err != nil {
		return err
	}
	partnerca.New(partnerca.Config{Store: s.db, Issuance: s.issuance, Tokens: tokens, Refusals: refusals, PublicURL: s.fixed.PublicURL,
		Kick: s.kick, Clock: s.Clock, Logger: s.Logger}).Routes(s.router)
	return nil
}
