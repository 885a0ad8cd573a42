package apple

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// mdm installs the com.apple.mdm payload: reads it, and checks in. The payload counts as installed when TokenUpdate
// was accepted; a refusal undoes the whole profile.
func (in *installation) mdm(ctx context.Context, p payload) error {
	mdm, err := readMDM(p)
	if err != nil {
		return err
	}
	mdm.Profile = in.profile.id()
	if err := in.mayReplace(mdm); err != nil {
		return err
	}
	item, there := in.identity(mdm.Identity)
	if !there {
		return fail(domainMDM, 12008, "IdentityCertificateUUID %q names no identity payload of the profile", mdm.Identity)
	}
	if err := in.newPushToken(); err != nil {
		return err
	}
	s := in.newSession(mdm, item)
	defer s.client.CloseIdleConnections()
	if err := s.authenticate(ctx); err != nil {
		return err
	}
	if err := s.tokenUpdate(ctx, in.next); err != nil {
		return err
	}
	mdm.Active = true
	in.next.MDM, in.next.Gone = &mdm, ""
	return nil
}

// readMDM reads the payload by Apple's com.apple.mdm.yaml.
func readMDM(p payload) (enrollment, error) {
	mdm := enrollment{
		SignMessage: proplist.Bool(p.dict, "SignMessage"), CheckOut: proplist.Bool(p.dict, "CheckOutWhenRemoved"),
		Users:        capabilities(p, capabilityUsers),
		Bootstrap:    capabilities(p, capabilityBootstrap),
		AccessRights: proplist.Int(p.dict, "AccessRights"), CheckInURL: proplist.String(p.dict, "CheckInURL"),
	}
	for key, into := range map[string]*string{"IdentityCertificateUUID": &mdm.Identity, "Topic": &mdm.Topic, "ServerURL": &mdm.ServerURL} {
		value, err := required[string](p, key)
		if err != nil {
			return mdm, err
		}
		*into = value
	}
	if mdm.CheckInURL == "" {
		mdm.CheckInURL = mdm.ServerURL
	}
	for _, text := range []string{mdm.ServerURL, mdm.CheckInURL} {
		if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
			return mdm, fail(domainPayload, 2004, "ServerURL and CheckInURL of the MDM payload must be https URLs")
		}
	}
	if !strings.HasPrefix(mdm.Topic, "com.apple.mgmt.") {
		return mdm, fail(domainMDM, 12022, "Topic %q of the MDM payload does not begin with com.apple.mgmt.", mdm.Topic)
	}
	if err := checkRights(mdm.AccessRights); err != nil {
		return mdm, err
	}
	return mdm, nil
}

// Access rights that need another one.
func checkRights(rights int) error {
	switch {
	case rights <= 0 || rights > 8191:
		return fail(domainMDM, 12000, "AccessRights of the MDM payload is %d; 1 to 8191 are possible", rights)
	case rights&2 != 0 && rights&1 == 0:
		return fail(domainMDM, 12000, "AccessRights of the MDM payload has 2 (install profiles) without 1 (inspect profiles)")
	case rights&128 != 0 && rights&64 == 0:
		return fail(domainMDM, 12000, "AccessRights of the MDM payload has 128 without 64")
	}
	return nil
}

// mayReplace checks what an update of the MDM profile may change: not topic nor addresses, nor whether the server speaks to
// users, and no rights may be added (apple.md section 1.3).
func (in *installation) mayReplace(mdm enrollment) error {
	old := in.device.state.MDM
	switch {
	case old == nil:
		return nil
	case old.Profile != mdm.Profile:
		return fail(domainMDM, 12009, "the device is managed already, by profile %s", old.Profile)
	case old.Topic != mdm.Topic || old.ServerURL != mdm.ServerURL || old.CheckInURL != mdm.CheckInURL:
		return fail(domainMDM, 12012, "an update of the MDM profile must not change Topic, ServerURL or CheckInURL")
	case old.Users != mdm.Users:
		return fail(domainMDM, 12012, "an update of the MDM profile must not add or remove the capability %s", capabilityUsers)
	case mdm.AccessRights&^old.AccessRights != 0:
		return fail(domainMDM, 12000, "an update of the MDM profile must not add access rights")
	}
	return nil
}

// newPushToken is what registering with the push service gives. A renewed enrolment keeps it.
func (in *installation) newPushToken() error {
	if in.device.state.MDM != nil && in.next.PushToken != "" {
		return nil
	}
	token, err := in.device.random(32)
	if err != nil {
		return err
	}
	magic, err := in.device.uuid()
	if err != nil {
		return err
	}
	in.next.PushToken, in.next.PushMagic = hex.EncodeToString(token), magic
	return nil
}

// uuid makes a random UUID, upper case as Apple writes them.
func (d *Device) uuid() (string, error) {
	raw, err := d.random(16)
	if err != nil {
		return "", err
	}
	return formatUUID(raw), nil
}

// formatUUID makes a UUID of 16 bytes.
func formatUUID(raw []byte) string {
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:]))
}

func (s *session) authenticate(ctx context.Context) error {
	info := s.device.state.Info
	message := dict{
		"MessageType": "Authenticate", "Topic": s.mdm.Topic, "UDID": info.UDID,
		"OSVersion": info.OSVersion, "BuildVersion": info.BuildVersion, "ProductName": info.Model, "SerialNumber": info.SerialNumber,
	}
	if info.Platform == "macos" {
		message["DeviceName"], message["Model"], message["ModelName"] = info.DeviceName, info.Model, info.ModelName
		message["Challenge"] = []byte(info.UDID) // undocumented, but Macs send one
	}
	return s.checkin(ctx, message)
}

func (s *session) tokenUpdate(ctx context.Context, next state) error {
	token, err := hex.DecodeString(next.PushToken)
	if err != nil {
		return fmt.Errorf("reading the push token: %w", err)
	}
	message := s.device.named(dict{
		"MessageType": "TokenUpdate", "Topic": s.mdm.Topic,
		"Token": token, "PushMagic": next.PushMagic, "AwaitingConfiguration": false,
	})
	if s.device.state.User != nil {
		message["NotOnConsole"] = false
		delete(message, "AwaitingConfiguration")
	}
	return s.checkin(ctx, message)
}

func (s *session) checkOut(ctx context.Context) error {
	return s.checkin(ctx, dict{"MessageType": "CheckOut", "Topic": s.mdm.Topic, "UDID": s.device.state.UDID})
}

// checkin sends a check-in message. A refusal is 12020, anything else that went wrong is a failed installation.
func (s *session) checkin(ctx context.Context, message dict) error {
	body, err := proplist.Encode(message)
	if err != nil {
		return fmt.Errorf("making %s: %w", message["MessageType"], err)
	}
	if _, err := s.put(ctx, s.mdm.CheckInURL, typeCheckin, body); err != nil {
		return fail(domainMDM, 12020, "%s was not accepted: %v", message["MessageType"], err)
	}
	return nil
}

// Unenroll is the user removing the MDM profile: what it brought goes away, and the server is told once if the
// profile asks for it.
func (d *Device) Unenroll(ctx context.Context) error {
	if d.state.MDM == nil {
		return d.notEnrolled()
	}
	return d.leave(ctx, "the MDM profile was removed on the device")
}

func (d *Device) leave(ctx context.Context, why string) error {
	if d.state.MDM.CheckOut {
		if s, err := d.session(); err == nil {
			if err := s.checkOut(ctx); err != nil {
				d.cfg.Log.Info("CheckOut did not arrive", "reason", err)
			}
		}
	}
	return d.forgetManagement(why)
}

// errorCode reads the code of Apple's error body, JSON or property list.
func errorCode(body []byte) string {
	var parsed struct {
		Code string `json:"code"`
	}
	if json.Unmarshal(body, &parsed) == nil && parsed.Code != "" {
		return parsed.Code
	}
	d, err := proplist.DecodeDict(body, maxAnswer)
	if err != nil {
		return ""
	}
	return proplist.String(d, "code")
}

// unenrols reports that the server wants the device gone.
func unenrols(err error) bool {
	var e *refusedError
	return errors.As(err, &e) && e.unenroll
}
