package mdm

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// golden compares with a file of testdata/golden; WAXSEAL_UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".plist")
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", name, got)
	}
}

const udid = "00008120-000A1B2C3D4E5F60"

func head() Header {
	return Header{Enrollment: Enrollment{UDID: udid}, Topic: "com.apple.mgmt.External.3f2a"}
}

func messages() []Message {
	return []Message{
		&Authenticate{Header: head(), OSVersion: "18.1", BuildVersion: "22B83", ProductName: "iPhone15,2",
			SerialNumber: "C02XXXXX", IMEI: "35 000000 000000 0", DeviceName: "Alice's iPhone"},
		&TokenUpdate{Header: head(), Token: bytes.Repeat([]byte{0xab}, 32), PushMagic: "A9B8", UnlockToken: []byte{1, 2}, AwaitingConfiguration: true},
		&CheckOut{Header: head()},
		&UserAuthenticate{Header: Header{Enrollment: Enrollment{UDID: udid, UserID: "U-1"}}, DigestResponse: "digest"},
		&SetBootstrapToken{Header: head(), BootstrapToken: []byte("token")},
		&GetBootstrapToken{Header: head()},
		&GetToken{Header: head(), TokenServiceType: "com.apple.maid"},
		&DeclarativeManagement{Header: head(), Endpoint: "status", Data: []byte(`{"StatusItems":{}}`)},
	}
}

func TestCheckinRoundTrip(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.Type(), func(t *testing.T) {
			body, err := EncodeCheckin(m)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "checkin-"+m.Type(), body)
			got, err := DecodeCheckin(body)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), body) {
				t.Error("the raw bytes are lost")
			}
			got.header().Raw = nil
			if !reflect.DeepEqual(got, m) {
				t.Errorf("got %+v\nwant %+v", got, m)
			}
		})
	}
}

func wrap(inner string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>` + inner + `</dict></plist>`)
}

func TestDecodeCheckin(t *testing.T) {
	cases := []struct {
		name, inner, wantType, wantErr string
	}{
		{"unknown type", `<key>MessageType</key><string>ReturnToService</string><key>UDID</key><string>a</string>`, "ReturnToService", ""},
		{"undocumented keys", `<key>MessageType</key><string>Authenticate</string><key>UDID</key><string>a</string><key>Challenge</key><data>AA==</data>`, "Authenticate", ""},
		{"user enrollment", `<key>MessageType</key><string>CheckOut</string><key>EnrollmentID</key><string>e</string>`, "CheckOut", ""},
		{"no type", `<key>UDID</key><string>a</string>`, "", "MessageType is missing"},
		{"no device", `<key>MessageType</key><string>CheckOut</string>`, "", "neither UDID nor EnrollmentID"},
		{"wrong kind of value", `<key>MessageType</key><string>TokenUpdate</string><key>UDID</key><string>a</string><key>Token</key><string>secret</string>`, "", "another type"},
		{"not a message", `<string>a</string>`, "", "not well-formed"},
	}
	for _, c := range cases {
		m, err := DecodeCheckin(wrap(c.inner))
		if c.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), c.wantErr) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: got %v", c.name, err)
			}
			continue
		}
		if err != nil || m.Type() != c.wantType {
			t.Errorf("%s: got %v, %v", c.name, m, err)
		}
	}
	if _, err := DecodeCheckin(bytes.Repeat([]byte("<"), proplist.MaxSize+1)); err == nil {
		t.Error("size: want an error")
	}
}

func TestEnrollmentID(t *testing.T) {
	cases := map[string]Enrollment{
		"":             {UserID: "U"},
		"D":            {UDID: "D"},
		"E":            {EnrollmentID: "E"},
		"D:U":          {UDID: "D", UserID: "U", UserShortName: "alice"},
		"D:alice":      {UDID: "D", UserID: sharedIPadUserID, UserShortName: "alice"},
		"E:EU":         {EnrollmentID: "E", EnrollmentUserID: "EU"},
		"both: D wins": {},
	}
	for want, e := range cases {
		if strings.HasPrefix(want, "both") {
			want, e = "D", Enrollment{UDID: "D", EnrollmentID: "E"}
		}
		if got := e.ID(); got != want {
			t.Errorf("%+v: got %q, want %q", e, got, want)
		}
		if e.IsUser() != strings.Contains(want, ":") && want != "" {
			t.Errorf("%+v: IsUser %v", e, e.IsUser())
		}
	}
}

func reports() map[string]*Report {
	of := Enrollment{UDID: udid}
	return map[string]*Report{
		"Idle":         {Enrollment: of, Status: StatusIdle},
		"Acknowledged": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-1"},
		"NotNow":       {Enrollment: of, Status: StatusNotNow, CommandUUID: "C-1"},
		"Error": {Enrollment: of, Status: StatusError, CommandUUID: "C-1", RequestType: RequestInstallProfile, ErrorChain: []ErrorItem{
			{ErrorCode: 4001, ErrorDomain: DomainInstallation, LocalizedDescription: "Profil konnte nicht installiert werden"},
			{ErrorCode: 9000, ErrorDomain: DomainCertificate, USEnglishDescription: "The password is\nwrong"}}},
		"CommandFormatError": {Enrollment: of, Status: StatusCommandFormatError, CommandUUID: "C-1"},
		"ProfileList": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-2", ProfileList: []InstalledProfile{
			{PayloadUUID: "U-1", PayloadIdentifier: "io.waxseal.3f2a.history", PayloadVersion: 1, IsEncrypted: true, IsManaged: true,
				SignerCertificates: [][]byte{{0x30, 0}}},
			{PayloadUUID: "U-2", PayloadIdentifier: "io.waxseal.3f2a.trust", PayloadContent: []InstalledPayload{
				{PayloadType: "com.apple.security.root", PayloadIdentifier: "x", PayloadUUID: "y", PayloadVersion: 1}}}}},
		"ProfileList-empty": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-2", ProfileList: []InstalledProfile{}},
		"CertificateList": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-3", CertificateList: []InstalledCertificate{
			{CommonName: "Alice", IsIdentity: true, Data: []byte{0x30, 1, 0}}, {CommonName: "Root", Data: []byte{0x30, 1, 1}}}},
		"DeviceInformation": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-4",
			QueryResponses: map[string]any{"OSVersion": "18.1", "IsSupervised": false, "BatteryLevel": 0.5}},
		"SecurityInfo": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-5",
			SecurityInfo: map[string]any{"PasscodePresent": true, "HardwareEncryptionCaps": uint64(3)}},
	}
}

func TestReportRoundTrip(t *testing.T) {
	for name, r := range reports() {
		t.Run(name, func(t *testing.T) {
			body, err := EncodeReport(r)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "report-"+name, body)
			got, err := DecodeReport(body)
			if err != nil {
				t.Fatal(err)
			}
			got.Raw = nil
			if !reflect.DeepEqual(got, r) {
				t.Errorf("got %+v\nwant %+v", got, r)
			}
		})
	}
}

func TestDecodeReportRefuses(t *testing.T) {
	cases := map[string]string{
		"Status is missing":      `<key>UDID</key><string>a</string>`,
		"neither UDID":           `<key>Status</key><string>Idle</string>`,
		"CommandUUID is missing": `<key>Status</key><string>Acknowledged</string><key>UDID</key><string>a</string>`,
		"another type":           `<key>Status</key><string>Idle</string><key>UDID</key><integer>1</integer>`,
	}
	for want, inner := range cases {
		if _, err := DecodeReport(wrap(inner)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestEncodeReportRefusesNil(t *testing.T) {
	_, err := EncodeReport(&Report{Status: StatusIdle, QueryResponses: map[string]any{"OSVersion": nil}})
	if err == nil || !strings.Contains(err.Error(), "OSVersion") {
		t.Errorf("got %v", err)
	}
}

func TestExplain(t *testing.T) {
	got := reports()["Error"].Explain()
	want := "the profile could not be installed (MCInstallationErrorDomain 4001): wrong password of a PKCS#12 file " +
		"(or a kind of PKCS#12 too new for the device) (MCCertificateErrorDomain 9000)"
	if got != want {
		t.Errorf("got %q", got)
	}
	r := &Report{ErrorChain: []ErrorItem{{ErrorCode: 1, ErrorDomain: "X", USEnglishDescription: "some\nwords"}, {ErrorCode: 2, ErrorDomain: "Y"}}}
	if got := r.Explain(); got != "some words (X 1): error (Y 2)" {
		t.Errorf("got %q", got)
	}
}

func TestErrorMeaning(t *testing.T) {
	known := map[string][]int{DomainProfile: {1000, 1006}, DomainPayload: {2002}, DomainInstallation: {4001, 4009},
		DomainEmail: {7003, 7004}, DomainCertificate: {9000}, DomainEAS: {21005}, DomainSCEP: {22006},
		DomainMDM: {12013, 12021, 12075}, DomainMacProfile: {-107}, DomainMacSCEP: {15002}}
	for domain, codes := range known {
		for _, code := range codes {
			if ErrorMeaning(domain, code) == "" {
				t.Errorf("%s %d has no words", domain, code)
			}
		}
		if got := ErrorMeaning(domain, 1); got != "" {
			t.Errorf("%s 1: %q", domain, got)
		}
	}
}

func commands() []*Command {
	return []*Command{
		InstallProfile("C-1", []byte("<plist/>")), RemoveProfile("C-2", "io.waxseal.3f2a.trust"), ProfileList("C-3", true),
		CertificateList("C-4", false), DeviceInformation("C-5", "OSVersion", "DeviceName"), SecurityInfo("C-6"),
		EraseDevice("C-7", "123456"), DeviceLock("C-8", "Call us", ""),
	}
}

func TestCommandRoundTrip(t *testing.T) {
	for _, c := range commands() {
		t.Run(c.Command.RequestType, func(t *testing.T) {
			body, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "command-"+c.Command.RequestType, body)
			got, err := DecodeCommand(body)
			if err != nil {
				t.Fatal(err)
			}
			got.Raw = nil
			if !reflect.DeepEqual(got, c) {
				t.Errorf("got %+v\nwant %+v", got, c)
			}
		})
	}
}

func TestCommandRefuses(t *testing.T) {
	if _, err := InstallProfile("", nil).Encode(); err == nil {
		t.Error("a command without a UUID was encoded")
	}
	for _, inner := range []string{"", `<key>CommandUUID</key><string>a</string>`, `<key>Command</key><string>a</string>`} {
		if _, err := DecodeCommand(wrap(inner)); err == nil {
			t.Errorf("%q: want an error", inner)
		}
	}
	c, err := DecodeCommand(wrap(`<key>CommandUUID</key><string>a</string><key>Command</key><dict><key>RequestType</key><string>New</string><key>X</key><array/></dict>`))
	if err != nil || c.Command.RequestType != "New" {
		t.Errorf("an unknown command: %v, %v", c, err)
	}
}

func TestAnswers(t *testing.T) {
	empty := ""
	body, err := EncodeAnswer(&UserAuthenticateAnswer{DigestChallenge: &empty})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "answer-DigestChallenge", body)
	var user UserAuthenticateAnswer
	if err := DecodeAnswer(body, &user); err != nil || user.DigestChallenge == nil || *user.DigestChallenge != "" || user.AuthToken != nil {
		t.Errorf("got %+v, %v", user, err)
	}
	body, err = EncodeAnswer(&BootstrapTokenAnswer{BootstrapToken: []byte("token")})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "answer-BootstrapToken", body)
	var token BootstrapTokenAnswer
	if err := DecodeAnswer(body, &token); err != nil || string(token.BootstrapToken) != "token" {
		t.Errorf("got %+v, %v", token, err)
	}
}

func FuzzDecodeCheckin(f *testing.F) {
	for _, m := range messages() {
		body, err := EncodeCheckin(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := DecodeCheckin(body)
		if err != nil {
			return
		}
		again, err := EncodeCheckin(m)
		if err != nil {
			t.Fatalf("read, but does not write: %v", err)
		}
		if _, err := DecodeCheckin(again); err != nil {
			t.Fatalf("what we wrote does not read: %v", err)
		}
	})
}

func FuzzDecodeReport(f *testing.F) {
	for _, r := range reports() {
		body, err := EncodeReport(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeReport(body)
		if err != nil {
			return
		}
		_ = r.Explain()
		if _, err := EncodeReport(r); err != nil {
			t.Fatalf("read, but does not write: %v", err)
		}
	})
}

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range commands() {
		body, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := DecodeCommand(body)
		if err != nil {
			return
		}
		if _, err := c.Encode(); err != nil {
			t.Fatalf("read, but does not write: %v", err)
		}
	})
}
