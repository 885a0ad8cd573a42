package windows

import (
	"context"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// manualURI is the policy that lets the user disconnect the PC.
const manualURI = "./Device/Vendor/MSFT/Policy/Config/Experience/AllowManualMDMUnenrollment"

// Unenroll is the user who disconnects the PC in Settings: the server is told, once and without insisting, and all that
// management brought goes away (windows.md section 2.8). There is no button for it if the policy forbids it.
func (d *Device) Unenroll(ctx context.Context) error {
	if d.state.MDM == nil {
		return d.notEnrolled()
	}
	if d.node(manualURI) == "0" {
		return errors.New("the server forbids it to disconnect the device, and Settings has no button for it: the policy Experience/AllowManualMDMUnenrollment is 0")
	}
	return d.leave(ctx, "the user disconnected the device")
}

// What a command asked for that ends the management. It is kept before the command is answered, for what was answered, or
// needs no answer, no server asks for again: a PC that dies in between goes on with it.
const (
	endWipe     = "wipe"
	endUnenroll = "unenroll"
)

// end finishes what a command began; left reports that the management is over.
func (d *Device) end(ctx context.Context) (left bool, err error) {
	switch d.state.Ending {
	case endWipe:
		err = d.wipe()
	case endUnenroll:
		err = d.leave(ctx, "the server ended the management")
	default:
		return false, nil
	}
	return err == nil, err
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
	d.state.MDM, d.state.Gone, d.state.Ending, d.state.Asking, d.state.Asked = nil, why, "", nil, nil
	d.configure()
	if err := d.save(); err != nil {
		return fmt.Errorf("leaving the management: %w", err)
	}
	return nil
}

// wipe gives the PC back as it came from the shop: the hardware stays, the owner's trust does not.
func (d *Device) wipe() error {
	if err := d.folder.Wipe(); err != nil {
		return err
	}
	d.roots = nil
	return d.forget("the server wiped the device") // last: a PC that dies before it begins again
}
