package admin

import (
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func verified(id string) model.DocumentState {
	return model.DocumentState{Document: platforms.Document{ID: id, Revision: "r", Credentials: []profiles.Certificate{{SHA256: "k"}}},
		Status: model.DocumentVerified, Reason: platforms.ReasonVerified, InstalledRevision: "r", InstalledCredentials: []string{"k"}}
}

// TestNothingIsThereOfADeviceThatLeft: however it left, each document says so, and how that is known.
func TestNothingIsThereOfADeviceThatLeft(t *testing.T) {
	for removal, want := range map[model.Removal]platforms.Reason{model.RemovalVerified: platforms.ReasonRemovalVerified,
		model.RemovalReported: platforms.ReasonRemovalReported, model.RemovalUnconfirmed: platforms.ReasonRemovalUnconfirmed} {
		for _, state := range []model.DeviceState{model.DeviceLeft, model.DeviceRetiring} {
			doc, there := told(verified("history"), model.Device{State: state, Removal: removal})
			out := documentOf(shown{doc, model.ChannelDevice}, map[string]bool{"k": true})
			if c := out.Credentials[0]; !there || out.Status != "removed" || out.Reason != want || out.InstalledRevision != "" || c.Installed || c.Current {
				t.Errorf("%s, %s: %v %+v", state, removal, there, out)
			}
		}
	}
	if doc, there := told(verified("history"), model.Device{State: model.DeviceRetiring}); !there || doc.Status != model.DocumentVerified {
		t.Errorf("of a device that is on its way out: %+v", doc)
	}
	waiting := model.DocumentState{Document: platforms.Document{ID: "mail"}, Status: model.DocumentWaiting}
	if doc, there := told(waiting, model.Device{State: model.DeviceLeft, Removal: model.RemovalReported}); there {
		t.Errorf("it never came to the device: %+v", doc)
	}
	record, _ := verified("history").AsRecord(model.RemovalVerified)
	if doc, _ := told(record, model.Device{State: model.DeviceLeft, Removal: model.RemovalReported}); doc.Reason != platforms.ReasonRemovalVerified {
		t.Errorf("what was seen to be gone: %+v", doc)
	}
}

// TestWhichEnrolmentsCount: those that live, else the newest; and the user's of a Mac with the Mac's.
func TestWhichEnrolmentsCount(t *testing.T) {
	active, ended := model.EnrolmentActive, model.EnrolmentEnded
	enrolment := func(id, holder string, s model.EnrolmentState) model.Enrolment {
		return model.Enrolment{ID: id, HolderID: holder, State: s}
	}
	for _, tt := range []struct {
		name        string
		state       model.DeviceState
		newestFirst []model.Enrolment
		want        string
	}{
		{"a phone", model.DeviceEnrolled, []model.Enrolment{enrolment("b", "", active), enrolment("a", "", ended)}, "b"},
		{"a phone that left", model.DeviceLeft, []model.Enrolment{enrolment("b", "", ended), enrolment("a", "", ended)}, "b"},
		{"a Mac", model.DeviceEnrolled, []model.Enrolment{enrolment("u", "d", active), enrolment("d", "", active)}, "d u"},
		{"a Mac that left", model.DeviceLeft, []model.Enrolment{enrolment("u", "d", ended), enrolment("d", "", ended), enrolment("o", "c", ended), enrolment("c", "", ended)}, "d u"},
		{"a Mac whose user's part is gone", model.DeviceRetiring, []model.Enrolment{enrolment("u", "d", ended), enrolment("d", "", active)}, "d u"},
		{"a Mac that is here again", model.DeviceEnrolled, []model.Enrolment{enrolment("e", "", active), enrolment("u", "d", ended), enrolment("d", "", ended)}, "e"},
		{"none", model.DeviceEnrolled, nil, ""},
	} {
		var got []string
		for _, e := range counting(model.Device{State: tt.state}, tt.newestFirst) {
			got = append(got, e.ID)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.name, got, tt.want)
		}
	}
}
