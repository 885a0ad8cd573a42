package push

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Sender sends one wake-up; *Client is the real one.
type Sender interface {
	Push(ctx context.Context, t Target) error
}

// Config of a Worker; zero values mean the defaults in brackets.
type Config struct {
	Store Store
	// Sender is nil without a push certificate; then the worker does nothing.
	Sender Sender
	Logger *slog.Logger
	Clock  func() time.Time
	// PerSecond paces the wake-ups of this node [50].
	PerSecond int
	// Interval is how often work is looked for without a kick [2 s].
	Interval time.Duration
	// MinGap is the least time between two wake-ups of one enrolment after a kick [5 s], and Repeat without one [2 min]:
	// Apple keeps the last one for a device that is off, so that repeating it quickly is of no use.
	MinGap, Repeat time.Duration
	// NotNowAfter is when a refused command is worth a new wake-up [2 min].
	NotNowAfter time.Duration
	// Ticks and Pause stand for time in tests.
	Ticks func(time.Duration) (ticks <-chan time.Time, stop func())
	Pause func(ctx context.Context, d time.Duration) error
	// Observe is told the outcome of each wake-up, for metrics: "sent", "gone", "refused", "unreachable".
	Observe func(outcome string)
}

// batch is how many enrolments are claimed at once; in one batch at most parallel are under way.
const (
	batch    = 100
	parallel = 8
)

// Worker wakes devices in the background.
type Worker struct {
	cfg  Config
	kick chan struct{}
}

// New makes a worker; Run starts it.
func New(cfg Config) *Worker {
	cfg.PerSecond = orDefault(cfg.PerSecond, 50)
	cfg.Interval = orDefault(cfg.Interval, 2*time.Second)
	cfg.MinGap = orDefault(cfg.MinGap, 5*time.Second)
	cfg.Repeat = orDefault(cfg.Repeat, 2*time.Minute)
	cfg.NotNowAfter = orDefault(cfg.NotNowAfter, 2*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Ticks == nil {
		cfg.Ticks = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		}
	}
	if cfg.Pause == nil {
		cfg.Pause = pause
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string) {}
	}
	return &Worker{cfg: cfg, kick: make(chan struct{}, 1)}
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kick says that something was committed that devices should hear of. It never blocks; kicks that come together are one.
func (w *Worker) Kick() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// Run works until ctx ends. It returns nil then: a fault of APNs or the database is logged and tried again.
func (w *Worker) Run(ctx context.Context) error {
	if w.cfg.Sender == nil {
		<-ctx.Done()
		return nil
	}
	ticks, stop := w.cfg.Ticks(w.cfg.Interval)
	defer stop()
	urgent := w.urgent() // what was committed while no worker ran
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
			urgent = w.urgent()
		case <-ticks:
		}
		gap := w.cfg.Repeat
		if w.cfg.Clock().Before(urgent) {
			gap = w.cfg.MinGap
		}
		w.round(ctx, gap)
	}
}

// urgent is until when the short gap holds after a kick: an enrolment that was woken just before it is left out then, and
// gets its turn once the gap has passed.
func (w *Worker) urgent() time.Time {
	return w.cfg.Clock().Add(w.cfg.MinGap + 2*w.cfg.Interval)
}

// round wakes everything that is due.
func (w *Worker) round(ctx context.Context, gap time.Duration) {
	for ctx.Err() == nil {
		targets, err := w.cfg.Store.DuePushes(ctx, w.cfg.Clock(), batch, gap, w.cfg.NotNowAfter)
		if err != nil {
			if ctx.Err() == nil {
				w.cfg.Logger.Error("looking for devices to wake", "error", err)
			}
			return
		}
		w.wakeAll(ctx, targets)
		if len(targets) < batch {
			return
		}
	}
}

func (w *Worker) wakeAll(ctx context.Context, targets []Target) {
	slots := make(chan struct{}, parallel)
	var group sync.WaitGroup
	defer group.Wait()
	for i, t := range targets {
		if i > 0 && w.cfg.Pause(ctx, time.Second/time.Duration(w.cfg.PerSecond)) != nil {
			return
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			w.wake(ctx, t)
		})
	}
}

// wake sends one wake-up. One that fails is due again after the gap, since its work is still there.
func (w *Worker) wake(ctx context.Context, t Target) {
	err := w.cfg.Sender.Push(ctx, t)
	var refused *Error
	switch {
	case err == nil:
		w.cfg.Observe("sent")
	case errors.As(err, &refused) && refused.Gone():
		w.cfg.Observe("gone")
		w.cfg.Logger.Warn("a push token is gone; waiting for the device's next TokenUpdate", "enrolment", t.EnrolmentID, "error", err)
		if err := w.cfg.Store.PushFailed(ctx, t.EnrolmentID, refused.Reason, w.cfg.Clock()); err != nil {
			w.cfg.Logger.Error("noting a push token that is gone", "enrolment", t.EnrolmentID, "error", err)
		}
	case refused != nil:
		w.cfg.Observe("refused")
		w.cfg.Logger.Error("APNs refused a wake-up", "enrolment", t.EnrolmentID, "error", err)
	case ctx.Err() == nil:
		w.cfg.Observe("unreachable")
		w.cfg.Logger.Error("a wake-up failed", "enrolment", t.EnrolmentID, "error", err)
	}
}
