package windows

import (
	"context"
	"errors"
	"time"
)

// Run keeps the PC going until the context ends or the PC leaves: it polls at an interval. Push would need a Store
// account of the server (windows.md section 2.7) and is not simulated. Faults of the server are logged and tried again.
func (d *Device) Run(ctx context.Context, interval time.Duration) error {
	if d.state.MDM == nil {
		return d.notEnrolled()
	}
	if interval <= 0 {
		return errors.New("nothing wakes the device: a PC polls, give an --interval")
	}
	for {
		r, err := d.Poll(ctx)
		switch {
		case r.Left, errors.Is(err, ErrNotEnrolled):
			d.cfg.Log.Info("the device has left", "reason", d.state.Gone)
			return nil
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.cfg.Log.Warn("the session failed", "reason", err)
		}
		for _, failure := range r.Failures {
			d.cfg.Log.Warn("a command failed", "reason", failure)
		}
		if d.cfg.Clock.Sleep(ctx, interval) != nil {
			return nil
		}
	}
}
