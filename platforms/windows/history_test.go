package windows

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

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
	var got []string
	for _, d := range docs {
		if strings.HasPrefix(d.ID, "unassigned") {
			got = append(got, d.ID)
		} else if !reflect.DeepEqual(d, byID(t, before, d.ID)) {
			t.Errorf("%s changed", d.ID)
		}
	}
	if want := []string{"unassigned." + short(lapsed.SHA256), "unassigned." + short(rest.SHA256)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
