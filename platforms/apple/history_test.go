package apple

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// The current encryption certificate is with the account only if that has it or can be sent with it now: at no moment is
// it gone from the device, and it waits for nothing that it does not need.
func TestTheCurrentCertificateWaitsForNoAccount(t *testing.T) {
	const mail = "mail.company-mail"
	current := enc("2026", 0, 0).SHA256
	cases := []struct {
		name   string
		change func(*platforms.Input)
		want   string
	}{
		{"the account can be sent", func(*platforms.Input) {}, "2018 2020"},
		{"its certificate is not issued", func(in *platforms.Input) { in.Issued = nil }, "2018 2020 2026"},
		{"no connector offers the CA", func(in *platforms.Input) { in.Issued, in.CAs = nil, nil }, "2018 2020 2026"},
		{"the device refused it", func(in *platforms.Input) { in.Stuck = map[string]bool{mail: true} }, "2018 2020 2026"},
		{"it can be sent, and history has the certificate on the device", func(in *platforms.Input) { in.InHistory = []string{current} }, "2018 2020 2026"},
		{"both have it on the device", func(in *platforms.Input) {
			in.InHistory, in.PreviousCurrent = []string{current}, map[string]string{mail: current}
		}, "2018 2020"},
		{"the account has it, and its next form is refused", func(in *platforms.Input) {
			in.Stuck, in.PreviousCurrent = map[string]bool{mail: true}, map[string]string{mail: current}
		}, "2018 2020"},
		{"the account has it, and waits for a new signing certificate", func(in *platforms.Input) {
			in.Issued, in.PreviousCurrent = nil, map[string]string{mail: current}
		}, "2018 2020"},
		{"the account has the one before, and is refused with the current one", func(in *platforms.Input) {
			in.Stuck, in.PreviousCurrent = map[string]bool{mail: true}, map[string]string{mail: enc("2020", 0, 0).SHA256}
		}, "2018 2020 2026"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := sales(t)
			c.change(&in)
			if got := records(byID(t, Plan(in), "history")); got != c.want {
				t.Errorf("history holds %q, want %q", got, c.want)
			}
		})
	}
}

// IM-01, IM-03: what was imported without a purpose is delivered, expired or not, once, and is current for nothing.
func TestUnassignedIsDelivered(t *testing.T) {
	in := with(sales(t), object("rest", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeUnassigned}))
	if d := byID(t, Plan(in), "unassigned"); d.Reason != platforms.ReasonCertificateMissing || !strings.Contains(d.Detail, "no imported unassigned certificate") {
		t.Errorf("%s %s", d.Reason, d.Detail)
	}
	both := enc("2020", 2020, 2022)
	both.Purpose = profiles.PurposeUnassigned
	rest := cert("rest", profiles.PurposeUnassigned, 2026, 2029, alice)
	lapsed := cert("lapsed", profiles.PurposeUnassigned, 2015, 2016, alice)
	before := Plan(in)
	in.Imported = append(in.Imported, both, rest, lapsed)
	docs := Plan(in)
	if got := records(byID(t, docs, "unassigned")); got != "lapsed rest" {
		t.Errorf("the document holds %q", got)
	}
	for _, id := range []string{"history", "mail.company-mail"} {
		if !reflect.DeepEqual(byID(t, docs, id), byID(t, before, id)) {
			t.Errorf("%s changed", id)
		}
	}
}
