package androidmdm_test

import (
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	phone "github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
)

// renewing is a phone whose keys come from the pool, one after another.
func renewing(h *house) *phone.Device {
	h.Helper()
	made := 20
	d, err := phone.Enroll(h.Context(), phone.Config{State: h.TempDir(), Source: h.link(), Clock: h,
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.http.Certificate().Raw}),
		NewKey: func(int) (*rsa.PrivateKey, error) { made++; return testpki.PoolKey(h, made), nil }})
	h.ok(err)
	h.Cleanup(func() { _ = d.Close() })
	return d
}

// TestWrapKeyIsRenewed: in the last fifth of the certificate's life, by the app itself, whatever answer gets lost; keys are
// encrypted to the new one, and nothing that the device has goes.
func TestWrapKeyIsRenewed(t *testing.T) {
	for _, lost := range []string{"", companion.PathRenew, companion.PathState} {
		t.Run("lost "+lost, func(t *testing.T) {
			h := newHouse(t)
			d := renewing(h)
			h.sync(d)
			h.verified(d, 3)
			before := h.enrolment(d)
			h.now = before.LastSeen.AddDate(7, 0, 0) // of ten
			h.sync(d)
			if got := h.enrolment(d); got.CertSHA256 != before.CertSHA256 {
				t.Fatal("renewed in the first four fifths")
			}
			h.now = d.WrapKeyUntil().AddDate(-1, 0, 0)
			dropped := false
			h.lose = func(r *http.Request) bool {
				drop := lost != "" && !dropped && strings.HasPrefix(r.URL.Path, lost)
				dropped = dropped || drop
				return drop
			}
			h.sync(d)
			h.sync(d)
			after := h.enrolment(d)
			if after.CertSHA256 == before.CertSHA256 || after.NextCertSHA256 != "" || after.ID != before.ID {
				t.Fatalf("the enrolment speaks of %s, next %q", after.CertSHA256, after.NextCertSHA256)
			}
			h.imported(testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, NotBefore: h.now.Add(-time.Hour), NotAfter: h.now.AddDate(5, 0, 0)})
			h.sync(d)
			h.verified(d, 4)
			h.superseded(before.CertSHA256)
		})
	}
}

// superseded wants the former certificate to stand for nobody any more.
func (h *house) superseded(sha string) {
	h.Helper()
	if e, err := h.db.EnrolmentByCertificate(h.Context(), sha); !errors.Is(err, model.ErrNotFound) {
		h.Errorf("the former certificate still stands for %s, %v", e.ID, err)
	}
}
