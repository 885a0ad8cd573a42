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
	// Pace of each enrolment [2 s, 2 min, 24 h, 2 min, 1 h].
	Pace Pace
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
	cfg.Pace.MinGap = orDefault(cfg.Pace.MinGap, 2*time.Second)
	cfg.Pace.Repeat = orDefault(cfg.Pace.Repeat, 2*time.Minute)
	cfg.Pace.MaxGap = orDefault(cfg.Pace.MaxGap, 24*time.Hour)
	cfg.Pace.NotNowAfter = orDefault(cfg.Pace.NotNowAfter, 2*time.Minute)
	cfg.Pace.NotNowMost = orDefault(cfg.Pace.NotNowMost, time.Hour)
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.kick:
		case <-ticks: // for what was left out at the kick, for what is due by time, and for other nodes' commits
		}
		w.round(ctx)
	}
}

// round wakes everything that is due.
func (w *Worker) round(ctx context.Context) {
	for ctx.Err() == nil {
		targets, err := w.cfg.Store.DuePushes(ctx, w.cfg.Clock(), batch, w.cfg.Pace)
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

// wake sends one wake-up. One that did not reach the device's queue at Apple is sent again.
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
		w.unsent(ctx, t)
	case ctx.Err() == nil:
		w.cfg.Observe("unreachable")
		w.cfg.Logger.Error("a wake-up failed", "enrolment", t.EnrolmentID, "error", err)
		w.unsent(ctx, t)
	}
}

func (w *Worker) unsent(ctx context.Context, t Target) {
	if err := w.cfg.Store.PushUnsent(ctx, t.EnrolmentID); err != nil && ctx.Err() == nil {
		w.cfg.Logger.Error("noting a wake-up that was not sent", "enrolment", t.EnrolmentID, "error", err)
	}
}
