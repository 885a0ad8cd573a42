package years

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/api"
)

// leave retires the devices of a user, or one device by its name: their keys go, and the revocation lists say so. Those of
// others stay good.
func (s *story) leave(who string) {
	s.t.Helper()
	gone, before := map[string]bool{}, s.revocations()
	for _, g := range s.devices {
		if g.user == who || g.name == who {
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
	if more := s.revocations() - before; more != 2*len(gone) {
		s.t.Errorf("%d more certificates are revoked, want those of two profiles of %d devices", more, len(gone))
	}
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

// revocations waits until the lists which issued certificates name say of each what the server says, and none is being
// revoked any more. It counts them. A list names them after their own end, too: mail outlives them.
func (s *story) revocations() (n int) {
	s.t.Helper()
	var last error
	for end := time.Now().Add(patience); ; time.Sleep(glance) {
		if n, last = s.listsSay(); last == nil {
			return n
		}
		if time.Now().After(end) {
			s.t.Fatalf("day %d: %v", s.day, last)
		}
	}
}

func (s *story) listsSay() (n int, err error) {
	lists := map[string]*x509.RevocationList{}
	for _, c := range ask[[]api.Certificate](s.house, "get", "certificates") {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return 0, err
		}
		if c.Kind != "issued" {
			continue
		}
		url := cert.CRLDistributionPoints[0]
		if lists[url] == nil {
			if lists[url], err = s.list(url); err != nil {
				return 0, err
			}
		}
		revoked := slices.ContainsFunc(lists[url].RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return e.SerialNumber.Cmp(cert.SerialNumber) == 0 })
		if revoked != (c.Status == "revoked") || c.Status == "revoking" {
			return 0, fmt.Errorf("certificate %s of %s is %s, and in its list revoked: %t", c.Serial, c.User, c.Status, revoked)
		}
		if revoked {
			n++
		}
	}
	s.t.Logf("day %d: %d lists, %d certificates revoked", s.day, len(lists), n)
	return n, nil
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
