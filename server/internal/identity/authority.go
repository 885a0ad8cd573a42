package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sync"

	"github.com/waxseal/waxseal/server/internal/model"
)

// Authority reads who certifies devices. Both certificates come from the connector; before it has published them, the
// error is model.ErrNotFound.
type Authority struct {
	read func(ctx context.Context) (deviceCA, raCertificate []byte, err error)

	mu     sync.Mutex
	parsed map[string]*x509.Certificate
}

// NewAuthority reads the DER of both through a function; nil bytes mean that there is none yet.
func NewAuthority(read func(ctx context.Context) (deviceCA, raCertificate []byte, err error)) *Authority {
	return &Authority{read: read, parsed: map[string]*x509.Certificate{}}
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
