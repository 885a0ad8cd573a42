package windows

import (
	"os"
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// died is what a PC finds that lost its power while the server had the n-th message, from 1, in hand.
func (s *fakeServer) died(t *testing.T, d *Device, n int, meanwhile func()) *Device {
	t.Helper()
	var disk []byte
	s.reply = func(m *syncml.Message) *syncml.Message {
		if len(s.got) == n {
			var err error
			if disk, err = os.ReadFile(d.folder.Path("device.json")); err != nil {
				t.Error(err)
			}
		}
		return m
	}
	meanwhile()
	s.reply = nil
	cfg := s.config(t)
	if err := os.WriteFile(cfg.State+"/device.json", disk, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Close() })
	return again
}

// A wipe that was answered is done, whatever happens: the server never asks again.
func TestWipeAfterARestart(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{install(t, d, mailIdentity(t))}, []syncml.Command{command(syncml.Exec, "./Device/Vendor/MSFT/RemoteWipe/doWipe", "chr", "")})
	again := s.died(t, d, 3, func() { poll(t, d) })
	if got := s.statuses(2); len(got) != 1 || got[0][0] != '2' {
		t.Fatalf("the wipe was answered by %v", got)
	}
	if again.Enrolled() || len(again.Keychain().Items()) > 0 || again.state.Ending != "" {
		t.Errorf("not wiped: %+v", again.Keychain().Items())
	}
	if ca, err := again.folder.CA(); err != nil || ca == nil {
		t.Errorf("the roots that the next owner brought are gone: %v", err)
	}
}

// Unenroll is not answered, and a server may take silence as done. The PC that died leaves when it is back.
func TestUnenrollByServerAfterARestart(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{command(syncml.Exec, d.providerURI()+"/Unenroll", "chr", "TestMDM")})
	again := s.died(t, d, 2, func() { poll(t, d) })
	s.removed = nil
	if r, err := again.Poll(t.Context()); err != nil || !r.Left {
		t.Fatalf("%+v %v", r, err)
	}
	s.left(t, again)
}

func TestUnenrollByUserForbidden(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{command(syncml.Add, "./Vendor/MSFT/Policy/Config/Experience/AllowManualMDMUnenrollment", "int", "0")})
	poll(t, d)
	contains(t, d.Unenroll(t.Context()), "AllowManualMDMUnenrollment")
	if !d.Enrolled() || len(s.removed) != 0 {
		t.Error("the PC left")
	}
	s.send([]syncml.Command{command(syncml.Replace, "./Vendor/MSFT/Policy/Config/Experience/AllowManualMDMUnenrollment", "int", "1")})
	poll(t, d)
	if err := d.Unenroll(t.Context()); err != nil {
		t.Error(err)
	}
}
