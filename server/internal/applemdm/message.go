package applemdm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// message is one whose sender is proven: the bytes, and the enrolment that its certificate is bound to.
type message struct {
	body []byte
	enr  model.Enrolment
}

// authenticate reads a message and finds its sender. A refusal is audited and changes nothing.
func (e *Endpoint) authenticate(r *http.Request) (message, error) {
	body, err := web.ReadBody(r)
	if err != nil {
		return message{}, err
	}
	ctx := r.Context()
	enr, err := e.cfg.Sender.Find(r, body)
	if err == nil && enr.Platform != profiles.IOS && enr.Platform != profiles.MacOS {
		err = &identity.Refusal{Reason: "the certificate is another platform's; Apple devices speak here"}
	}
	if err != nil {
		return message{}, e.refused(ctx, "", err)
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	return message{body: body, enr: enr}, nil
}

// refused turns an error of authentication into an answer: 400 for what broke a rule, 503 for what may
// work the next time, 500 for our own faults; never 401.
func (e *Endpoint) refused(ctx context.Context, enrolmentID string, err error) error {
	var refusal *identity.Refusal
	var answer *web.Error
	switch {
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &refusal):
		e.cfg.Refusals.Note(ctx, actor(enrolmentID), "mdm.message", enrolmentID, refusal.Reason, nil)
		return web.Errorf(http.StatusBadRequest, "%s", refusal.Reason)
	case errors.Is(err, model.ErrConflict):
		return web.Hide(http.StatusServiceUnavailable, "the same enrolment is busy; send the message again", err)
	}
	return web.Hide(http.StatusInternalServerError, "the server failed; send the message again", err)
}

func actor(enrolmentID string) string {
	if enrolmentID == "" {
		return "unknown device"
	}
	return "enrolment " + enrolmentID
}

// ended answers a device whose enrolment is over. Only one that was retired or that checked out is told to drop its
// management; one that enrolled anew in between must not be.
func (e *Endpoint) ended(w http.ResponseWriter, r *http.Request, enr model.Enrolment) error {
	const reason = "the enrolment has ended; the device can be enrolled again by a new link"
	e.cfg.Refusals.Note(r.Context(), actor(enr.ID), "mdm.message", enr.ID, reason, nil)
	device, err := e.cfg.Devices.DeviceByID(r.Context(), enr.DeviceID)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return e.refused(r.Context(), enr.ID, err)
	}
	meant := device.Removal == model.RemovalVerified || device.Removal == model.RemovalReported
	if err != nil || device.State != model.DeviceLeft || !meant {
		return web.Errorf(http.StatusBadRequest, "%s", reason)
	}
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write([]byte(unrecognized)) // the connection is gone if this fails
	return nil
}

// unrecognized makes a device of iOS 17 or macOS 14 and later drop its management cleanly (apple.md section 2).
const unrecognized = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>code</key><string>com.apple.unrecognized.device</string>
<key>description</key><string>The enrolment of this device has ended.</string>
<key>message</key><string>This device is not managed any more. Ask for a new enrolment link to enrol it again.</string>
</dict></plist>
`

// unparsed keeps a correctly signed message that we do not understand and answers 200: the device would send it again
// for ever otherwise and never get to the next one (apple.md section 2).
func (e *Endpoint) unparsed(ctx context.Context, s message, kind string, cause error) error {
	sum := sha256.Sum256(s.body)
	digest := hex.EncodeToString(sum[:])
	e.cfg.Raise(kind)
	e.cfg.Logger.ErrorContext(ctx, "a device sent a message that cannot be parsed; it is kept", "kind", kind,
		"enrolment", s.enr.ID, "size", len(s.body), "sha256", digest, "error", cause)
	e.cfg.Refusals.Note(ctx, actor(s.enr.ID), "mdm.unparsed", s.enr.ID, "the message cannot be parsed: "+cause.Error(),
		map[string]string{"kind": kind, "sha256": digest})
	if err := e.cfg.Keep(ctx, s.enr.ID, kind, s.body); err != nil {
		return e.refused(ctx, s.enr.ID, err) // not kept, so the device should send it again
	}
	return nil
}

// belongs checks that a message names the device that its certificate is bound to.
func belongs(enr model.Enrolment, from mdm.Enrollment) error {
	if enr.ExternalID == "" {
		return &identity.Refusal{Reason: "the device has not sent Authenticate yet"}
	}
	if from.DeviceID() != enr.ExternalID {
		return &identity.Refusal{Reason: "the certificate is bound to another device than the message names"}
	}
	return nil
}

// either serves an address for both kinds of messages.
func (e *Endpoint) either(w http.ResponseWriter, r *http.Request) error {
	if strings.HasPrefix(strings.ToLower(r.Header.Get("Content-Type")), mdm.ContentTypeCheckin) {
		return e.checkin(w, r)
	}
	return e.command(w, r)
}
