package android

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// Unenroll is the user who takes the device out of the management in the companion app: what the app brought goes first,
// since keys outlive the app, and the server is told, once and without insisting.
func (d *Device) Unenroll(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if !d.Enrolled() {
		return d.notEnrolled()
	}
	if err := d.clear(); err != nil {
		return err
	}
	if err := d.farewell(ctx, companion.UnenrollUser); err != nil {
		d.cfg.Log.Info("the server could not be told that the device leaves", "reason", err)
	}
	return d.forget("the user took the device out of the management")
}

// mayLeave ends the enrolment if the server wants it, once all that was to be removed is.
func (r *round) mayLeave(ctx context.Context) error {
	if !r.state.App.Desired.Policy.Unenroll || len(r.report.trouble) > 0 {
		return nil
	}
	if err := r.clear(); err != nil {
		return err
	}
	if err := r.tellInventory(ctx); err != nil {
		return err
	}
	if err := r.farewell(ctx, companion.UnenrollPolicy); err != nil && !over(err) {
		return err
	}
	r.report.Left = true
	return r.forget("the server ended the management")
}

func (d *Device) farewell(ctx context.Context, reason string) error {
	if _, err := d.call(ctx, http.MethodPost, companion.PathUnenroll, companion.Unenroll{Reason: reason}); err != nil {
		return fmt.Errorf("saying goodbye: %w", err)
	}
	return nil
}

// expelled is the end that the server made by not knowing the device any more: what came from it goes. What cannot go now,
// before the first unlocking or without the right, is the error, and goes at a later poll.
func (d *Device) expelled(why error) error {
	cleared := d.clear()
	var left []*record
	if cleared != nil {
		left = d.brought()
	}
	if err := d.forget("the server does not know the device any more: "+why.Error(), left...); err != nil {
		return err
	}
	return behind(cleared)
}

// sweep removes what a former enrolment could not remove when it ended.
func (d *Device) sweep() error {
	if d.Enrolled() || len(d.state.App.Records) == 0 {
		return nil
	}
	cleared := d.clear()
	if err := d.forget(d.state.Gone, d.brought()...); err != nil {
		return err
	}
	return behind(cleared)
}

func behind(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("left behind until it can be removed: %w", err)
}

// unknown keeps in mind that the server does not know the credential, until it does again. The device can be enrolled
// anew; until then it keeps what it has.
func (d *Device) unknown(why error) error {
	app := &d.state.App
	was := app.Unknown
	app.Unknown = ""
	if stranger(why) {
		app.Unknown = "the server did not know the device's credential"
	}
	if app.Unknown == was {
		return nil
	}
	return d.save()
}

// clear removes all that the app brought, in the reverse order of installation, unless the server wanted it to stay.
func (d *Device) clear() error {
	app := &d.state.App
	if app.Desired != nil && !app.Desired.Policy.RemoveOnUnenroll {
		return nil
	}
	r := &round{Device: d, report: Report{trouble: map[string]trouble{}}}
	var errs []error
	for _, rec := range r.brought() {
		op := rec.Item.Op
		rec.Item.Op = companion.OpRemove
		o, err := r.do(context.Background(), rec)
		switch {
		case err != nil:
			rec.Item.Op = op
			errs = append(errs, err)
		case o.fault != nil:
			rec.Item.Op = op
			errs = append(errs, fmt.Errorf("removing %s: %s (%s)", rec.Item.ID, o.fault.Code.Meaning(), o.fault.Code))
		default:
			rec.State, rec.Brought, app.Untold = o.state, false, true
		}
	}
	d.acted()
	return errors.Join(append(errs, d.save())...)
}

// brought are the items that are on the device, or half on it, what was installed last first.
func (d *Device) brought() []*record {
	records := slices.DeleteFunc(slices.Collect(maps.Values(d.state.App.Records)), func(r *record) bool { return !r.present() })
	slices.SortFunc(records, func(a, b *record) int {
		return cmp.Or(cmp.Compare(rank(b.Item), rank(a.Item)), cmp.Compare(a.Item.ID, b.Item.ID))
	})
	return records
}

// forget drops the enrolment. The installation and the count of its reports stay, and what is left to remove; the wrap key
// does not.
func (d *Device) forget(why string, left ...*record) error {
	d.dropClient()
	old := d.state.App
	d.state.App = app{InstallID: old.InstallID, Seq: old.Seq, Seen: d.sees(), Records: map[string]*record{}}
	for _, rec := range left {
		d.state.App.Records[rec.Item.ID] = rec
	}
	d.state.Gone = why
	if err := d.save(); err != nil {
		return fmt.Errorf("leaving the management: %w", err)
	}
	return nil
}
