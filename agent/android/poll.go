package android

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// longPoll is how long the app asks the server to hold its answer; the server answers earlier when there is something.
const longPoll = 55 * time.Second

// Report is what one round, or several, did.
type Report struct {
	Commands int      // items that were installed or removed, those that failed included
	Changes  int      // beside them, what the server had not been told
	Failures []string // items that failed, and why
	Waiting  []string // items that wait for the user, an app, a right, or the next try, and why
	Pending  int      // items that the server announced and that still come by themselves
	Left     bool     // the device is not enrolled any more

	trouble map[string]trouble // by item id
	well    []string           // ids of items that ended well
}

// trouble is why an item is not done.
type trouble struct {
	text    string
	waiting bool
}

// round is one round under way.
type round struct {
	*Device
	report Report
	// fault is the first that kept something from the server; the round goes on after it.
	fault error
}

// errReread says that the server's state has moved on.
var errReread = errors.New("the state must be read again")

// Poll is one round: it tells what happened, asks for the state, brings the device in line and tells of that.
func (d *Device) Poll(ctx context.Context) (Report, error) { return d.poll(ctx, 0) }

func (d *Device) poll(ctx context.Context, wait time.Duration) (Report, error) {
	if err := d.prepare(); err != nil {
		return Report{}, err
	}
	if !d.Enrolled() {
		return Report{}, errors.Join(d.notEnrolled(), d.sweep())
	}
	r := &round{Device: d, report: Report{trouble: map[string]trouble{}}}
	err := r.run(ctx, wait)
	if over(err) || over(r.fault) {
		r.report.Left = true
		return r.report, d.expelled(errors.Join(err, r.fault))
	}
	return r.report, errors.Join(err, r.fault, d.unknown(errors.Join(err, r.fault)))
}

// run is the round. A faulty exchange does not keep the app from what it can do without the server.
func (r *round) run(ctx context.Context, wait time.Duration) error {
	if err := r.notice(); err != nil {
		return err
	}
	if r.renewalDue() {
		if err := r.renew(ctx); err != nil {
			r.note(err)
		}
	}
	if err := r.tell(ctx); err != nil {
		return err
	}
	if err := r.fetch(ctx, wait); err != nil {
		return err
	}
	err := r.work(ctx)
	if errors.Is(err, errReread) {
		return r.reread()
	}
	if err != nil {
		return err
	}
	if err := r.tellInventory(ctx); err != nil {
		return err
	}
	r.summarise()
	return r.mayLeave(ctx)
}

// tell sends what the server has not been told: results, events, and the inventory if the device changed by itself.
func (r *round) tell(ctx context.Context) error {
	if err := r.tellResults(ctx); err != nil {
		return err
	}
	if len(r.state.App.Events) == 0 {
		return nil
	}
	if err := r.tellEvents(ctx); err != nil {
		return err
	}
	return r.tellInventory(ctx)
}

// fetch asks for the state. What the server wants is kept with its generation in one step, so that a crash loses neither.
func (r *round) fetch(ctx context.Context, wait time.Duration) error {
	app := &r.state.App
	query := url.Values{"wait": {strconv.Itoa(int(wait / time.Second))}, companion.ParamWrapKey: {app.Enrolment.WrapKeyID}}
	if app.Desired != nil && app.Desired.Generation != "" {
		query.Set("generation", app.Desired.Generation)
	}
	a, err := r.call(ctx, http.MethodGet, companion.PathState+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("asking for the state: %w", err)
	}
	if a.status == http.StatusNotModified {
		return nil
	}
	s, err := companion.DecodeState(a.body)
	if err != nil {
		return fmt.Errorf("asking for the state: %w", err)
	}
	app.Untold = app.Untold || s.Policy.ReportInventory
	app.Desired = &s
	r.settle()
	return r.save()
}

// reread forgets the generation, so that the server answers with the whole state.
func (r *round) reread() error {
	r.state.App.Desired.Generation = ""
	r.report.Changes++
	r.summarise()
	return r.save()
}

// settle drops the records of items that are not asked for any more and are not on the device, not even half or in a former revision. What is
// on the device stays there until the server wants it removed, and in the inventory.
func (r *round) settle() {
	wanted := map[string]bool{}
	for _, item := range r.state.App.Desired.Items {
		wanted[item.ID] = true
	}
	for id, rec := range r.state.App.Records {
		if !wanted[id] && !rec.present() && !rec.Unsent {
			delete(r.state.App.Records, id)
		}
	}
}

// summarise says of each wanted item that is not done why it is not.
func (r *round) summarise() {
	app := &r.state.App
	r.report.Pending = app.Desired.Pending
	for _, item := range app.Desired.Items {
		rec := app.Records[item.ID]
		switch {
		case rec == nil || rec.State.Well():
		case rec.State == companion.StateFetching:
			r.report.Pending++
		case rec.State == companion.StateWaitingDependency:
			r.strayDependency(item, rec)
		default:
			r.report.trouble[item.ID] = troubleOf(rec)
		}
	}
	r.report.words()
}

// strayDependency tells of an item that waits for one that nobody offers; of any other, the one that it waits for tells.
func (r *round) strayDependency(item companion.Item, rec *record) {
	id := r.missing(item)
	if id == "" || r.offered(id) || r.state.App.Desired.Pending > 0 {
		return
	}
	r.report.trouble[item.ID] = trouble{text: fmt.Sprintf("%s: waits for %s, which the server does not offer", rec.Item.ID, id), waiting: true}
}

func troubleOf(rec *record) trouble {
	text := rec.Item.ID + ": " + string(rec.State)
	if e := rec.Error; e != nil {
		text = fmt.Sprintf("%s: %s (%s)", rec.Item.ID, e.Code.Meaning(), e.Code)
		if e.Detail != "" {
			text += ": " + e.Detail
		}
	}
	if rec.State == companion.StateRetryWait && !rec.Next.IsZero() {
		text += "; next try at " + rec.Next.UTC().Format(time.RFC3339)
	}
	return trouble{text: text, waiting: rec.State != companion.StateFailed}
}
