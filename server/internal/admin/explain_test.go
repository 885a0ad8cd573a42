package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// TestWaitsForTheUserOfAMac: explain says so before the user's channel is there, and while a retire waits for it.
func TestWaitsForTheUserOfAMac(t *testing.T) {
	now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
	enrolment := func(p profiles.Platform, channel string, state model.EnrolmentState, seen time.Time) model.Enrolment {
		return model.Enrolment{Platform: p, Channel: channel, State: state, LastSeen: seen}
	}
	mac := enrolment(profiles.MacOS, model.ChannelDevice, model.EnrolmentActive, now)
	tests := map[string]struct {
		state      model.DeviceState
		enrolments []model.Enrolment
		want       bool
	}{
		"nobody has logged on": {model.DeviceEnrolled, []model.Enrolment{mac}, true},
		"only in a former enrolment": {model.DeviceEnrolled,
			[]model.Enrolment{mac, enrolment(profiles.MacOS, model.ChannelUser, model.EnrolmentEnded, now)}, true},
		"the user is known":         {model.DeviceEnrolled, []model.Enrolment{mac, enrolment(profiles.MacOS, model.ChannelUser, model.EnrolmentActive, now)}, false},
		"not enrolled to the end":   {model.DeviceEnrolled, []model.Enrolment{enrolment(profiles.MacOS, model.ChannelDevice, model.EnrolmentIssued, now)}, false},
		"an iPhone":                 {model.DeviceEnrolled, []model.Enrolment{enrolment(profiles.IOS, model.ChannelDevice, model.EnrolmentActive, now)}, false},
		"a retire waits":            {model.DeviceRetiring, []model.Enrolment{mac, enrolment(profiles.MacOS, model.ChannelUser, model.EnrolmentActive, now.Add(-time.Hour))}, true},
		"a retire goes on":          {model.DeviceRetiring, []model.Enrolment{mac, enrolment(profiles.MacOS, model.ChannelUser, model.EnrolmentActive, now)}, false},
		"a retire without the user": {model.DeviceRetiring, []model.Enrolment{mac}, false},
		"a wipe asks no user":       {model.DeviceWiping, []model.Enrolment{mac}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := userWarning(model.Device{State: tt.state, StateAt: now}, tt.enrolments)
			if (len(got) == 1) != tt.want || (tt.want && got[0].Reason != platforms.ReasonUserNotLoggedOn) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestADeviceOfTheOtherKind: only an Apple device says by its model which kind it is.
func TestADeviceOfTheOtherKind(t *testing.T) {
	for _, tt := range []struct {
		p     profiles.Platform
		model string
		want  string
	}{
		{profiles.IOS, "Mac14,2", "--platform macos"}, {profiles.MacOS, "iPad13,1", "--platform ios"},
		{profiles.IOS, "iPhone15,2", ""}, {profiles.MacOS, "MacBookPro17,1", ""}, {profiles.MacOS, "", ""}, {profiles.IOS, "AppleTV14,1", ""},
		{profiles.Windows, "Mac in a VM", ""}, {profiles.Android, "iPhone look-alike", ""},
	} {
		w := wrongKind(model.Device{Platform: tt.p, Model: tt.model})
		if (w != nil) != (tt.want != "") || (w != nil && (w.Reason != platforms.ReasonMustReenroll || !strings.Contains(w.Detail, tt.want))) {
			t.Errorf("%s %s: %+v", tt.p, tt.model, w)
		}
	}
}
