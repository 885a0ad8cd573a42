package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/link"
)

// stubbornCA revokes nothing.
type stubbornCA struct {
	CA
	err   error
	asked *int
}

func (c stubbornCA) Revoke(context.Context, []byte, int, time.Time) (time.Time, error) {
	*c.asked++
	return time.Time{}, c.err
}

// TestSupersedeAtACAThatCannotRevoke: a server from a backup asks again, and the CA knows no revocation (SCEP, EST, AD CS), or
// none of what has ended. Nobody would be helped if there were no certificate at all; the audit log says what stays valid.
func TestSupersedeAtACAThatCannotRevoke(t *testing.T) {
	cases := []struct {
		name    string
		err     error
		later   time.Duration
		revokes int
		done    bool
		says    string
	}{
		{"cannot", fmt.Errorf("CA corp: %w", ca.ErrCannotRevoke), 0, 1, true, "revoke the certificate at the CA by hand"},
		{"fails for now", errors.New("connection reset"), 0, 1, false, ""},
		{"has ended", ca.Refuse("certificate expired"), 101 * 24 * time.Hour, 0, true, ""},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			h := newHouse(t)
			p := issueJob(t, "intent-0000000000000001", "e1")
			first, jobErr := do[link.IssueAnswer](t, h, "1", link.JobIssue, p)
			if jobErr != nil {
				t.Fatal(jobErr.Message)
			}
			h.options.Clock = func() time.Time { return testNow.Add(tc.later) }
			w, kill := h.worker(t, h.dir)
			defer kill()
			asked := 0
			w.CAs = shelf{"softca": stubbornCA{w.CAs.(shelf)["softca"], tc.err, &asked}}
			h.server.Put(t, "2", "2", link.JobIssue, p)
			if err := w.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			var again link.IssueAnswer
			jobErr = h.server.Answer(t, "2", &again)
			if asked != tc.revokes || tc.done != (jobErr == nil) || bytes.Equal(first.Certificate, again.Certificate) {
				t.Errorf("asked %d times, %+v", asked, jobErr)
			}
			if log := h.audit(t); !strings.Contains(log, tc.says) {
				t.Errorf("audit log:\n%s", log)
			}
		})
	}
}

// TestSlightlyAhead: a CA whose clock is a little ahead is not asked for one certificate after the other; the server takes what
// begins within five minutes.
func TestSlightlyAhead(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	h.lose(t, "1", p)
	w, kill := h.worker(t, h.dir)
	var known issueEntry
	if _, err := w.Journal.Get(issuePrefix+p.IntentID, &known); err != nil {
		t.Fatal(err)
	}
	kill()
	first := known.Answer.Certificate
	h.options.Clock = func() time.Time { return parse(t, first).NotBefore.Add(-2 * time.Minute) }
	answer, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil || !bytes.Equal(answer.Certificate, first) {
		t.Errorf("another certificate: %+v", jobErr)
	}
}
