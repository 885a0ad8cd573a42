package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// TestExplainTellsTheChannelsOfAMacApart: both have a document named trust.
func TestExplainTellsTheChannelsOfAMacApart(t *testing.T) {
	e := api.Explain{Device: api.Device{Platform: profiles.MacOS, State: "enrolled"}, Documents: []api.Document{
		{ID: "trust", Channel: "device", Status: "verified"}, {ID: "trust", Channel: "user", Status: "verified"}}}
	out := explained(e)
	if !strings.Contains(out[1], "CHANNEL") || !strings.Contains(out[2], " device ") || !strings.Contains(out[3], " user ") {
		t.Errorf("%q", out)
	}
	e.Device.Platform = profiles.IOS
	if out := explained(e); strings.Contains(out[1], "CHANNEL") {
		t.Errorf("%q", out)
	}
}

// TestExplainOfADeviceThatLeft: nothing is there, and it is said how that is known.
func TestExplainOfADeviceThatLeft(t *testing.T) {
	for reason, want := range map[platforms.Reason]string{platforms.ReasonRemovalVerified: "removed",
		platforms.ReasonRemovalReported: "removed", platforms.ReasonRemovalUnconfirmed: "unconfirmed"} {
		out := explained(api.Explain{Device: api.Device{State: "left"}, Documents: []api.Document{
			{ID: "history", Status: "removed", Reason: reason, Credentials: []api.Credential{{SHA256: "015fab92ca23"}}}}})
		if !strings.Contains(out[2], string(reason)) || strings.Fields(out[3])[1] != want {
			t.Errorf("%s: %q", reason, out)
		}
	}
	if out := explained(api.Explain{Device: api.Device{State: "left"}}); strings.Contains(out[1], "assigned to it\n") || !strings.Contains(out[1], "no record") {
		t.Errorf("%q", out)
	}
}

func explained(e api.Explain) []string {
	var b bytes.Buffer
	explain(&b, e)
	return strings.Split(b.String(), "\n")
}

func TestHistoryIsNotCalledCurrent(t *testing.T) {
	for status, c := range map[string]api.Certificate{"history": {Status: "current", History: true}, "current": {Status: "current"}, "removed": {Status: "removed"}} {
		if got := certificateStatus(c); got != status {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
