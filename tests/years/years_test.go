// Package years plays three years of a company on the real programs: they are built so that a file moves their time, and
// every other thing about them is as released.
package years

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

const (
	alice = "alice@corp.test"
	bob   = "bob@corp.test"
)

// story is what has happened so far.
type story struct {
	*house
	day, keys, letters int
	devices            []*gadget
	archive            archive
	current            map[string]*x509.Certificate
	mailCA             *testpki.CA
}

func TestThreeYears(t *testing.T) {
	if testing.Short() {
		t.Skip("three years take minutes")
	}
	h := newHouse(t)
	s := &story{house: h, archive: archive{}, current: map[string]*x509.Certificate{}, mailCA: testpki.NewCA(t, "Corp Mail CA")}
	s.opening()
	s.goTo(100)
	s.goTo(280)
	s.goTo(295)
}

// opening is the first day.
func (s *story) opening() {
	s.t.Helper()
	s.start("server", "waxseal-server", "--data", s.path("server"), "--listen", "127.0.0.1:0", "--pki-listen", "127.0.0.1:0")
	address := s.logged("server", `"msg":"serving","address":"([^"]+)"`)
	s.env = []string{"WAXCTL_SERVER=" + address, "WAXCTL_CA=" + s.path("server", "ca.pem"), "WAXCTL_TOKEN_FILE=" + s.path("server", "admin-token")}
	root := s.connector("first")
	s.env = append(s.env, "WAXCTL_ESCROW_ROOT="+root)
	s.do("waxctl", "apply", "-f", s.write("sales.yaml", string(inputs(s.house, "examples/sales.yaml"))))
	s.oldMail(alice, []string{"alice-2016", "alice-2019", "alice-2024"}, []string{"2017-offer", "2021-plan", "2026-news"})
	s.oldMail(bob, []string{"bob-2024"}, []string{"2024-bob"})
	s.current[alice], s.current[bob] = s.certificate("alice-2024"), s.certificate("bob-2024")
	for _, g := range []gadget{{name: "iphone", platform: "ios", user: alice}, {name: "pc", platform: "windows", user: alice},
		{name: "mac", platform: "macos", user: bob}, {name: "android", platform: "android", user: bob}} {
		g.house = s.house
		g.enrol()
		s.devices = append(s.devices, &g)
	}
	s.syncAll(s.devices)
	s.everybodyWrites("on the first day")
	s.correspond()
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
	s.syncAll(s.devices)
	s.everybodyWrites("after the devices spoke with the server")
	s.correspond()
	s.t.Logf("day %d is over", day)
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
