package identity

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// maxVerified bounds the memory that remembered verifications take, about 20 MB.
const maxVerified = 200_000

// Authority reads who certifies devices. Both certificates come from the connector; before it has published them, the
// error is model.ErrNotFound.
type Authority struct {
	read func(ctx context.Context) (deviceCA, raCertificate []byte, err error)

	mu     sync.Mutex
	parsed map[string]*x509.Certificate
	// verified remembers which device certificates verified under ca, and from when until when the chain is valid: a
	// device shows the same certificate at each check-in, and the check costs more than all else of an idle one.
	ca       *x509.Certificate
	verified map[[sha256.Size]byte]validity
}

// validity is when every certificate of a chain is valid.
type validity struct{ from, until time.Time }

// NewAuthority reads the DER of both through a function; nil bytes mean that there is none yet.
func NewAuthority(read func(ctx context.Context) (deviceCA, raCertificate []byte, err error)) *Authority {
	return &Authority{read: read, parsed: map[string]*x509.Certificate{}, verified: map[[sha256.Size]byte]validity{}}
}

// DeviceCA is the CA of device certificates.
func (a *Authority) DeviceCA(ctx context.Context) (*x509.Certificate, error) {
	der, _, err := a.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the device CA: %w", err)
	}
	return a.parse("device CA", der)
}

// RA is the server's own certificate for SCEP, issued by the device CA.
func (a *Authority) RA(ctx context.Context) (*x509.Certificate, error) {
	_, der, err := a.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the RA certificate: %w", err)
	}
	return a.parse("RA certificate", der)
}

// Verify checks that a certificate is a device certificate that is valid now; a *Refusal when it is not.
func (a *Authority) Verify(ctx context.Context, cert *x509.Certificate, now time.Time) error {
	ca, err := a.DeviceCA(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(cert.Raw)
	if a.remembers(ca, sum, now) {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	_, err = cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return refuse("the certificate is not a valid device certificate of this server: %s", err)
	}
	a.remember(ca, sum, both(cert, ca))
	return nil
}

// both is when leaf and CA are valid.
func both(leaf, ca *x509.Certificate) validity {
	v := validity{leaf.NotBefore, leaf.NotAfter}
	if ca.NotBefore.After(v.from) {
		v.from = ca.NotBefore
	}
	if ca.NotAfter.Before(v.until) {
		v.until = ca.NotAfter
	}
	return v
}

func (a *Authority) remembers(ca *x509.Certificate, sum [sha256.Size]byte, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	v, known := a.verified[sum]
	return known && a.ca.Equal(ca) && !now.Before(v.from) && !now.After(v.until)
}

// remember forgets everything when there is another CA, and when there is no room.
func (a *Authority) remember(ca *x509.Certificate, sum [sha256.Size]byte, v validity) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ca == nil || !a.ca.Equal(ca) || len(a.verified) >= maxVerified {
		clear(a.verified)
	}
	a.ca, a.verified[sum] = ca, v
}

// parse keeps the last certificate of each name, since a check-in needs one each time.
func (a *Authority) parse(name string, der []byte) (*x509.Certificate, error) {
	if len(der) == 0 {
		return nil, fmt.Errorf("%s: %w", name, model.ErrNotFound)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if cert := a.parsed[name]; cert != nil && bytes.Equal(cert.Raw, der) {
		return cert, nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the %s: %w", name, err)
	}
	a.parsed[name] = cert
	return cert, nil
}
