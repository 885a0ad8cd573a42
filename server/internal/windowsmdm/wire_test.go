package windowsmdm_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// TestNoAnswerIsChunked, whatever it says (windows.md section 0).
func TestNoAnswerIsChunked(t *testing.T) {
	d := newDesk(t)
	server := httptest.NewServer(d.router)
	defer server.Close()
	whole := encoded(t, message("1", 1, opening("user")...))
	large := syncml.Command{Verb: syncml.Add, Items: []syncml.Item{{Target: "./a", Data: strings.Repeat("x", 100_000)}}}
	other := message("1", 1)
	other.Source = "another"
	tests := []struct {
		name  string
		body  []byte
		proof bool
		edit  func()
		want  int
	}{
		{"statuses", whole, true, func() {}, 200},
		{"commands", whole, true, func() { d.delivery.script = [][]syncml.Command{{large}} }, 200},
		{"another device", encoded(t, other), true, func() {}, 200},
		{"no proof", whole, false, func() {}, 403},
		{"unreadable", []byte("<"), true, func() {}, 400},
		{"huge", bytes.Repeat([]byte(" "), syncml.MaxMessage+1), true, func() {}, 413},
		{"busy", whole, true, func() { d.delivery.err = model.ErrConflict }, 503},
		{"broken", whole, true, func() { d.delivery.err = errors.New("disk on fire") }, 500},
	}
	for _, tt := range tests {
		tt.edit()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+windowsmdm.ManagementPath, bytes.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.proof {
			detached(t, d.pc, tt.body)(req)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		body, err := io.ReadAll(resp.Body)
		if closed := resp.Body.Close(); err != nil || closed != nil {
			t.Fatalf("%s: %v, %v", tt.name, err, closed)
		}
		if resp.StatusCode != tt.want || resp.ContentLength != int64(len(body)) || len(resp.TransferEncoding) != 0 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %d of %d bytes, %v %v", tt.name, resp.StatusCode, len(body), resp.ContentLength, resp.TransferEncoding, resp.Header)
		}
	}
}

// FuzzManage sends anything as the second message of a session. Nothing that a PC can say may be a fault of ours.
func FuzzManage(f *testing.F) {
	seeds := []*syncml.Message{
		message("1", 1, opening("user")...),
		message("1", 2, header(1), answer(1, "5", "Atomic", 507), answer(1, "6", "Add", 418), answer(1, "7", "Add", 215)),
		message("1", 2, header(1), result(1, "5", "./a", "b"), answer(9, "x", "Get", 200)),
		message("2", 1, alert("1", syncml.AlertGeneric, syncml.TypeUnenroll, "1")),
		message("1", 2, alert("1", syncml.AlertAbort, "", "")),
		message("1", 2147483647, syncml.Command{Verb: syncml.Atomic, ID: "1", Commands: []syncml.Command{{Verb: syncml.Get, ID: "2"}}}),
	}
	for i, m := range seeds {
		m.Final = i%3 != 2
		body, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(strings.Repeat("<SyncML>", 40)))
	var d *desk
	f.Fuzz(func(t *testing.T, body []byte) {
		if d == nil {
			d = newDesk(t)
		}
		enr := d.Enrolment(d.enrolment)
		enr.State = model.EnrolmentActive
		d.PutEnrolment(enr)
		d.sessions.rows, d.delivery.heard = map[string]model.Session{}, nil
		d.delivery.script = [][]syncml.Command{atomic, atomic, get}
		d.logs.Reset()
		d.say(t, message("1", 1, opening("user")...))
		for range 2 {
			w := d.send(body, certified(d.pc))
			if w.Code >= 500 || w.Code == 403 && d.Enrolment(d.enrolment).State != model.EnrolmentEnded {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w.Code != http.StatusOK {
				continue
			}
			if _, err := syncml.Decode(w.Body.Bytes()); err != nil {
				t.Fatalf("the answer cannot be read: %v\n%s", err, w.Body)
			}
		}
	})
}
