package mail

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/smime"
)

// Verdict is what is known about a signature.
type Verdict struct {
	Message    []byte // the signed content
	Signer     *x509.Certificate
	From       string
	Remembered *x509.Certificate // the sender's encryption certificate, if it came along
	Reason     error             // of a nested signature that is not to be believed
}

// Verify checks that the signature fits, that the signer's certificate was made for mail and leads to a root that the
// device trusts, and that it names the sender (RFC 8550 sections 3 and 4). It then remembers the sender's encryption
// certificate.
func (p *Program) Verify(message []byte) (*Verdict, error) {
	verified, err := smime.Verify(message)
	if err != nil {
		return nil, err
	}
	v := &Verdict{Message: verified.Message, Signer: verified.Signer}
	if v.From, err = fromSigner(verified); err != nil {
		return nil, err
	}
	if !apple.CanSign(v.Signer) {
		return nil, fmt.Errorf("the certificate of %s may not sign mail", v.From)
	}
	if err := p.trusted(v.Signer, verified.Certificates); err != nil {
		return nil, fmt.Errorf("the signer %s is not trusted: %w", v.From, err)
	}
	v.Remembered = p.announced(verified, v.From)
	if v.Remembered == nil {
		return v, nil
	}
	return v, p.Contacts.Remember(v.From, v.Remembered)
}

// fromSigner is the sender, who must be in the signer's certificate. Sender stands in for a From that is missing.
func fromSigner(v *smime.Verified) (string, error) {
	for _, name := range []string{"From", "Sender"} {
		addresses, err := v.Header.Addresses(name)
		if err != nil {
			return "", err
		}
		if len(addresses) == 0 {
			continue
		}
		for _, address := range addresses {
			if !has(v.Signer, address) {
				return "", fmt.Errorf("the message says that it is from %s, but was signed by %s", address, strings.Join(apple.Addresses(v.Signer), ", "))
			}
		}
		return addresses[0], nil
	}
	return "", errors.New("the message names no sender")
}

// trusted checks the chain at the device's time. A certificate that has expired since signed nothing today.
func (p *Program) trusted(cert *x509.Certificate, along []*x509.Certificate) error {
	roots, err := p.Device.Roots()
	if err != nil {
		return err
	}
	intermediates := x509.NewCertPool()
	for _, c := range append(slices.Clone(along), p.Device.Keychain().Certificates()...) {
		intermediates.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: p.Device.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return err
	}
	for _, chain := range chains { // one that fits is enough
		if err = constrained(chain); err == nil {
			return nil
		}
	}
	return err
}

// announced is the encryption certificate that the sender asks for, or another one in the message that can encrypt
// and names the sender. It must be trusted too.
func (p *Program) announced(v *smime.Verified, from string) *x509.Certificate {
	candidates := append([]*x509.Certificate{v.EncryptionCertificate, v.Signer}, v.Certificates...)
	for _, cert := range candidates {
		if cert != nil && has(cert, from) && apple.CanEncrypt(cert) && p.trusted(cert, v.Certificates) == nil {
			return cert
		}
	}
	return nil
}

// Contacts is a folder of other people's encryption certificates, one file per address.
type Contacts struct{ Dir string }

// file is the name of an address's file. Mail addresses are told apart without case.
func (c Contacts) file(address string) string {
	escaped := strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == 0 || r < ' ' {
			return '_'
		}
		return r
	}, strings.ToLower(address))
	return filepath.Join(c.Dir, "to-"+escaped+".pem")
}

// Find is the certificate of an address, nil if none is known.
func (c Contacts) Find(address string) (*x509.Certificate, error) {
	raw, err := os.ReadFile(c.file(address))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the contacts: %w", err)
	}
	return ParseCertificate(raw)
}

// Remember keeps the certificate of an address, in place of an older one.
func (c Contacts) Remember(address string, cert *x509.Certificate) error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("writing the contacts: %w", err)
	}
	return device.WriteFile(c.file(address), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// ParseCertificate reads the first certificate of a PEM file, or a DER one.
func ParseCertificate(raw []byte) (*x509.Certificate, error) {
	if block, _ := pem.Decode(raw); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the file holds a PEM %s instead of a certificate", strings.ToLower(block.Type))
		}
		raw = block.Bytes
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, errors.New("the file holds no certificate")
	}
	return cert, nil
}
