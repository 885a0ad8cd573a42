// Package pki keeps the server's own keys: the TLS CA and TLS key when none are configured, the SCEP RA key, the key that
// signs profiles. None of them opens anybody's mail. Each is a file of mode 0600 in the data folder, made once.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Names of the files in the data folder.
const (
	CAFile             = "ca.pem"
	CAKeyFile          = "ca-key.pem"
	TLSCertFile        = "tls-cert.pem"
	TLSKeyFile         = "tls-key.pem"
	RAKeyFile          = "ra-key.pem"
	SigningCertFile    = "profile-signing.pem"
	SigningKeyFile     = "profile-signing-key.pem"
	maxPEM             = 1 << 20
	raBits, signerBits = 2048, 2048
)

// RAKey is the RSA key of SCEP: clients encrypt their requests to it.
func RAKey(dir string, rand io.Reader) (*rsa.PrivateKey, error) {
	key, err := loadOrMake(filepath.Join(dir, RAKeyFile), func() (crypto.Signer, error) { return rsa.GenerateKey(rand, raBits) })
	if err != nil {
		return nil, err
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: it must be an RSA key", RAKeyFile)
	}
	return rsaKey, nil
}

// LoadPair reads a configured certificate chain and its key.
func LoadPair(certFile, keyFile string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return pair, fmt.Errorf("reading certificate %s and key %s: %w", certFile, keyFile, err)
	}
	return pair, nil
}

// loadOrMake reads a key file or makes it.
func loadOrMake(path string, generate func() (crypto.Signer, error)) (crypto.Signer, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return parseKey(path, raw)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	key, err := generate()
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", filepath.Base(path), err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	if err := WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

// parseKey never quotes the file.
func parseKey(path string, raw []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PRIVATE KEY" || len(raw) > maxPEM {
		return nil, fmt.Errorf("%s holds no PKCS#8 private key in PEM form", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no readable private key", path)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds a key that cannot sign", path)
	}
	return signer, nil
}

// WriteFile replaces a file whole: other readers see the old or the new content, a crash leaves one of them.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func newECKey(rand io.Reader) func() (crypto.Signer, error) {
	return func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand) }
}

// loadCertificates reads all certificates of a PEM file; os.ErrNotExist when there is no file.
func loadCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", path)
	}
	return out, nil
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
