package android

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// number gives a result its place among all that this installation ever reports. With ChaosReorder there is room before
// it for what is told too late.
func (r *round) number(rec *record) {
	app := &r.state.App
	app.Seq++
	if r.chaotic(ChaosReorder) {
		app.Seq++
	}
	rec.Seq, rec.Unsent = app.Seq, true
}

// tellResults tells the results that the server does not know yet, oldest first.
func (r *round) tellResults(ctx context.Context) error {
	records := slices.Collect(maps.Values(r.state.App.Records))
	slices.SortFunc(records, func(a, b *record) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, rec := range records {
		if !rec.Unsent {
			continue
		}
		if err := r.tellResult(ctx, rec); err != nil {
			return err
		}
	}
	return nil
}

// tellResult tells one. The server may be out of reach as long as it likes: a result is told until it is taken.
func (r *round) tellResult(ctx context.Context, rec *record) error {
	report := companion.StatusReport{Revision: rec.Item.Revision, Seq: rec.Seq, State: rec.State, Attempt: rec.Attempt,
		At: rec.At, Observed: rec.Observed, Error: rec.Error}
	a, err := r.call(ctx, http.MethodPut, companion.PathStatusOf(rec.Item.ID), report)
	switch code := codeOf(err); {
	case err == nil:
		if _, err := companion.DecodeStatusResponse(a.body); err != nil {
			r.note(fmt.Errorf("reporting %s: %w", rec.Item.ID, err))
			return nil
		}
	case code == companion.CodeItemGone || code == companion.CodeRevisionStale:
		if r.state.App.Desired != nil {
			r.state.App.Desired.Generation = "" // the server has moved on: read all of its state
		}
	case over(err) || ctx.Err() != nil:
		return fmt.Errorf("reporting %s: %w", rec.Item.ID, err)
	default:
		r.note(fmt.Errorf("reporting %s: %w", rec.Item.ID, err))
		return nil
	}
	rec.Unsent = false
	r.report.Changes++
	if err := r.save(); err != nil {
		return err
	}
	r.tellLate(ctx, rec, report)
	return nil
}

// note keeps the first fault of the round.
func (r *round) note(err error) {
	if r.fault == nil {
		r.fault = err
	}
}

// tellLate tells, after how an item ended, that it was begun; a server passes over that (android.md section 8.4).
func (r *round) tellLate(ctx context.Context, rec *record, report companion.StatusReport) {
	if !r.chaotic(ChaosReorder) || !rec.State.Well() || report.Seq < 2 {
		return
	}
	report.Seq, report.Observed, report.State = report.Seq-1, nil, companion.StateInstalling
	if rec.Item.Op == companion.OpRemove {
		report.State = companion.StateRemoving
	}
	if _, err := r.call(ctx, http.MethodPut, companion.PathStatusOf(rec.Item.ID), report); err != nil {
		r.note(fmt.Errorf("reporting %s late: %w", rec.Item.ID, err))
	}
}
