package mail

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/agent/device"
)

// Contacts is a folder of other people's encryption certificates, one file per address: a line with the time at which
// the message was signed that brought it, and the certificate in PEM.
type Contacts struct{ Dir string }

// signedAt begins the line before the certificate. Files of before it was written lack it.
const signedAt = "Signing-Time: "

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
	cert, _, err := c.read(address)
	return cert, err
}

func (c Contacts) read(address string) (cert *x509.Certificate, signed time.Time, err error) {
	raw, err := os.ReadFile(c.file(address))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, signed, nil
	}
	if err != nil {
		return nil, signed, fmt.Errorf("reading the contacts: %w", err)
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	if text, found := strings.CutPrefix(string(line), signedAt); found {
		if signed, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, signed, fmt.Errorf("reading the contact %s: %w", address, err)
		}
	}
	cert, err = ParseCertificate(raw)
	return cert, signed, err
}

// Remember keeps the certificate of an address that a message brought, signed at that time; zero if it does not say. It
// reports whether the certificate is the known one now: one of a message that was signed later stays.
func (c Contacts) Remember(address string, cert *x509.Certificate, signed time.Time) (bool, error) {
	known, last, err := c.read(address)
	if err != nil {
		return false, err
	}
	if known != nil && !signed.After(last) {
		return known.Equal(cert), nil
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return false, fmt.Errorf("writing the contacts: %w", err)
	}
	head := signedAt + signed.UTC().Format(time.RFC3339) + "\n"
	return true, device.WriteFile(c.file(address), append([]byte(head), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...))
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
