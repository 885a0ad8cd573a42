package apple

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Times of Sync.
const (
	pollInterval = 200 * time.Millisecond
	quietTime    = 2 * time.Second
	// DefaultWait bounds Sync when the caller does not.
	DefaultWait = 30 * time.Second
	// maxCommands ends a connection whose server never has enough.
	maxCommands = 1000
)

// Report is what one connection, or several, did.
type Report struct {
	Commands int      // that were carried out, refusals not counted
	NotNow   []string // commands that the device put off
	Failures []string // commands that failed, and why
	Pending  int      // documents that the server announced and that still wait
	Left     bool     // the device is not enrolled any more
}

func (r *Report) add(other Report) {
	r.Commands += other.Commands
	r.Failures = append(r.Failures, other.Failures...)
	r.NotNow, r.Pending, r.Left = other.NotNow, other.Pending, other.Left
}

// Poll is one connection: results that waited, then Idle, then commands until the server has none; on a Mac, one of each
// channel.
func (d *Device) Poll(ctx context.Context) (Report, error) {
	if err := d.giveBootstrap(ctx); err != nil {
		return Report{}, err
	}
	r, err := d.pollChannel(ctx)
	if err != nil || r.Left {
		return r, err
	}
	return r, d.pollUser(ctx, &r)
}

func (d *Device) pollChannel(ctx context.Context) (Report, error) {
	var r Report
	s, err := d.session()
	if err != nil {
		return r, err
	}
	err = s.talk(ctx, &r)
	if unenrols(err) {
		why := "the server does not recognise this device any more: " + err.Error()
		if gone := d.root().forgetManagement(why); gone != nil {
			return r, gone
		}
		r.Left = true
		return r, fmt.Errorf("%w: %s", ErrNotEnrolled, why)
	}
	return r, err
}

// talk keeps the conversation going.
func (s *session) talk(ctx context.Context, r *Report) error {
	next, err := s.begin(ctx, r)
	for n := 0; err == nil && len(next.body) > 0; n++ {
		if n == maxCommands {
			return fmt.Errorf("the server offered %d commands in one connection", n)
		}
		next, err = s.command(ctx, next.body, r)
	}
	if errors.Is(err, errEnd) {
		return nil
	}
	if next != nil {
		r.Pending = next.pending
	}
	return err
}

// errEnd ends a connection without a fault: the device has left, or chaos cut the line.
var errEnd = errors.New("end of the connection")

// begin sends the results that the server has not confirmed; without any, Idle.
func (s *session) begin(ctx context.Context, r *Report) (*answer, error) {
	d := s.device
	var last *answer
	for len(d.state.Outbox) > 0 {
		sent := d.state.Outbox[0]
		next, err := s.put(ctx, s.mdm.ServerURL, typeCommand, sent.Body)
		if err != nil {
			return nil, err
		}
		d.state.Outbox = slices.Delete(slices.Clone(d.state.Outbox), 0, 1)
		if after := sent.After; after != "" {
			return nil, s.end(ctx, after, r)
		}
		if err := d.save(); err != nil {
			return nil, err
		}
		last = next
	}
	if last != nil && len(last.body) > 0 {
		return last, nil
	}
	body, err := proplist.Encode(d.named(dict{"Status": statusIdle}))
	if err != nil {
		return nil, err
	}
	return s.put(ctx, s.mdm.ServerURL, typeCommand, body)
}

// command carries one command out and sends the result.
func (s *session) command(ctx context.Context, body []byte, r *Report) (*answer, error) {
	d := s.device
	uuid, command, err := readCommand(body)
	if err != nil {
		return nil, err
	}
	requestType := proplist.String(command, "RequestType")
	out := outcome{status: statusFormatError, err: fail(domainMDM, 12008, "the command has no RequestType")}
	if requestType != "" {
		out = d.execute(ctx, uuid, command)
	}
	d.cfg.Log.Info("command", "type", requestType, "status", out.status)
	r.note(requestType, out)
	message, err := d.report(uuid, requestType, out)
	if err != nil {
		return nil, err
	}
	res := result{UUID: uuid, Body: message, What: requestType, After: out.after}
	next, err := s.deliver(ctx, res, out.status)
	if err != nil || res.After == "" {
		return next, err
	}
	return nil, s.end(ctx, res.After, r)
}

// end lets the device leave; there is no connection afterwards.
func (s *session) end(ctx context.Context, after string, r *Report) error {
	if err := s.device.afterwards(ctx, after); err != nil {
		return err
	}
	r.Left = true
	return errEnd
}

func readCommand(body []byte) (string, dict, error) {
	top, err := proplist.DecodeDict(body, maxAnswer)
	if err != nil {
		return "", nil, fmt.Errorf("reading the server's command: %w", err)
	}
	uuid, command := proplist.String(top, "CommandUUID"), proplist.Sub(top, "Command")
	if uuid == "" || command == nil {
		return "", nil, errors.New("reading the server's command: it lacks CommandUUID or Command")
	}
	return uuid, command, nil
}

func (r *Report) note(requestType string, out outcome) {
	switch out.status {
	case statusNotNow:
		r.NotNow = append(r.NotNow, requestType)
	case statusError, statusFormatError:
		r.Commands++
		r.Failures = append(r.Failures, requestType+": "+out.err.Error())
	default:
		r.Commands++
	}
}

// report makes the message of a result.
func (d *Device) report(uuid, requestType string, out outcome) ([]byte, error) {
	message := d.named(dict{"Status": out.status, "CommandUUID": uuid})
	if d.state.Platform == "macos" {
		message["RequestType"] = requestType
	}
	if out.err != nil {
		message["ErrorChain"] = out.err.chain()
	}
	for key, value := range out.fields {
		message[key] = value
	}
	return proplist.Encode(message)
}

// deliver sends a result. Until the server has confirmed it, it is in the outbox, and survives the process. NotNow is
// not kept: the server offers the command again anyway. After a command that renews the MDM identity the old session
// still delivers the result.
func (s *session) deliver(ctx context.Context, res result, status string) (*answer, error) {
	d := s.device
	d.state.Results++
	if status == statusNotNow {
		return s.put(ctx, s.mdm.ServerURL, typeCommand, res.Body)
	}
	if d.chaotic(ChaosForgotten) && d.state.Results%3 == 0 && res.After == "" {
		return nil, errEnd
	}
	d.state.Outbox = append(slices.Clone(d.state.Outbox), res)
	if err := d.save(); err != nil {
		return nil, err
	}
	next, err := s.current().put(ctx, s.mdm.ServerURL, typeCommand, res.Body)
	if err != nil {
		return nil, err
	}
	if d.chaotic(ChaosLost) && d.state.Results%2 == 0 && res.After == "" {
		return nil, errEnd
	}
	d.state.Outbox = slices.DeleteFunc(slices.Clone(d.state.Outbox), func(r result) bool { return r.UUID == res.UUID })
	if err := d.save(); err != nil {
		return nil, err
	}
	if d.chaotic(ChaosDuplicate) && d.state.Results%2 == 1 && res.After == "" {
		return s.current().put(ctx, s.mdm.ServerURL, typeCommand, res.Body)
	}
	return next, nil
}

// current is the session of the identity that is installed now, which differs from s when a command has just renewed
// it.
func (s *session) current() *session {
	if now, err := s.device.session(); err == nil {
		return now
	}
	return s
}

// Sync polls until the server had nothing for two seconds and nothing that it announced is outstanding, but no longer
// than wait (DefaultWait if zero). The error says what failed, what the device put off, and what did not come.
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
		case r.Commands > 0 || r.Pending > 0 || err != nil || d.unsent():
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

// unsent tells whether a result waits, of those who can be heard now.
func (d *Device) unsent() bool {
	u := d.userOf(d.folder.Logon())
	return len(d.state.Outbox) > 0 || u != nil && len(u.state.Outbox) > 0
}

// err is what went wrong, in words.
func (r *Report) err() error {
	var out []string
	out = append(out, r.Failures...)
	for _, what := range r.NotNow {
		out = append(out, what+": put off with NotNow, since the device is locked")
	}
	if len(out) == 0 {
		return nil
	}
	return errors.New(strings.Join(out, "\n"))
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

func fields(words string) []string { return strings.Fields(words) }
