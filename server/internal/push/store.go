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

// Store is what push needs of the database.
type Store interface {
	// DuePushes claims up to limit enrolments that have work (dirty, or settled for an older generation, or a notNow command
	// older than notNowAfter) and were not pushed within minGap; claiming sets the time of the push, so that several server
	// nodes never push the same one together. Only active enrolments with a push token and without MustReenroll.
	DuePushes(ctx context.Context, now time.Time, limit int, minGap, notNowAfter time.Duration) ([]Target, error)
	// PushFailed notes that APNs said the token is gone (410); no more pushes until the next TokenUpdate.
	PushFailed(ctx context.Context, enrolmentID string, reason string, now time.Time) error
}
