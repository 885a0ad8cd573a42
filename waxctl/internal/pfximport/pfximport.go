// Package pfximport opens PFX files, checks what is in them against the user, and seals each key before it leaves the
// machine. The password and the plain key never go further than this package.
package pfximport

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/profiles"
)

// Owner answers whose an address is: the UPN of the user who has it now, or empty.
type Owner func(address string) (upn string)

// User is the person whose certificates are imported.
type User struct {
	ID, UPN string
	Spec    profiles.User
}

// Importer holds what all files of one call share.
type Importer struct {
	User    User
	Owner   Owner
	Members []escrow.Member
	Rand    io.Reader
	// Purpose overrides the derived one; empty derives it.
	Purpose profiles.Purpose
}

// Sealed is one certificate of a file, ready to be sent.
type Sealed struct {
	Request api.ImportRequest
	Subject string
	// Warning says that the given purpose does not fit the key usage.
	Warning string
}

// Open reads one file and seals every identity in it, or none: the error is a sentence that says what is wrong.
func (im Importer) Open(file []byte, password string) ([]Sealed, error) {
	identities, err := pfx.Decode(file, password)
	if err != nil {
		return nil, err
	}
	var out []Sealed
	for _, id := range identities {
		s, err := im.seal(id)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name(id.Certificate), err)
		}
		out = append(out, s)
	}
	return out, nil
}

func name(c *x509.Certificate) string {
	return fmt.Sprintf("%q (serial %x)", profiles.NameString(c.Subject), c.SerialNumber)
}

func (im Importer) seal(id pfx.Identity) (Sealed, error) {
	if err := im.checkAddresses(id.Certificate); err != nil {
		return Sealed{}, err
	}
	purpose, warning := im.purpose(id.Certificate)
	key, err := x509.MarshalPKCS8PrivateKey(id.PrivateKey)
	if err != nil {
		return Sealed{}, errors.New("its private key is of a kind that cannot be stored; RSA and EC keys can")
	}
	secret := escrow.Secret{PrivateKey: key, Chain: [][]byte{id.Certificate.Raw}}
	var issuers [][]byte
	for _, c := range id.Chain {
		secret.Chain, issuers = append(secret.Chain, c.Raw), append(issuers, c.Raw)
	}
	recordID, err := escrow.NewID(im.Rand)
	if err != nil {
		return Sealed{}, fmt.Errorf("choose a record id: %w", err)
	}
	sum := sha256.Sum256(id.Certificate.Raw)
	record, err := escrow.Seal(im.Rand, recordID, link.UserURN(im.User.ID), hex.EncodeToString(sum[:]), secret, im.Members)
	if err != nil {
		return Sealed{}, fmt.Errorf("seal its private key: %w", err)
	}
	return Sealed{Subject: profiles.NameString(id.Certificate.Subject), Warning: warning, Request: api.ImportRequest{Record: record,
		Certificate: id.Certificate.Raw, Chain: issuers, User: im.User.UPN, Purpose: purpose}}, nil
}

// AddressError says why the addresses of a certificate do not fit the user; Hint is what to do.
type AddressError struct{ Problem, Hint string }

func (e *AddressError) Error() string { return e.Problem }

// checkAddresses: every address belongs to the user, now or formerly. Another user's is refused, so that nobody gets a
// colleague's mail by a mistyped --user; an unknown one is refused with the line that would allow it.
func (im Importer) checkAddresses(c *x509.Certificate) error {
	addresses := profiles.CertificateAddresses(c)
	if len(addresses) == 0 {
		return &AddressError{Problem: "it carries no mail address; a certificate for S/MIME has an rfc822Name (or emailAddress in its subject)"}
	}
	var unknown []string
	for _, a := range addresses {
		if current, former := im.User.Spec.Owns(a); current || former {
			continue
		}
		if other := im.Owner(a); other != "" && !strings.EqualFold(other, im.User.UPN) {
			return &AddressError{Problem: fmt.Sprintf("its address %s belongs to %s, not to %s", a, other, im.User.UPN),
				Hint: "import it with --user " + other}
		}
		unknown = append(unknown, quoted(a))
	}
	if len(unknown) > 0 {
		return &AddressError{Problem: fmt.Sprintf("its address %s is not one of %s", strings.Join(unknown, ", "), im.User.UPN),
			Hint: fmt.Sprintf("if it was theirs once, add this line to the User's spec and apply it: formerAddresses: [%s]", strings.Join(unknown, ", "))}
	}
	return nil
}

// plainAddress is an address that YAML and a terminal take as it is.
var plainAddress = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*@[0-9A-Za-z.-]+$`)

// quoted keeps what a certificate says from being more than an address in the line that the hint proposes.
func quoted(address string) string {
	if plainAddress.MatchString(address) {
		return address
	}
	return strconv.Quote(address)
}

func (im Importer) purpose(c *x509.Certificate) (p profiles.Purpose, warning string) {
	derived := profiles.DerivePurpose(c)
	if im.Purpose == "" || im.Purpose == derived {
		return derived, ""
	}
	return im.Purpose, fmt.Sprintf("its key usage says %s, you said %s", derived, im.Purpose)
}

// Explain turns an error of Open into a sentence and a hint.
func Explain(err error) (sentence, hint string) {
	var address *AddressError
	switch {
	case errors.Is(err, pfx.ErrWrongPassword):
		return "the password does not open it; nothing of this file was stored", "give the file's own password with --password-file; a line end after it is ignored"
	case errors.As(err, &address):
		return err.Error(), address.Hint
	default:
		return err.Error(), ""
	}
}
