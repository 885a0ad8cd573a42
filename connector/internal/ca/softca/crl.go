package softca

import (
	"crypto/x509"
	"math/big"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// The lives of revocation lists (S/MIME baseline requirements, section 4.9.7: made anew within 7 days, valid for 10).
const (
	listEvery = 24 * time.Hour
	listLife  = 10 * 24 * time.Hour
)

// listEpoch is what lists are numbered from, by the second: two connectors number alike, and never backwards.
func listEpoch() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// listNumber is higher than the highest one that is served.
func listNumber(now time.Time, served int64) int64 {
	return max(int64(now.Sub(listEpoch())/time.Second), served+1)
}

// lists makes the full revocation list of each CA that has not ended, with the certificates that they are checked with.
func (c *CA) lists(f keyring.Family, number int64) ([]link.StatusFile, error) {
	var out []link.StatusFile
	now := c.keys.Now().UTC()
	for _, a := range f.All() {
		out = append(out, link.StatusFile{Name: link.IssuerFile(string(a.Name)), Content: a.Certificate.Raw})
		if now.After(a.Certificate.NotAfter) {
			continue
		}
		entries, err := c.revocations(a.Name)
		if err != nil {
			return nil, err
		}
		from := knownSince(now, latest(entries))
		der, err := a.SignCRL(&x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: from.Add(listLife),
			RevokedCertificateEntries: entries})
		if err != nil {
			return nil, err
		}
		out = append(out, link.StatusFile{Name: link.CRLFile(string(a.Name)), Content: der})
	}
	return out, nil
}

// knownSince is since when what a list or an answer says was so: for clients with a slow clock a while ago, and not before
// the last revocation in it.
func knownSince(now, revoked time.Time) time.Time {
	from := now.UTC().Add(-backdate).Truncate(time.Second)
	if revoked.After(from) {
		from = revoked.UTC()
	}
	if from.After(now) { // another connector's clock
		from = now.UTC().Truncate(time.Second)
	}
	return from
}

func latest(entries []x509.RevocationListEntry) (last time.Time) {
	for _, e := range entries {
		if e.RevocationTime.After(last) {
			last = e.RevocationTime
		}
	}
	return last
}
