package main

import (
	"context"
	"time"

	"github.com/waxseal/waxseal/server/internal/store"
)

const (
	sweepEvery = time.Hour
	day        = 24 * time.Hour
)

// retention is how long what nobody needs for a decision is kept, and how long a device that should leave may be silent.
func retention() store.Retention {
	return store.Retention{Silence: 30 * day, Commands: 30 * day, Jobs: 90 * day}
}

// sweep keeps the database from growing for ever, until ctx ends.
func (s *server) sweep(ctx context.Context) error {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := s.db.Sweep(ctx, s.Clock(), retention()); err != nil && ctx.Err() == nil {
			s.Logger.Error("sweeping the database failed; it is tried again", "error", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
