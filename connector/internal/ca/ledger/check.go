package ledger

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
)

// check refuses what is not the certificate that was asked for. Whom the settings name as issuers is trusted, be it a root
// or not; what the CA sends along is not looked at.
func (c *CA) check(in ca.Intent, leaf *x509.Certificate) error {
	if err := ca.CheckAnswer(in, leaf); err != nil {
		return err
	}
	if c.issuerOf(leaf) == nil {
		return ca.Refuse("it issued a certificate of %s, which is not among the issuers of the CA's settings (issuersFile)", leaf.Issuer)
	}
	if now := c.clock(); now.After(leaf.NotAfter) {
		return ca.Refuse("it issued a certificate that ended on %s", leaf.NotAfter.Format(time.DateOnly))
	}
	return c.verify(leaf)
}

// verify looks at what the server will look at, too, and would refuse again and again: constraints of the issuers' names, and
// critical extensions that nobody understands.
func (c *CA) verify(leaf *x509.Certificate) error {
	roots, from := x509.NewCertPool(), leaf.NotBefore
	for _, i := range c.issuers {
		roots.AddCert(i)
		if i.NotBefore.After(from) && leaf.CheckSignatureFrom(i) == nil {
			from = i.NotBefore // a CA that is some minutes old
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: from.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return ca.Refuse("it issued a certificate that does not verify: %v", err)
	}
	return nil
}

// maxSkew is how far the clocks of CA, connector and server may be apart.
const maxSkew = 5 * time.Minute

// valid holds a certificate back that is not valid yet: the server would not take it.
func (c *CA) valid(chain [][]byte) ([][]byte, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if c.clock().Add(maxSkew).Before(leaf.NotBefore) {
		return nil, fmt.Errorf("the CA issued a certificate that is valid from %s only: compare its clock with the connector's", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return chain, nil
}

// oddRest is how long a certificate that is not what was asked for is the answer, if nothing else changes: at the CA, somebody
// may have put the cause right.
const oddRest = 7 * 24 * time.Hour

// mayAskAnew tells whether what made a certificate odd may be gone.
func (c *CA) mayAskAnew(in ca.Intent, known asked) bool {
	leaf, err := x509.ParseCertificate(known.Odd)
	return err == nil && c.check(in, leaf) == nil || known.elsewhere(c.settings) || c.clock().Sub(known.At) >= oddRest
}

// elsewhere tells whether another CA was asked: the settings have another address or protocol now.
func (a asked) elsewhere(s ca.Settings) bool { return a.From != "" && a.From != from(s) }

func from(s ca.Settings) string { return s.Kind + " " + s.URL }

// path is the chain above a leaf, from the settings: the same at every issue, whatever the CA sends along.
func (c *CA) path(leaf *x509.Certificate) [][]byte {
	var out [][]byte
	for cert := leaf; len(out) < len(c.issuers); {
		issuer := c.issuerOf(cert)
		if issuer == nil || issuer.Equal(cert) {
			return out
		}
		out, cert = append(out, issuer.Raw), issuer
	}
	return out
}

func (c *CA) issuerOf(cert *x509.Certificate) *x509.Certificate {
	for _, i := range c.issuers {
		if cert.CheckSignatureFrom(i) == nil {
			return i
		}
	}
	return nil
}

// Revoke revokes a certificate of this CA. Repeated, it answers with the first time.
func (c *CA) Revoke(ctx context.Context, certificate []byte, reason int, at time.Time) (time.Time, error) {
	leaf, err := x509.ParseCertificate(certificate)
	if err != nil {
		return time.Time{}, ca.Refuse("what shall be revoked is no certificate: %v", err)
	}
	if c.issuerOf(leaf) == nil {
		return time.Time{}, ca.ErrForeign
	}
	if reason < 0 || reason > 10 || reason == 7 || reason == 8 {
		return time.Time{}, ca.Refuse("reason code %d is not one for a revocation (RFC 5280 section 5.3.1)", reason)
	}
	key := revokedKey(sum(certificate))
	defer c.locks.lock(key)()
	var known revoked
	found, err := c.journal.Get(key, &known)
	if err != nil || found {
		return known.At, err
	}
	if err := c.upstream.Revoke(ctx, leaf, reason); err != nil {
		return time.Time{}, fmt.Errorf("CA %s: %w", c.settings.Name, err)
	}
	entry := revoked{At: at.UTC().Truncate(time.Second), Reason: reason}
	return entry.At, c.journal.Put(key, entry)
}
