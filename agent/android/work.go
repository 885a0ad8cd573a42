package android

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// outcome is what became of an item.
type outcome struct {
	state    companion.ItemState
	observed *companion.Observed
	fault    *companion.Error
	next     time.Time
}

// done ends an item well.
func done(state companion.ItemState) outcome { return outcome{state: state} }

// fault is a code of android.md section 8.7 on the way to an outcome; conclude decides what it means for the item.
func fault(code companion.ErrorCode, detail string, thrown error) outcome {
	e := &companion.Error{Code: code, Detail: detail}
	var x *framework.Exception
	if errors.As(thrown, &x) {
		e.Exception = x.Class
	}
	return outcome{fault: e}
}

func isException(err error, class string) bool {
	var x *framework.Exception
	return errors.As(err, &x) && x.Class == class
}

// thrown says what an exception of a call means; missing is the code for a right that the app lacks.
func thrown(err error, missing companion.ErrorCode) outcome {
	switch {
	case isException(err, framework.Security):
		return fault(missing, "", err)
	case isException(err, framework.IllegalState):
		return fault(companion.ErrUserLocked, "", err)
	case isException(err, framework.NoSuchMethod):
		return fault(companion.ErrUnsupportedAPI, "", err)
	}
	return fault(companion.ErrKeychainRefused, "", err)
}

// work does the items in the order of their dependencies, until nothing moves any more.
func (r *round) work(ctx context.Context) error {
	items := r.ordered()
	for range len(items) + 1 {
		moved := false
		for _, item := range items {
			well, err := r.step(ctx, item)
			if err != nil {
				return err
			}
			moved = moved || well
		}
		if !moved {
			return nil
		}
	}
	return nil
}

// ordered puts removals first, what came last going first; then CAs, identities, grants and settings. Within a kind the
// order is the server's. A device that shall leave installs nothing any more.
func (r *round) ordered() []companion.Item {
	desired := r.state.App.Desired
	items := slices.Clone(desired.Items)
	if desired.Policy.Unenroll {
		items = slices.DeleteFunc(items, func(i companion.Item) bool { return i.Op == companion.OpInstall })
	}
	slices.SortStableFunc(items, func(a, b companion.Item) int { return cmp.Compare(rank(a), rank(b)) })
	return items
}

func rank(i companion.Item) int {
	at := slices.Index([]companion.Kind{companion.KindCACert, companion.KindIdentity, companion.KindGrant, companion.KindMailConfig}, i.Kind)
	if i.Op == companion.OpRemove {
		return -1 - at
	}
	return at
}

// offered reports whether the server wants the item installed.
func (r *round) offered(id string) bool {
	return slices.ContainsFunc(r.state.App.Desired.Items, func(i companion.Item) bool { return i.ID == id && i.Op == companion.OpInstall })
}

// missing is an item that must be done before this one and is not; empty if there is none.
func (r *round) missing(item companion.Item) string {
	if item.Op == companion.OpRemove {
		return ""
	}
	for _, id := range item.DependsOn {
		if rec := r.state.App.Records[id]; rec == nil || !rec.done() {
			return id
		}
	}
	return ""
}

// record finds what is known of an item, and starts again at another revision or op, or where the server asks once more for
// what failed, or for the removal of what is still there.
func (r *round) record(item companion.Item) *record {
	rec, there := r.state.App.Records[item.ID]
	if !there {
		rec = &record{}
		r.state.App.Records[item.ID] = rec
	}
	if rec.Item.Revision != item.Revision || rec.Item.Op != item.Op || rec.Item.Attempt != item.Attempt && rec.ended() {
		rec.again()
	}
	rec.Item = item
	return rec
}

// step does one item as far as it goes at the moment. It reports whether the item ended well by it.
func (r *round) step(ctx context.Context, item companion.Item) (bool, error) {
	rec := r.record(item)
	if rec.State.Terminal() || r.now().Before(rec.Next) {
		return false, nil
	}
	if r.missing(item) != "" {
		return false, r.conclude(ctx, rec, outcome{state: companion.StateWaitingDependency})
	}
	o, err := r.do(ctx, rec)
	if err != nil {
		return false, err
	}
	return o.state.Well(), r.conclude(ctx, rec, o)
}

func (r *round) do(ctx context.Context, rec *record) (outcome, error) {
	remove := rec.Item.Op == companion.OpRemove
	switch rec.Item.Kind {
	case companion.KindCACert:
		if remove {
			return r.removeCA(rec.Item.CACert), nil
		}
		return r.installCA(rec.Item.CACert), nil
	case companion.KindIdentity:
		if remove {
			return r.removeIdentity(rec), nil
		}
		return r.installIdentity(ctx, rec)
	case companion.KindGrant:
		if remove {
			return r.removeGrant(rec.Item.Grant), nil
		}
		return r.installGrant(rec), nil
	}
	if remove {
		return r.removeConfig(rec.Item.MailConfig), nil
	}
	return r.installConfig(rec.Item.MailConfig), nil
}

// conclude notes an outcome, on disk before the server is told. An item that waits for the same thing as before is no news.
func (r *round) conclude(ctx context.Context, rec *record, o outcome) error {
	if o.fault != nil {
		r.weigh(rec, &o)
	}
	same := rec.State == o.state && codeIn(rec.Error) == codeIn(o.fault)
	if same && o.next.IsZero() {
		return nil
	}
	rec.State, rec.Error, rec.Observed, rec.Next, rec.At = o.state, o.fault, o.observed, o.next, r.now().UTC()
	if o.state == companion.StateFetching {
		return r.save()
	}
	if o.state.Terminal() {
		r.report.Commands++
		r.state.App.Untold = true
	}
	if o.state.Well() {
		rec.Brought = rec.Item.Op == companion.OpInstall
		r.report.well = append(r.report.well, rec.Item.ID)
	}
	r.number(rec)
	r.acted()
	if err := r.save(); err != nil {
		return err
	}
	if err := r.crash(ChaosCrashReport); err != nil {
		return err
	}
	return r.tellResult(ctx, rec)
}

func codeIn(e *companion.Error) companion.ErrorCode {
	if e == nil {
		return ""
	}
	return e.Code
}

// weigh turns a fault into the state that it puts the item in (android.md section 8.7).
func (r *round) weigh(rec *record, o *outcome) {
	retry := o.fault.Code.Retry()
	if retry != companion.RetryWait && retry != companion.RetryUser {
		rec.Attempt++ // looking again whether something has changed is no attempt
	}
	switch retry {
	case companion.RetryNever, companion.RetryEncode, companion.RetryRefetch:
		o.state = companion.StateFailed
	case companion.RetryThrice:
		if o.state = companion.StateRetryWait; rec.Attempt >= 3 {
			o.state = companion.StateFailed
		} else {
			o.next = r.backoff(rec.Attempt)
		}
	case companion.RetryWait, companion.RetryUser:
		o.state = waitingState(o.fault.Code)
	default:
		o.state, o.next = companion.StateRetryWait, r.backoff(rec.Attempt)
	}
	o.fault.Retryable = o.state != companion.StateFailed
	if o.state == companion.StateFailed {
		r.report.trouble[rec.Item.ID] = troubleOf(&record{Item: rec.Item, State: o.state, Error: o.fault})
	}
}

// waitingState is who must do something. A right of the app is an administrator's matter; the app looks again by itself.
func waitingState(code companion.ErrorCode) companion.ItemState {
	switch code {
	case companion.ErrAppNotInstalled:
		return companion.StateWaitingApp
	case companion.ErrUserLocked, companion.ErrScreenLockRequired, companion.ErrClockSkew:
		return companion.StateWaitingUser
	}
	return companion.StateRetryWait
}

// backoff is when to try again: after 30 s, 2 min, 10 min, 1 h, then every 6 h, each a little later by chance.
func (r *round) backoff(attempt int) time.Time {
	steps := []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour}
	wait := steps[min(max(attempt, 1), len(steps))-1]
	var raw [1]byte
	if _, err := r.cfg.Rand.Read(raw[:]); err == nil {
		wait += wait * time.Duration(raw[0]) / 2550 // up to a tenth
	}
	return r.now().Add(wait).UTC()
}
