package reconcile

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

// intermediates are the CA certificates below the root, which alone is trusted by itself, from the one that has the issuer's
// name upwards. A CA that was rolled over has several that issue, or did; what a device was given for its certificate must not
// change when there is another one, or Apple's devices would all ask for a new certificate. An issuer that is not among
// them, or empty, stands for the one that issues now.
func (w *work) intermediates(name, issuer string) [][]byte {
	i := slices.IndexFunc(w.in.Snapshot.CAs, func(ca link.CA) bool { return ca.Name == name && len(ca.Chain) > 0 })
	if i < 0 {
		return nil
	}
	ca := w.in.Snapshot.CAs[i]
	all := append([][]byte{ca.Certificate}, ca.Chain...)
	root := all[len(all)-1]
	var certs []*x509.Certificate
	for _, der := range all {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return all[:len(all)-1]
		}
		certs = append(certs, c)
	}
	at := max(0, slices.IndexFunc(certs, func(c *x509.Certificate) bool { return profiles.NameString(c.Subject) == issuer }))
	var out [][]byte
	for c := certs[at]; !bytes.Equal(c.Raw, root) && len(out) < len(all); {
		out = append(out, c.Raw)
		above := slices.IndexFunc(certs, func(up *x509.Certificate) bool { return bytes.Equal(up.RawSubject, c.RawIssuer) })
		if above < 0 {
			break
		}
		c = certs[above]
	}
	return out
}

// issuerOf is the name of the CA that issued a certificate of this enrolment.
func (w *work) issuerOf(sha256 string) string {
	for _, c := range w.in.Snapshot.Issued {
		if c.SHA256 == sha256 {
			return c.Issuer
		}
	}
	return ""
}
