package applemdm_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/applemdm"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
)

// tokens is a Bootstrap in memory.
type tokens map[string][]byte

func (b tokens) SetBootstrapToken(_ context.Context, id string, token []byte) error {
	b[id] = bytes.Clone(token)
	return nil
}

func (b tokens) BootstrapToken(_ context.Context, id string) ([]byte, error) { return b[id], nil }

// mac is an enrolled Mac.
func mac(t *testing.T) (*rig, *testpki.Identity, string, tokens) {
	t.Helper()
	kept := tokens{}
	r := newRig(t, func(c *applemdm.Config, _ *sender.Config) { c.Bootstrap = kept })
	id, enrolment := r.enrolled(t, 1)
	e := r.store.Enrolment(enrolment)
	e.Platform = profiles.MacOS
	r.store.PutEnrolment(e)
	return r, id, enrolment, kept
}

func from(user string) mdm.Header {
	h := mdm.Header{Enrollment: mdm.Enrollment{UDID: udid, UserID: user, UserShortName: "carol"}}
	h.Topic = topic
	return h
}

func userTokenUpdate(user string) *mdm.TokenUpdate {
	return &mdm.TokenUpdate{Header: from(user), Token: bytes.Repeat([]byte{9}, 32), PushMagic: "user magic"}
}

func userIdle(t *testing.T, user string) []byte {
	t.Helper()
	body, err := mdm.EncodeReport(&mdm.Report{Enrollment: from(user).Enrollment, Status: mdm.StatusIdle})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestUserChannelOfAMac(t *testing.T) {
	r, id, enrolment, _ := mac(t)
	if w := r.command(t, id, userIdle(t, "U1")); w.Code != 200 || w.Body.Len() != 0 || len(r.delivery.reports) != 0 {
		t.Fatalf("before TokenUpdate: %d %s, %d reports", w.Code, w.Body, len(r.delivery.reports))
	}
	if w := r.checkin(t, id, userTokenUpdate("U1")); w.Code != 200 || w.Body.Len() != 0 {
		t.Fatalf("TokenUpdate: %d %s", w.Code, w.Body)
	}
	u, err := r.svc.UserChannel(t.Context(), model.Enrolment{ID: enrolment})
	if err != nil || u.ExternalID != udid+":U1" || u.PushMagic != "user magic" || u.Channel != model.ChannelUser {
		t.Fatalf("%+v, %v", u, err)
	}
	r.delivery.command = []byte("command for the user")
	w := r.command(t, id, userIdle(t, "U1"))
	if w.Code != 200 || w.Body.String() != "command for the user" || r.delivery.whose[len(r.delivery.whose)-1] != u.ID {
		t.Errorf("%d %s, reported for %v", w.Code, w.Body, r.delivery.whose)
	}
	before := len(r.delivery.reports)
	if w := r.checkin(t, id, userTokenUpdate("U2")); w.Code != 200 {
		t.Errorf("another user's TokenUpdate: %d", w.Code)
	}
	if w := r.command(t, id, userIdle(t, "U2")); w.Code != 200 || w.Body.Len() != 0 || len(r.delivery.reports) != before {
		t.Errorf("another user's report: %d %s, %d reports", w.Code, w.Body, len(r.delivery.reports))
	}
	if refused := r.store.Refused(); len(refused) != 1 || refused[0].Action != "mdm.userChannel" {
		t.Errorf("audit: %+v", refused)
	}
	if w := r.checkin(t, id, &mdm.CheckOut{Header: from("U1")}); w.Code != 200 || r.store.Enrolment(u.ID).State != model.EnrolmentActive {
		t.Errorf("a user's CheckOut ended something: %d", w.Code)
	}
}

func TestUsersOfADirectory(t *testing.T) {
	r, id, _, _ := mac(t)
	ask := func(user, digest string) (int, string) {
		w := r.checkin(t, id, &mdm.UserAuthenticate{Header: from(user), DigestResponse: digest})
		return w.Code, w.Body.String()
	}
	if code, body := ask("U1", ""); code != 200 || !strings.Contains(body, "DigestChallenge") {
		t.Errorf("the first user: %d %s", code, body)
	}
	r.checkin(t, id, userTokenUpdate("U1"))
	if code, body := ask("U1", "digest"); code != 200 || !strings.Contains(body, "AuthToken") {
		t.Errorf("the managed user's answer: %d %s", code, body)
	}
	if code, _ := ask("U2", ""); code != http.StatusGone {
		t.Errorf("a user who is not managed: %d", code)
	}
}

func TestBootstrapTokens(t *testing.T) {
	r, id, enrolment, kept := mac(t)
	get := func() (int, string) {
		w := r.checkin(t, id, &mdm.GetBootstrapToken{Header: mdm.Header{Enrollment: mdm.Enrollment{UDID: udid}}})
		return w.Code, w.Body.String()
	}
	if code, body := get(); code != 200 || body != "" {
		t.Errorf("without a token: %d %q", code, body)
	}
	set := &mdm.SetBootstrapToken{Header: mdm.Header{Enrollment: mdm.Enrollment{UDID: udid}}, BootstrapToken: []byte("bootstrap secret")}
	if w := r.checkin(t, id, set); w.Code != 200 || string(kept[r.store.Enrolment(enrolment).DeviceID]) != "bootstrap secret" {
		t.Fatalf("%d, kept %q", w.Code, kept)
	}
	if code, body := get(); code != 200 || !strings.Contains(body, "Ym9vdHN0cmFwIHNlY3JldA==") {
		t.Errorf("%d %q", code, body)
	}
	if strings.Contains(r.logs.String(), "bootstrap secret") {
		t.Error("the token is in the log")
	}
	r.checkin(t, id, authenticate(udid))
	if code, body := get(); code != 200 || body != "" {
		t.Errorf("after the device began anew: %d %q", code, body)
	}
}

// TestUsersOfAnIPhoneAreNotManaged: shared iPads and the like.
func TestUsersOfAnIPhoneAreNotManaged(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.enrolled(t, 1)
	if w := r.checkin(t, id, userTokenUpdate("U1")); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
	if _, err := r.svc.UserChannel(t.Context(), model.Enrolment{ID: enrolment}); err == nil {
		t.Error("an iPhone has a user channel")
	}
}

// TestOnlyAppleDevicesSpeakHere, though the device CA certifies those of all platforms.
func TestOnlyAppleDevicesSpeakHere(t *testing.T) {
	for _, platform := range []profiles.Platform{profiles.Android, profiles.Windows} {
		r := newRig(t)
		id, enrolment := r.enrolled(t, 1)
		e := r.store.Enrolment(enrolment)
		e.Platform = platform
		r.store.PutEnrolment(e)
		for what, w := range map[string]int{"a report": r.command(t, id, idle(t, udid)).Code, "a goodbye": r.checkin(t, id, checkOut(udid)).Code} {
			if w != http.StatusBadRequest {
				t.Errorf("%s of %s: %d", what, platform, w)
			}
		}
		if len(r.delivery.reports) != 0 || r.store.Enrolment(enrolment).State != model.EnrolmentActive {
			t.Errorf("%s: something happened", platform)
		}
	}
}
