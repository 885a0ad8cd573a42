package android

import (
	"context"
	"errors"
	"time"
)

// Run keeps the device going until the context ends or it leaves. Each question is held by the server until it has
// something, for up to 55 seconds; between questions that brought nothing pass at least an interval. A crash of the app
// ends nothing: Android starts it again. A device that has left goes on until it has removed what it could not at once.
func (d *Device) Run(ctx context.Context, interval time.Duration) error {
	if !d.Enrolled() && len(d.state.App.Records) == 0 {
		return d.notEnrolled()
	}
	for {
		began := d.now()
		r, err := d.poll(ctx, longPoll)
		switch {
		case (r.Left || errors.Is(err, ErrNotEnrolled)) && len(d.state.App.Records) == 0:
			d.cfg.Log.Info("the device has left", "reason", d.state.Gone)
			return nil
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.cfg.Log.Warn("the round failed", "reason", err)
		}
		for _, failure := range append(r.Failures, r.Waiting...) {
			d.cfg.Log.Warn("an item is not done", "reason", failure)
		}
		if err == nil && r.Commands+r.Changes > 0 {
			continue
		}
		if d.cfg.Clock.Sleep(ctx, max(interval-d.now().Sub(began), pollInterval)) != nil {
			return nil
		}
	}
}
