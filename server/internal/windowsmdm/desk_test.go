package windowsmdm_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// exchange is one call of Delivery.
type exchange struct {
	enrolment string
	session   model.Session
	answers   syncml.Answers
	first     int
}

// scripted is a Delivery that gives what it was told to, once each, and notes what it hears.
type scripted struct {
	mu      sync.Mutex
	heard   []exchange
	script  [][]syncml.Command
	pending int
	err     error
	during  func()
}

func (d *scripted) Exchange(_ context.Context, enr model.Enrolment, s *model.Session, answers syncml.Answers, first int) ([]syncml.Command, int, error) {
	if d.during != nil {
		d.during()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = append(d.heard, exchange{enr.ID, *s, answers, first})
	if len(d.script) == 0 || d.err != nil {
		s.State = nil
		return nil, d.pending, d.err
	}
	commands, _ := syncml.Number(first, d.script[0])
	d.script = d.script[1:]
	s.State = json.RawMessage(`{"step":` + strconv.Itoa(len(d.heard)) + `}`)
	return commands, d.pending, nil
}

// shelf is a Sessions in memory.
type shelf struct {
	mu    sync.Mutex
	rows  map[string]model.Session
	err   error
	saves int
}

func (s *shelf) Session(_ context.Context, enrolmentID string) (model.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	row, ok := s.rows[enrolmentID]
	if s.err == nil && !ok {
		return row, model.ErrNotFound
	}
	return row, s.err
}

func (s *shelf) SaveSession(_ context.Context, row model.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[row.EnrolmentID].Version != row.Version {
		return model.ErrConflict
	}
	row.Version++
	s.rows[row.EnrolmentID] = row
	s.saves++
	return nil
}

// desk is a rig with a session's surroundings and one PC that has enrolled.
type desk struct {
	*rig
	delivery  *scripted
	sessions  *shelf
	kicks     int
	pc        *testpki.Identity
	enrolment string
}

func (d *desk) DeviceByID(ctx context.Context, id string) (model.Device, error) {
	return d.rig.DeviceByID(ctx, id)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{delivery: &scripted{}, sessions: &shelf{rows: map[string]model.Session{}}}
	d.rig = newRig(t, func(c *windowsmdm.Config) {
		c.Rand = zeros{} // so that commands are numbered from where the statuses end
		c.Sender = sender.New(sender.Config{Identity: c.Identity, Authority: c.Authority, Clock: c.Clock})
		c.Delivery, c.Sessions, c.Devices, c.ProviderID = d.delivery, d.sessions, d, "Waxseal"
		c.Kick = func() { d.kicks++ }
	})
	d.pc = d.active(t)
	d.enrolment = d.pc.Cert.Subject.CommonName
	return d
}

// message is one of the PC's.
func message(session string, msgID int, commands ...syncml.Command) *syncml.Message {
	return &syncml.Message{SessionID: session, MsgID: msgID, Target: baseURL + windowsmdm.ManagementPath, Source: deviceID, Commands: commands, Final: true}
}

// opening is what Windows says first (windows.md section 2.3).
func opening(login string) []syncml.Command {
	item := func(uri, data string) syncml.Item { return syncml.Item{Source: uri, Data: data} }
	commands := []syncml.Command{{Verb: syncml.Alert, ID: "2", Data: syncml.AlertClientInitiated}}
	if login != "" {
		commands = append(commands, syncml.Command{Verb: syncml.Alert, ID: "3", Data: syncml.AlertClientEvent,
			Items: []syncml.Item{{Type: syncml.TypeLoginStatus, Data: login}}})
	}
	return append(commands, syncml.Command{Verb: syncml.Replace, ID: "4", Items: []syncml.Item{item("./DevInfo/DevId", deviceID),
		item("./DevInfo/Man", "M"), item("./DevInfo/Mod", "Surface"), item("./DevInfo/DmV", "1.3"), item("./DevInfo/Lang", "en-US")}})
}

func alert(id, code, kind, data string) syncml.Command {
	c := syncml.Command{Verb: syncml.Alert, ID: id, Data: code}
	if kind != "" {
		c.Items = []syncml.Item{{Type: kind, Data: data}}
	}
	return c
}

// answer is the PC's status for one of our commands.
func answer(msgRef int, ref, cmd string, code int) syncml.Command {
	return syncml.Command{Verb: syncml.Status, ID: "1" + ref, MsgRef: strconv.Itoa(msgRef), CmdRef: ref, Cmd: cmd, Data: strconv.Itoa(code)}
}

func header(msgRef int) syncml.Command { return answer(msgRef, "0", "SyncHdr", syncml.StatusOK) }

func result(msgRef int, ref, uri, data string) syncml.Command {
	return syncml.Command{Verb: syncml.Results, ID: "2" + ref, MsgRef: strconv.Itoa(msgRef), CmdRef: ref, Items: []syncml.Item{{Source: uri, Data: data}}}
}

func encoded(t *testing.T, m *syncml.Message) []byte {
	t.Helper()
	body, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func certified(id *testpki.Identity) func(*http.Request) {
	return func(r *http.Request) { r.TLS = &tls.ConnectionState{PeerCertificates: chain(id)} }
}

// detached signs the body as RequireMessageSigning asks (windows.md section 2.1).
func detached(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) {
	t.Helper()
	der, err := cms.Sign(body, id.Cert, id.Key, cms.SignOptions{Detached: true, SigningTime: testpki.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return func(r *http.Request) { r.Header.Set("MDM-Signature", base64.StdEncoding.EncodeToString(der)) }
}

func (d *desk) send(body []byte, prove ...func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, windowsmdm.ManagementPath+"?mode=Maintenance&Platform=WoA", bytes.NewReader(body))
	req.Header.Set("Content-Type", syncml.ContentType+"; charset=utf-8")
	for _, p := range prove {
		p(req)
	}
	w := httptest.NewRecorder()
	d.router.ServeHTTP(w, req)
	return w
}

// say sends a message by the PC's certificate and reads the answer, which must be a whole one.
func (d *desk) say(t *testing.T, m *syncml.Message) *syncml.Message {
	t.Helper()
	return heardBack(t, m, d.send(encoded(t, m), certified(d.pc)))
}

func heardBack(t *testing.T, m *syncml.Message, w *httptest.ResponseRecorder) *syncml.Message {
	t.Helper()
	if w.Code != http.StatusOK || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) || w.Header().Get("Content-Type") != syncml.ContentType ||
		w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	out, err := syncml.Decode(w.Body.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, w.Body)
	}
	if out.SessionID != m.SessionID || out.MsgID != m.MsgID || out.Target != m.Source || out.Source != m.Target || !out.Final {
		t.Fatalf("the header does not answer: %s", w.Body)
	}
	return out
}

// codes are the statuses of an answer as "CmdRef Cmd code"; commands are the rest.
func codes(m *syncml.Message) (statuses []string, commands []syncml.Command) {
	for _, c := range m.Commands {
		if c.Verb == syncml.Status {
			statuses = append(statuses, c.CmdRef+" "+c.Cmd+" "+c.Data)
		} else {
			commands = append(commands, c)
		}
	}
	return statuses, commands
}

var (
	get    = []syncml.Command{{Verb: syncml.Get, Items: []syncml.Item{{Target: "./DevDetail/SwV"}}}}
	remove = []syncml.Command{{Verb: syncml.Delete, Items: []syncml.Item{{Target: "./User/Vendor/MSFT/X"}}}}
	atomic = []syncml.Command{{Verb: syncml.Atomic, Commands: []syncml.Command{
		{Verb: syncml.Add, Items: []syncml.Item{{Target: "./a", Data: "1"}}}, {Verb: syncml.Add, Items: []syncml.Item{{Target: "./b", Data: "2"}}}}}}
)

// zeros are the most foreseeable random numbers.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
