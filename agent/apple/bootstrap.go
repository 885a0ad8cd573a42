package apple

import (
	"context"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// capabilityBootstrap in ServerCapabilities announces that the server keeps bootstrap tokens of Macs (apple.md section 1.3).
const capabilityBootstrap = "com.apple.mdm.bootstraptoken"

// SetBootstrapToken hands the server a Mac's bootstrap token, or takes it back if it is empty (apple.md section 2; Apple:
// SetBootstrapToken).
func (d *Device) SetBootstrapToken(ctx context.Context, token []byte) error {
	message := dict{"MessageType": "SetBootstrapToken"}
	if len(token) > 0 {
		message["BootstrapToken"] = token
	}
	_, err := d.aboutBootstrap(ctx, message)
	return err
}

// BootstrapToken asks the server for the token, as macOS does when it has to authorise something; nil: it has none.
func (d *Device) BootstrapToken(ctx context.Context) ([]byte, error) {
	got, err := d.aboutBootstrap(ctx, dict{"MessageType": "GetBootstrapToken"})
	if err != nil || len(got.body) == 0 {
		return nil, err
	}
	top, err := proplist.DecodeDict(got.body, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("reading the answer to GetBootstrapToken: %w", err)
	}
	return proplist.Bytes(top, "BootstrapToken"), nil
}

// aboutBootstrap sends one of the two messages, on the device channel.
func (d *Device) aboutBootstrap(ctx context.Context, message dict) (*answer, error) {
	if !d.isMac() {
		return nil, errors.New("only Macs have bootstrap tokens")
	}
	s, err := d.session()
	if err != nil {
		return nil, err
	}
	message["AwaitingConfiguration"] = false
	body, err := proplist.Encode(d.named(message))
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", message["MessageType"], err)
	}
	got, err := s.put(ctx, s.mdm.CheckInURL, typeCheckin, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", message["MessageType"], err)
	}
	return got, nil
}

// giveBootstrap hands over the token of Config, once in each enrolment. That it did not arrive stops nothing: it is sent
// again at the next connection, unless the server does not want it.
func (d *Device) giveBootstrap(ctx context.Context) error {
	if len(d.cfg.Bootstrap) == 0 || !d.isMac() || !d.Enrolled() || !d.state.MDM.Bootstrap {
		return nil
	}
	err := d.SetBootstrapToken(ctx, d.cfg.Bootstrap)
	var refused *refusedError
	switch {
	case errors.As(err, &refused) && refused.status/100 == 4:
		d.cfg.Log.Info("the server does not want the bootstrap token", "reason", err)
	case err != nil:
		d.cfg.Log.Info("the bootstrap token did not arrive", "reason", err)
		return nil
	}
	d.state.MDM.Bootstrap = false
	return d.save()
}
