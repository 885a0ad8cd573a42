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

// macUser is Alice on her Mac, as each message of the user channel names her.
func macUser() Enrollment {
	return Enrollment{UDID: udid, UserID: "8F2C7A54-31C2-4E0B-9D5E-1A2B3C4D5E6F", UserShortName: "alice", UserLongName: "Alice Example"}
}

// userMessages are those that a Mac sends on its user channel.
func userMessages() []Message {
	head := Header{Enrollment: macUser(), Topic: "com.apple.mgmt.External.3f2a"}
	return []Message{
		&TokenUpdate{Header: head, Token: bytes.Repeat([]byte{0xcd}, 32), PushMagic: "C1D2"},
		&UserAuthenticate{Header: head},
		&DeclarativeManagement{Header: head, Endpoint: "tokens"},
	}
}

func TestCheckinRoundTrip(t *testing.T) {
	for i, m := range append(messages(), userMessages()...) {
		name := m.Type()
		if user := i >= len(messages()); user {
			name += "-user"
		}
		t.Run(name, func(t *testing.T) {
			body, err := EncodeCheckin(m)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "checkin-"+name, body)
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

// Both kinds of messages of the user channel say who they are from, and what they say is neither the device's nor
// another user's.
func TestUserChannelNamesItsUser(t *testing.T) {
	body, err := EncodeCheckin(userMessages()[0])
	if err != nil {
		t.Fatal(err)
	}
	m, err := DecodeCheckin(body)
	if err != nil {
		t.Fatal(err)
	}
	body, err = EncodeReport(reports()["NotNow-user"])
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeReport(body)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []Enrollment{m.From(), r.Enrollment} {
		if from != macUser() || !from.IsUser() || from.DeviceID() != udid || from.ID() != udid+":"+macUser().UserID {
			t.Errorf("%+v is %s", from, from.ID())
		}
	}
	if !r.NotOnConsole {
		t.Error("NotOnConsole is lost")
	}
}

func reports() map[string]*Report {
	of := Enrollment{UDID: udid}
	return map[string]*Report{
		"Idle":         {Enrollment: of, Status: StatusIdle},
		"Acknowledged": {Enrollment: of, Status: StatusAcknowledged, CommandUUID: "C-1"},
		"NotNow":       {Enrollment: of, Status: StatusNotNow, CommandUUID: "C-1"},
		"Idle-user":    {Enrollment: macUser(), Status: StatusIdle},
		"NotNow-user": {Enrollment: macUser(), Status: StatusNotNow, CommandUUID: "C-1", RequestType: RequestInstallProfile,
			NotOnConsole: true},
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

// An empty string and an absent key mean different things to a Mac: no password is needed, the password was wrong.
func TestUserAuthenticateAnswers(t *testing.T) {
	empty, token := "", "token"
	cases := map[string]UserAuthenticateAnswer{
		"DigestChallenge": {DigestChallenge: &empty},
		"AuthToken":       {AuthToken: &token},
		"AuthToken-empty": {AuthToken: &empty},
	}
	for name, answer := range cases {
		body, err := EncodeAnswer(&answer)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "answer-"+name, body)
		var got UserAuthenticateAnswer
		if err := DecodeAnswer(body, &got); err != nil || !reflect.DeepEqual(got, answer) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestTokenAnswers(t *testing.T) {
	body, err := EncodeAnswer(&BootstrapTokenAnswer{BootstrapToken: []byte("token")})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "answer-BootstrapToken", body)
	var bootstrap BootstrapTokenAnswer
	if err := DecodeAnswer(body, &bootstrap); err != nil || string(bootstrap.BootstrapToken) != "token" {
		t.Errorf("got %+v, %v", bootstrap, err)
	}
	body, err = EncodeAnswer(&TokenAnswer{TokenData: []byte("token")})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "answer-Token", body)
	var token TokenAnswer
	if err := DecodeAnswer(body, &token); err != nil || string(token.TokenData) != "token" {
		t.Errorf("got %+v, %v", token, err)
	}
}

// What is no answer, such as the page of a proxy, is an error and no empty token.
func TestDecodeAnswerRefuses(t *testing.T) {
	for _, body := range []string{"", "<html>", string(wrap(`<key>BootstrapToken</key><string>token</string>`))} {
		if err := DecodeAnswer([]byte(body), &BootstrapTokenAnswer{}); err == nil {
			t.Errorf("%.20q: want an error", body)
		}
	}
}

func FuzzDecodeCheckin(f *testing.F) {
	for _, m := range append(messages(), userMessages()...) {
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

func FuzzDecodeAnswer(f *testing.F) {
	challenge := ""
	user, err1 := EncodeAnswer(&UserAuthenticateAnswer{DigestChallenge: &challenge, AuthToken: &challenge})
	token, err2 := EncodeAnswer(&BootstrapTokenAnswer{BootstrapToken: []byte("token")})
	if err1 != nil || err2 != nil {
		f.Fatal(err1, err2)
	}
	f.Add(user)
	f.Add(token)
	f.Fuzz(func(t *testing.T, body []byte) {
		var answer UserAuthenticateAnswer
		if err := DecodeAnswer(body, &answer); err != nil {
			return
		}
		again, err := EncodeAnswer(&answer)
		if err != nil {
			t.Fatalf("read, but does not write: %v", err)
		}
		var second UserAuthenticateAnswer
		if err := DecodeAnswer(again, &second); err != nil || !reflect.DeepEqual(answer, second) {
			t.Fatalf("what we wrote reads as %+v, %v", second, err)
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
