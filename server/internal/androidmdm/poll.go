package androidmdm

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// unchanged is the answer to a poll that saw no other generation than this one.
type unchanged string

// thoroughly is how many ticks lie between two looks at everything. In between it is the enrolment's version that says
// whether anything happened to the device: a plan for each waiting device each second would be too much. Only time, and a
// change of what is assigned, leave the version alone.
const thoroughly = 5

// state answers with the desired state; with ?wait=SECONDS it waits for one that is not the known generation. What
// changed is looked for in the database, since another node may have changed it.
func (e *Endpoint) state(ctx context.Context, c call) (any, error) {
	known, wait, err := polled(c.request)
	if err != nil {
		return nil, err
	}
	if c.enr, err = e.uses(c); err != nil {
		return nil, err
	}
	ctx, leave := e.polls.enter(ctx, c.enr.ID, wait)
	defer leave()
	ticks, stop := e.cfg.Ticks()
	defer stop()
	for tick, seen := 0, c.enr.Version; ; tick++ {
		if tick%thoroughly == 0 || c.enr.Version != seen {
			state, changed, err := e.cfg.Delivery.State(context.WithoutCancel(ctx), c.enr, known)
			if err != nil {
				return nil, err
			}
			if changed {
				return state, nil
			}
			seen = c.enr.Version
		}
		select {
		case <-ctx.Done():
			return unchanged(known), nil
		case <-e.stopped:
			return unchanged(known), nil
		case <-ticks:
		}
		if c.enr, err = e.sender(c.request); err != nil { // changed since, or over
			return nil, err
		}
	}
}

// polled reads what the app knows (RFC 9110 section 13.1.2, or as a parameter), and how long it waits.
func polled(r *http.Request) (known string, wait time.Duration, err error) {
	query := r.URL.Query()
	if known = query.Get("generation"); known == "" {
		known = strings.Trim(strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/"), `"`)
	}
	if text := query.Get("wait"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 {
			return "", 0, refuse(companion.CodeMalformed, "wait is a number of seconds, 0 to 55")
		}
		wait = min(time.Duration(min(seconds, 3600))*time.Second, maxPoll)
	}
	return known, wait, nil
}

// maxPolls is how many polls of one enrolment wait at a time: one, and its repetition. Each looks at the database again
// and again.
const maxPolls = 2

// polls are the long polls of this process, by enrolment, oldest first.
type polls struct {
	mu sync.Mutex
	of map[string][]*context.CancelFunc
}

// enter lets a poll wait; if it is one too many, the oldest ends.
func (p *polls) enter(ctx context.Context, enrolmentID string, wait time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, max(wait, time.Nanosecond))
	if wait == 0 {
		return ctx, cancel
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string][]*context.CancelFunc{}
	}
	list := append(p.of[enrolmentID], &cancel)
	if len(list) > maxPolls {
		(*list[0])()
		list = slices.Delete(list, 0, 1)
	}
	p.of[enrolmentID] = list
	return ctx, func() { p.leave(enrolmentID, &cancel) }
}

func (p *polls) leave(enrolmentID string, cancel *context.CancelFunc) {
	(*cancel)()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := slices.DeleteFunc(p.of[enrolmentID], func(c *context.CancelFunc) bool { return c == cancel })
	if p.of[enrolmentID] = list; len(list) == 0 {
		delete(p.of, enrolmentID)
	}
}
