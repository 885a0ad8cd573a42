package apple

import (
	"testing"

	"github.com/waxseal/waxseal/platforms"
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
