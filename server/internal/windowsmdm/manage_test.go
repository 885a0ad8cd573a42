package windowsmdm_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func chain(id *testpki.Identity) []*x509.Certificate { return []*x509.Certificate{id.Cert} }

func hash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func TestASession(t *testing.T) {
	d := newDesk(t)
	d.delivery.script, d.delivery.pending = [][]syncml.Command{atomic, get}, 2
	statuses, commands := codes(d.say(t, message("5A", 1, opening("user")...)))
	if !slices.Equal(statuses, []string{"0 SyncHdr 200", "2 Alert 200", "3 Alert 200", "4 Replace 200"}) {
		t.Errorf("statuses %q", statuses)
	}
	if len(commands) != 1 || commands[0].Verb != syncml.Atomic || commands[0].ID != "5" || commands[0].Commands[1].ID != "7" {
		t.Errorf("commands %+v", commands)
	}
	if h := d.delivery.heard[0]; h.enrolment != d.enrolment || h.session.Login != "user" || h.first != 5 || len(h.answers.Refs()) != 0 {
		t.Errorf("delivery heard %+v", h)
	}

	reply := d.say(t, message("5A", 2, header(1), answer(1, "5", "Atomic", 507), answer(1, "6", "Add", 216), answer(1, "7", "Add", 500)))
	statuses, commands = codes(reply)
	if !slices.Equal(statuses, []string{"0 SyncHdr 200"}) || len(commands) != 1 || commands[0].Verb != syncml.Get || commands[0].ID != "2" {
		t.Errorf("%q %+v", statuses, commands)
	}
	h := d.delivery.heard[1]
	if o, ok := h.answers.Status("7"); !ok || o.Code != 500 || h.session.Login != "user" || string(h.session.State) != `{"step":1}` {
		t.Errorf("delivery heard %+v", h)
	}

	w := d.send(encoded(t, message("5A", 3, header(2), answer(2, "2", "Get", 200), result(2, "2", "./DevDetail/SwV", "10"))), certified(d.pc))
	statuses, commands = codes(heardBack(t, message("5A", 3), w))
	if !slices.Equal(statuses, []string{"0 SyncHdr 200"}) || len(commands) != 0 || w.Header().Get("Waxseal-Pending") != "2" {
		t.Errorf("the end: %q %+v %v", statuses, commands, w.Header())
	}
	if v, ok := d.delivery.heard[2].answers.Value("2", "./DevDetail/SwV"); !ok || v != "10" {
		t.Errorf("value %q", v)
	}
	if s := d.sessions.rows[d.enrolment]; len(s.State) != 0 || len(d.Refused()) != 0 {
		t.Errorf("left behind: %s, refused %+v", s.State, d.Refused())
	}
}

func TestAnIdleSessionLeavesNothing(t *testing.T) {
	d := newDesk(t)
	if _, commands := codes(d.say(t, message("1", 1, opening("none")...))); len(commands) != 0 || d.sessions.saves != 0 {
		t.Errorf("%+v, %d saves", commands, d.sessions.saves)
	}
}

// TestTheFirstMessageMakesTheEnrolmentActive, since a PC has no TokenUpdate.
func TestTheFirstMessageMakesTheEnrolmentActive(t *testing.T) {
	d := newDesk(t)
	e := d.Enrolment(d.enrolment)
	e.State = model.EnrolmentAuthenticated
	d.PutEnrolment(e)
	d.say(t, message("1", 1, opening("user")...))
	if e := d.Enrolment(d.enrolment); e.State != model.EnrolmentActive {
		t.Errorf("%+v", e)
	}
}

func TestWhoSpeaks(t *testing.T) {
	body := encoded(t, message("1", 1, opening("user")...))
	client := testpki.Options{CN: "x", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	tests := []struct {
		name  string
		prove func(*testing.T, *desk) func(*http.Request)
		want  int
	}{
		{"certificate of the connection", func(_ *testing.T, d *desk) func(*http.Request) { return certified(d.pc) }, 200},
		{"MDM-Signature", func(t *testing.T, d *desk) func(*http.Request) { return detached(t, d.pc, body) }, 200},
		{"nothing", func(*testing.T, *desk) func(*http.Request) { return func(*http.Request) {} }, 403},
		{"signature of another body", func(t *testing.T, d *desk) func(*http.Request) { return detached(t, d.pc, []byte("x")) }, 403},
		{"not base64", func(*testing.T, *desk) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("MDM-Signature", "?") }
		}, 403},
		{"bad signature beside a good certificate", func(t *testing.T, d *desk) func(*http.Request) {
			return func(r *http.Request) { detached(t, d.pc, nil)(r); certified(d.pc)(r) }
		}, 403},
		{"foreign CA", func(t *testing.T, _ *desk) func(*http.Request) {
			return certified(testpki.NewCA(t, "another CA").Issue(t, client))
		}, 403},
		{"signed by a foreign CA's", func(t *testing.T, _ *desk) func(*http.Request) {
			return detached(t, testpki.NewCA(t, "another CA").Issue(t, client), body)
		}, 403},
		{"bound to nothing", func(t *testing.T, d *desk) func(*http.Request) { return certified(d.ca.Issue(t, client)) }, 403},
		{"expired", func(_ *testing.T, d *desk) func(*http.Request) {
			d.now = d.pc.Cert.NotAfter.Add(1)
			return certified(d.pc)
		}, 403},
		{"an iPhone's", func(_ *testing.T, d *desk) func(*http.Request) {
			e := d.Enrolment(d.enrolment)
			e.Platform = profiles.IOS
			d.PutEnrolment(e)
			return certified(d.pc)
		}, 403},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDesk(t)
			w := d.send(body, tt.prove(t, d))
			if w.Code != tt.want || (len(d.delivery.heard) == 1) != (tt.want == 200) || (len(d.Refused()) == 1) != (tt.want == 403) {
				t.Fatalf("%d %s; %d calls, refused %+v", w.Code, w.Body, len(d.delivery.heard), d.Refused())
			}
			if tt.want == 403 && (d.Refused()[0].Action != "mdm.message" || d.Refused()[0].Actor != "unknown device") {
				t.Errorf("audit %+v", d.Refused())
			}
		})
	}
}

func TestNobodyBeforeTheFirstConnector(t *testing.T) {
	d := newDesk(t)
	d.noTrust = true
	if w := d.send(encoded(t, message("1", 1)), certified(d.pc)); w.Code != 503 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestARenewedCertificate takes the former one's place once it is used.
func TestARenewedCertificate(t *testing.T) {
	d := newDesk(t)
	next := d.ca.Issue(t, testpki.Options{CN: d.enrolment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	e := d.Enrolment(d.enrolment)
	e.NextCertificate, e.NextCertSHA256 = next.Cert.Raw, hash(next.Cert.Raw)
	d.PutEnrolment(e)
	body := encoded(t, message("1", 1, opening("user")...))
	for i, step := range []struct {
		id   *testpki.Identity
		want int
	}{{d.pc, 200}, {next, 200}, {d.pc, 403}} {
		if w := d.send(body, certified(step.id)); w.Code != step.want {
			t.Errorf("step %d: %d %s", i, w.Code, w.Body)
		}
	}
}

func TestAMessageThatNamesAnotherDevice(t *testing.T) {
	other := "00000000-0000-0000-0000-000000000000"
	tests := map[string]func(*syncml.Message){
		"Source": func(m *syncml.Message) { m.Source = other },
		"DevId": func(m *syncml.Message) {
			m.Commands[2].Items[0].Data = other
		},
		"DevId in other letters": func(m *syncml.Message) {
			m.Commands[2].Items[0] = syncml.Item{Source: "./devinfo/%44evId", Data: other}
		},
		"a second DevId": func(m *syncml.Message) {
			m.Commands = append(m.Commands, syncml.Command{Verb: syncml.Replace, ID: "9", Items: []syncml.Item{{Source: "./DevInfo/DevId", Data: other}}})
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			m := message("1", 1, opening("user")...)
			spoil(m)
			statuses, commands := codes(d.say(t, m))
			if !slices.Equal(statuses, []string{"0 SyncHdr 403"}) || len(commands) != 0 {
				t.Errorf("%q %+v", statuses, commands)
			}
			if len(d.delivery.heard) != 0 || d.sessions.saves != 0 || len(d.Refused()) != 1 || d.Refused()[0].Object != d.enrolment {
				t.Errorf("%d calls, refused %+v", len(d.delivery.heard), d.Refused())
			}
		})
	}
	d := newDesk(t)
	m := message("1", 1, opening("user")...)
	m.Source, m.Commands[2].Items[0].Data = strings.ToLower(deviceID), " "+strings.ToLower(deviceID)+"\n"
	if statuses, _ := codes(d.say(t, m)); statuses[0] != "0 SyncHdr 200" {
		t.Errorf("letter case counts: %q", statuses)
	}
	e := d.Enrolment(d.enrolment)
	e.ExternalID = ""
	d.PutEnrolment(e)
	if statuses, _ := codes(d.say(t, m)); statuses[0] != "0 SyncHdr 403" {
		t.Errorf("an enrolment without a device: %q", statuses)
	}
}

func TestUnreadableMessages(t *testing.T) {
	whole := string(encoded(t, message("1", 1, opening("user")...)))
	many := make([]syncml.Command, 300)
	for i := range many {
		many[i] = syncml.Command{Verb: syncml.Replace, ID: strings.Repeat(`"`, 100)}
	}
	tests := map[string]struct {
		body string
		want int
	}{
		"empty":         {"", 400},
		"half":          {whole[:len(whole)/2], 400},
		"no SyncML":     {"<html/>", 400},
		"entity":        {`<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>` + strings.Replace(whole, ">1<", ">&b;<", 1), 400},
		"deep":          {strings.Replace(whole, "<SyncBody>", "<SyncBody>"+strings.Repeat("<Atomic>", 5000), 1), 400},
		"no MsgID":      {strings.Replace(whole, "<MsgID>1</MsgID>", "", 1), 400},
		"huge":          {whole + strings.Repeat(" ", syncml.MaxMessage), 413},
		"many commands": {string(encoded(t, message("1", 1, many...))), 400},
		"not UTF-8":     {whole + "\xff", 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			w := d.send([]byte(tt.body), certified(d.pc))
			if w.Code != tt.want || len(d.delivery.heard) != 0 || d.sessions.saves != 0 {
				t.Errorf("%d %.200s; %d calls", w.Code, w.Body, len(d.delivery.heard))
			}
			if refused := d.Refused(); tt.want == 400 && (len(refused) != 1 || refused[0].Actor != "enrolment "+d.enrolment) {
				t.Errorf("audit %+v", refused)
			}
		})
	}
}

func TestStatusesForWhatThePCSays(t *testing.T) {
	d := newDesk(t)
	statuses, _ := codes(d.say(t, message("1", 1, alert("1", "1201", "", ""), syncml.Command{Verb: syncml.Get, ID: "2"}, syncml.Command{Verb: "Search", ID: "3"},
		syncml.Command{Verb: syncml.Alert, Data: "1200"}, syncml.Command{Verb: syncml.Atomic, ID: "4", Commands: []syncml.Command{{Verb: syncml.Add, ID: "5"}}},
		syncml.Command{Verb: syncml.Add, ID: "6"})))
	if want := []string{"0 SyncHdr 200", "1 Alert 200", "2 Get 406", "3 Search 406", "4 Atomic 406", "6 Add 200"}; !slices.Equal(statuses, want) {
		t.Errorf("got %q, want %q", statuses, want)
	}
}

func TestLoginStatus(t *testing.T) {
	for said, want := range map[string]string{"user": "user", " User\n": "user", "others": "others", "none": "none", "": "", "root": ""} {
		d := newDesk(t)
		d.delivery.script = [][]syncml.Command{get}
		d.say(t, message("1", 1, opening(said)...))
		d.say(t, message("1", 2, header(1), answer(1, "2", "Get", 404)))
		for i, h := range d.delivery.heard {
			if h.session.Login != want {
				t.Errorf("%q: message %d has login %q", said, i+1, h.session.Login)
			}
		}
		for _, session := range []string{"1", "2"} { // a number may come back
			d.say(t, message(session, 1))
			if h := d.delivery.heard[len(d.delivery.heard)-1]; h.session.Login != "" {
				t.Errorf("session %s begins anew with login %q", session, h.session.Login)
			}
		}
	}
}

func TestAnswersThatDoNotFollow(t *testing.T) {
	said := func(msgRef int) []syncml.Command {
		return []syncml.Command{header(msgRef), answer(msgRef, "5", "Delete", 200)}
	}
	tests := map[string]*syncml.Message{
		"the same message again":             message("1", 1, opening("user")...),
		"the same number, with answers":      message("1", 1, said(1)...),
		"a new session":                      message("2", 1, opening("user")...),
		"a new session that answers the old": message("2", 2, said(1)...),
		"a message is missing":               message("1", 3, said(1)...),
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.delivery.script = [][]syncml.Command{remove, remove, remove}
			d.say(t, message("1", 1, opening("user")...))
			_, commands := codes(d.say(t, m))
			if len(commands) != 1 || len(d.delivery.heard[1].answers.Refs()) != 0 {
				t.Errorf("offered %+v, answers %q", commands, d.delivery.heard[1].answers.Refs())
			}
			d.say(t, message(m.SessionID, m.MsgID+1, header(m.MsgID), answer(m.MsgID, commands[0].ID, "Delete", 200)))
			if _, ok := d.delivery.heard[2].answers.Status(commands[0].ID); !ok {
				t.Error("the session does not go on")
			}
			if len(d.Refused()) != 0 {
				t.Errorf("refused %+v", d.Refused())
			}
		})
	}
}

func TestAnswersToCommandsThatWereNeverSent(t *testing.T) {
	for name, c := range map[string]syncml.Command{
		"above": answer(1, "6", "Add", 200), "below": answer(1, "4", "Add", 200), "results": result(1, "77", "./a", "b"), "no number": answer(1, "x", "Add", 200),
		"leading zero": answer(1, "05", "Delete", 200), "another message": answer(9, "5", "Delete", 200), "twice": answer(1, "5", "Delete", 500),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.delivery.script = [][]syncml.Command{remove}
			d.say(t, message("1", 1, opening("user")...))
			d.say(t, message("1", 2, header(1), answer(1, "5", "Delete", 404), c))
			refused := d.Refused()
			if len(refused) != 1 || refused[0].Action != "mdm.status" || refused[0].Detail["answers"] != "1" {
				t.Errorf("audit %+v", refused)
			}
			if o, ok := d.delivery.heard[1].answers.Status("5"); !ok || o.Code != 404 {
				t.Errorf("the right answer is %+v, %v", o, ok)
			}
		})
	}
}

// TestAnAnswerInSeveralMessages: without Final more follows, and is asked for by Alert 1222.
func TestAnAnswerInSeveralMessages(t *testing.T) {
	d := newDesk(t)
	d.delivery.script = [][]syncml.Command{slices.Concat(get, get, get)}
	part := func(msgID int, commands ...syncml.Command) *syncml.Message {
		m := message("1", msgID, commands...)
		m.Final = false
		return m
	}
	asksOn := func(m *syncml.Message) {
		t.Helper()
		statuses, commands := codes(d.say(t, m))
		if len(commands) != 1 || commands[0].Verb != syncml.Alert || commands[0].Data != syncml.AlertNextMessage || commands[0].ID != strconv.Itoa(len(statuses)+1) {
			t.Fatalf("%q %+v", statuses, commands)
		}
	}
	asksOn(part(1, opening("user")...))
	asksOn(part(1, opening("user")...)) // once more
	d.say(t, message("1", 2, header(1)))
	if h := d.delivery.heard[0]; h.session.Login != "user" || h.first != 2 {
		t.Fatalf("the login is lost: %+v", h)
	}
	asksOn(part(3, header(2), answer(2, "2", "Get", 200), result(2, "2", "./DevDetail/SwV", "a")))
	asksOn(part(3, header(2), answer(2, "2", "Get", 200), result(2, "2", "./DevDetail/SwV", "a")))
	asksOn(part(4, header(3), answer(2, "3", "Get", 404)))
	d.say(t, message("1", 5, header(4), answer(2, "4", "Get", 200), result(2, "4", "./DevDetail/SwV", "b")))
	a := d.delivery.heard[1].answers
	if v, _ := a.Value("2", "./DevDetail/SwV"); v != "a" || !slices.Equal(a.Refs(), []string{"2", "3", "4"}) {
		t.Errorf("%q, answers to %q", v, a.Refs())
	}
	if len(d.Refused()) != 0 || len(d.delivery.heard) != 2 {
		t.Errorf("refused %+v, %d calls", d.Refused(), len(d.delivery.heard))
	}
}

func TestAnAnswerWithoutEnd(t *testing.T) {
	long := strings.Repeat("a", syncml.MaxMessage/3)
	value, target := result(1, "5", "./DevDetail/SwV", long), answer(1, "5", "Get", 200)
	target.TargetRef = long
	for name, part := range map[string]syncml.Command{"value": value, "target": target} {
		d := newDesk(t)
		d.delivery.script = [][]syncml.Command{get}
		d.say(t, message("1", 1, opening("user")...))
		for n := 2; ; n++ {
			m := message("1", n, header(n-1), part)
			m.Final = false
			if _, commands := codes(d.say(t, m)); len(commands) == 0 {
				break
			}
			if n > 10 {
				t.Fatalf("%s: the server asks on for ever", name)
			}
		}
		if s := d.sessions.rows[d.enrolment]; len(s.State) != 0 {
			t.Errorf("%s: %d bytes are kept", name, len(s.State))
		}
	}
}

func TestTheEndOfASession(t *testing.T) {
	for name, m := range map[string]*syncml.Message{
		"aborted": message("1", 1, alert("1", syncml.AlertAbort, "", "")), "too long": message("1", 1001, header(1000)), "endless": message("1", 1<<31-1)} {
		d := newDesk(t)
		d.delivery.script = [][]syncml.Command{get}
		if statuses, commands := codes(d.say(t, m)); statuses[0] != "0 SyncHdr 200" || len(commands) != 0 || len(d.delivery.heard) != 0 {
			t.Errorf("%s: %q %+v", name, statuses, commands)
		}
	}
}

func TestUnenrolled(t *testing.T) {
	d := newDesk(t)
	d.delivery.script = [][]syncml.Command{get}
	goodbye := message("1", 1, alert("1", syncml.AlertGeneric, syncml.TypeUnenroll, "1"))
	for range 2 { // the second is a repetition
		if statuses, commands := codes(d.say(t, goodbye)); !slices.Equal(statuses, []string{"0 SyncHdr 200", "1 Alert 200"}) || len(commands) != 0 {
			t.Errorf("%q %+v", statuses, commands)
		}
	}
	e := d.Enrolment(d.enrolment)
	device, err := d.DeviceByID(t.Context(), e.DeviceID)
	if e.State != model.EnrolmentEnded || err != nil || device.Removal != model.RemovalReported || d.kicks == 0 || len(d.delivery.heard) != 0 || len(d.Refused()) != 0 {
		t.Errorf("%+v %+v, %d kicks, refused %+v", e, device, d.kicks, d.Refused())
	}
	for _, c := range []syncml.Command{alert("1", syncml.AlertClientEvent, syncml.TypeUnenroll, "1"), alert("1", syncml.AlertGeneric, syncml.TypeSCEPResult, "1")} {
		d := newDesk(t)
		d.say(t, message("1", 1, c))
		if d.Enrolment(d.enrolment).State != model.EnrolmentActive {
			t.Errorf("%+v ended the enrolment", c)
		}
	}
}

func TestAnEndedEnrolment(t *testing.T) {
	for removal, meant := range map[model.Removal]bool{model.RemovalVerified: true, model.RemovalReported: true, model.RemovalUnconfirmed: false, "": false} {
		d := newDesk(t)
		e := d.Enrolment(d.enrolment)
		e.State = model.EnrolmentEnded
		d.PutEnrolment(e)
		d.PutDevice(model.Device{ID: e.DeviceID, State: model.DeviceLeft, Removal: removal})
		w := d.send(encoded(t, message("1", 1, opening("user")...)), certified(d.pc))
		if refused := d.Refused(); len(refused) != 1 || len(d.delivery.heard) != 0 {
			t.Errorf("%s: refused %+v", removal, refused)
		}
		if !meant {
			if w.Code != 403 {
				t.Errorf("%s: %d %s", removal, w.Code, w.Body)
			}
			continue
		}
		statuses, commands := codes(heardBack(t, message("1", 1), w))
		if len(commands) != 1 || commands[0].Verb != syncml.Exec || commands[0].Items[0].Target != "./Device/Vendor/MSFT/DMClient/Provider/Waxseal/Unenroll" ||
			commands[0].ID != strconv.Itoa(len(statuses)+1) || commands[0].Items[0].Data != "Waxseal" {
			t.Errorf("%s: %q %+v", removal, statuses, commands)
		}
		if _, commands := codes(d.say(t, message("1", 2, header(1), answer(1, commands[0].ID, "Exec", 404)))); len(commands) != 0 {
			t.Errorf("%s: told twice in one session: %+v", removal, commands)
		}
	}
	d := newDesk(t) // another enrolment of the device is alive
	e := d.Enrolment(d.enrolment)
	e.State = model.EnrolmentEnded
	d.PutEnrolment(e)
	if w := d.send(encoded(t, message("1", 1)), certified(d.pc)); w.Code != 403 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestFaultsOfOursInASession(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, tt := range map[string]struct {
		edit func(*desk)
		want int
	}{
		"delivery": {func(d *desk) { d.delivery.err = broken }, 500},
		"busy":     {func(d *desk) { d.delivery.err = model.ErrConflict }, 503},
		"sessions": {func(d *desk) { d.sessions.err = broken }, 500},
		"identity": {func(d *desk) { d.Err = broken }, 500},
		"a session was lost": {func(d *desk) {
			d.delivery.script = [][]syncml.Command{get}
			d.delivery.during = func() { d.sessions.rows[d.enrolment] = model.Session{Version: 9} }
		}, 503},
	} {
		d := newDesk(t)
		tt.edit(d)
		w := d.send(encoded(t, message("1", 1, opening("user")...)), certified(d.pc))
		if w.Code != tt.want || strings.Contains(w.Body.String(), "fire") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// TestTwoNodesHearTheSameMessage: one of them carries the session on, the other one has the PC ask again.
func TestTwoNodesHearTheSameMessage(t *testing.T) {
	d := newDesk(t)
	d.delivery.script = [][]syncml.Command{get, get}
	var both sync.WaitGroup
	both.Add(2)
	d.delivery.during = func() { both.Done(); both.Wait() }
	body := encoded(t, message("1", 1, opening("user")...))
	got := make(chan int)
	for range 2 {
		go func() { got <- d.send(body, certified(d.pc)).Code }()
	}
	if a, b := <-got, <-got; a+b != 200+503 {
		t.Errorf("%d and %d", a, b)
	}
	d.delivery.during = nil
	d.say(t, message("1", 2, header(1), answer(1, "5", "Get", 404)))
	if h := d.delivery.heard[2]; len(h.answers.Refs()) != 1 {
		t.Errorf("the session does not go on: %+v", h)
	}
}
