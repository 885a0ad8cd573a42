package worker

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// TestProfileWithoutValidity: a CA is asked for the year that a profile means by saying nothing, or it would take a default of
// its own, which can be a day.
func TestProfileWithoutValidity(t *testing.T) {
	for said, want := range map[profiles.Duration]time.Duration{0: 365 * profiles.Day, profiles.Duration(10 * profiles.Day): 10 * profiles.Day} {
		p := link.IssueJob{IntentID: "i", Request: profiles.CertificateRequest{Validity: said}}
		if got := intentOf(p, 0, testpki.PoolKey(t, 0)).Validity; got != want {
			t.Errorf("issue: %s asks for %s", said, got)
		}
	}
}
