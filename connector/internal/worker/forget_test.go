package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
)

// deaf takes no result, and keeps what was said.
type deaf struct {
	Server
	said []link.Result
}

func (d *deaf) Result(_ context.Context, _ string, r link.Result) error {
	d.said = append(d.said, r)
	return &link.StatusError{Status: 503}
}

// lose has an issue job done whose answer never reaches the server.
func (h *house) lose(t *testing.T, id string, p link.IssueJob) (answer link.IssueAnswer) {
	t.Helper()
	w, kill := h.worker(t, h.dir)
	defer kill()
	server := &deaf{Server: w.Server}
	w.Server = server
	h.server.Put(t, id, id, link.JobIssue, p)
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(server.said) != resultTries || json.Unmarshal(server.said[0].Answer, &answer) != nil {
		t.Fatalf("said %+v", server.said)
	}
	return answer
}

// holdsKey tells whether the connector's journal still has a form of the intent's key.
func (h *house) holdsKey(t *testing.T) bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "jobs.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(data, []byte(`"ciphertext"`)) || bytes.Contains(data, []byte(`"key":"ey`))
}

// restart opens and closes the journals, as a start does.
func (h *house) restart(t *testing.T) {
	t.Helper()
	_, kill := h.worker(t, h.dir)
	kill()
}

func TestKeyGoesOnceTheServerHasIt(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	h.lose(t, "1", p)
	if h.restart(t); !h.holdsKey(t) {
		t.Fatal("the key is gone before the server has it")
	}
	answer, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	if h.restart(t); h.holdsKey(t) {
		t.Error("the journal still holds the key that the server has")
	}
	if _, err := h.open(t, answer.Record); err != nil {
		t.Errorf("the server's record does not open: %v", err)
	}
}

// TestAnsweredByAnotherLetsTheKeyGo: after 409 nobody will ask for this key.
func TestAnsweredByAnotherLetsTheKeyGo(t *testing.T) {
	h := newHouse(t)
	h.server.Results["1"] = link.Result{}
	h.server.Put(t, "1", "1", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	h.work(t)
	if h.restart(t); h.holdsKey(t) {
		t.Error("the journal still holds a key that another connector's has taken the place of")
	}
}

// TestServerFromABackup asks again for what it has accepted: it gets a certificate with a key, and the old one is revoked.
func TestServerFromABackup(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	first, jobErr := do[link.IssueAnswer](t, h, "1", link.JobIssue, p)
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	lost := h.lose(t, "2", p)
	again, jobErr := do[link.IssueAnswer](t, h, "3", link.JobIssue, p)
	if jobErr != nil || bytes.Equal(first.Certificate, again.Certificate) || !bytes.Equal(lost.Certificate, again.Certificate) {
		t.Fatalf("got %+v", jobErr)
	}
	if _, err := h.open(t, again.Record); err != nil || again.Record.ID != p.IntentID {
		t.Errorf("record %s: %v", again.Record.ID, err)
	}
	data, err := os.ReadFile(filepath.Join(h.dir, "softca.jsonl"))
	serial := parse(t, first.Certificate).SerialNumber.Text(16)
	if err != nil || strings.Count(string(data), `"key":"revoked/`) != 1 || !strings.Contains(string(data), `"key":"revoked/`+serial) {
		t.Errorf("%v, CA journal:\n%s", err, data)
	}
}

// TestNeverAcceptedKeyGoes: that an answer arrived may be lost itself, and nobody asks again.
func TestNeverAcceptedKeyGoes(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	h.lose(t, "1", p)
	h.options.Clock = func() time.Time { return testNow.Add(keepUnaccepted - time.Hour) }
	if h.work(t); !h.holdsKey(t) {
		t.Fatal("the key went too early")
	}
	h.options.Clock = func() time.Time { return testNow.Add(keepUnaccepted) }
	if h.work(t); h.holdsKey(t) {
		t.Error("the key is still there")
	}
	if _, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p); jobErr != nil {
		t.Errorf("asked again later: %s", jobErr.Message)
	}
}

func TestIssueRefusesWhatCannotBeSealed(t *testing.T) {
	h := newHouse(t)
	cases := map[string]func(*link.IssueJob){
		"enrolment":    func(p *link.IssueJob) { p.EnrolmentID = "e1:urn" },
		"bytes: at mo": func(p *link.IssueJob) { p.Subject = slices.Repeat(p.Subject, 1000) },
	}
	for want, change := range cases {
		p := issueJob(t, "intent-0000000000000001", "e1")
		change(&p)
		if _, jobErr := do[link.IssueAnswer](t, h, want, link.JobIssue, p); jobErr == nil || !jobErr.Final || !strings.Contains(jobErr.Message, want) {
			t.Errorf("%s: %+v", want, jobErr)
		}
	}
	if h.holdsKey(t) {
		t.Error("a key was made for a request that is refused")
	}
}

// TestServerThatDoesNotWait answers at once that there is nothing to do.
func TestServerThatDoesNotWait(t *testing.T) {
	h := newHouse(t)
	w, kill := h.worker(t, h.dir)
	defer kill()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.Once = false
	pauses := 0
	w.Sleep = func(ctx context.Context, d time.Duration) error {
		if pauses++; pauses == 3 {
			stop()
		}
		if d < firstPause/2 {
			t.Errorf("a pause of %s", d)
		}
		return ctx.Err()
	}
	if err := w.Run(ctx); err != nil || pauses != 3 {
		t.Errorf("%v, %d pauses", err, pauses)
	}
}

// TestClockThatWasWrong: what was issued in the future is refused by the server, and must not be all that it ever gets.
func TestClockThatWasWrong(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	h.options.Clock = func() time.Time { return testNow.AddDate(0, 0, 3) }
	h.lose(t, "1", p)
	h.options.Clock = func() time.Time { return testNow }
	answer, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	if cert := parse(t, answer.Certificate); cert.NotBefore.After(testNow) {
		t.Errorf("valid from %s", cert.NotBefore)
	}
}
