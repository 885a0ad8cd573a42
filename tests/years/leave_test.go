package years

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/api"
)

// leave retires all devices of a user: their keys go, and the revocation lists say so. Those of others stay good.
func (s *story) leave(user string) {
	s.t.Helper()
	gone := map[string]bool{}
	for _, g := range s.devices {
		if g.user == user {
			s.do("waxctl", "device", "retire", g.id)
			if _, _, err := s.try("waxseal-agent", "sync", "--state", g.path(g.name)); err != nil {
				s.t.Fatalf("%s leaves: %v", g.name, err)
			}
			gone[g.id] = true
			s.keyless(g)
		}
	}
	for _, d := range ask[[]api.Device](s.house, "get", "devices") {
		if gone[d.ID] && (d.State != "left" || d.Removal != "verified") {
			s.t.Errorf("device %s of %s is %s, removal %s", d.Name, d.User, d.State, d.Removal)
		}
	}
	s.until("the revocation lists say who left", func() bool { return s.listsSay(gone) == nil })
	s.devices = slices.DeleteFunc(s.devices, func(g *gadget) bool { return gone[g.id] })
	for _, g := range s.devices {
		if _, err := g.program().Sign(s.plain(g.user, g.user), ""); err != nil {
			s.t.Errorf("%s cannot sign any more: %v", g.name, err)
		}
	}
}

// keyless checks that a device which left has no key any more.
func (s *story) keyless(g *gadget) {
	s.t.Helper()
	p := g.program()
	if n := len(p.Device.Keychain().Identities()); n != 0 {
		s.t.Errorf("%s left and has %d keys", g.name, n)
	}
	for _, l := range s.archive[g.user] {
		if _, _, err := p.Decrypt(l.sealed); err == nil {
			s.t.Errorf("%s left and opens %s", g.name, l.about)
		}
	}
}

// listsSay compares what the server says of issued certificates with the lists that they name.
func (s *story) listsSay(gone map[string]bool) error {
	lists := map[string]*x509.RevocationList{}
	for _, c := range ask[[]api.Certificate](s.house, "get", "certificates") {
		if c.Kind != "issued" {
			continue
		}
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return err
		}
		url := cert.CRLDistributionPoints[0]
		if lists[url] == nil {
			if lists[url], err = s.list(url); err != nil {
				return err
			}
		}
		revoked := slices.ContainsFunc(lists[url].RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(cert.SerialNumber) == 0 })
		if must := gone[c.DeviceID] && c.Status != "superseded" || c.Status == "revoked"; must != revoked && s.now().Before(cert.NotAfter) {
			return fmt.Errorf("certificate %s of %s is %s, and in its list revoked: %t", c.Serial, c.User, c.Status, revoked)
		}
	}
	if len(lists) == 0 {
		return errors.New("no certificate was issued")
	}
	return nil
}

// list gets a revocation list as anybody does who has got a signed mail.
func (s *story) list(url string) (*x509.RevocationList, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %w", url, resp.Status, errors.Join(err, errors.New(strings.TrimSpace(string(raw[:min(80, len(raw))])))))
	}
	list, err := x509.ParseRevocationList(raw)
	if err != nil {
		return nil, err
	}
	if now := s.now(); now.Before(list.ThisUpdate) || now.After(list.NextUpdate) {
		return nil, fmt.Errorf("%s is of %s to %s, and today is %s", url, list.ThisUpdate, list.NextUpdate, now)
	}
	return list, nil
}
