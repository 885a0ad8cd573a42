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

var (
	// ErrUnknown says that the connector has no CA of the name that is asked for.
	ErrUnknown = errors.New("the connector has no CA of that name")
	// ErrForeign says that a certificate was not issued by the CA that is asked about it.
	ErrForeign = errors.New("the certificate was not issued by this CA")
	// ErrPending says that the CA took the request and has not decided yet (somebody has to approve it): ask again later.
	ErrPending = errors.New("the CA has not decided on the request yet: it may wait for somebody's approval there")
	// ErrCannotRevoke says that the CA's protocol has no word for a revocation, or the connector no right to it.
	ErrCannotRevoke = errors.New("this CA takes no revocation from a connector: revoke the certificate at the CA by hand")
)

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
	// Signer is the private half where the connector made the key; nil where the device has it.
	Signer crypto.Signer
	// CSR is the device's request (DER) where the device has the key; its signature was checked, its names were not.
	CSR      []byte
	Template string // empty: the CA's default
	Subject  []byte // DER RDNSequence
	SANs     []profiles.SubjectAlternativeName
	// KeyUsage and ExtendedKeyUsage are names or, for the latter, OIDs; empty: the template's own.
	KeyUsage         []string
	ExtendedKeyUsage []string
	Validity         time.Duration
}
