// Package ca holds the words that the adapters of certification authorities share. The port itself is declared by the
// worker, which uses it; catest is the suite that every adapter passes.
package ca

import (
	"crypto"
	"errors"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/profiles"
)

// ErrForeign says that a certificate was not issued by the CA that is asked about it.
var ErrForeign = errors.New("the certificate was not issued by this CA")

// RefusedError says that the CA will not issue, and that asking again cannot help.
type RefusedError struct{ Why string }

func (e *RefusedError) Error() string { return "the CA refuses: " + e.Why }

// Refuse makes a RefusedError.
func Refuse(format string, args ...any) error {
	return &RefusedError{Why: fmt.Sprintf(format, args...)}
}

// Intent is one certificate that shall exist. The same ID with the same key means the same certificate.
type Intent struct {
	ID        string
	PublicKey crypto.PublicKey
	Template  string // empty: the CA's default
	Subject   []byte // DER RDNSequence
	SANs      []profiles.SubjectAlternativeName
	// KeyUsage and ExtendedKeyUsage are names or, for the latter, OIDs; empty: the template's own.
	KeyUsage         []string
	ExtendedKeyUsage []string
	Validity         time.Duration
}
