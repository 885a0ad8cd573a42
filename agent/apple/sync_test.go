package apple

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

type keyItem = keychain.Item

func keychainID(id *testpki.Identity) string { return keychain.Fingerprint(id.Cert) }

func wifi(id string) []byte {
	out, err := proplist.Encode(profileDict(id, payloadDict("com.apple.wifi.managed", "wifi", dict{"SSID_STR": "x"})))
	if err != nil {
		panic(err)
	}
	return out
}

func TestCommands(t *testing.T) {
	s := newServer(t)
	s.rights = 8191
	d := s.device(t)
	tests := []struct {
		command dict
		status  string
		key     string
	}{
		{dict{"RequestType": "DeviceInformation", "Queries": []any{"OSVersion", "IsSupervised"}}, statusAcknowledged, "QueryResponses"},
		{dict{"RequestType": "SecurityInfo"}, statusAcknowledged, "SecurityInfo"},
		{dict{"RequestType": "ProfileList"}, statusAcknowledged, "ProfileList"},
		{dict{"RequestType": "CertificateList"}, statusAcknowledged, "CertificateList"},
		{dict{"RequestType": "Unheard"}, statusError, "ErrorChain"},
		{dict{"RequestType": "DeclarativeManagement"}, statusError, "ErrorChain"},
		{dict{"RequestType": "InstallProfile"}, statusFormatError, "ErrorChain"},
		{dict{"RequestType": "RemoveProfile"}, statusFormatError, "ErrorChain"},
		{dict{"RequestType": "DeviceInformation"}, statusFormatError, "ErrorChain"},
		{dict{"Foo": "bar"}, statusFormatError, "ErrorChain"},
		{dict{"RequestType": "DeviceLock"}, statusAcknowledged, "MessageResult"},
	}
	for _, tt := range tests {
		s.send(tt.command)
		_, err := d.Sync(t.Context(), 0)
		if got := s.last(); got["Status"] != tt.status || got[tt.key] == nil || (err == nil) != (tt.status == statusAcknowledged) {
			t.Errorf("%v: %v %v", tt.command, got, err)
		}
	}
	if !d.Folder().Locked() {
		t.Error("DeviceLock did not lock")
	}
}

func TestUnknownCommandCode(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send(dict{"RequestType": "Unheard"})
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "MCMDMErrorDomain 12021", "Unheard")
}

func TestAccessRights(t *testing.T) {
	s := newServer(t)
	s.rights = 1 | 16
	d := s.device(t)
	s.send(installCommand(wifi("org.w")))
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "12007")
	s.send(dict{"RequestType": "ProfileList"})
	mustSync(t, d)
}

// A locked device puts off what touches keys and nothing else, and does it when it is unlocked.
func TestNotNow(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.Lock(true); err != nil {
		t.Fatal(err)
	}
	s.send(
		installCommand(wifi("org.w")), dict{"RequestType": "ProfileList"}, dict{"RequestType": "CertificateList"},
		dict{"RequestType": "DeviceInformation", "Queries": []any{"UDID"}}, dict{"RequestType": "RemoveProfile", "Identifier": "org.none"},
	)
	report, err := d.Sync(t.Context(), 0)
	contains(t, err, "InstallProfile: put off with NotNow")
	if report.Commands < 2 || d.Installed("org.w") {
		t.Errorf("%+v", report)
	}
	for _, r := range s.results {
		list := r["ProfileList"] != nil || r["QueryResponses"] != nil
		if list != (r["Status"] == statusAcknowledged) {
			t.Errorf("%v", r)
		}
	}
	if err := d.Lock(false); err != nil {
		t.Fatal(err)
	}
	_, err = d.Sync(t.Context(), 0)
	contains(t, err, "12075") // the removal of what is not there
	if !d.Installed("org.w") {
		t.Error("not installed after unlocking")
	}
}

func TestChaos(t *testing.T) {
	count := func(s *fakeServer, uuid string) int {
		n := 0
		for _, r := range s.results {
			if r["CommandUUID"] == uuid {
				n++
			}
		}
		return n
	}
	tests := map[string]struct {
		most int // results per command
	}{ChaosDuplicate: {2}, ChaosLost: {2}, ChaosForgotten: {1}, ChaosNotNow: {2}, "": {1}}
	for word, tt := range tests {
		t.Run("chaos "+word, func(t *testing.T) {
			s := newServer(t)
			d := s.device(t)
			if word != "" {
				if err := d.Chaos(word); err != nil {
					t.Fatal(err)
				}
			}
			for _, id := range []string{"org.a", "org.b", "org.c", "org.d"} {
				s.send(installCommand(wifi(id)))
			}
			mustSync(t, d)
			most := 0
			for _, q := range s.queue {
				most = max(most, count(s, q.uuid))
				if !q.done {
					t.Errorf("%s is not done", q.uuid)
				}
			}
			if most != tt.most || len(d.Profiles()) != 5 {
				t.Errorf("at most %d results per command, want %d; %d profiles", most, tt.most, len(d.Profiles()))
			}
		})
	}
	d, err := Open(Config{State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	if err := d.Chaos("nonsense"); err == nil {
		t.Error("chaos took a word that it does not know")
	}
	if err := d.Folder().SetChaos(ChaosLost, ChaosNotNow); err != nil {
		t.Fatal(err)
	}
	if !d.chaotic(ChaosNotNow) || d.chaotic(ChaosDuplicate) {
		t.Error("the chaos file is not read")
	}
}

// A result that the server did not take is kept, also across processes, and sent before anything else.
func TestResultKept(t *testing.T) {
	for _, status := range []int{400, 500, 503} {
		s := newServer(t)
		d := s.device(t)
		s.send(dict{"RequestType": "ProfileList"})
		s.refuse = func(_ *http.Request, body []byte) (int, string, string) {
			if strings.Contains(string(body), "ProfileList") {
				return status, "text/plain", "later"
			}
			return 0, "", ""
		}
		_, err := d.Sync(t.Context(), time.Second)
		contains(t, err, "later")
		s.refuse = nil
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		cfg := s.config(t)
		cfg.State = d.Folder().Dir
		again, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		mustSync(t, again)
		if len(s.results) != 1 || s.last()["CommandUUID"] != "C-1" {
			t.Errorf("%d: results %v", status, s.results)
		}
		_ = again.Close()
	}
}

// EraseDevice happens even if its answer needs a second attempt.
func TestEraseAfterFault(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send(dict{"RequestType": "EraseDevice"})
	failed := false
	s.refuse = func(_ *http.Request, body []byte) (int, string, string) {
		if strings.Contains(string(body), statusAcknowledged) && !failed {
			failed = true
			return 500, "text/plain", ""
		}
		return 0, "", ""
	}
	r, err := d.Sync(t.Context(), 0)
	if err != nil || !r.Left || d.Enrolled() {
		t.Errorf("%+v %v", r, err)
	}
}

func TestSyncWaitsForAnnounced(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.announce = slices.Repeat([]int{2}, 30) // 30 polls, 6 seconds
	began := s.clock.Now()
	mustSync(t, d)
	if took := s.clock.Now().Sub(began); took < 7*time.Second || took > 9*time.Second {
		t.Errorf("took %s, want 6 s of waiting and 2 s of quiet", took)
	}
	s.announce = slices.Repeat([]int{1}, 1000)
	_, err := d.Sync(t.Context(), 5*time.Second)
	contains(t, err, "5s", "1 documents")
}

func TestSyncQuietTime(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	began := s.clock.Now()
	mustSync(t, d)
	if took := s.clock.Now().Sub(began); took < quietTime || took > quietTime+pollInterval {
		t.Errorf("took %s", took)
	}
}

// Old and new keychain are both there while the state changes, so that an interrupted installation heals.
func TestInterruptedInstallation(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	keys := d.keys.Clone()
	if err := keys.Add(keychain.Item{Certificate: id.Cert, Key: id.Key}, keychain.Holder{Profile: "org.never", Payload: "U"}); err != nil {
		t.Fatal(err)
	}
	if err := keys.SaveWith(d.keys); err != nil { // and here the process dies
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{State: d.Folder().Dir, Clock: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	if _, there := again.Keychain().ByFingerprint(keychainID(id)); there {
		t.Error("a key without a profile stayed")
	}
	s.send(installCommand(encode(t, profileDict("org.k", p12(t, "id", id, pfx.LegacyDES)))))
	mustSync(t, again)
}
