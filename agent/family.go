package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/mail"
	"github.com/waxseal/waxseal/agent/windows"
)

// simulated is a device of any family, as the commands need it.
type simulated interface {
	mail.Device
	Info() device.Info
	Enrolled() bool
	Chaos(words ...string) error
	Run(ctx context.Context, interval time.Duration) error
	Unenroll(ctx context.Context) error
	Close() error

	sync(ctx context.Context, wait time.Duration) (report, error)
	// facts are what info prints, as JSON.
	facts() any
	// desk is the device as its user's mail program sees it.
	desk() mail.Device
}

// report is what a sync did.
type report struct {
	commands int
	left     bool
}

// phone is a device of Apple's.
type phone struct{ *apple.Device }

func (p phone) sync(ctx context.Context, wait time.Duration) (report, error) {
	r, err := p.Sync(ctx, wait)
	return report{r.Commands, r.Left}, err
}

func (p phone) facts() any {
	facts := struct {
		device.Info
		Enrolled    bool               `json:"enrolled"`
		Accounts    []apple.Account    `json:"accounts"`
		Logon       string             `json:"logon,omitempty"` // of a Mac, as what follows
		Preferences []apple.Preference `json:"preferences,omitempty"`
	}{Info: p.Info(), Enrolled: p.Enrolled(), Accounts: p.Accounts(), Preferences: p.Preferences()}
	if facts.Platform == device.PlatformMac {
		facts.Logon = p.Folder().Logon()
	}
	return facts
}

func (p phone) desk() mail.Device {
	if p.Info().Platform == device.PlatformMac {
		return p.User()
	}
	return p.Device
}

// pc is one with Windows.
type pc struct{ *windows.Device }

func (p pc) sync(ctx context.Context, wait time.Duration) (report, error) {
	r, err := p.Sync(ctx, wait)
	return report{r.Commands, r.Left}, err
}

func (p pc) facts() any {
	return struct {
		device.Info
		Enrolled   bool                `json:"enrolled"`
		Logon      string              `json:"logon"`
		Management *windows.Management `json:"management,omitempty"`
	}{p.Info(), p.Enrolled(), p.Folder().Logon(), p.Management()}
}

func (p pc) desk() mail.Device { return p.User() }

// robot is one with Android.
type robot struct {
	*android.Device
	app string // the mail app that mail commands play
}

func (r robot) sync(ctx context.Context, wait time.Duration) (report, error) {
	done, err := r.Sync(ctx, wait)
	return report{done.Commands, done.Left}, err
}

func (r robot) facts() any {
	return struct {
		device.Info
		Enrolled bool `json:"enrolled"`
		android.Facts
	}{r.Info(), r.Enrolled(), r.Facts()}
}

func (r robot) desk() mail.Device { return r.App(r.app) }

// isPC reports what the state folder holds.
func (c *cli) isPC() bool { return device.Platform(c.state) == device.PlatformWindows }

// isMac reports what the state folder holds.
func (c *cli) isMac() bool { return device.Platform(c.state) == device.PlatformMac }

// isAndroid reports what the state folder holds.
func (c *cli) isAndroid() bool { return device.Platform(c.state) == device.PlatformAndroid }

// errNoDevice says that --state names no device.
var errNoDevice = errors.New("there is no device.json in it")

// made checks that the state folder holds a device. Opening makes one where there is none, which is for enroll alone: the
// iPhone of a mistyped --state would stand in the way of the device that is meant to be there.
func (c *cli) made() error {
	if c.state == "" {
		return errors.New("no state folder given: use --state DIR")
	}
	if _, err := device.ReadFolder(c.state); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%q is no state folder of a simulated device: %w", c.state, errNoDevice)
	} else if err != nil {
		return err
	}
	return nil
}

// with opens the device, which must be there, for the time of a function.
func (c *cli) with(do func(simulated) error) error {
	if err := c.made(); err != nil {
		return err
	}
	if c.isPC() {
		return c.withPC(windows.Config{}, func(d *windows.Device) error { return do(pc{d}) })
	}
	if c.isAndroid() {
		return c.withAndroid(android.Config{}, func(d *android.Device) error { return do(robot{d, c.app}) })
	}
	return c.withPhone(apple.Config{}, func(d *apple.Device) error { return do(phone{d}) })
}

// onPhone is withPhone for a folder that must hold one already.
func (c *cli) onPhone(cfg apple.Config, do func(*apple.Device) error) error {
	if err := c.made(); err != nil {
		return err
	}
	return c.withPhone(cfg, do)
}

// withPhone makes a device where there is none, as withPC and withAndroid do.
func (c *cli) withPhone(cfg apple.Config, do func(*apple.Device) error) error {
	cfg.State, cfg.Log = c.state, c.logger()
	d, err := apple.Open(cfg)
	if err != nil {
		return err
	}
	return closing(d, do(d))
}

func (c *cli) withPC(cfg windows.Config, do func(*windows.Device) error) error {
	cfg.State, cfg.Log = c.state, c.logger()
	d, err := windows.Open(cfg)
	if err != nil {
		return err
	}
	return closing(d, do(d))
}

func (c *cli) withAndroid(cfg android.Config, do func(*android.Device) error) error {
	cfg.State, cfg.Log = c.state, c.logger()
	d, err := android.Open(cfg)
	if err != nil {
		return err
	}
	return closing(d, do(d))
}

func closing(d interface{ Close() error }, err error) error {
	if closed := d.Close(); err == nil {
		return closed
	}
	return err
}

// view opens the device for looking.
func (c *cli) view() (simulated, error) {
	if err := c.made(); err != nil {
		return nil, err
	}
	if c.isPC() {
		d, err := windows.View(windows.Config{State: c.state})
		return pc{d}, err
	}
	if c.isAndroid() {
		d, err := android.View(android.Config{State: c.state})
		return robot{d, c.app}, err
	}
	d, err := apple.View(apple.Config{State: c.state})
	return phone{d}, err
}

// viewPhone is view for a command that only Apple's devices have.
func (c *cli) viewPhone(command, instead string) (*apple.Device, error) {
	d, err := c.view()
	if err != nil {
		return nil, err
	}
	if p, ok := d.(phone); ok {
		return p.Device, nil
	}
	return nil, c.onlyPhone(command, instead)
}

func (c *cli) onlyPhone(command, instead string) error {
	if c.isAndroid() {
		return fmt.Errorf("%s is for iPhones, iPads and Macs, and this device runs Android; see info", command)
	}
	return fmt.Errorf("%s is for iPhones, iPads and Macs, and this device is a PC; see %s", command, instead)
}

// viewPC is view for a command that only PCs have.
func (c *cli) viewPC(command string) (*windows.Device, error) {
	d, err := c.view()
	if err != nil {
		return nil, err
	}
	if p, ok := d.(pc); ok {
		return p.Device, nil
	}
	return nil, onlyPC(command)
}

func onlyPC(command string) error {
	return fmt.Errorf("%s is for PCs, and this device is none", command)
}

// viewAndroid is view for a command that only Android devices have.
func (c *cli) viewAndroid(command string) (*android.Device, error) {
	d, err := c.view()
	if err != nil {
		return nil, err
	}
	if r, ok := d.(robot); ok {
		return r.Device, nil
	}
	return nil, onlyAndroid(command)
}

func onlyAndroid(command string) error {
	return fmt.Errorf("%s is for Android devices, and this device is none", command)
}
