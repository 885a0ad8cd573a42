package pfx

import (
	"encoding/base32"
	"fmt"
	"io"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Flavour is a set of algorithms for a written file.
type Flavour string

// The flavours, named as go-pkcs12 does.
const (
	// LegacyDES is 3DES with a SHA-1 MAC, which every Apple device, every Windows and Android up to 13 read.
	LegacyDES Flavour = "LegacyDES"
	// Modern2023 is AES-256 with PBKDF2-SHA-256, for Windows from 1709 and iOS from 18.
	Modern2023 Flavour = "Modern2023"
)

// Encode writes an identity with its chain. The key and the leaf carry a localKeyID, the issuers none, which is how
// devices tell them apart. The encoder writes no friendly name: devices show the certificate's subject.
func Encode(rand io.Reader, id Identity, password string, f Flavour) ([]byte, error) {
	var encoder *pkcs12.Encoder
	switch f {
	case LegacyDES:
		encoder = pkcs12.LegacyDES
	case Modern2023:
		encoder = pkcs12.Modern2023
	default:
		return nil, fmt.Errorf("encoding PKCS #12: unknown flavour %q; use %s or %s", f, LegacyDES, Modern2023)
	}
	if id.PrivateKey == nil || id.Certificate == nil {
		return nil, fmt.Errorf("encoding PKCS #12: key or certificate is missing")
	}
	out, err := encoder.WithRand(rand).Encode(id.PrivateKey, id.Certificate, id.Chain, password)
	if err != nil {
		return nil, fmt.Errorf("encoding PKCS #12 for %q: %w", id.Certificate.Subject, err)
	}
	return out, nil
}

// NewPassword makes a password of 128 random bits, in base32: every charset carries it, and with 26 characters it is short
// enough for gpgsm, which takes no more than 31.
func NewPassword(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("reading randomness for a password: %w", err)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]), nil
}
