package android

import (
	"errors"
	"testing"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// crashing is a device that is about to install one identity.
type crashing struct {
	*testing.T
	s  *fakeServer
	d  *Device
	id companion.Item
}

func (c *crashing) sync(words ...string) error {
	c.Helper()
	if err := c.d.Chaos(words...); err != nil {
		c.Fatal(err)
	}
	_, err := c.d.Sync(c.Context(), 0)
	return err
}

func (c *crashing) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// check compares what the server was told of the item and how often it gave the key away.
func (c *crashing) check(reports string, payloads int) {
	c.Helper()
	if got := c.s.reports(c.id.ID); got != reports || c.s.payloads != payloads {
		c.Errorf("told %q with %d envelopes, want %q with %d", got, c.s.payloads, reports, payloads)
	}
}

// The list of android.md section 8.8 by its numbers, as far as it is the app's.
func TestIdempotency(t *testing.T) {
	tests := []struct {
		name string
		run  func(c *crashing)
	}{
		{"1 a crash after installKeyPair, before it is noted", func(c *crashing) {
			if err := c.sync(ChaosCrashInstall); !errors.Is(err, ErrCrashed) {
				c.Fatal(err)
			}
			c.check("", 1)
			changes := c.d.Phone().Work.KeyChanges
			c.d = again(c.T, c.d)
			c.must(c.sync())
			c.check("installed", 1)
			if c.d.Phone().Work.KeyChanges != changes {
				c.Error("the key was installed twice")
			}
		}},
		{"2 a crash after it is noted, before it is told", func(c *crashing) {
			if err := c.sync(ChaosCrashReport); !errors.Is(err, ErrCrashed) {
				c.Fatal(err)
			}
			c.check("", 1)
			c.d = again(c.T, c.d)
			c.must(c.sync())
			c.check("installed", 1)
		}},
		{"2 a crash after installKeyPair, and nobody asks for it any more", func(c *crashing) {
			if err := c.sync(ChaosCrashInstall); !errors.Is(err, ErrCrashed) {
				c.Fatal(err)
			}
			c.d = again(c.T, c.d)
			c.s.want()
			c.must(c.sync())
			if held := c.s.last(c.T).Identities; len(held) != 1 {
				c.Errorf("held %+v", held)
			}
			c.must(c.d.Unenroll(c.Context()))
			if len(c.d.Phone().Work.Keys) != 0 {
				c.Error("the key is left behind")
			}
		}},
		{"3 the same state twice", func(c *crashing) {
			c.must(c.sync())
			c.s.always, c.s.calls = true, nil
			c.must(c.sync())
			for _, call := range c.s.calls {
				if call != "GET "+companion.PathState {
					c.Errorf("called %s", call)
				}
			}
		}},
		{"4 another revision under the same alias", func(c *crashing) {
			grant := grantItem(outlook, "smime-enc-1")
			c.s.want(c.id, grant)
			c.must(c.sync())
			next := c.s.identity(c.s.mailID("alice@corp.test"), "smime-enc-1", "r2")
			c.s.want(next, grant)
			c.must(c.sync())
			c.check("installed installed", 2)
			if got := c.s.reports(grant.ID); got != "granted granted" {
				c.Errorf("the grant: %s", got)
			}
			held := c.s.last(c.T).Identities
			if len(held) != 1 || held[0].CertSHA256 != next.Identity.CertSHA256 || len(held[0].Grants) != 1 {
				c.Errorf("held %+v", held)
			}
		}},
		{"4 another revision of the same certificate", func(c *crashing) {
			c.must(c.sync())
			secret := c.s.secrets[c.id.ID]
			secret.Revision, c.id.Revision = "r2", "r2"
			c.s.secrets[c.id.ID] = secret
			c.s.want(c.id)
			c.must(c.sync())
			c.check("installed installed", 2)
		}},
		{"5 the removal of what is not there", func(c *crashing) {
			items := c.s.house()
			for i := range items {
				items[i] = removal(items[i])
			}
			c.s.want(items...)
			c.must(c.sync())
			for _, i := range items {
				if got := c.s.reports(i.ID); got != "removed" {
					c.Errorf("%s: %q", i.ID, got)
				}
			}
		}},
		{"6 two apps at once", func(c *crashing) {
			if _, err := Open(c.d.cfg); !errors.Is(err, device.ErrBusy) {
				c.Error(err)
			}
		}},
		{"8 the app is installed anew", func(c *crashing) {
			c.must(c.sync())
			if err := c.sync(ChaosReinstall); !errors.Is(err, ErrNotEnrolled) {
				c.Fatal(err)
			}
			c.must(c.d.Chaos())
			c.must(c.d.Enroll(c.Context(), c.d.cfg.Source))
			if c.s.installs[0] == c.s.installs[1] {
				c.Error("another installation has the same id")
			}
			c.must(c.sync())
			c.check("installed installed", 1) // adopted
		}},
		{"9 the user deletes a key", func(c *crashing) {
			c.must(c.sync())
			c.s.inventories = nil
			c.must(c.d.DeleteKey("smime-enc-1"))
			c.must(c.sync())
			c.check("installed installed", 2)
			if len(c.s.events) != 1 || c.s.events[0].Type != companion.EventKeychainChanged {
				c.Errorf("events %+v", c.s.events)
			}
			if first := c.s.inventories[0]; len(first.Identities) != 0 || len(c.s.last(c.T).Identities) != 1 {
				c.Errorf("inventories %+v", c.s.inventories)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			c := &crashing{T: t, s: s, d: s.device(t), id: s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1")}
			s.want(c.id)
			tt.run(c)
		})
	}
}

// An app without grants and without hasKeyPair cannot see what is under an alias: it installs over it.
func TestAdoptionOnOldVersions(t *testing.T) {
	for release, payloads := range map[string]int{"10": 2, "11": 2, "12": 1} {
		t.Run(release, func(t *testing.T) {
			s := newServer(t)
			d := s.device(t, func(c *Config) { c.OSVersion = release })
			s.want(s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1"))
			mustSync(t, d)
			if err := d.Change(func(w *framework.World) error { return w.Reinstall(Package) }); err != nil {
				t.Fatal(err)
			}
			if err := d.Enroll(t.Context(), d.cfg.Source); err != nil {
				t.Fatal(err)
			}
			mustSync(t, d)
			if s.payloads != payloads {
				t.Errorf("%d envelopes, want %d", s.payloads, payloads)
			}
		})
	}
}

// Whatever goes wrong on the way, it ends in the same place, and each item is told to be done.
func TestChaosEndsWell(t *testing.T) {
	for _, words := range [][]string{{ChaosDuplicate}, {ChaosLost}, {ChaosReorder}, {ChaosCrashInstall}, {ChaosCrashReport},
		{ChaosCrashMake}, {ChaosDuplicate, ChaosLost, ChaosReorder, ChaosCrashMake, ChaosCrashInstall, ChaosCrashReport}} {
		s := newServer(t)
		d := s.device(t)
		items := append(s.house(), ownItem("smime-sign-1"))
		s.want(items...)
		crashed := settle(t, d, words)
		for _, i := range items {
			want := companion.StateInstalled
			if i.Kind == companion.KindGrant {
				want = companion.StateGranted
			}
			if got := bySeq(s, i.ID); got != want {
				t.Errorf("%v: %s is %q for the server", words, i.ID, got)
			}
		}
		if held := s.last(t); len(held.Identities) != 2 || len(s.issued) != 1 || len(held.CAs) != 1 || len(held.MailConfigs) != 1 {
			t.Errorf("%v: %+v", words, held)
		}
		for i := range items {
			items[i] = removal(items[i])
		}
		s.want(items...)
		crashed += settle(t, d, words)
		for _, i := range items {
			if got := bySeq(s, i.ID); got != companion.StateRemoved {
				t.Errorf("%v: %s is %q for the server", words, i.ID, got)
			}
		}
		if p := d.Phone(); len(p.Work.Keys)+len(p.Work.CAs)+len(p.Restrictions) != 0 || (len(words) > 1) && crashed < 2 {
			t.Errorf("%v: left %+v after %d crashes", words, p, crashed)
		}
	}
}

// settle syncs until the app does not crash any more, and returns how often it did.
func settle(t *testing.T, d *Device, words []string) int {
	t.Helper()
	if err := d.Chaos(words...); err != nil {
		t.Fatal(err)
	}
	for crashes := range 20 {
		_, err := d.Sync(t.Context(), 0)
		if err == nil {
			return crashes
		}
		if !errors.Is(err, ErrCrashed) {
			t.Fatalf("%v: %v", words, err)
		}
	}
	t.Fatalf("%v: it never ends", words)
	return 0
}

// bySeq is the state of an item for a server that passes over what comes late.
func bySeq(s *fakeServer, item string) companion.ItemState {
	var last told
	for _, r := range s.told {
		if r.item == item && r.Seq > last.Seq {
			last = r
		}
	}
	return last.State
}
