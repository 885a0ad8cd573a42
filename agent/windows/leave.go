package windows

import (
	"context"
	"fmt"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Unenroll is the user who disconnects the PC in Settings: the server is told, once and without insisting, and all that
// management brought goes away (windows.md section 2.8).
func (d *Device) Unenroll(ctx context.Context) error {
	if d.state.MDM == nil {
		return d.notEnrolled()
	}
	return d.leave(ctx, "the user disconnected the device")
}

// leave opens a session that says only that the management has ended.
func (d *Device) leave(ctx context.Context, why string) error {
	if err := d.farewell(ctx); err != nil {
		d.cfg.Log.Info("the server could not be told that the device leaves", "reason", err)
	}
	return d.forget(why)
}

func (d *Device) farewell(ctx context.Context) error {
	s, err := d.newSession()
	if err != nil {
		return err
	}
	_, err = s.exchange(ctx, s.opening(syncml.Command{
		Verb: syncml.Alert, Data: syncml.AlertGeneric,
		Items: []syncml.Item{{Type: syncml.TypeUnenroll, Format: "int", Data: "1"}},
	}))
	return err
}

// forget drops the management and all that it brought.
func (d *Device) forget(why string) error {
	d.dropClient()
	d.state.PC.Unenrolled()
	d.state.MDM, d.state.Gone, d.state.Asking, d.state.Asked = nil, why, nil, nil
	d.configure()
	if err := d.save(); err != nil {
		return fmt.Errorf("leaving the management: %w", err)
	}
	return nil
}

// wipe gives the PC back as it came from the shop: the hardware stays, the owner's trust does not.
func (d *Device) wipe() error {
	if err := d.forget("the server wiped the device"); err != nil {
		return err
	}
	d.roots = nil
	return d.folder.Wipe()
}
