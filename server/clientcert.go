package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
)

// mainTLS is the TLS of the main listener. PCs prove themselves with a client certificate; without a listener for devices
// they do so here. The request names the device CA, so that a browser, which has no certificate of it, asks nobody.
func (s *server) mainTLS() *tls.Config {
	if s.Settings.DeviceURL != "" {
		return s.tls
	}
	asking := &askingTLS{plain: s.tls, authority: s.db.DeviceAuthority}
	config := s.tls.Clone()
	config.GetConfigForClient = asking.config
	return config
}

// askingTLS makes one configuration for each device CA there ever is, which is one: sessions are resumed by it.
type askingTLS struct {
	plain     *tls.Config
	authority func(ctx context.Context) (deviceCA, raCertificate []byte, err error)

	mu     sync.Mutex
	asking *tls.Config
}

// config is nil, for the plain one, until a connector has published its device CA.
func (a *askingTLS) config(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking != nil {
		return a.asking, nil // the device CA never changes once it is set (link.PublishRequest)
	}
	der, _, err := a.authority(hello.Context())
	if err != nil || len(der) == 0 {
		return nil, nil //nolint:nilerr // who needs the certificate is told by the endpoint
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil //nolint:nilerr // as above
	}
	config := a.plain.Clone()
	config.ClientAuth, config.ClientCAs = tls.RequestClientCert, x509.NewCertPool() // the endpoint verifies it, and says what is wrong
	config.ClientCAs.AddCert(ca)
	a.asking = config
	return config, nil
}
