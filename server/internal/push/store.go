// Package push wakes Apple devices by APNs: after the commit that made work, in the background, paced, and again for NotNow.
package push

import (
	"context"
	"time"
)

// Target is one enrolment to wake.
type Target struct {
	EnrolmentID string
	Token       []byte
	Magic       string
	Topic       string
}

// Pace says when an enrolment with work is woken again. Apple keeps the last wake-up for a device that is off, so that
// repeating it quickly is of no use.
type Pace struct {
	// MinGap is the least time between two wake-ups, for work that is new since the last one.
	MinGap time.Duration
	// Repeat is the least time until a wake-up is repeated. A device that did not come is left alone twice as long each
	// time, at most for MaxGap.
	Repeat, MaxGap time.Duration
	// NotNowAfter is when a refused command is worth a new wake-up; it grows with the time that the device has been
	// refusing, up to NotNowMost. (The device comes by itself once it can: Apple, Handling NotNow.)
	NotNowAfter, NotNowMost time.Duration
}

// Store is what push needs of the database.
type Store interface {
	// DuePushes claims up to limit enrolments that have work (dirty, settled for an older generation, inventory or a retry
	// due, a notNow command that waited) and whose turn it is by the pace; claiming sets the time of the push, so that
	// several server nodes never push the same one together. Only active enrolments with a push token and without MustReenroll.
	DuePushes(ctx context.Context, now time.Time, limit int, pace Pace) ([]Target, error)
	// PushUnsent notes that a claimed wake-up did not reach APNs, or was refused for now: it is due again after pace.Repeat.
	PushUnsent(ctx context.Context, enrolmentID string) error
	// PushFailed notes that APNs said the token is gone (410); no more pushes until the next TokenUpdate.
	PushFailed(ctx context.Context, enrolmentID string, reason string, now time.Time) error
}
