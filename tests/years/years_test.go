// Package years plays three years of a company on the real programs: they are built so that a file moves their time, and
// every other thing about them is as released.
package years

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/testpki"
)

const (
	alice = "alice@corp.test"
	bob   = "bob@corp.test"
)

// ownKey is a profile beside those of sales.yaml: devices make its keys themselves, and a certificate that another has
// replaced is revoked.
const ownKey = `apiVersion: waxseal/v1
kind: SCEPCertificate
name: own-key
spec:
  certificateAuthority: softca
  subject: "CN={{UserName}},OU=Own key"
  subjectAlternativeNames:
    - {type: email, value: "{{EmailAddress}}"}
  validity: 365d
  renewalThresholdPercentage: 20
  revokeOn: [retire, supersede]
---
apiVersion: waxseal/v1
kind: Assignment
name: own-keys
spec:
  profiles: [own-key]
  include:
    - group: sales
`

// story is what has happened so far.
type story struct {
	*house
	day, keys, letters int
	devices            []*gadget
	archive            archive
	current            map[string]*x509.Certificate
	mailCA             *testpki.CA
	tls                map[string]bool // serial numbers of the server's own
	// signed are the certificates with which each device has signed.
	signed map[*gadget]signatures
}

// TestThreeYears: what is issued on the first day has to be renewed from about day 284 on, and by day 292 (PK-10). So have
// the devices' own identities, when a fifth of their year is left.
func TestThreeYears(t *testing.T) {
	if testing.Short() {
		t.Skip("three years take minutes")
	}
	h := newHouse(t)
	s := &story{house: h, archive: archive{}, current: map[string]*x509.Certificate{}, mailCA: testpki.NewCA(t, "Corp Mail CA"), signed: map[*gadget]signatures{}, tls: map[string]bool{}}
	s.opening()
	s.approveSecond()
	s.goTo(7)
	s.goTo(120)
	s.goTo(283)
	s.renewed(1)
	s.goTo(294)
	s.renewed(2)
	s.goTo(310)
	s.newYear(366)
	s.goTo(430)
	s.roll()
	s.goTo(576)
	s.renewed(2)
	s.goTo(589)
	s.renewed(3)
	s.goTo(630)
	s.lose("first")
	s.newYear(730)
	s.guest()
	s.goTo(870)
	s.renewed(3)
	s.goTo(884)
	s.renewed(4)
	s.revocations()
	s.goTo(950)
	s.goTo(1030)
	s.newYear(1095)
	s.managed()
	s.leave(alice)
	s.leave(bob)
}

// opening is the first day.
func (s *story) opening() {
	s.t.Helper()
	address := s.serve("127.0.0.1:0", "127.0.0.1:0")
	s.env = []string{"WAXCTL_SERVER=" + address, "WAXCTL_CA=" + s.path("server", "ca.pem"), "WAXCTL_TOKEN_FILE=" + s.path("server", "admin-token")}
	s.env = append(s.env, "WAXCTL_ESCROW_ROOT="+s.connector("first"))
	s.do("waxctl", "apply", "-f", s.write("sales.yaml", string(inputs(s.house, "examples/sales.yaml"))+"---\n"+ownKey))
	s.oldMail(alice, []string{"alice-2016", "alice-2019", "alice-2024"}, []string{"2017-offer", "2021-plan", "2026-news"})
	s.oldMail(bob, []string{"bob-2024"}, []string{"2024-bob"})
	s.current[alice], s.current[bob] = s.certificate("alice-2024"), s.certificate("bob-2024")
	for _, g := range []*gadget{{name: "iphone", platform: "ios", user: alice}, {name: "pc", platform: "windows", user: alice},
		{name: "mac", platform: "macos", user: bob}, {name: "android", platform: "android", user: bob}} {
		s.join(g)
	}
	s.syncAll()
	s.everybodyWrites("on the first day")
	s.correspond()
}

// serve starts the server, and gives its URL.
func (s *story) serve(listen, pki string) string {
	s.t.Helper()
	s.start("server", "waxseal-server", "--data", s.path("server"), "--listen", listen, "--pki-listen", pki)
	return s.logged("server", `"msg":"serving","address":"([^"]+)"`)
}

// restart ends the server and starts it anew at its addresses, and so the connectors, as an update does each year. At a start
// the server sweeps its database, too: in real life it did so every hour.
func (s *story) restart() {
	s.t.Helper()
	pki, err := os.ReadFile(s.path("server", "pki-address"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.end("server")
	host := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	s.serve(host(strings.TrimPrefix(s.env[0], "WAXCTL_SERVER=")), host(strings.TrimSpace(string(pki))))
	for _, name := range []string{"first", "second"} {
		if s.running[name] != nil {
			s.end(name)
			s.start(name, "waxseal-connector", "run", "--keyring", s.path(name))
		}
	}
}

// join enrols a device.
func (s *story) join(g *gadget) {
	s.t.Helper()
	g.house, s.signed[g] = s.house, signatures{}
	g.enrol()
	s.devices = append(s.devices, g)
}

// guest is a device that comes late, gets all that its user ever had, and goes.
func (s *story) guest() {
	s.t.Helper()
	s.join(&gadget{name: "ipad", platform: "ios", user: alice})
	s.settle("with a new device")
	s.leave("ipad")
}

// approveSecond brings a second connector in, which gets the CAs and all that is in escrow.
func (s *story) approveSecond() {
	s.t.Helper()
	root := strings.TrimPrefix(s.env[3], "WAXCTL_ESCROW_ROOT=")
	s.connector("second", "--escrow-root", root)
	var member string
	for _, c := range ask[[]api.Connector](s.house, "get", "connectors") {
		if c.Name == "second" {
			member = c.Member
		}
	}
	s.do("waxseal-connector", "approve", "--keyring", s.path("first"), member)
	s.until("everything in escrow is sealed to the second connector", func() bool {
		return !slices.ContainsFunc(ask[[]api.EscrowRecord](s.house, "get", "escrow"), func(r api.EscrowRecord) bool { return !slices.Contains(r.SealedTo, member) })
	})
}

// newYear updates the server and brings another encryption certificate to each user, and nobody loses a former one.
func (s *story) newYear(day int) {
	s.t.Helper()
	s.goTo(day)
	s.restart()
	s.newKey(alice)
	s.newKey(bob)
	s.settle("after the year's new keys")
}

// roll makes the next issuing CA, which both connectors issue from.
func (s *story) roll() {
	s.t.Helper()
	s.do("waxseal-connector", "ca", "roll", "--keyring", s.path("first"))
	s.settle("after the rollover of the issuing CA")
	s.revocations()
}

// renewed checks that each device has signed with so many certificates of each of both profiles, one after the other, and
// has one of each now. A rollover of the issuing CA, or another current encryption certificate, is no reason for another.
func (s *story) renewed(times int) {
	s.t.Helper()
	for _, g := range s.devices {
		if now := len(g.signers()); now != 2 {
			s.t.Errorf("day %d: %s can sign with %d certificates, want those of two profiles", s.day, g.name, now)
		}
		for own, n := range map[bool]int{true: s.signed[g].count(true), false: s.signed[g].count(false)} {
			if n != times {
				s.t.Errorf("day %d: %s has signed with %d certificates so far (key of its own: %t), want %d", s.day, g.name, n, own, times)
			}
		}
	}
}

// signatures are the certificates with which a device has signed; true: for a key of its own.
type signatures map[string]bool

func (s signatures) count(own bool) (n int) {
	for _, is := range s {
		if is == own {
			n++
		}
	}
	return n
}

// connector makes a keyring and runs a connector on it; further ones wait for their approval.
func (s *story) connector(name string, flags ...string) (printed string) {
	s.t.Helper()
	token, _ := s.do("waxctl", "connector", "token")
	args := []string{"init", "--keyring", s.path(name), "--server", strings.TrimPrefix(s.env[0], "WAXCTL_SERVER="), "--ca", s.path("server", "ca.pem"),
		"--token-file", s.write(name+".token", token), "--name", name, "--ca-key-bits", "2048"}
	out, _ := s.do("waxseal-connector", append(args, flags...)...)
	s.start(name, "waxseal-connector", "run", "--keyring", s.path(name))
	return strings.TrimSpace(out)
}

func (s *story) certificate(name string) *x509.Certificate {
	s.t.Helper()
	block, _ := pem.Decode(inputs(s.house, "pki/"+name+".pem"))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.t.Fatal(err)
	}
	return cert
}

// goTo moves to a day. Everybody can work before any device has spoken with the server, and after all have.
func (s *story) goTo(day int) {
	s.t.Helper()
	s.day = day
	s.moveTo(day)
	s.everybodyWrites("before the devices spoke with the server")
	s.settle("after the devices spoke with the server")
	s.serves()
	s.t.Logf("day %d is over", day)
}

// settle lets the devices speak with the server, and everybody work afterwards.
func (s *story) settle(when string) {
	s.t.Helper()
	s.syncAll()
	s.everybodyWrites(when)
	s.correspond()
}

// lose ends a connector without a warning, and its keyring is gone.
func (s *story) lose(name string) {
	s.t.Helper()
	_ = s.running[name].cmd.Process.Kill()
	<-s.running[name].done
	delete(s.running, name)
	if err := os.RemoveAll(filepath.Join(s.work, name)); err != nil {
		s.t.Fatal(err)
	}
}

// serves checks the server's own certificates: its TLS certificate, which is renewed a month before the end of its 13 months,
// and that of the registration authority, which a connector renews a month before the end of two years. /readyz tells of the
// latter, of the key set and of connectors at work.
func (s *story) serves() {
	s.t.Helper()
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(s.path("server", "ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(ca) {
		s.t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, Time: s.now}}}
	s.until("the server is ready", func() bool {
		resp, err := client.Get(strings.TrimPrefix(s.env[0], "WAXCTL_SERVER=") + "/readyz")
		if err != nil {
			s.t.Fatalf("day %d: %v", s.day, err)
		}
		defer func() { _ = resp.Body.Close() }()
		leaf := resp.TLS.PeerCertificates[0]
		if left := leaf.NotAfter.Sub(s.now()); left < 29*24*time.Hour {
			s.t.Fatalf("day %d: the server's TLS certificate ends in %s", s.day, left)
		}
		s.tls[leaf.SerialNumber.String()] = true
		return resp.StatusCode == http.StatusOK
	})
}

// managed checks that the devices' own identities were renewed meanwhile, and what the server has of its own.
func (s *story) managed() {
	s.t.Helper()
	renewals := map[string]int{}
	for _, e := range ask[[]api.AuditEntry](s.house, "audit") {
		if e.Action == "enrolment.renew" {
			renewals[e.Object]++
		}
	}
	if len(s.tls) < 3 {
		s.t.Errorf("the server had %d TLS certificates in three years", len(s.tls))
	}
	for _, g := range s.devices {
		if renewals[g.id] < 2 {
			s.t.Errorf("%s renewed the identity of its management %d times in three years", g.name, renewals[g.id])
		}
	}
}
