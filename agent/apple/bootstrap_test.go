package apple

import (
	"net/http"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// tokenMac enrols a Mac whose server announces capabilities and answers one type of message in its own way.
func tokenMac(t *testing.T, s *fakeServer, token []byte, capabilities ...any) *Device {
	t.Helper()
	s.enrol = func(top dict) { proplist.Array(top, "PayloadContent")[0].(dict)["ServerCapabilities"] = capabilities }
	cfg := s.config(t)
	cfg.Platform, cfg.Bootstrap = device.PlatformMac, token
	d, err := Enroll(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *fakeServer) answering(messageType string, status int, body string) func(*http.Request, []byte) (int, string, string) {
	return func(_ *http.Request, raw []byte) (int, string, string) {
		if message, err := proplist.DecodeDict(raw, maxAnswer); err != nil || message["MessageType"] != messageType {
			return 0, "", ""
		}
		return status, "application/xml", body
	}
}

// A Mac hands its bootstrap token over once in each enrolment, if it has one and the server wants it.
func TestBootstrapToken(t *testing.T) {
	token := []byte("bootstrap")
	tests := map[string]struct {
		token    []byte
		announce string
		status   int // of the first answer; 0: accepted
		want     int // messages that the server accepted
	}{
		"given":         {token, capabilityBootstrap, 0, 1},
		"without token": {nil, capabilityBootstrap, 0, 0},
		"not announced": {token, capabilityUsers, 0, 0},
		"unwanted":      {token, capabilityBootstrap, http.StatusBadRequest, 0},
		"sent again":    {token, capabilityBootstrap, http.StatusServiceUnavailable, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.refuse = s.answering("SetBootstrapToken", tt.status, "")
			d := tokenMac(t, s, tt.token, tt.announce)
			s.refuse = nil
			mustSync(t, d)
			mustSync(t, d)
			sent := slices.DeleteFunc(s.checkins, func(m dict) bool { return m["MessageType"] != "SetBootstrapToken" })
			if len(sent) != tt.want {
				t.Fatalf("%d times, want %d", len(sent), tt.want)
			}
			if tt.want > 0 && (string(proplist.Bytes(sent[0], "BootstrapToken")) != "bootstrap" || sent[0]["UDID"] != d.Info().UDID || sent[0]["UserID"] != nil) {
				t.Errorf("%v", sent[0])
			}
		})
	}
}

func TestBootstrapTokenTakenBack(t *testing.T) {
	s := newServer(t)
	d := tokenMac(t, s, nil, capabilityBootstrap)
	if err := d.SetBootstrapToken(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if m := s.checkins[len(s.checkins)-1]; m["MessageType"] != "SetBootstrapToken" || m["BootstrapToken"] != nil {
		t.Errorf("%v", m)
	}
}

func TestGetBootstrapToken(t *testing.T) {
	answer := string(encode(t, dict{"BootstrapToken": []byte("bootstrap")}))
	tests := map[string]struct {
		status       int
		answer, want string
		err          string
	}{
		"there":            {http.StatusOK, answer, "bootstrap", ""},
		"none":             {http.StatusOK, "", "", ""},
		"another key":      {http.StatusOK, string(encode(t, dict{"Foo": "bar"})), "", ""},
		"no property list": {http.StatusOK, "?", "", "reading the answer to GetBootstrapToken"},
		"refused":          {http.StatusBadRequest, "", "", "400"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			d := tokenMac(t, s, nil, capabilityBootstrap)
			s.refuse = s.answering("GetBootstrapToken", tt.status, tt.answer)
			got, err := d.BootstrapToken(t.Context())
			if tt.err != "" {
				contains(t, err, tt.err)
			} else if err != nil || string(got) != tt.want {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	_, err := newServer(t).device(t).BootstrapToken(t.Context())
	contains(t, err, "only Macs")
}
