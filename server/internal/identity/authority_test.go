package identity_test

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
)

// TestVerifyForgetsInTime: what was verified once is remembered, and yet it ends with the certificate, with the CA and
// when there is another CA.
func TestVerifyForgetsInTime(t *testing.T) {
	old, next := testpki.NewCA(t, "device CA"), testpki.NewCA(t, "next device CA")
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	day := 24 * time.Hour
	now := testpki.Now()
	short := old.Issue(t, testpki.Options{CN: "short", ExtKeyUsage: client, NotBefore: now.Add(-day), NotAfter: now.Add(day)}).Cert
	long := old.Issue(t, testpki.Options{CN: "long", ExtKeyUsage: client, NotAfter: old.Cert.NotAfter.Add(365 * day)}).Cert
	mail := old.Issue(t, testpki.Options{CN: "mail"}).Cert
	foreign := next.Issue(t, testpki.Options{CN: "foreign", ExtKeyUsage: client}).Cert
	ca := old.Cert.Raw
	authority := identity.NewAuthority(func(context.Context) ([]byte, []byte, error) { return ca, nil, nil })
	for _, tc := range []struct {
		name string
		cert *x509.Certificate
		now  time.Time
		ca   *testpki.CA
		good bool
	}{
		{"first", short, now, old, true},
		{"again", short, now, old, true},
		{"after its end", short, now.Add(day + time.Second), old, false},
		{"before its begin", short, now.Add(-day - time.Second), old, false},
		{"at its end", short, now.Add(day), old, true},
		{"another one", long, now, old, true},
		{"after the CA's end", long, old.Cert.NotAfter.Add(time.Second), old, false},
		{"not for clients", mail, now, old, false},
		{"of a foreign CA", foreign, now, old, false},
		{"not under another CA", short, now, next, false},
		{"of the new CA", foreign, now, next, true},
		{"not under the new CA", short, now, next, false},
		{"the old CA again", short, now, old, true},
	} {
		ca = tc.ca.Cert.Raw
		err := authority.Verify(t.Context(), tc.cert, tc.now)
		var refusal *identity.Refusal
		if tc.good != (err == nil) || err != nil && !errors.As(err, &refusal) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	ca = nil
	if err := authority.Verify(t.Context(), short, now); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("without a CA: %v", err)
	}
}
