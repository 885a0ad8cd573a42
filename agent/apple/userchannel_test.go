package apple

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// userSide is how the small server treats users of a Mac: a queue of their own, and an answer to UserAuthenticate.
type userSide struct {
	*fakeServer // checkins, queue and results of the user channels alone
	device      *fakeServer
	challenge   func() (status int, body string)
	fault       func(message dict) int // a status to answer with, 0 for none
}

// newMacServer is a small server that speaks with users, too.
func newMacServer(t *testing.T) *userSide {
	t.Helper()
	u := &userSide{fakeServer: &fakeServer{t: t}, device: newServer(t)}
	u.device.enrol = func(top dict) {
		top["PayloadContent"].([]any)[0].(dict)["ServerCapabilities"] = []any{capabilityUsers}
	}
	u.device.refuse = u.answer
	return u
}

// answer takes the messages of users, and leaves those of the device.
func (u *userSide) answer(r *http.Request, body []byte) (status int, kind, text string) {
	message, err := proplist.DecodeDict(body, proplist.MaxSize)
	if err != nil || proplist.String(message, "UserID") == "" {
		return 0, "", ""
	}
	u.device.checkSigner(r, body)
	if u.fault != nil {
		if status := u.fault(message); status != 0 {
			return status, "text/plain", "later"
		}
	}
	if !strings.HasPrefix(r.Header.Get("Content-Type"), typeCheckin) {
		w := httptest.NewRecorder()
		u.command(w, message)
		return http.StatusOK, "application/xml", w.Body.String()
	}
	u.checkins = append(u.checkins, message)
	if message["MessageType"] == "UserAuthenticate" && u.challenge != nil {
		status, text = u.challenge()
		return status, "application/xml", text
	}
	return http.StatusOK, "", ""
}

// said are the types of the check-in messages of users.
func (u *userSide) said() string {
	var out []string
	for _, m := range u.checkins {
		out = append(out, proplist.String(m, "MessageType"))
	}
	return strings.Join(out, " ")
}

func (u *userSide) config(t *testing.T) Config {
	cfg := u.device.config(t)
	cfg.Platform, cfg.OSVersion = device.PlatformMac, "15.1"
	return cfg
}

func (u *userSide) mac(t *testing.T) *Device {
	t.Helper()
	d, err := Enroll(t.Context(), u.config(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func logsOn(t *testing.T, d *Device, who string) {
	t.Helper()
	if err := d.Folder().SetLogon(who); err != nil {
		t.Fatal(err)
	}
}

func userProfile(t *testing.T, id string, payloads ...dict) dict {
	t.Helper()
	return installCommand(encode(t, with(profileDict(id, payloads...), "PayloadScope", "User")))
}

func TestUserChannelOpens(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	if len(u.checkins) != 0 {
		t.Fatalf("users spoke at the enrolment: %v", u.checkins)
	}
	if _, _, err := d.UserChannel(); err == nil {
		t.Error("there is a user channel before the user spoke")
	}
	mustSync(t, d)
	if u.said() != "TokenUpdate" {
		t.Fatalf("%v", u.checkins)
	}
	m := u.checkins[0]
	if m["UDID"] != d.Info().UDID || m["UserShortName"] != "owner" || m["UserLongName"] == "" || m["NotOnConsole"] != false || m["AwaitingConfiguration"] != nil {
		t.Errorf("TokenUpdate: %v", m)
	}
	if token := proplist.Bytes(m, "Token"); len(token) != 32 || string(token) == string(proplist.Bytes(u.device.checkins[1], "Token")) {
		t.Error("the user channel has no push token of its own")
	}
	u.send(userProfile(t, "org.u", payloadDict("com.apple.dock", "dock", nil)))
	mustSync(t, d)
	if r := u.last(); r["Status"] != statusAcknowledged || r["UserID"] != m["UserID"] || r["RequestType"] != "InstallProfile" || u.said() != "TokenUpdate" {
		t.Errorf("result %v after %s", r, u.said())
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{State: d.Folder().Dir, Clock: u.device.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	mustSync(t, again)
	if _, id, err := again.UserChannel(); err != nil || id != m["UserID"] || u.said() != "TokenUpdate" || len(again.Profiles()) != 2 {
		t.Errorf("after a restart: %s %v, %s, %d profiles", id, err, u.said(), len(again.Profiles()))
	}
}

func TestNoUserChannel(t *testing.T) {
	tests := map[string]func(*userSide, *Config){
		"nobody is logged on": nil,
		"the server does not ask for users": func(u *userSide, _ *Config) {
			u.device.enrol = nil
		},
		"PayloadScope System suppresses it": func(u *userSide, _ *Config) {
			more := u.device.enrol
			u.device.enrol = func(top dict) { more(top); top["PayloadScope"] = "System" }
		},
		"an iPhone has none": func(_ *userSide, c *Config) { c.Platform, c.OSVersion = "ios", "18.1" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			u := newMacServer(t)
			cfg := u.config(t)
			if change != nil {
				change(u, &cfg)
			}
			d, err := Enroll(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			if change == nil {
				logsOn(t, d, device.LogonNone)
			}
			mustSync(t, d)
			if len(u.checkins)+len(u.results) != 0 {
				t.Errorf("%v", u.checkins)
			}
		})
	}
}

// Who is not managed says no more until they log on again.
func TestUsersOfADirectory(t *testing.T) {
	const challenge = `<plist version="1.0"><dict><key>DigestChallenge</key><string>%</string></dict></plist>`
	tests := map[string]struct {
		status     int
		body       string
		said, want string
	}{
		"not managed":             {http.StatusGone, "no", "UserAuthenticate", ""},
		"no password needed":      {http.StatusOK, strings.Replace(challenge, "%", "", 1), "UserAuthenticate TokenUpdate", ""},
		"an empty answer":         {http.StatusOK, "", "UserAuthenticate TokenUpdate", ""},
		"the password is needed":  {http.StatusOK, strings.Replace(challenge, "%", "abc", 1), "UserAuthenticate", "DigestChallenge"},
		"no property list":        {http.StatusOK, "?", "UserAuthenticate", "reading the answer to UserAuthenticate"},
		"a fault is no refusal":   {http.StatusInternalServerError, "", "UserAuthenticate", "UserAuthenticate was not accepted"},
		"nor is another 4xx code": {http.StatusNotFound, "", "UserAuthenticate", "UserAuthenticate was not accepted"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := newMacServer(t)
			d := u.mac(t)
			u.challenge = func() (int, string) { return tt.status, tt.body }
			logsOn(t, d, device.LogonOthers)
			_, err := d.Poll(t.Context())
			if (err != nil) != (tt.want != "") {
				t.Fatal(err)
			}
			if err != nil {
				contains(t, err, "opening the user channel", tt.want)
			}
			if u.said() != tt.said {
				t.Errorf("said %s", u.said())
			}
			if _, err := os.Stat(d.Folder().Path(device.LogonOthers, "device.json")); (err == nil) != strings.Contains(tt.said, "TokenUpdate") {
				t.Errorf("the folder of the user: %v", err)
			}
		})
	}
}

func TestTurnedAwayUntilTheNextLogon(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	u.challenge = func() (int, string) { return http.StatusGone, "" }
	for _, step := range []struct{ who, said string }{
		{device.LogonOthers, "UserAuthenticate"},
		{device.LogonOthers, "UserAuthenticate"},
		{device.LogonUser, "UserAuthenticate TokenUpdate"},
		{device.LogonOthers, "UserAuthenticate TokenUpdate UserAuthenticate"},
		{device.LogonNone, "UserAuthenticate TokenUpdate UserAuthenticate"},
	} {
		logsOn(t, d, step.who)
		mustSync(t, d)
		if u.said() != step.said {
			t.Fatalf("%s logged on: %s", step.who, u.said())
		}
	}
	if u.checkins[0]["UserID"] == u.checkins[1]["UserID"] {
		t.Error("two users have one id")
	}
}

// A UserID is an account's: it stays when a TokenUpdate has to be repeated, and when the Mac enrols again.
func TestUserIDStays(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	lost := true
	u.fault = func(m dict) int {
		if lost && m["MessageType"] == "TokenUpdate" { // the server took it, and the answer did not arrive
			lost = false
			u.checkins = append(u.checkins, m)
			return http.StatusBadGateway
		}
		return 0
	}
	if _, err := d.Poll(t.Context()); err == nil {
		t.Fatal("a refused TokenUpdate counts")
	}
	mustSync(t, d)
	if err := d.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Enroll(t.Context(), u.device.http.URL+"/enrol"); err != nil {
		t.Fatal(err)
	}
	mustSync(t, d)
	if len(u.checkins) != 3 || u.checkins[0]["UserID"] != u.checkins[1]["UserID"] || u.checkins[1]["UserID"] != u.checkins[2]["UserID"] {
		t.Errorf("%v", u.checkins)
	}
}

// The lock is of the login keychain: the device channel works on.
func TestLockedLoginKeychain(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	if err := d.Lock(true); err != nil {
		t.Fatal(err)
	}
	u.device.send(installCommand(wifi("org.device")), dict{"RequestType": "CertificateList"})
	u.send(userProfile(t, "org.user", p12(t, "id", id, pfx.LegacyDES)), dict{"RequestType": "ProfileList"})
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "InstallProfile: put off with NotNow")
	if !d.Installed("org.device") || u.device.last()["CertificateList"] == nil {
		t.Error("the device channel waits for the login keychain")
	}
	if r := u.last(); r["ProfileList"] == nil && r["Status"] != statusNotNow || len(d.Keychain().Identities()) != 1 {
		t.Errorf("%v, %d identities", r, len(d.Keychain().Identities()))
	}
	if err := d.Lock(false); err != nil {
		t.Fatal(err)
	}
	mustSync(t, d)
	if _, there := d.Keychain().ByFingerprint(keychainID(id)); !there || d.Installed("org.user") {
		t.Errorf("in a login keychain %v, on the device channel %v", there, d.Installed("org.user"))
	}
}

// Everybody has a login keychain of their own, and the enrolment takes all of them with it.
func TestLoginKeychains(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	ca := testpki.NewCA(t, "mail CA")
	for _, who := range []string{device.LogonUser, device.LogonOthers} {
		logsOn(t, d, who)
		id := issue(t, ca, testpki.Options{})
		u.send(userProfile(t, "org."+who, p12(t, who, id, pfx.LegacyDES)))
		mustSync(t, d)
		if r := u.last(); r["UserShortName"] != d.userOf(who).state.User.ShortName {
			t.Errorf("%v", r)
		}
	}
	if len(d.Keychain().Identities()) != 3 || len(d.Profiles()) != 3 || len(d.userOf(device.LogonUser).keys.Items()) != 1 {
		t.Errorf("%d identities, %d profiles", len(d.Keychain().Identities()), len(d.Profiles()))
	}
	u.send(dict{"RequestType": "ProfileList"})
	mustSync(t, d)
	if list := u.last()["ProfileList"].([]any); len(list) != 1 {
		t.Errorf("a user sees %d profiles", len(list))
	}
	contains(t, d.RemoveFile(t.Context(), "org.user"), "its user cannot remove it")
	if err := errors.Join(d.Chaos(ChaosRemovable), d.RemoveFile(t.Context(), "org.user")); err != nil || len(d.Profiles()) != 2 {
		t.Errorf("%v, %d profiles", err, len(d.Profiles()))
	}
	if err := d.Unenroll(t.Context()); err != nil || len(d.Keychain().Items()) != 0 || len(d.Profiles()) != 0 {
		t.Errorf("%v, %d items", err, len(d.Keychain().Items()))
	}
	for _, who := range []string{device.LogonUser, device.LogonOthers} {
		if _, err := os.Stat(d.Folder().Path(who)); err == nil {
			t.Errorf("the folder of %s stays", who)
		}
	}
	if last := u.device.checkins[len(u.device.checkins)-1]; last["MessageType"] != "CheckOut" {
		t.Errorf("the last message is %v", last)
	}
}

// A process that dies between the end of the enrolment and that of the user channel leaves nobody's keys behind.
func TestFolderOfAFormerUser(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	u.send(userProfile(t, "org.user", p12(t, "id", id, pfx.LegacyDES)))
	mustSync(t, d)
	former := t.TempDir() + "/former"
	if err := os.CopyFS(former, os.DirFS(d.Folder().Path(device.LogonUser))); err != nil {
		t.Fatal(err)
	}
	if err := d.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(former, d.Folder().Path(device.LogonUser)); err != nil {
		t.Fatal(err)
	}
	if err := d.load(); err != nil || len(d.Keychain().Items()) != 0 {
		t.Errorf("%v, %d items", err, len(d.Keychain().Items()))
	}
	if err := d.Enroll(t.Context(), u.device.http.URL+"/enrol"); err != nil {
		t.Fatal(err)
	}
	mustSync(t, d)
	if _, there := d.Keychain().ByFingerprint(keychainID(id)); there || len(d.Profiles()) != 1 {
		t.Errorf("the former key is there: %v; %d profiles", there, len(d.Profiles()))
	}
}

func TestDeleteCertificate(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	contains(t, d.DeleteCertificate("00"), "nobody is logged on")
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	u.send(userProfile(t, "org.user", p12(t, "id", id, pfx.LegacyDES)))
	mustSync(t, d)
	for _, bad := range []string{"", "zz", keychainID(id) + "0", d.keys.Items()[0].ID()} { // the last is in the System keychain
		contains(t, d.DeleteCertificate(bad), "certificates in the login keychain", bad)
	}
	logsOn(t, d, device.LogonNone)
	contains(t, d.DeleteCertificate(keychainID(id)), "nobody is logged on")
	logsOn(t, d, device.LogonUser)
	if err := d.DeleteCertificate(strings.ToUpper(keychainID(id)[:12])); err != nil {
		t.Fatal(err)
	}
	u.send(dict{"RequestType": "CertificateList"})
	mustSync(t, d)
	if list := u.last()["CertificateList"].([]any); len(list) != 0 {
		t.Errorf("%d certificates", len(list))
	}
}

// A result of the user that the server did not take is kept, over a logoff and a restart too.
func TestUserResultKept(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	u.send(dict{"RequestType": "ProfileList"})
	u.fault = func(m dict) int {
		if m["ProfileList"] != nil {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	if _, err := d.Poll(t.Context()); err == nil {
		t.Fatal("the server took it")
	}
	logsOn(t, d, device.LogonNone)
	mustSync(t, d) // who is away cannot be heard, and is not waited for
	u.fault = nil
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{State: d.Folder().Dir, Clock: u.device.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	logsOn(t, again, device.LogonUser)
	mustSync(t, again)
	if len(u.results) != 1 || u.last()["ProfileList"] == nil {
		t.Errorf("%v", u.results)
	}
}

// A server that disowns the user's message disowns the Mac.
func TestUserDisowned(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	mustSync(t, d)
	u.fault = func(dict) int { return http.StatusUnauthorized }
	r, err := d.Poll(t.Context())
	contains(t, err, "does not recognise this device")
	if !r.Left || d.Enrolled() || len(d.users) != 0 {
		t.Errorf("%+v, enrolled %v", r, d.Enrolled())
	}
}
