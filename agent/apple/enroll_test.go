package apple

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

func TestEnrol(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if !d.Enrolled() || len(s.checkins) != 2 {
		t.Fatalf("enrolled %v, %d check-ins", d.Enrolled(), len(s.checkins))
	}
	auth, token := s.checkins[0], s.checkins[1]
	if auth["MessageType"] != "Authenticate" || auth["UDID"] != d.Info().UDID || auth["OSVersion"] != "18.1" || auth["Topic"] != "com.apple.mgmt.External.1" {
		t.Errorf("Authenticate: %v", auth)
	}
	if token["MessageType"] != "TokenUpdate" || len(proplist.Bytes(token, "Token")) != 32 || token["PushMagic"] == "" {
		t.Errorf("TokenUpdate: %v", token)
	}
	if slices.Contains(s.accepts, "text/html") || s.accepts[0] != "*/*" {
		t.Errorf("Accept: %q", s.accepts)
	}
	if len(d.Keychain().Identities()) != 1 {
		t.Errorf("identities: %d", len(d.Keychain().Identities()))
	}
	want := []string{"GET GetCACaps", "GET GetCACert", "POST PKIOperation", "type 19"}
	if !slices.Equal(s.scepOps, want) {
		t.Errorf("SCEP: %v", s.scepOps)
	}
}

// The state survives the process, and only one process at a time may have it.
func TestReopen(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	info := d.Info()
	cfg := s.config(t)
	cfg.State, cfg.CA = d.Folder().Dir, nil
	if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), "another waxseal-agent") {
		t.Errorf("second opening: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	if again.Info() != info || !again.Enrolled() {
		t.Errorf("reopened: %+v", again.Info())
	}
	s.send(dict{"RequestType": "ProfileList"})
	mustSync(t, again)
	if err := again.Enroll(t.Context(), cfg.Source); err == nil {
		t.Error("enrolled twice")
	}
}

func TestEnrolFromFiles(t *testing.T) {
	s := newServer(t)
	id := s.ca.Issue(t, testpki.Options{CN: "phone"})
	s.enrol = func(top dict) {
		top["PayloadContent"].([]any)[1] = p12(t, "scep", id, pfx.LegacyDES)
	}
	plain := encode(t, s.enrolmentProfile())
	signed, err := cms.Sign(plain, id.Cert, id.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": plain, "signed": signed} {
		t.Run(name, func(t *testing.T) {
			cfg := s.config(t)
			cfg.Source = filepath.Join(t.TempDir(), "enrol.mobileconfig")
			if err := os.WriteFile(cfg.Source, data, 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := Enroll(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			if got := d.Profiles()[0].Signers; (name == "signed") != (len(got) > 0) {
				t.Errorf("signers: %q", got)
			}
			mustSync(t, d)
		})
	}
}

func TestEnrolVariants(t *testing.T) {
	tests := map[string]func(*fakeServer, *Config){
		"mTLS without signature": func(s *fakeServer, _ *Config) { s.mtls, s.noSign = true, true },
		"mTLS and signature":     func(s *fakeServer, _ *Config) { s.mtls = true },
		"modern signature":       func(_ *fakeServer, c *Config) { c.Signature = SignatureDER },
		"SCEP by GET":            func(s *fakeServer, _ *Config) { s.caps = "SHA-1\nAES\n" },
		"no RA":                  func(s *fakeServer, _ *Config) { s.single = true },
		"a Mac trusts the root inside": func(s *fakeServer, c *Config) {
			c.Platform, c.CA = "macos", s.ca.CertPEM()
			file := filepath.Join(c.State, "enrol.mobileconfig")
			s.enrol = func(top dict) {
				root := payloadDict(kindRoot, "root", dict{"PayloadContent": s.http.Certificate().Raw})
				top["PayloadContent"] = append(top["PayloadContent"].([]any), root)
			}
			if err := os.WriteFile(file, encode(s.t, s.enrolmentProfile()), 0o600); err != nil {
				s.t.Fatal(err)
			}
			c.Source = file
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			cfg := s.config(t)
			prepare(s, &cfg)
			d, err := Enroll(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			s.send(dict{"RequestType": "DeviceInformation", "Queries": []any{"UDID", "Nonsense"}})
			mustSync(t, d)
			if got := proplist.Sub(s.last(), "QueryResponses"); len(got) != 1 || got["UDID"] != d.Info().UDID {
				t.Errorf("QueryResponses: %v", got)
			}
		})
	}
}

func TestEnrolFails(t *testing.T) {
	mdmOf := func(top dict) dict { return top["PayloadContent"].([]any)[0].(dict) }
	scepOf := func(top dict) dict { return top["PayloadContent"].([]any)[1].(dict)["PayloadContent"].(dict) }
	tests := map[string]struct {
		prepare func(*fakeServer, *Config)
		want    []string
	}{
		"no trust":          {func(s *fakeServer, c *Config) { c.CA = s.ca.CertPEM() }, []string{"downloading", "certificate"}},
		"web page":          {func(s *fakeServer, c *Config) { c.Source = s.http.URL + "/nowhere" }, []string{"404"}},
		"plain http":        {func(_ *fakeServer, c *Config) { c.Source = "http://127.0.0.1/x" }, []string{"https only"}},
		"no mdm":            {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { mdmOf(d)["PayloadType"] = "com.x" } }, []string{"no com.apple.mdm payload"}},
		"topic":             {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { mdmOf(d)["Topic"] = "x" } }, []string{"12022", "com.apple.mgmt."}},
		"rights":            {func(s *fakeServer, _ *Config) { s.rights = 2 }, []string{"12000"}},
		"http server":       {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { mdmOf(d)["ServerURL"] = "http://x/" } }, []string{"2004", "https"}},
		"dangling identity": {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { mdmOf(d)["IdentityCertificateUUID"] = "U-x" } }, []string{"12008"}},
		"capabilities":      {func(s *fakeServer, _ *Config) { s.caps = "AES\nPOSTPKIOperation\n" }, []string{"22006"}},
		"key usage":         {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { scepOf(d)["Key Usage"] = 2 } }, []string{"22000"}},
		"key size":          {func(s *fakeServer, _ *Config) { s.enrol = func(d dict) { scepOf(d)["Keysize"] = 512 } }, []string{"22004"}},
		"fingerprint": {func(s *fakeServer, _ *Config) {
			s.enrol = func(d dict) { scepOf(d)["CAFingerprint"] = make([]byte, 20) }
		}, []string{"22002", "CAFingerprint"}},
		"SCEP refuses":          {func(s *fakeServer, _ *Config) { s.scepFail = true }, []string{"22013", "badRequest"}},
		"SCEP pending too long": {func(s *fakeServer, _ *Config) { s.pendings = 9 }, []string{"22013", "PENDING after 3 retries"}},
		"Authenticate refused": {func(s *fakeServer, _ *Config) {
			s.refuse = func(*http.Request, []byte) (int, string, string) { return 401, "text/plain", "go away" }
		}, []string{"12020", "Authenticate", "go away"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			cfg := s.config(t)
			tt.prepare(s, &cfg)
			_, err := Enroll(t.Context(), cfg)
			contains(t, err, tt.want...)
			d, err := Open(Config{State: cfg.State})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			if d.Enrolled() || len(d.Profiles()) > 0 || len(d.Keychain().Items()) > 0 {
				t.Error("something half-done stayed behind")
			}
		})
	}
}

func TestSCEPPending(t *testing.T) {
	s := newServer(t)
	s.pendings = 3
	s.device(t)
	if want := []time.Duration{7 * time.Second, 7 * time.Second}; !slices.Equal(s.clock.slept, want) {
		t.Errorf("pauses %v, want none before the first retry and then %v", s.clock.slept, want)
	}
	polls := 0
	for _, op := range s.scepOps {
		if op == "type 20" { // CertPoll
			polls++
		}
	}
	if polls != 3 {
		t.Errorf("%d CertPolls: %v", polls, s.scepOps)
	}
}

// A renewal: the server sends the enrolment profile again; the device gets a new certificate and checks in anew.
func TestRenewEnrolment(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	before := d.Keychain().Identities()[0].ID()
	token := d.state.PushToken
	s.send(installCommand(encode(t, s.enrolmentProfile())))
	mustSync(t, d)
	ids := d.Keychain().Identities()
	if len(ids) != 1 || ids[0].ID() == before || len(s.checkins) != 4 || d.state.PushToken != token {
		t.Errorf("%d identities, %d check-ins", len(ids), len(s.checkins))
	}
	for name, change := range map[string]func(dict){
		"12012": func(d dict) { d["Topic"] = "com.apple.mgmt.other" },
		"12000": func(d dict) { d["AccessRights"] = 8191 },
		"4015":  func(d dict) { d["PayloadType"] = "com.x" },

		"must not add or remove the capability": func(d dict) { d["ServerCapabilities"] = []any{capabilityUsers} },
	} {
		s.enrol = func(top dict) { change(top["PayloadContent"].([]any)[0].(dict)) }
		s.send(installCommand(encode(t, s.enrolmentProfile())))
		_, err := d.Sync(t.Context(), 0)
		contains(t, err, name)
		if d.Keychain().Identities()[0].ID() != ids[0].ID() {
			t.Errorf("%s: the identity changed", name)
		}
	}
}

func TestUnenrol(t *testing.T) {
	refuse := func(status int, kind, text string) func(*fakeServer) {
		return func(s *fakeServer) {
			s.refuse = func(*http.Request, []byte) (int, string, string) { return status, kind, text }
		}
	}
	const unrecognized = `{"code":"com.apple.unrecognized.device"}`
	tests := map[string]struct {
		act  func(*fakeServer)
		sync bool // by the server
		want bool // unenrolled
		out  bool // CheckOut arrives
		err  bool
	}{
		"by the user":         {func(*fakeServer) {}, false, true, true, false},
		"RemoveProfile":       {func(s *fakeServer) { s.send(dict{"RequestType": "RemoveProfile", "Identifier": "org.enrol"}) }, true, true, true, false},
		"401":                 {refuse(401, "text/plain", ""), true, true, false, true},
		"403":                 {refuse(403, "application/json", unrecognized), true, true, false, true},
		"403 as plist":        {refuse(403, "application/xml", `<plist><dict><key>code</key><string>com.apple.unrecognized.device</string></dict></plist>`), true, true, false, true},
		"403 of another kind": {refuse(403, "application/json", `{"code":"x"}`), true, false, false, true},
		"400":                 {refuse(400, "text/plain", ""), true, false, false, true},
		"500":                 {refuse(500, "text/plain", ""), true, false, false, true},
		"EraseDevice":         {func(s *fakeServer) { s.send(dict{"RequestType": "EraseDevice"}) }, true, true, false, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			d := s.device(t)
			alice := s.ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@example.com"}})
			s.send(installCommand(encode(t, profileDict("org.keys", p12(t, "old", alice, pfx.LegacyDES)))))
			mustSync(t, d)
			byHand := encode(t, profileDict("org.wifi", payloadDict("com.apple.wifi.managed", "wifi", dict{"SSID_STR": "x"})))
			if err := d.InstallFile(t.Context(), byHand); err != nil {
				t.Fatal(err)
			}
			tt.act(s)
			var err error
			if tt.sync {
				_, err = d.Sync(t.Context(), 0)
			} else {
				err = d.Unenroll(t.Context())
			}
			if (err != nil) != tt.err {
				t.Errorf("error: %v", err)
			}
			if d.Enrolled() == tt.want || (len(d.Keychain().Items()) == 0) != tt.want {
				t.Errorf("enrolled %v, %d items", d.Enrolled(), len(d.Keychain().Items()))
			}
			out := s.checkins[len(s.checkins)-1]["MessageType"] == "CheckOut"
			if out != tt.out {
				t.Errorf("CheckOut: %v", out)
			}
			if name != "EraseDevice" && !d.Installed("org.wifi") {
				t.Error("a profile that was installed by hand went away too")
			}
			if name == "EraseDevice" && (len(d.Profiles()) > 0 || s.last()["Status"] != statusAcknowledged) {
				t.Error("not erased, or not acknowledged first")
			}
			if tt.want {
				if _, err := d.Sync(t.Context(), 0); !errors.Is(err, ErrNotEnrolled) {
					t.Errorf("sync afterwards: %v", err)
				}
			}
		})
	}
}
