package android

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

func TestInstallAndRemove(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	items := s.house()
	s.want(items...)
	r := mustSync(t, d)
	if r.Commands != 4 || len(r.Failures)+len(r.Waiting)+r.Pending != 0 {
		t.Errorf("%+v", r)
	}
	var order []string
	for _, told := range s.told {
		order = append(order, told.item[:2]+" "+string(told.State))
	}
	// The grant and the identity stand before what they need, and wait for it without being done in vain.
	want := []string{"ca installed", "id installed", "gr granted", "ma installed"}
	if !slices.Equal(order, want) {
		t.Errorf("in the order %v", order)
	}
	inv := s.last(t)
	if inv.Identities[0].Alias != "smime-enc-1" || !slices.Equal(inv.Identities[0].Grants, []string{outlook}) || inv.MailConfigs[0].Revision != "r1" ||
		len(inv.CAs) != 1 || inv.Generation != "g1" || !inv.ScreenLock || !inv.UserUnlocked || len(inv.Apps) != 3 || len(inv.Capabilities) != 5 {
		t.Errorf("%+v", inv)
	}
	s.told = nil
	for i := range items {
		items[i] = removal(items[i])
	}
	s.want(items...)
	mustSync(t, d)
	order = nil
	for _, told := range s.told {
		order = append(order, told.item[:2])
	}
	if strings.Join(order, " ") != "ma gr id ca" {
		t.Errorf("removed in the order %v", order)
	}
	if inv := s.last(t); len(inv.Identities)+len(inv.CAs)+len(inv.MailConfigs) != 0 {
		t.Errorf("after the removal: %+v", inv)
	}
	s.want()
	mustSync(t, d)
	if len(d.Facts().Items) != 0 {
		t.Errorf("still known: %v", d.Facts().Items)
	}
}

// What the server does not speak of any more stays.
func TestRemovalIsExplicit(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	s.want()
	mustSync(t, d)
	if p := d.Phone(); len(p.Work.Keys) != 1 || len(p.Work.CAs) != 1 || len(p.Restrictions) != 1 {
		t.Errorf("%+v", p)
	}
}

// What came in a former revision is the app's, also when the next one did not come and nobody asks for it any more.
func TestFormerRevisionStaysKnown(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	items := s.house()
	s.want(items...)
	mustSync(t, d)
	if err := d.Change(func(w *framework.World) error { return w.Delegate(framework.ScopeCertSelection, false) }); err != nil {
		t.Fatal(err)
	}
	d.Phone().StorageFull = true
	s.refuse = refusing(companion.PathPayload, companion.CodeUnavailable)
	for i := range items {
		items[i].Revision = "r2"
	}
	s.want(items...)
	if _, err := d.Sync(t.Context(), 0); err == nil {
		t.Fatal("the next revision came")
	}
	s.want()
	mustSync(t, d)
	s.change(func(st *companion.State) { st.Policy.ReportInventory = true })
	mustSync(t, d)
	if inv := s.last(t); len(inv.Identities) != 1 || inv.Identities[0].Alias != "smime-enc-1" || len(inv.Identities[0].Grants) != 1 || len(inv.CAs) != 1 {
		t.Errorf("%+v", inv)
	}
	if err := d.Change(func(w *framework.World) error { return w.Delegate(framework.ScopeCertSelection, true) }); err != nil {
		t.Fatal(err)
	}
	if err := d.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p := d.Phone(); len(p.Work.Keys)+len(p.Work.CAs)+len(p.Restrictions) != 0 {
		t.Errorf("left behind: %+v", p)
	}
}

func TestFaults(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(change func(*companion.Secret)) func(*fakeServer, *Device, []companion.Item) {
		return func(s *fakeServer, _ *Device, items []companion.Item) {
			secret := s.secrets[items[2].ID]
			change(&secret)
			s.secrets[items[2].ID] = secret
		}
	}
	world := func(change func(*framework.World) error) func(*fakeServer, *Device, []companion.Item) {
		return func(s *fakeServer, d *Device, _ []companion.Item) {
			if err := d.Change(change); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name    string
		prepare func(*fakeServer, *Device, []companion.Item)
		item    int // of house
		code    companion.ErrorCode
		state   companion.ItemState
		heal    func(*fakeServer, *Device, []companion.Item) // nil: nothing helps
	}{
		{"no right to install", world(func(w *framework.World) error { return w.Delegate(framework.ScopeCertInstall, false) }), 3,
			companion.ErrDelegationMissing, companion.StateRetryWait,
			world(func(w *framework.World) error { return w.Delegate(framework.ScopeCertInstall, true) })},
		{"no right to grant", world(func(w *framework.World) error { return w.Delegate(framework.ScopeCertSelection, false) }), 1,
			companion.ErrSelectionDelegationMissing, companion.StateRetryWait,
			world(func(w *framework.World) error { return w.Delegate(framework.ScopeCertSelection, true) })},
		{"not unlocked", func(s *fakeServer, d *Device, _ []companion.Item) { _ = d.Folder().SetLocked(true) }, 3,
			companion.ErrUserLocked, companion.StateWaitingUser,
			func(s *fakeServer, d *Device, _ []companion.Item) { _ = d.Folder().SetLocked(false) }},
		{"no screen lock", func(s *fakeServer, d *Device, i []companion.Item) {
			d.Phone().DiskEncrypted = true
			world(func(w *framework.World) error { w.NoScreenLock = true; return nil })(s, d, i)
		}, 2, companion.ErrScreenLockRequired, companion.StateWaitingUser,
			world(func(w *framework.World) error { w.NoScreenLock = false; return nil })},
		{"no app", world(func(w *framework.World) error { return w.Remove(outlook) }), 1, companion.ErrAppNotInstalled, companion.StateWaitingApp,
			func(s *fakeServer, d *Device, _ []companion.Item) {
				if err := InstallApp(d.Folder(), outlook); err != nil {
					s.t.Fatal(err)
				}
			}},
		{"an app of somebody else", func(s *fakeServer, _ *Device, items []companion.Item) {
			items[1].Grant.SigningCertSHA256 = Signer("another")
		}, 1, companion.ErrAppSignatureMismatch, companion.StateFailed, nil},
		{"the clock is behind", func(_ *fakeServer, d *Device, _ []companion.Item) { d.cfg.Offset = -20 * 365 * 24 * time.Hour }, 2,
			companion.ErrClockSkew, companion.StateWaitingUser, func(_ *fakeServer, d *Device, _ []companion.Item) { d.cfg.Offset = 0 }},
		{"no room", func(_ *fakeServer, d *Device, _ []companion.Item) { d.Phone().StorageFull = true }, 3, companion.ErrStorageFull, companion.StateRetryWait,
			func(s *fakeServer, d *Device, _ []companion.Item) {
				d.Phone().StorageFull = false
				s.clock.now = s.clock.now.Add(time.Minute)
			}},
		{"a key of a kind unknown", spoil(func(secret *companion.Secret) {
			if secret.Key, err = x509.MarshalPKCS8PrivateKey(edKey); err != nil {
				t.Error(err)
			}
		}), 2, companion.ErrKeyAlgUnsupported, companion.StateFailed, nil},
		{"no key", spoil(func(secret *companion.Secret) { secret.Key = []byte("no key") }), 2, companion.ErrKeyAlgUnsupported, companion.StateFailed, nil},
		{"another key", spoil(func(secret *companion.Secret) {
			if secret.Key, err = x509.MarshalPKCS8PrivateKey(testpki.PoolKey(t, 5)); err != nil {
				t.Error(err)
			}
		}), 2, companion.ErrKeyCertMismatch, companion.StateFailed, nil},
		{"a chain of something", spoil(func(secret *companion.Secret) { secret.Chain[1] = []byte("no certificate") }), 2, companion.ErrKeyCertMismatch, companion.StateFailed, nil},
		{"the secret of another item", spoil(func(secret *companion.Secret) { secret.ItemID = "identity:other" }), 2, companion.ErrDecryptFailed, companion.StateFailed, nil},
		{"an envelope for somebody else", func(s *fakeServer, _ *Device, _ []companion.Item) { s.wrap = s.mailID("bob@corp.test").Cert }, 2,
			companion.ErrDecryptFailed, companion.StateFailed, nil},
		{"another certificate under the alias", func(s *fakeServer, d *Device, _ []companion.Item) {
			other := s.mailID("bob@corp.test")
			pair := framework.KeyPair{Key: other.Key, Chain: []*x509.Certificate{other.Cert}}
			if ok, err := d.Phone().InstallKeyPair(Package, "smime-enc-1", pair, 0); !ok || err != nil {
				s.t.Fatal(ok, err)
			}
			d.acted()
		}, 2, companion.ErrAliasConflict, companion.StateFailed, nil},
		{"a version without grants", func(_ *fakeServer, d *Device, _ []companion.Item) { d.Phone().SDK = 29 }, 1, companion.ErrUnsupportedAPI, companion.StateFailed, nil},
		{"a wrap key that the server does not know", func(s *fakeServer, _ *Device, _ []companion.Item) {
			s.refuse = refusing(companion.PathPayload, companion.CodeWrapKeyUnknown)
		}, 2, companion.ErrDecryptFailed, companion.StateFailed, nil},
		{"a server that fails", func(s *fakeServer, _ *Device, _ []companion.Item) {
			s.refuse = refusing(companion.PathPayload, companion.CodeInternal)
		}, 2, companion.ErrServer5xx, companion.StateRetryWait, func(s *fakeServer, _ *Device, _ []companion.Item) {
			s.refuse, s.clock.now = nil, s.clock.now.Add(time.Minute)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			d := s.device(t)
			items := s.house()
			tt.prepare(s, d, items)
			s.want(items...)
			_, err := d.Sync(t.Context(), 0)
			contains(t, err, items[tt.item].ID, tt.code.Meaning(), string(tt.code))
			i := slices.IndexFunc(s.told, func(r told) bool { return r.item == items[tt.item].ID && r.Error != nil })
			if i < 0 {
				t.Fatalf("not told; %v", s.told)
			}
			if e := s.told[i]; e.State != tt.state || e.Error.Code != tt.code || e.Error.Retryable == (tt.state == companion.StateFailed) {
				t.Errorf("told %+v %+v", e, e.Error)
			}
			if tt.heal == nil {
				s.want(items...) // the same again does not start it anew
				before := s.payloads
				if _, err := d.Sync(t.Context(), 0); err == nil || s.payloads != before {
					t.Errorf("%v, %d envelopes", err, s.payloads-before)
				}
				again := slices.Clone(items) // but the next attempt does
				again[tt.item].Attempt = 1
				s.want(again...)
				told := len(s.told)
				if _, err := d.Sync(t.Context(), 0); err == nil || len(s.told) == told {
					t.Errorf("%v, told %v", err, s.told[told:])
				}
				return
			}
			tt.heal(s, d, items)
			mustSync(t, d)
		})
	}
}

// refusing refuses the requests to a path.
func refusing(pattern, code string) func(http.ResponseWriter, *http.Request) bool {
	prefix, suffix, _ := strings.Cut(pattern, "{item}")
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, prefix) || !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		problem(w, code)
		return true
	}
}

// A refusal without a reason is tried three times.
func TestThrice(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	item := s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1")
	s.want(item)
	d.Phone().Refusals = 9
	for range 3 {
		if _, err := d.Sync(t.Context(), 0); err == nil {
			t.Fatal("it went well")
		}
		s.clock.now = s.clock.now.Add(10 * time.Minute)
	}
	if got := s.reports(item.ID); got != "retry_wait retry_wait failed" || d.Phone().Refusals != 6 {
		t.Errorf("%s, %d", got, d.Phone().Refusals)
	}
	// Asked for anew, it is tried anew.
	s.want()
	mustSync(t, d)
	d.Phone().Refusals = 0
	s.want(item)
	mustSync(t, d)
	ca := caItem(s.ca)
	s.want(item, ca)
	d.Phone().Refusals = 1
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, string(companion.ErrCARefused), "next try at")
}

func TestBackoff(t *testing.T) {
	d := newServer(t).device(t)
	r := &round{Device: d}
	for attempt, want := range map[int]time.Duration{0: 30 * time.Second, 1: 30 * time.Second, 2: 2 * time.Minute, 3: 10 * time.Minute, 4: time.Hour, 5: 6 * time.Hour, 99: 6 * time.Hour} {
		if got := r.backoff(attempt).Sub(d.now()); got < want || got > want+want/10 {
			t.Errorf("attempt %d: %s", attempt, got)
		}
	}
}

func TestWaitingForTheConnector(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	items := s.house()
	s.want(items...)
	asked := 0
	s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/payload") {
			return false
		}
		if asked++; asked > 3 {
			return false
		}
		problem(w, companion.CodeWaitingForConnector)
		return true
	}
	mustSync(t, d)
	if got := s.reports(items[2].ID); got != "installed" || asked != 4 {
		t.Errorf("%s after %d requests", got, asked)
	}
	s.refuse = refusing(companion.PathPayload, companion.CodeWaitingForConnector)
	s.want(append(items, s.identity(s.mailID("alice@corp.test"), "smime-enc-2", "r1"))...)
	r, err := d.Sync(t.Context(), 5*time.Second)
	contains(t, err, "after 5s 1 items that the server announced have not come")
	if r.Pending != 1 {
		t.Errorf("%+v", r)
	}
}

func TestServerMovesOn(t *testing.T) {
	for _, code := range []string{companion.CodeItemGone, companion.CodeRevisionStale, companion.CodeEnvelopeExpired} {
		s := newServer(t)
		d := s.device(t)
		s.want(s.house()...)
		once := false
		s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			if once || !strings.HasSuffix(r.URL.Path, "/payload") {
				return false
			}
			once = true
			problem(w, code)
			return true
		}
		mustSync(t, d)
		if len(s.last(t).Identities) != 1 {
			t.Errorf("%s: %+v", code, s.last(t))
		}
	}
}

// A result is told until the server takes it, or has moved on.
func TestResultsAreToldUntilTaken(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	item := s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1")
	s.want(item)
	s.refuse = refusing(companion.PathStatus, companion.CodeUnavailable)
	_, err := d.Sync(t.Context(), 3*time.Second)
	contains(t, err, "reporting identity:smime-enc-1", "503")
	s.refuse = refusing("/agent/v1/", companion.CodeUnavailable)
	_, err = d.Sync(t.Context(), 3*time.Second)
	contains(t, err, "503", "unavailable")
	s.refuse = nil
	mustSync(t, d)
	if got := s.reports(item.ID); got != "installed" || s.payloads != 1 {
		t.Errorf("%s, %d envelopes", got, s.payloads)
	}
	s.refuse = refusing(companion.PathStatus, companion.CodeRevisionStale)
	s.want(removal(item))
	mustSync(t, d)
	if len(d.Phone().Work.Keys) != 0 {
		t.Error("the key is there")
	}
}

func TestDependencies(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	grant := grantItem(outlook, "smime-enc-1")
	s.want(grant)
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, grant.ID+": waits for identity:smime-enc-1, which the server does not offer")
	if got := s.reports(grant.ID); got != "waiting_dependency" {
		t.Error(got)
	}
	s.change(func(st *companion.State) { st.Pending = 1 })
	_, err = d.Sync(t.Context(), 4*time.Second)
	contains(t, err, "1 items that the server announced")
	s.change(func(st *companion.State) {
		st.Pending, st.Items = 0, []companion.Item{grant, s.identityLocked(s.mailID("alice@corp.test"))}
	})
	mustSync(t, d)
	if got := s.reports(grant.ID); got != "waiting_dependency granted" {
		t.Error(got)
	}
}

// identityLocked is identity for who holds the lock of the server.
func (s *fakeServer) identityLocked(id *testpki.Identity) companion.Item {
	s.mu.Unlock()
	defer s.mu.Lock()
	return s.identity(id, "smime-enc-1", "r1")
}

// What the user or the administrator changes is noticed, told and put right.
func TestNotice(t *testing.T) {
	tests := []struct {
		name   string
		do     func(*framework.Phone, *framework.World) error
		events string
		redone int // item of house; -1: none
	}{
		{"the mail app is installed anew", func(_ *framework.Phone, w *framework.World) error { return w.Reinstall(outlook) }, "package_removed package_added", 1},
		{"another app comes", func(_ *framework.Phone, w *framework.World) error { w.Install("org.example.app", "1", ""); return nil }, "package_added", -1},
		{"the CA is distrusted", func(p *framework.Phone, _ *framework.World) error {
			return p.UninstallCACert(Package, p.Work.CAs[slices.Collect(maps.Keys(p.Work.CAs))[0]])
		}, "trust_store_changed", 3},
		{"a grant is taken back", func(p *framework.Phone, _ *framework.World) error {
			_, err := p.RevokeKeyPairFromApp(Package, "smime-enc-1", outlook)
			return err
		}, "keychain_changed", 1},
		{"the key is deleted", func(p *framework.Phone, _ *framework.World) error { return p.DeleteKey("smime-enc-1") }, "keychain_changed", 2},
		{"a scope is revoked", func(_ *framework.Phone, w *framework.World) error {
			return w.Delegate(framework.ScopeCertSelection, false)
		}, "restrictions_changed", -1},
		{"the screen lock goes", func(_ *framework.Phone, w *framework.World) error { w.NoScreenLock = true; return nil }, "", -1},
	}
	for _, release := range []string{"11", "15"} {
		for _, tt := range tests {
			if release == "11" && tt.name == "a grant is taken back" {
				continue // it cannot be seen there
			}
			t.Run(release+" "+tt.name, func(t *testing.T) {
				s := newServer(t)
				d := s.device(t, func(c *Config) { c.OSVersion = release })
				items := s.house()
				s.want(items...)
				mustSync(t, d)
				s.told, s.inventories = nil, nil
				if err := d.Change(func(w *framework.World) error { return tt.do(d.Phone(), w) }); err != nil {
					t.Fatal(err)
				}
				mustSync(t, d)
				var events []string
				for _, e := range s.events {
					events = append(events, e.Type)
				}
				if strings.Join(events, " ") != tt.events || len(s.inventories) == 0 {
					t.Errorf("events %v, %d inventories", events, len(s.inventories))
				}
				if tt.redone < 0 && len(s.told) > 0 || tt.redone >= 0 && s.reports(items[tt.redone].ID) == "" {
					t.Errorf("told %+v", s.told)
				}
			})
		}
	}
}

func TestInventoryOnDemandAndByTime(t *testing.T) {
	s := newServer(t)
	s.state.Policy.ReportInventorySeconds = 3600
	d := s.device(t)
	mustSync(t, d)
	before := len(s.inventories)
	if before != 1 {
		t.Errorf("%d inventories", before)
	}
	s.change(func(st *companion.State) { st.Policy.ReportInventory = true })
	mustSync(t, d)
	if len(s.inventories) != before+1 {
		t.Errorf("asked for: %d inventories", len(s.inventories))
	}
	s.clock.now = s.clock.now.Add(time.Hour)
	mustSync(t, d)
	if len(s.inventories) != before+2 {
		t.Errorf("due: %d inventories", len(s.inventories))
	}
}
