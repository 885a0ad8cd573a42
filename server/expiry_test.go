package main

import (
	"crypto/rand"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/expiry"
	"github.com/waxseal/waxseal/server/internal/pki"
)

func TestWhatToDoAboutCAs(t *testing.T) {
	for kind, want := range map[string]string{"softca": "waxseal-connector ca roll", link.KindPartner: "waxctl partner", "adcs": "issuersFile"} {
		if got := remedyOf(link.CA{Name: "corp", Kind: kind}); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not name %q", kind, got, want)
		}
	}
}

// TestTheServersOwnCertificatesAreWatched: its CA too, which nobody else looks at and which cannot renew itself.
func TestTheServersOwnCertificatesAreWatched(t *testing.T) {
	now := testpki.Now()
	clock := func() time.Time { return now }
	own, err := pki.NewOwnTLS(t.TempDir(), []string{"mdm.example.com"}, clock, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Config: Config{Clock: clock, Logger: slog.New(slog.DiscardHandler)}, ownTLS: own}
	s.watch(profileSigning, own.CA())
	for _, tt := range []struct {
		after time.Duration
		soon  []string // in the next 30 days
	}{{0, nil}, {368 * 24 * time.Hour, nil}, {3630 * 24 * time.Hour, []string{profileSigning, "server-ca"}}} {
		now = testpki.Now().Add(tt.after)
		found, soon := map[string]expiry.Item{}, []string(nil)
		for _, i := range s.serverCertificates() {
			found[i.Name] = i
			if i.NotAfter.Sub(now) <= expiry.Horizon {
				soon = append(soon, i.Name)
			}
		}
		slices.Sort(soon)
		if len(found) != 3 || !slices.Equal(soon, tt.soon) {
			t.Errorf("after %s: %+v, soon %v", tt.after, found, soon)
		}
		for name, remedy := range map[string]string{"server-ca": "server-ca.pem", "tls-cert": "by itself", profileSigning: "start the server again: it makes"} {
			if i := found[name]; i.Kind != expiry.KindServer || !strings.Contains(i.Remedy, remedy) {
				t.Errorf("%s: %+v", name, i)
			}
		}
	}
	s.Settings.ProfileSigningCert = "signing.pem"
	if got := s.remedyOfLeaf(profileSigning); !strings.Contains(got, "--profile-signing-cert") {
		t.Errorf("%q", got)
	}
}
