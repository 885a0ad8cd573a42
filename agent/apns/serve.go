package apns

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/agent/device"
)

// Files in the folder of Serve.
const (
	CAFile       = "ca.pem"         // the service's TLS certificate leads to it; it signed the push certificate too
	PushCertFile = "push.pem"       // what an MDM server is given as push certificate
	PushKeyFile  = "push.key"       // its key
	PushesFile   = "pushes.jsonl"   // one accepted push a line
	caKeyFile    = "ca.key"         // kept, so that a restart needs no new certificates
	validity     = 10 * 365 * 24    // hours; a push certificate of Apple's lives a year
	readTimeout  = 10 * time.Second // of a request's header
)

// Running is a push service that listens.
type Running struct {
	*Service
	URL    string
	server *http.Server
	done   chan error
}

// Serve starts a push service that listens on an address and keeps its certificates and what it received in a folder.
func Serve(clock device.Clock, address, folder string) (*Running, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the push service: %w", err)
	}
	ca, err := openCA(clock, folder)
	if err != nil {
		return nil, err
	}
	if err := ca.writePush(folder); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("starting the push service: %w", err)
	}
	host, _, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return nil, err
	}
	leaf, err := ca.server(host)
	if err != nil {
		return nil, err
	}
	r := &Running{Service: New(clock, recorder(folder)), URL: "https://" + listener.Addr().String(), done: make(chan error, 1)}
	r.server = &http.Server{Handler: r.Handler(), ReadHeaderTimeout: readTimeout, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{leaf}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool(),
		MinVersion: tls.VersionTLS12, Time: clock.Now,
	}}
	go func() { r.done <- r.server.ServeTLS(listener, "", "") }()
	return r, nil
}

// Wait waits for the service to end: by a fault, or by the context.
func (r *Running) Wait(ctx context.Context) error {
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return r.Close()
	}
}

// Close stops it.
func (r *Running) Close() error {
	if err := r.server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// recorder appends to pushes.jsonl.
func recorder(folder string) func(Push) {
	return func(p Push) {
		line, err := json.Marshal(p)
		if err != nil {
			return
		}
		f, err := os.OpenFile(filepath.Join(folder, PushesFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		_, _ = f.Write(append(line, '\n'))
		_ = f.Close()
	}
}

// authority issues the service's certificates.
type authority struct {
	clock device.Clock
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
}

func openCA(clock device.Clock, folder string) (*authority, error) {
	certPath, keyPath := filepath.Join(folder, CAFile), filepath.Join(folder, caKeyFile)
	if pair, err := tls.LoadX509KeyPair(certPath, keyPath); err == nil {
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s of the push service is not an EC key", caKeyFile)
		}
		return &authority{clock: clock, cert: pair.Leaf, key: key}, nil
	}
	a := &authority{clock: clock}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Simulated push service CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, key, err := a.issue(template)
	if err != nil {
		return nil, err
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	a.key = key
	return a, writePair(certPath, keyPath, [][]byte{der}, key)
}

// issue signs a certificate with a new key; the first one signs itself.
func (a *authority) issue(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}
	template.NotBefore = a.clock.Now().Add(-time.Hour)
	template.NotAfter = template.NotBefore.Add(validity * time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing a certificate of the push service: %w", err)
	}
	return der, key, nil
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// server makes the TLS certificate for the address.
func (a *authority) server(host string) (tls.Certificate, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Simulated push service"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage:    x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	der, key, err := a.issue(template)
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}, err
}

// writePush makes the push certificate, unless it is there. Its UID is the topic.
func (a *authority) writePush(folder string) error {
	certPath, keyPath := filepath.Join(folder, PushCertFile), filepath.Join(folder, PushKeyFile)
	if _, err := tls.LoadX509KeyPair(certPath, keyPath); err == nil {
		return nil
	}
	topic := "com.apple.mgmt.External." + uuid.NewString()
	uid := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	der, key, err := a.issue(&x509.Certificate{
		Subject:  pkix.Name{CommonName: "APSP:" + topic, ExtraNames: []pkix.AttributeTypeAndValue{{Type: uid, Value: topic}}},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	return writePair(certPath, keyPath, [][]byte{der}, key)
}

func writePair(certPath, keyPath string, ders [][]byte, key *ecdsa.PrivateKey) error {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := device.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})); err != nil {
		return err
	}
	var certs bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&certs, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return err
		}
	}
	return device.WriteFile(certPath, certs.Bytes())
}
