package delivery_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/model"
)

// An identity that ends soon is renewed when the device has nothing to do, at most once in six hours, and at the end of what
// it was woken for; the answer to a renewal brings no other one.
func TestAnAppleDeviceRenewsItsIdentity(t *testing.T) {
	active := model.Enrolment{ID: "e1", State: model.EnrolmentActive, CertSHA256: "c1", InventoryAt: now.Add(time.Hour), LastSeen: now.Add(-time.Hour * 24)}
	a := apple(&memory{}, nothing)
	a.Due = func(enr model.Enrolment) bool { return enr.NextCertSHA256 == "" }
	a.Renewal = func(enr model.Enrolment) ([]byte, error) { return []byte("renew " + enr.ID), nil }
	told := func(enr model.Enrolment, r mdm.Report) string {
		t.Helper()
		body, _, err := a.Report(t.Context(), enr, &r)
		if err != nil {
			t.Fatal(err)
		}
		if len(body) == 0 {
			return ""
		}
		c, err := mdm.DecodeCommand(body)
		if err != nil {
			t.Fatal(err)
		}
		if c.Command.RequestType != "InstallProfile" || !bytes.Equal(c.Command.Payload, []byte("renew e1")) {
			return ""
		}
		return c.UUID
	}
	uuid := told(active, mdm.Report{Status: "Idle"})
	if uuid == "" {
		t.Fatal("an idle device is not told to renew its identity")
	}
	settled := &memory{}
	settled.snapshot.Inventory = model.Inventory{FactsAt: now, ProfilesAt: now, Profiles: map[string]string{}, CertificatesAt: now, Certificates: map[string]bool{}}
	a.Service = service(settled, nothing)
	for name, c := range map[string]struct {
		change func(*model.Enrolment)
		report mdm.Report
		want   bool
	}{
		"idle":                   {nil, mdm.Report{Status: "Idle"}, true},
		"idle again":             {func(e *model.Enrolment) { e.LastSeen = now }, mdm.Report{Status: "Idle"}, false},
		"done with other work":   {func(e *model.Enrolment) { e.LastSeen = now }, mdm.Report{Status: "Acknowledged", CommandUUID: "C1"}, true},
		"done with the renewal":  {nil, mdm.Report{Status: "Acknowledged", CommandUUID: uuid}, false},
		"the renewal failed":     {nil, mdm.Report{Status: "Error", CommandUUID: uuid}, false},
		"not now":                {nil, mdm.Report{Status: "NotNow", CommandUUID: uuid}, false},
		"the next one is there":  {func(e *model.Enrolment) { e.NextCertSHA256 = "c2" }, mdm.Report{Status: "Idle"}, false},
		"the identity of a user": {func(e *model.Enrolment) { e.Channel = model.ChannelUser }, mdm.Report{Status: "Idle"}, false},
		"not active":             {func(e *model.Enrolment) { e.State = model.EnrolmentEnded }, mdm.Report{Status: "Idle"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			enr := active
			if c.change != nil {
				c.change(&enr)
			}
			if got := told(enr, c.report) != ""; got != c.want {
				t.Errorf("told to renew: %t, want %t", got, c.want)
			}
		})
	}
}
