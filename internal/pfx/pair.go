package pfx

import (
	"bytes"
	"crypto/x509"
)

// maxChain bounds the issuers above one certificate.
const maxChain = 10

// pair joins every key with the certificates of its public key. A renewed certificate may keep the key: each gives an
// identity of its own, the one that the file itself ties to the key first.
func (r *reader) pair() ([]Identity, error) {
	if len(r.keys) == 0 {
		return nil, ErrNoKey
	}
	var out []Identity
	for _, key := range r.keys {
		found := r.identities(key)
		if len(found) == 0 {
			return nil, r.mismatch(key)
		}
		out = append(out, found...)
	}
	return out, nil
}

func (r *reader) identities(key keyEntry) []Identity {
	var tied, others []Identity
	for _, c := range r.certs {
		if !key.public.Equal(c.cert.PublicKey) {
			continue
		}
		id := Identity{PrivateKey: key.key, Certificate: c.cert, Chain: r.chain(c.cert), FriendlyName: c.name}
		if id.FriendlyName == "" {
			id.FriendlyName = key.name
		}
		if key.localKeyID != "" && key.localKeyID == c.localKeyID {
			tied = append(tied, id)
		} else {
			others = append(others, id)
		}
	}
	return append(tied, others...)
}

func (r *reader) mismatch(key keyEntry) error {
	err := &KeyMismatchError{FriendlyName: key.name}
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
