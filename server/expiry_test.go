package main

import (
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
)

func TestWhatToDoAboutCAs(t *testing.T) {
	for kind, want := range map[string]string{"softca": "waxseal-connector ca roll", link.KindPartner: "waxctl partner", "adcs": "issuersFile"} {
		if got := remedyOf(link.CA{Name: "corp", Kind: kind}); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not name %q", kind, got, want)
		}
	}
}
