package windows

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

const pfxRoot = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall/"

// install makes the Atomic that installs an identity, with the password encrypted to the MDM certificate.
func install(t *testing.T, d *Device, id *testpki.Identity) syncml.Command {
	t.Helper()
	data, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, "pass-word", pfx.LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	own, err := d.state.MDM.identity()
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := cms.Encrypt(rand.Reader, []byte("pass-word"), []*x509.Certificate{own.cert}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	at := pfxRoot + thumbprint(id.Cert)
	return syncml.Command{Verb: syncml.Atomic, Commands: []syncml.Command{
		command(syncml.Add, at+"/KeyLocation", "int", "3"),
		command(syncml.Add, at+"/PFXKeyExportable", "bool", "false"),
		command(syncml.Add, at+"/PFXCertPassword", "chr", base64.StdEncoding.EncodeToString(sealed)),
		command(syncml.Add, at+"/PFXCertPasswordEncryptionType", "int", "1"),
		command(syncml.Add, at+"/PFXCertBlob", "chr", base64.StdEncoding.EncodeToString(data)),
	}}
}

func mailIdentity(t *testing.T) *testpki.Identity {
	return testpki.NewCA(t, "mail CA").Issue(t, testpki.Options{CN: ann, Emails: []string{ann}})
}

func TestFirstMessage(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.folder.SetLogon(device.LogonOthers); err != nil {
		t.Fatal(err)
	}
	if r, err := d.Poll(t.Context()); err != nil || r.Commands != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	first := s.got[0]
	if first.SessionID != "1" || first.MsgID != 1 || first.Source != d.state.MDM.DeviceID || first.Target != s.http.URL+"/manage" || !first.Final || len(s.got) != 1 {
		t.Errorf("%+v", first)
	}
	c := first.Commands
	if len(c) != 3 || c[0].Data != "1201" || c[1].Data != "1224" || c[1].Items[0].Data != "others" || c[2].Verb != syncml.Replace || c[2].Items[0].Data != first.Source {
		t.Errorf("%+v", c)
	}
	h := s.headers[0]
	if h.Get("User-Agent") != userAgentManage || h.Get("Content-Type") != syncml.ContentType+"; charset=utf-8" || h.Get("Accept-Encoding") != "identity" || h.Get("MDM-Signature") != "" {
		t.Errorf("%v", h)
	}
}

func TestSession(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	id := mailIdentity(t)
	at := pfxRoot + thumbprint(id.Cert)
	s.send(
		[]syncml.Command{command(syncml.Delete, at, "", ""), install(t, d, id)},
		[]syncml.Command{command(syncml.Get, at+"/Status", "", ""), command(syncml.Get, at+"/Thumbprint", "", ""), command(syncml.Get, at+"/nothing", "", "")},
	)
	r := mustSync(t, d)
	if r.Commands != 9 || r.Changes != 6 {
		t.Errorf("%+v", r)
	}
	if got := s.statuses(1); !slices.Equal(got, []string{"404", "200", "200", "200", "200", "200", "200"}) {
		t.Errorf("%v", got)
	}
	answers := s.got[2].Answers(2)
	// The message of the server begins with its Status of the header; the Gets are 2, 3 and 4.
	if print, ok := answers.Value("3", at+"/Thumbprint"); !ok || print != thumbprint(id.Cert) {
		t.Errorf("Thumbprint %q: %+v", print, s.got[2].Commands)
	}
	user := d.User().Keychain()
	if _, there := user.ByFingerprint(strings.ToLower(fingerprint(id))); !there {
		t.Error("the identity is not in User/My")
	}
	// A restart keeps it.
	view, err := View(Config{State: d.folder.Dir})
	if err != nil || len(view.Keychain().Identities()) != 2 {
		t.Errorf("%v", err)
	}
}

func TestSessionIDs(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	for range 9 {
		if _, err := d.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.send([]syncml.Command{command(syncml.Replace, d.providerURI()+"/SyncApplicationVersion", "chr", "2.0")})
	for range 2 {
		if _, err := d.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.got[len(s.got)-1].SessionID; got != "B" {
		t.Errorf("session %q", got)
	}
}

// Without Final the PC asks for the next message.
func TestWithoutFinal(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.noFinal = true
	if _, err := d.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := s.got[len(s.got)-1].Commands
	if len(s.got) != 2 || last[len(last)-1].Data != syncml.AlertNextMessage {
		t.Errorf("%+v", last)
	}
}

func TestSignedMessages(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{command(syncml.Replace, d.providerURI()+"/RequireMessageSigning", "bool", "true")})
	mustSync(t, d)
	if s.headers[0].Get("MDM-Signature") != "" || s.headers[len(s.headers)-1].Get("MDM-Signature") == "" {
		t.Error("signed before it was asked for, or not at all")
	}
	d.cfg.Sign = true
	if _, err := d.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestFailures(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	tests := map[string][]syncml.Command{
		"Replace ./DevInfo/DevId: 405":    {command(syncml.Replace, "./DevInfo/DevId", "chr", "the-value")},
		"Add ./User/Vendor/MSFT/ClientCe": {{Verb: syncml.Atomic, Commands: []syncml.Command{command(syncml.Add, pfxRoot+"X/KeyLocation", "int", "three")}}},
		"Atomic":                          {{Verb: syncml.Atomic}},
	}
	for want, commands := range tests {
		s.send(commands)
		_, err := d.Sync(t.Context(), 0)
		contains(t, err, want)
		leaks(t, err, "the-value")
	}
	// What a server only looks for is no failure, nor what is there already.
	id := mailIdentity(t)
	s.send([]syncml.Command{install(t, d, id)}, []syncml.Command{install(t, d, id)})
	mustSync(t, d)
	s.send([]syncml.Command{command(syncml.Get, "./Nowhere/x", "", ""), command(syncml.Delete, pfxRoot+"X", "", "")})
	mustSync(t, d)
}

// Answers of a server that does not keep to the rules.
func TestBadMessages(t *testing.T) {
	tests := map[string]func(*syncml.Message){
		"is of session":                    func(m *syncml.Message) { m.SessionID = "77" },
		"not the DeviceID":                 func(m *syncml.Message) { m.Target = "somebody" },
		"no Status for the header":         func(m *syncml.Message) { m.Commands = m.Commands[1:] },
		"401":                              func(m *syncml.Message) { m.Commands[0].Data = "401" },
		"no Status for Replace 3":          func(m *syncml.Message) { m.Commands = m.Commands[:3] },
		"no Status for the header of mess": func(m *syncml.Message) { m.Commands[0].MsgRef = "9" },
	}
	for want, change := range tests {
		s := newServer(t)
		d := s.device(t)
		s.reply = func(m *syncml.Message) *syncml.Message { change(m); return m }
		_, err := d.Poll(t.Context())
		contains(t, err, want)
		if !d.Enrolled() {
			t.Error("the PC left")
		}
	}
	s := newServer(t)
	d := s.device(t)
	s.status = http.StatusServiceUnavailable
	_, err := d.Poll(t.Context())
	contains(t, err, "503", "not now")
	s.status, s.chunked = 0, true
	_, err = d.Poll(t.Context())
	contains(t, err, "chunked")
}

// A server that fails for a while is asked again; one that fails for ever is told about.
func TestSyncWaits(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.announce = []int{2, 1}
	began := s.clock.Now()
	if r := mustSync(t, d); r.Pending != 0 || s.clock.Now().Sub(began) < quietTime {
		t.Errorf("%+v after %s", r, s.clock.Now().Sub(began))
	}
	s.announce = slices.Repeat([]int{3}, 1000)
	_, err := d.Sync(t.Context(), 5*time.Second)
	contains(t, err, "after 5s the server still has 3 documents that wait")
	s.announce, s.status = nil, http.StatusInternalServerError
	_, err = d.Sync(t.Context(), time.Second)
	contains(t, err, "500")
}

// A server that reads something in every session is quiet all the same.
func TestSyncWithReads(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	for range 40 {
		s.send([]syncml.Command{command(syncml.Get, "./DevDetail/SwV", "", "")}, nil)
	}
	if r := mustSync(t, d); r.Changes != 0 || r.Commands == 0 || len(s.queue) == 0 {
		t.Errorf("%+v", r)
	}
}

func TestUnenrollByUser(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{install(t, d, mailIdentity(t))})
	mustSync(t, d)
	if err := d.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.left(t, d)
	_, err := d.Sync(t.Context(), 0)
	if !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("%v", err)
	}
	contains(t, err, "the user disconnected")
	// It can come back, as the same hardware under another name.
	before := s.got[0].Source
	if err := d.Enroll(t.Context(), s.http.URL); err != nil {
		t.Fatal(err)
	}
	if token := s.tokens[1]; token.DeviceID() == before || token.HWDevID() != s.tokens[0].HWDevID() {
		t.Errorf("%+v", token.Context)
	}
}

// left checks that nothing of the management is there any more, and that the server was told.
func (s *fakeServer) left(t *testing.T, d *Device) {
	t.Helper()
	if d.Enrolled() || len(d.Keychain().Items()) > 0 {
		t.Errorf("still there: %+v", d.Keychain().Items())
	}
	last := s.got[len(s.got)-1]
	if len(s.removed) != 1 || s.removed[0] != syncml.TypeUnenroll || last.MsgID != 1 {
		t.Errorf("%v %+v", s.removed, last)
	}
	raw, err := os.ReadFile(d.folder.Path("device.json"))
	if err != nil || strings.Contains(string(raw), `"certificate"`) {
		t.Errorf("the state holds certificates: %v", err)
	}
}

func TestUnenrollWithoutServer(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.status = http.StatusInternalServerError
	if err := d.Unenroll(t.Context()); err != nil || d.Enrolled() {
		t.Errorf("%v", err)
	}
}

// The server ends the management: no Status comes back, but a new session.
func TestUnenrollByServer(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{command(syncml.Exec, d.providerURI()+"/Unenroll", "chr", "TestMDM")})
	r, err := d.Sync(t.Context(), 0)
	if err != nil || !r.Left {
		t.Fatalf("%+v %v", r, err)
	}
	s.left(t, d)
	if len(s.got) != 2 || s.got[0].SessionID == s.got[1].SessionID {
		t.Errorf("%d messages", len(s.got))
	}
}

func TestWipe(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	s.send([]syncml.Command{command(syncml.Exec, "./Device/Vendor/MSFT/RemoteWipe/doWipe", "chr", "")})
	r, err := d.Sync(t.Context(), 0)
	if err != nil || !r.Left || d.Enrolled() || len(d.Keychain().Items()) > 0 {
		t.Fatalf("%+v %v", r, err)
	}
	if got := s.statuses(1); len(got) != 1 || got[0][0] != '2' {
		t.Errorf("the wipe was answered by %v", got)
	}
	if ca, err := d.folder.CA(); err != nil || ca != nil {
		t.Error("the owner's trust is still there")
	}
}

func TestChaos(t *testing.T) {
	contains(t, (&Device{}).Chaos("x"), "chaos knows no", "duplicate")
	s := newServer(t)
	d := s.device(t)
	if err := d.Chaos(ChaosDuplicate, ChaosLost, ChaosAbort); err != nil {
		t.Fatal(err)
	}
	var ids []*testpki.Identity
	ca := testpki.NewCA(t, "mail CA")
	for n := range 6 {
		id := ca.Issue(t, testpki.Options{CN: ann + strconv.Itoa(n), Emails: []string{ann}})
		ids = append(ids, id)
		s.send([]syncml.Command{command(syncml.Delete, pfxRoot+thumbprint(id.Cert), "", ""), install(t, d, id)})
	}
	mustSync(t, d)
	for _, id := range ids {
		if _, there := d.Keychain().ByFingerprint(fingerprint(id)); !there {
			t.Errorf("%s is missing", id.Cert.Subject)
		}
	}
	if d.state.Results < 6 || s.twice == 0 {
		t.Errorf("%d results, %d messages came twice", d.state.Results, s.twice)
	}
}

// A session that stops in the middle leaves what was carried out, and no answer.
func TestAbort(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.folder.SetChaos(ChaosAbort); err != nil {
		t.Fatal(err)
	}
	d.state.Results = 1
	id := mailIdentity(t)
	s.send([]syncml.Command{install(t, d, id)})
	if r, err := d.Poll(t.Context()); err != nil || r.Commands != 5 || !r.cut || len(s.got) != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	view, err := View(Config{State: d.folder.Dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, there := view.Keychain().ByFingerprint(fingerprint(id)); !there {
		t.Error("what was carried out is lost")
	}
}

func TestSkew(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.Chaos(ChaosSkew); err != nil {
		t.Fatal(err)
	}
	if got := d.Now().Sub(s.clock.Now()); got != skew {
		t.Errorf("%s", got)
	}
	mustSync(t, d)
}

func TestRun(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	contains(t, d.Run(t.Context(), 0), "--interval")
	s.send(nil, nil, []syncml.Command{command(syncml.Exec, d.providerURI()+"/Unenroll", "chr", "TestMDM")})
	if err := d.Run(t.Context(), time.Minute); err != nil || d.Enrolled() {
		t.Errorf("%v", err)
	}
	if err := d.Run(t.Context(), time.Minute); !errors.Is(err, ErrNotEnrolled) {
		t.Errorf("%v", err)
	}
}

func TestDeleteCertificate(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	id := mailIdentity(t)
	s.send([]syncml.Command{install(t, d, id)})
	mustSync(t, d)
	contains(t, d.DeleteCertificate(""), "no certificate named")
	contains(t, d.DeleteCertificate("zz"), "no store holds")
	if err := d.DeleteCertificate(fingerprint(id)[:16]); err != nil {
		t.Fatal(err)
	}
	if _, there := d.Keychain().ByFingerprint(fingerprint(id)); there {
		t.Error("it is still there")
	}
}

// A user who is not logged on has no store to write to.
func TestNobodyLoggedOn(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.folder.SetLogon(device.LogonNone); err != nil {
		t.Fatal(err)
	}
	s.send([]syncml.Command{install(t, d, mailIdentity(t))})
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "Add "+pfxRoot)
}
