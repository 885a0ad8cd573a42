// Package pfx reads and writes PKCS #12 files (RFC 7292): the keys that people bring along and that devices install.
//
// Reading is done here, because no library does it: files from NSS are BER, Java's hold several keys, and a hostile
// file may ask for minutes of key derivation. Writing is go-pkcs12's, to which this package is the one door.
package pfx

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// MaxSize is the longest file that is looked at.
const MaxSize = 4 << 20

// MaxIterations is how many key derivation rounds a whole file may ask for. NSS writes 600,000 for each of its parts.
const MaxIterations = 5_000_000

var (
	// ErrWrongPassword says that the file does not open with the password.
	ErrWrongPassword = errors.New("wrong password for the PKCS #12 file")
	// ErrNoKey says that there are certificates at most.
	ErrNoKey = errors.New("the PKCS #12 file holds no private key")
	// ErrMalformed says that this is not a PKCS #12 file, or a damaged one.
	ErrMalformed = errors.New("not a valid PKCS #12 file")
)

// UnsupportedError names what a file uses and this package does not know.
type UnsupportedError struct{ Algorithm string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("the PKCS #12 file uses %s, which is not supported", e.Algorithm)
}

// KeyMismatchError says that a private key has no certificate with its public key in the file, or none that is tied to it.
type KeyMismatchError struct {
	// FriendlyName is the key's name in the file, often empty.
	FriendlyName string
	// Certificates are the subjects of the certificates that were found.
	Certificates []string
	// Tied: localKeyID, else friendlyName, must be the same on both (DecodeTied).
	Tied bool
}

func (e *KeyMismatchError) Error() string {
	key := "the private key"
	if e.FriendlyName != "" {
		key = fmt.Sprintf("the private key %q", e.FriendlyName)
	}
	if len(e.Certificates) == 0 {
		return key + " has no certificate in the PKCS #12 file"
	}
	by := ""
	if e.Tied {
		by = " by localKeyID, else friendlyName, which must be the same on both"
	}
	return fmt.Sprintf("%s belongs to none of the certificates in the PKCS #12 file%s (%s)", key, by, printable(strings.Join(e.Certificates, "; ")))
}

// printable keeps what a file says from driving the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// Identity is a private key with its certificate.
type Identity struct {
	PrivateKey  crypto.PrivateKey
	Certificate *x509.Certificate
	// Chain is the issuers that the file holds, the nearest first.
	Chain        []*x509.Certificate
	FriendlyName string
}
