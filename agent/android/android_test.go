package android

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/mail"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

func TestEnroll(t *testing.T) {
	s := newServer(t)
	lost := true
	s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		if lost {
			problem(w, companion.CodeUnavailable)
		}
		return lost
	}
	cfg := s.config(t)
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	install := d.Info().UDID
	contains(t, d.Enroll(t.Context(), cfg.Source), "enrolling", "503", "unavailable")
	lost = false
	if err := d.Enroll(t.Context(), cfg.Source); err != nil || !d.Enrolled() || s.installs[0] != install {
		t.Fatal(err, s.installs)
	}
	contains(t, d.Enroll(t.Context(), cfg.Source), "enrolled already")
	f := d.Facts()
	if f.DeviceID != "device-1" || f.SDK != 35 || f.ManagementMode != framework.ModeCompanion || len(f.Capabilities) != 5 || d.Info().BuildVersion != "API 35" {
		t.Errorf("%+v", f)
	}
}

func TestEnrollRefuses(t *testing.T) {
	s := newServer(t)
	tests := []struct {
		name   string
		change func(*Config)
		server func()
		words  []string
	}{
		{"no link", func(c *Config) { c.Source = "https://mdm.example.com" }, nil, []string{"no token at its end"}},
		{"http", func(c *Config) { c.Source = "http://mdm.example.com/enroll/SECRET" }, nil, []string{"a link such as"}},
		{"no URL", func(c *Config) { c.Source = "SECRET\x00" }, nil, []string{"a link such as"}},
		{"another token", func(c *Config) { c.Source += "SECRET" }, nil, []string{"401", "token_invalid"}},
		{"an unknown CA", func(c *Config) { c.CA = s.ca.CertPEM() }, nil, []string{"cannot be reached", "certificate"}},
		{"no CA", func(c *Config) { c.CA = []byte("nothing") }, nil, []string{"--ca holds no PEM"}},
		{"an unknown version", func(c *Config) { c.OSVersion = "8" }, nil, []string{`version "8"`, "17"}},
		{"an unknown mode", func(c *Config) { c.ManagementMode = "BOSS" }, nil, []string{`"BOSS"`, "COMPANION"}},
		{"an answer of nobody", nil, func() {
			s.refuse = func(w http.ResponseWriter, _ *http.Request) bool { answerWith(w, 200, "hello"); return true }
		}, []string{"enrolling: answer to an enrolment"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := s.config(t)
			if tt.change != nil {
				tt.change(&cfg)
			}
			if tt.server != nil {
				tt.server()
			}
			d, err := Enroll(t.Context(), cfg)
			contains(t, err, tt.words...)
			if d != nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%v", err)
			}
		})
	}
}

// The certificate must be that of the wrap key.
func TestEnrollWithTheKeyOfAnother(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	key, err := d.state.App.wrapKey()
	if err != nil {
		t.Fatal(err)
	}
	cert := s.mailID("bob@corp.test").Cert
	if framework.Fits(key, cert) {
		t.Error("the certificate of another fits")
	}
	sum := framework.Fingerprint(cert.Raw)
	raw, err := encode(companion.EnrollResponse{DeviceID: "x", Credential: "c", WrapKeyID: sum, WrapCertificate: cert.Raw, Poll: companion.Poll{IntervalSeconds: 1}, ServerTime: s.clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	contains(t, d.enrolled(link{}, &answer{body: raw}), "certifies another one")
}

func TestLeaving(t *testing.T) {
	house := func(s *fakeServer) { s.want(s.house()...) }
	tests := []struct {
		name    string
		leave   func(*testing.T, *fakeServer, *Device) error
		goodbye string
		gone    string
	}{
		{"the user", func(t *testing.T, _ *fakeServer, d *Device) error { return d.Unenroll(t.Context()) }, companion.UnenrollUser, "the user took"},
		{"the user, without the server", func(t *testing.T, s *fakeServer, d *Device) error {
			s.http.CloseClientConnections()
			s.refuse = refusing("/", companion.CodeUnavailable)
			return d.Unenroll(t.Context())
		}, "", "the user took"},
		{"the server, by its policy", func(t *testing.T, s *fakeServer, d *Device) error {
			s.change(func(st *companion.State) {
				st.Policy.Unenroll = true
				for i := range st.Items[1:] {
					st.Items[i] = removal(st.Items[i])
				}
			})
			r, err := d.Sync(t.Context(), 0)
			if !r.Left {
				t.Errorf("%+v", r)
			}
			if inv := s.last(t); len(inv.Identities)+len(inv.CAs) != 0 {
				t.Errorf("before the goodbye: %+v", inv)
			}
			return err
		}, companion.UnenrollPolicy, "the server ended the management"},
		{"an ended enrolment", func(t *testing.T, s *fakeServer, d *Device) error {
			s.refuse = refusing("/agent/v1/", companion.CodeEnded)
			return d.Run(t.Context(), time.Second)
		}, "", "410 Gone (ended)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			d := s.device(t)
			house(s)
			mustSync(t, d)
			if err := tt.leave(t, s, d); err != nil {
				t.Fatal(err)
			}
			if p := d.Phone(); len(p.Work.Keys)+len(p.Work.CAs)+len(p.Restrictions) != 0 || d.Enrolled() {
				t.Errorf("left behind: %+v", p)
			}
			if strings.Join(s.goodbyes, " ") != tt.goodbye {
				t.Errorf("said goodbye: %v", s.goodbyes)
			}
			_, err := d.Sync(t.Context(), 0)
			if !errors.Is(err, ErrNotEnrolled) {
				t.Error(err)
			}
			contains(t, err, tt.gone)
			contains(t, d.Unenroll(t.Context()), "not enrolled")
			contains(t, d.Run(t.Context(), time.Second), "not enrolled")
			s.refuse = nil
			s.change(func(st *companion.State) { st.Policy.Unenroll = false })
			house(s)
			if err := d.Enroll(t.Context(), d.cfg.Source); err != nil || s.installs[0] != s.installs[1] {
				t.Fatal(err, s.installs)
			}
			mustSync(t, d)
		})
	}
}

// A server that does not know the credential says nothing about the enrolment: the keys stay, until the device is enrolled
// anew.
func TestUnknownCredential(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	before := len(d.Phone().Work.Keys)
	s.refuse = refusing(companion.PathState, companion.CodeCredentialInvalid)
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "401", "credential_invalid")
	if len(d.Phone().Work.Keys) != before || before == 0 || !d.Enrolled() {
		t.Fatalf("%d keys of %d, enrolled: %v", len(d.Phone().Work.Keys), before, d.Enrolled())
	}
	s.refuse = nil
	mustSync(t, d) // the server is itself again
	contains(t, d.Enroll(t.Context(), d.cfg.Source), "enrolled already")
	s.refuse = refusing(companion.PathState, companion.CodeCredentialInvalid)
	_, err = d.Sync(t.Context(), 0)
	contains(t, err, "401")
	s.refuse = nil
	if err := d.Enroll(t.Context(), d.cfg.Source); err != nil || len(d.Phone().Work.Keys) != 0 {
		t.Fatal(err, d.Phone().Work.Keys)
	}
	mustSync(t, d)
	if len(d.Phone().Work.Keys) != before {
		t.Errorf("%d keys, want %d", len(d.Phone().Work.Keys), before)
	}
}

// What cannot be removed keeps the user from leaving, and a server that ends the enrolment is obeyed all the same.
func TestLeavingWithoutTheRight(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	if err := d.Change(func(w *framework.World) error { return w.Delegate(framework.ScopeCertInstall, false) }); err != nil {
		t.Fatal(err)
	}
	contains(t, d.Unenroll(t.Context()), "removing identity:smime-enc-1", "delegation_missing")
	if !d.Enrolled() {
		t.Fatal("it left")
	}
	s.change(func(st *companion.State) { st.Policy.Unenroll, st.Items = true, nil })
	_, err := d.Sync(t.Context(), 3*time.Second)
	contains(t, err, "delegation_missing")
	s.refuse = refusing("/agent/v1/", companion.CodeEnded)
	r, err := d.Sync(t.Context(), 0)
	contains(t, err, "left behind until it can be removed", "delegation_missing")
	if !r.Left || d.Enrolled() || d.state.App.Enrolment != nil || d.state.App.WrapKey != nil {
		t.Errorf("%+v", r)
	}
}

// Before the first unlocking nothing can be removed. What an ended enrolment brought goes as soon as it can.
func TestLeavingBeforeTheFirstUnlocking(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	if err := d.Folder().SetLocked(true); err != nil {
		t.Fatal(err)
	}
	s.refuse = refusing("/agent/v1/", companion.CodeEnded)
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "left behind", "identity:smime-enc-1", string(companion.ErrUserLocked))
	s.refuse = nil
	d = again(t, d)
	_, err = d.Poll(t.Context())
	contains(t, err, "not enrolled", "left behind")
	contains(t, d.Enroll(t.Context(), d.cfg.Source), "before the device is enrolled anew", string(companion.ErrUserLocked))
	if len(d.Phone().Work.Keys) != 1 || d.Enrolled() {
		t.Fatalf("%+v", d.Phone().Work.Aliases())
	}
	s.clock.sleep = func() {
		if err := d.Folder().SetLocked(false); err != nil {
			t.Error(err)
		}
	}
	if err := d.Run(t.Context(), time.Minute); err != nil { // ends when nothing is left
		t.Fatal(err)
	}
	if p := d.Phone(); len(p.Work.Keys)+len(p.Work.CAs)+len(p.Restrictions) != 0 || len(d.Facts().Items) != 0 {
		t.Errorf("left behind: %+v, known %v", p.Work.Aliases(), d.Facts().Items)
	}
	contains(t, d.Run(t.Context(), time.Minute), "not enrolled")
	if err := d.Enroll(t.Context(), d.cfg.Source); err != nil {
		t.Fatal(err)
	}
	mustSync(t, d)
}

func TestLeavingThingsBehind(t *testing.T) {
	s := newServer(t)
	s.state.Policy.RemoveOnUnenroll = false
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	if err := d.Unenroll(t.Context()); err != nil || len(d.Phone().Work.Keys) != 1 {
		t.Errorf("%v %+v", err, d.Phone().Work)
	}
}

func TestWorkProfileIsDeleted(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	mustSync(t, d)
	calls := len(s.calls)
	if err := d.DeleteWorkProfile(); err != nil || len(d.Keychain().Items()) != 0 || len(s.calls) != calls {
		t.Errorf("%v", err)
	}
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "not enrolled", "deleted the work profile")
}

func TestRun(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.want(s.house()...)
	ctx, cancel := context.WithCancel(t.Context())
	sleeps := 0
	s.clock.sleep = func() {
		if sleeps++; sleeps == 3 {
			cancel()
		}
	}
	waits := map[string]bool{}
	s.refuse = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			waits[r.URL.Query().Get("wait")] = true
		}
		return false
	}
	if err := d.Chaos(ChaosCrashReport); err != nil {
		t.Fatal(err)
	}
	if err := d.Run(ctx, time.Minute); err != nil {
		t.Fatal(err)
	}
	if sleeps != 3 || !waits["55"] || len(waits) != 1 || len(d.Phone().Work.Keys) != 1 {
		t.Errorf("%d sleeps, waits %v, %+v", sleeps, waits, d.Phone().Work.Aliases())
	}
}

func TestOpen(t *testing.T) {
	f, err := device.OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Save(device.Info{Platform: "ios"}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(Config{State: f.Dir})
	contains(t, err, "platform ios")
	_, err = View(Config{State: t.TempDir()})
	contains(t, err, "no state folder")
	d, err := Open(Config{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	contains(t, d.Chaos("storm"), `no "storm"`, "reorder")
	if v, err := View(Config{State: d.Folder().Dir}); err != nil || v.Info() != d.Info() || v.Enrolled() {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(d.Folder().Path(worldName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = d.Poll(t.Context())
	contains(t, err, worldName)
}

func TestWithoutTheCompanionApp(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.Change(func(w *framework.World) error { return w.Remove(Package) }); err != nil {
		t.Fatal(err)
	}
	_, err := d.Poll(t.Context())
	contains(t, err, "not installed", Package)
	if d.Enrolled() {
		t.Error("enrolled without the app")
	}
}

const message = "From: alice@corp.test\nTo: alice@corp.test\nSubject: x\n\nHello\n"

// A mail app has the keys that it was granted, old ones too, and no others.
func TestMail(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	old, current := s.mailID("alice@corp.test"), s.mailID("alice@corp.test")
	items := []companion.Item{s.identity(old, "smime-enc-1", "r1"), s.identity(current, "smime-enc-2", "r1"), grantItem(outlook, "smime-enc-1"), caItem(s.ca)}
	s.want(items...)
	mustSync(t, d)
	program := mail.New(d.App(""), rand.Reader)
	signed, err := program.Sign([]byte(message), "")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := program.Verify(signed); err != nil || !v.Signer.Equal(old.Cert) {
		t.Errorf("%v", err)
	}
	sealed, _, err := program.Encrypt([]byte(message), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := program.Decrypt(sealed); err != nil {
		t.Error(err)
	}
	gmail := d.App(packageGmail)
	if _, _, err := mail.New(gmail, rand.Reader).Decrypt(sealed); err == nil {
		t.Error("an app opens a message by a key that it was not granted")
	}
	contains(t, d.App("org.example").Check(), "not installed")
	if err := gmail.Check(); err != nil {
		t.Error(err)
	}
	if all, granted := d.Keychain(), d.App("").Keychain(); len(all.Identities()) != 2 || len(granted.Identities()) != 1 || len(all.Trusted()) != 1 {
		t.Errorf("%d %d", len(all.Identities()), len(granted.Identities()))
	}
	if !slices.Equal(d.Grants("smime-enc-1"), []string{outlook}) || len(d.Grants("smime-enc-2")) != 0 {
		t.Errorf("%v", d.Grants("smime-enc-1"))
	}
	if err := d.Folder().SetLocked(true); err != nil {
		t.Fatal(err)
	}
	if err := d.look(); err != nil || len(d.App("").Keychain().Identities()) != 0 {
		t.Error("keys of a locked phone can be used")
	}
}

// Before Android 11 the user picks.
func TestPick(t *testing.T) {
	s := newServer(t)
	d := s.device(t, func(c *Config) { c.OSVersion = "10" })
	item := s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1")
	s.want(item)
	mustSync(t, d)
	contains(t, d.Pick(outlook, "smime-enc-1"), "does not show")
	item.Identity.UserSelectable, item.Revision = true, "r2"
	secret := s.secrets[item.ID]
	secret.Revision = "r2"
	s.secrets[item.ID] = secret
	s.want(item)
	mustSync(t, d)
	contains(t, d.Pick("org.example", "smime-enc-1"), "not installed")
	if err := d.Pick(outlook, "smime-enc-1"); err != nil || len(d.App("").Keychain().Identities()) != 1 {
		t.Error(err)
	}
}

func TestByHand(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	id := s.mailID("alice@corp.test")
	file, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "x", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.ImportPKCS12(file, "x", "mine"); err != nil {
		t.Fatal(err)
	}
	contains(t, d.ImportPKCS12(file, "y", "other"), "wrong password")
	for _, alias := range []string{"mine2", "mine3"} {
		if err := d.ImportPKCS12(file, "x", alias); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, d.DeleteKey(""), "no key named")
	contains(t, d.DeleteKey("zz"), "no key with the alias")
	contains(t, d.DeleteKey(framework.Fingerprint(id.Cert.Raw)[:8]), "3 keys")
	for _, name := range []string{"mine", "mine2", strings.ToUpper(framework.Fingerprint(id.Cert.Raw)[:8])} {
		if err := d.DeleteKey(name); err != nil {
			t.Error(err)
		}
	}
	contains(t, InstallApp(d.Folder(), "no package"), "package")
}
