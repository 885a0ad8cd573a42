package pfx

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
)

// maxChain bounds the issuers above one certificate.
const maxChain = 10

// pair joins every key with its certificates.
func (r *reader) pair() ([]Identity, error) {
	switch {
	case len(r.keys) == 0 && r.skipped:
		return nil, fmt.Errorf("%w in a shrouded key bag; bags of other kinds are skipped", ErrNoKey)
	case len(r.keys) == 0:
		return nil, ErrNoKey
	}
	var out []Identity
	for n, key := range r.keys {
		if r.tied && slices.ContainsFunc(r.keys[n+1:], func(later keyEntry) bool { return later.tiedTo(key.label) }) {
			continue
		}
		found := r.identities(key)
		if len(found) == 0 {
			return nil, r.mismatch(key)
		}
		out = append(out, found...)
	}
	return out, nil
}

// identities are those of the certificates with the key's public key. A renewed certificate may keep the key: each gives an
// identity of its own, the one that the file itself ties to the key first.
func (r *reader) identities(key keyEntry) []Identity {
	if r.tied {
		return r.tiedIdentity(key)
	}
	var tied, others []Identity
	for _, c := range r.certs {
		if !key.public.Equal(c.cert.PublicKey) {
			continue
		}
		id := r.identity(key, c)
		if key.localKeyID != "" && key.localKeyID == c.localKeyID {
			tied = append(tied, id)
		} else {
			others = append(others, id)
		}
	}
	return append(tied, others...)
}

// tiedIdentity is that of the last certificate tied to the key, if it has the key's public key.
func (r *reader) tiedIdentity(key keyEntry) []Identity {
	for _, c := range slices.Backward(r.certs) {
		switch {
		case !c.tiedTo(key.label):
		case key.public.Equal(c.cert.PublicKey):
			return []Identity{r.identity(key, c)}
		default:
			return nil
		}
	}
	return nil
}

func (r *reader) identity(key keyEntry, c certEntry) Identity {
	id := Identity{PrivateKey: key.key, Certificate: c.cert, Chain: r.chain(c.cert), FriendlyName: c.name}
	if id.FriendlyName == "" {
		id.FriendlyName = key.name
	}
	return id
}

func (r *reader) mismatch(key keyEntry) error {
	err := &KeyMismatchError{FriendlyName: key.name, Tied: r.tied}
	for _, c := range r.certs {
		err.Certificates = append(err.Certificates, c.cert.Subject.String())
	}
	return err
}

// chain follows issuers as far as the file goes.
func (r *reader) chain(leaf *x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for at := leaf; len(out) < maxChain && !bytes.Equal(at.RawIssuer, at.RawSubject); {
		issuer := r.issuer(at)
		if issuer == nil {
			break
		}
		out = append(out, issuer)
		at = issuer
	}
	return out
}

func (r *reader) issuer(cert *x509.Certificate) *x509.Certificate {
	for _, c := range r.certs {
		if bytes.Equal(c.cert.RawSubject, cert.RawIssuer) && !c.cert.Equal(cert) &&
			c.cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil {
			return c.cert
		}
	}
	return nil
}
