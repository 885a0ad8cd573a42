// Package delivery brings documents to devices: it reads one snapshot of an enrolment, lets reconcile decide, saves the
// decision and hands the next command to the platform's adapter.
//
//	device's message ─→ Step: Snapshot → reconcile.Decide → Save (again from Snapshot on model.ErrConflict) ─→ action
//
// Fault table of Step:
//
//	Snapshot fails                → nothing happened; the device is answered 5xx and repeats its message
//	Save fails, not kept          → the same
//	Save fails, but kept          → the device repeats; its report is of a closed command and changes nothing
//	answer lost after Save        → the command stays "sent" and is offered again, under its UUID, at the next Idle
package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Planner makes the documents of one platform; it is pure.
type Planner func(platforms.Input) []platforms.Document

// Config is what New needs.
type Config struct {
	Store    Store
	Settings reconcile.Settings
	// InventoryEvery replaces Settings.InventoryEvery on platforms that are asked more or less often.
	InventoryEvery map[profiles.Platform]time.Duration
	// Planners by platform.
	Planners map[profiles.Platform]Planner
	// CanDecrypt tells whether a device certificate (DER) can be the recipient of secrets.
	CanDecrypt func(der []byte) bool
	Clock      func() time.Time
	NewUUID    func() string
	// Mint gives the SCEP challenges of profiles for an enrolment; needed once a planner plans documents with challenges.
	Mint func(ctx context.Context, enrolmentID string, profiles []string) (map[string]string, error)
	// Kick tells the connectors' long polls and the push worker that there is work; nil is allowed.
	Kick func()
}

// Service is the delivery core; it is safe for concurrent use and keeps no state of its own.
type Service struct{ c Config }

// New returns a Service with the defaults of Settings filled in.
func New(c Config) *Service {
	s := &c.Settings
	if s.InventoryEvery == 0 {
		s.InventoryEvery = 24 * time.Hour
	}
	if s.ConnectorSilence == 0 {
		s.ConnectorSilence = 2 * time.Minute
	}
	if s.MaxAttempts == 0 {
		s.MaxAttempts = 8
	}
	if c.Kick == nil {
		c.Kick = func() {}
	}
	return &Service{c: c}
}

// saveTries bounds how often a decision is made again because the enrolment changed in between.
const saveTries = 8

// Step learns from a device's report and says what to do next; the action is nil when there is nothing. It is safe to
// repeat with the same report.
func (s *Service) Step(ctx context.Context, enr model.Enrolment, r reconcile.Report) (reconcile.Result, error) {
	if settled, err := s.settled(ctx, enr, r); err != nil || settled {
		return reconcile.Result{}, err
	}
	for range saveTries {
		result, err := s.decide(ctx, enr.ID, r)
		if !errors.Is(err, model.ErrConflict) {
			return result, err
		}
	}
	return reconcile.Result{}, fmt.Errorf("decide for enrolment %s: %w %d times", enr.ID, model.ErrConflict, saveTries)
}

// settled is the cheap way out for an idle device for which nothing changed.
func (s *Service) settled(ctx context.Context, enr model.Enrolment, r reconcile.Report) (bool, error) {
	now := s.c.Clock()
	if r.Outcome != reconcile.OutcomeIdle || r.Documents != nil || enr.Dirty || !now.Before(enr.InventoryAt) {
		return false, nil
	}
	generation, err := s.c.Store.Generation(ctx)
	if err != nil {
		return false, fmt.Errorf("read the generation: %w", err)
	}
	if generation != enr.SettledGeneration {
		return false, nil
	}
	return true, s.touch(ctx, enr.ID, now)
}

func (s *Service) decide(ctx context.Context, enrolmentID string, r reconcile.Report) (reconcile.Result, error) {
	snap, err := s.c.Store.Snapshot(ctx, enrolmentID)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("read enrolment %s: %w", enrolmentID, err)
	}
	now := s.c.Clock()
	snap.Enrolment.LastSeen, snap.Device.LastSeen = now, now
	result := reconcile.Decide(reconcile.Input{
		Snapshot: snap, Report: r, Settings: s.settings(snap.Enrolment.Platform), Now: now, Plan: s.planner(snap.Enrolment.Platform),
		CanDecrypt: s.c.CanDecrypt(snap.Enrolment.Certificate), NewUUID: s.c.NewUUID,
		Together: snap.Enrolment.Platform == profiles.Android,
	})
	if result.Decision.Empty() {
		return result, s.touch(ctx, enrolmentID, now)
	}
	result.Decision.Seen = now
	if err := s.challenge(ctx, &result.Decision); err != nil {
		return reconcile.Result{}, err
	}
	if err := s.c.Store.Save(ctx, result.Decision); err != nil {
		return reconcile.Result{}, fmt.Errorf("save the decision for enrolment %s: %w", enrolmentID, err)
	}
	if len(result.Decision.Jobs) > 0 {
		s.c.Kick()
	}
	return result, nil
}

func (s *Service) touch(ctx context.Context, enrolmentID string, now time.Time) error {
	if err := s.c.Store.Touch(ctx, enrolmentID, now); err != nil {
		return fmt.Errorf("note that enrolment %s was seen: %w", enrolmentID, err)
	}
	return nil
}

func (s *Service) settings(p profiles.Platform) reconcile.Settings {
	out := s.c.Settings
	if every := s.c.InventoryEvery[p]; every > 0 {
		out.InventoryEvery = every
	}
	return out
}

func (s *Service) planner(p profiles.Platform) Planner {
	if plan := s.c.Planners[p]; plan != nil {
		return plan
	}
	return func(platforms.Input) []platforms.Document { return nil }
}
