package android

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Times of Sync.
const (
	pollInterval = 200 * time.Millisecond
	quietTime    = 2 * time.Second
	// DefaultWait bounds Sync when the caller does not.
	DefaultWait = 30 * time.Second
)

// words puts the trouble into the lists that people read.
func (r *Report) words() {
	r.Failures, r.Waiting = nil, nil
	for _, id := range slices.Sorted(maps.Keys(r.trouble)) {
		t := r.trouble[id]
		if t.waiting {
			r.Waiting = append(r.Waiting, t.text)
		} else {
			r.Failures = append(r.Failures, t.text)
		}
	}
}

// add takes a later round into account. A server that stops asking for what failed does not make it well.
func (r *Report) add(other Report) {
	r.Commands += other.Commands
	r.Changes += other.Changes
	r.Pending, r.Left = other.Pending, other.Left
	if r.trouble == nil {
		r.trouble = map[string]trouble{}
	}
	for _, id := range other.well {
		delete(r.trouble, id)
	}
	maps.Copy(r.trouble, other.trouble)
	r.words()
}

// err is what went wrong, and what waits, in words.
func (r *Report) err() error {
	if all := slices.Concat(r.Failures, r.Waiting); len(all) > 0 {
		return errors.New(strings.Join(all, "\n"))
	}
	return nil
}

// late is the error of a Sync whose time was up.
func (r *Report) late(wait time.Duration, last error) error {
	if last == nil && r.Pending > 0 {
		last = fmt.Errorf("after %s %d items that the server announced have not come", wait, r.Pending)
	}
	if last == nil {
		last = fmt.Errorf("after %s the server still has something to do", wait)
	}
	return errors.Join(r.err(), last)
}

// Sync polls until the server had nothing for two seconds and nothing that it announced is outstanding, but no longer
// than wait (DefaultWait if zero). It does not wait for a user, an app or a next try: the error says what failed, what
// waits, and what did not come.
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
		case r.Left:
			return total, err
		case errors.Is(err, ErrNotEnrolled), errors.Is(err, ErrCrashed), ctx.Err() != nil:
			return total, errors.Join(err, ctx.Err())
		case r.Commands+r.Changes+r.Pending > 0 || err != nil:
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
