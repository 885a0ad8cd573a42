package windows

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Times of Sync.
const (
	pollInterval = 200 * time.Millisecond
	quietTime    = 2 * time.Second
	// DefaultWait bounds Sync when the caller does not.
	DefaultWait = 30 * time.Second
)

// Report is what one session, or several, did.
type Report struct {
	Commands int      // that the server sent, those inside an Atomic one by one
	Changes  int      // those that were no Get
	Failures []string // commands that failed, and why
	Pending  int      // documents that the server announced and that still wait
	Left     bool     // the device is not enrolled any more
	cut      bool     // chaos ended the session early
}

func (r *Report) add(other Report) {
	r.Commands += other.Commands
	r.Changes += other.Changes
	r.Failures = append(r.Failures, other.Failures...)
	r.Pending, r.Left, r.cut = other.Pending, other.Left, r.cut || other.cut
}

// note counts commands, and finds those that failed.
func (r *Report) note(commands, answers []syncml.Command) {
	statuses := map[string]syncml.Command{}
	for _, a := range answers {
		if a.Verb == syncml.Status {
			statuses[a.CmdRef] = a
		}
	}
	for _, c := range commands {
		if c.Verb == syncml.Atomic || c.Verb == syncml.Sequence {
			r.noteGroup(c, statuses)
			continue
		}
		r.noteOne(c, statuses[c.ID])
	}
}

// noteGroup looks at the commands of a group. If none of them is to blame, the group itself failed; one that found that
// it was there already does not count, as outside a group.
func (r *Report) noteGroup(c syncml.Command, statuses map[string]syncml.Command) {
	found := false
	for _, inner := range c.Commands {
		status := statuses[inner.ID]
		r.noteOne(inner, status)
		found = found || code(status) >= syncml.StatusBadRequest
	}
	if !found && code(statuses[c.ID]) >= syncml.StatusBadRequest {
		r.Failures = append(r.Failures, failure(c, statuses[c.ID]))
	}
}

func (r *Report) noteOne(c syncml.Command, status syncml.Command) {
	r.Commands++
	if c.Verb != syncml.Get {
		r.Changes++
	}
	if got := code(status); got >= syncml.StatusBadRequest && !harmless(c.Verb, got) {
		r.Failures = append(r.Failures, failure(c, status))
	}
}

func code(status syncml.Command) int {
	n, _ := strconv.Atoi(status.Data) //nolint:errcheck // no status is no failure
	return n
}

// harmless are the statuses by which a server learns what it asks for: there is nothing to read or to delete, or it is
// there already (windows.md sections 2.4 and 5).
func harmless(verb syncml.Verb, code int) bool {
	switch verb {
	case syncml.Get, syncml.Delete:
		return code == syncml.StatusNotFound
	case syncml.Add:
		return code == syncml.StatusExists
	}
	return false
}

// failure says what failed, without what was to be written.
func failure(c, status syncml.Command) string {
	what := string(c.Verb)
	if len(c.Items) > 0 {
		what += " " + c.Items[0].Target
	}
	text := fmt.Sprintf("%s: %s %s", what, status.Data, syncml.Meaning(code(status)))
	if status.OriginalError != "" {
		text += " (" + status.OriginalError + ")"
	}
	return text
}

// maxOwnSessions bounds how often a PC calls again by itself.
const maxOwnSessions = 4

// Poll is one session, with what follows from it: certificates are asked for, and a session more tells how that ended.
func (d *Device) Poll(ctx context.Context) (Report, error) {
	var total Report
	for range maxOwnSessions {
		r, err := d.poll(ctx)
		total.add(r)
		if err != nil || r.Left {
			return total, err
		}
		if told, err := d.ask(ctx); err != nil || !told {
			return total, err
		}
	}
	return total, nil
}

// poll is one session. A certificate that is due for renewal is renewed first.
func (d *Device) poll(ctx context.Context) (Report, error) {
	var r Report
	if d.state.MDM == nil {
		return r, d.notEnrolled()
	}
	if left, err := d.end(ctx); left || err != nil {
		r.Left = left
		return r, err
	}
	if d.renewalDue() {
		if err := d.Renew(ctx); err != nil {
			d.cfg.Log.Warn("the MDM certificate could not be renewed", "reason", err)
		}
	}
	s, err := d.newSession()
	if err != nil {
		return r, err
	}
	err = s.talk(ctx, &r)
	if errors.Is(err, errEnd) {
		r.cut = r.cut || errors.Is(err, errLost)
		err = nil
	}
	return r, errors.Join(err, s.afterwards(ctx, &r))
}

// afterwards does what the commands of the session asked of the PC.
func (s *session) afterwards(ctx context.Context, r *Report) error {
	left, err := s.device.end(ctx)
	r.Left = left
	if err == nil && !left && s.renew {
		return s.device.Renew(ctx)
	}
	return err
}

// Sync polls until the server had nothing for two seconds and nothing that it announced is outstanding, but no longer
// than wait (DefaultWait if zero). The error says what failed, and what did not come. A server that only reads is quiet.
func (d *Device) Sync(ctx context.Context, wait time.Duration) (Report, error) {
	if wait <= 0 {
		wait = DefaultWait
	}
	var total Report
	began := d.now()
	quiet := began
	for {
		r, err := d.Poll(ctx)
		total.add(r)
		now := d.now()
		switch {
		case r.Left && err == nil:
			return total, total.err()
		case errors.Is(err, ErrNotEnrolled), ctx.Err() != nil:
			return total, errors.Join(err, ctx.Err())
		case r.Changes > 0 || r.Pending > 0 || err != nil || r.cut:
			quiet = now
		case now.Sub(quiet) >= quietTime:
			return total, total.err()
		}
		if now.Sub(began) >= wait {
			return total, total.late(wait, err)
		}
		if err := d.cfg.Clock.Sleep(ctx, pollInterval); err != nil {
			return total, err
		}
	}
}

// err is what went wrong, in words.
func (r *Report) err() error {
	if len(r.Failures) == 0 {
		return nil
	}
	return errors.New(strings.Join(r.Failures, "\n"))
}

// late is the error of a Sync whose time was up.
func (r *Report) late(wait time.Duration, last error) error {
	if last == nil && r.Pending > 0 {
		last = fmt.Errorf("after %s the server still has %d documents that wait", wait, r.Pending)
	}
	if last == nil {
		last = fmt.Errorf("after %s the server still has commands", wait)
	}
	return errors.Join(r.err(), last)
}
