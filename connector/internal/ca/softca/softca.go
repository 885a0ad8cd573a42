// Package softca is the built-in CA. Its only template makes S/MIME certificates; it refuses every use that would let a
// mail certificate pass for a server's or a program's.
//
// The journal (softca.jsonl) knows each certificate before anybody else does: "issued" entries are on the disk before
// Issue returns, keyed by intent, and revocations are entries of their own.
package softca

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

const (
	// Name is what profiles call this CA.
	Name = "softca"
	// Template is the only template.
	Template = "smime-signing"
	// MaxValidity is the longest life of a leaf (CA/Browser Forum S/MIME BR section 6.3.2: 825 days; one is left for
	// clocks).
	MaxValidity = 824 * 24 * time.Hour
	// defaultValidity is used when the intent names none.
	defaultValidity = 365 * 24 * time.Hour
	// backdate lets devices with a slow clock use a new certificate at once.
	backdate = 10 * time.Minute
	// minRSABits is the smallest key that is certified.
	minRSABits = 2048
)

// CA is the built-in CA.
type CA struct {
	authority *keyring.Authority
	journal   *journal.Journal
	rand      io.Reader
	clock     func() time.Time
	pkiURL    func() string
	issuing   sync.Mutex
}

// issued is a journal entry.
type issued struct {
	Intent      string    `json:"intent"`
	PublicKey   string    `json:"publicKey"` // SHA-256 of the SubjectPublicKeyInfo
	Serial      string    `json:"serial"`
	Certificate []byte    `json:"certificate"`
	At          time.Time `json:"at"`
}

// revoked is a journal entry.
type revoked struct {
	Serial string    `json:"serial"`
	Reason int       `json:"reason"`
	At     time.Time `json:"at"`
}

// New opens the CA. pkiURL is asked at each issue: the server may tell it late.
func New(a *keyring.Authority, j *journal.Journal, rand io.Reader, clock func() time.Time, pkiURL func() string) *CA {
	return &CA{authority: a, journal: j, rand: rand, clock: clock, pkiURL: pkiURL}
}

// Info says what the CA offers.
func (c *CA) Info() link.CA { return Describe(c.authority) }

// Describe says what the CA of that key offers, without opening its journal.
func Describe(a *keyring.Authority) link.CA {
	return link.CA{Name: Name, Kind: "softca", Certificate: a.Certificate.Raw, Templates: []string{Template}}
}

// Test looks at the CA's own certificate; all else is on this machine.
func (c *CA) Test(context.Context) []link.CAFinding {
	end := c.authority.Certificate.NotAfter
	finding := link.CAFinding{Check: "certificate", OK: c.clock().Before(end), Detail: "the CA's own certificate ends on " + end.Format(time.DateOnly)}
	return []link.CAFinding{finding}
}

// Issue gives the certificate of an intent with its chain, leaf first. An intent that the journal knows gets the same
// certificate again; with another key it is refused.
func (c *CA) Issue(_ context.Context, in ca.Intent) ([][]byte, error) {
	keyHash, err := publicKeyHash(in.PublicKey)
	if err != nil {
		return nil, err
	}
	c.issuing.Lock()
	defer c.issuing.Unlock()
	var known issued
	found, err := c.journal.Get(intentKey(in.ID), &known)
	if err != nil {
		return nil, err
	}
	if found && known.PublicKey != keyHash {
		return nil, ca.Refuse("intent %s was issued for another key", in.ID)
	}
	if found {
		return [][]byte{known.Certificate, c.authority.Certificate.Raw}, nil
	}
	return c.sign(in, keyHash)
}

func (c *CA) sign(in ca.Intent, keyHash string) ([][]byte, error) {
	template, err := c.template(in)
	if err != nil {
		return nil, err
	}
	der, err := c.authority.Sign(template, in.PublicKey)
	if err != nil {
		return nil, err
	}
	entry := issued{Intent: in.ID, PublicKey: keyHash, Serial: template.SerialNumber.Text(16), Certificate: der, At: c.clock().UTC()}
	if err := c.journal.Put(intentKey(in.ID), entry); err != nil {
		return nil, err
	}
	return [][]byte{der, c.authority.Certificate.Raw}, nil
}

// Revoke notes the revocation of a certificate of this CA. Repeated, it answers with the first time.
func (c *CA) Revoke(_ context.Context, certificate []byte, reason int, at time.Time) (time.Time, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return time.Time{}, ca.Refuse("what shall be revoked is no certificate: %v", err)
	}
	if err := cert.CheckSignatureFrom(c.authority.Certificate); err != nil {
		return time.Time{}, ca.ErrForeign
	}
	if !validReason(reason) {
		return time.Time{}, ca.Refuse("reason code %d is not one for a revocation (RFC 5280 section 5.3.1)", reason)
	}
	serial := cert.SerialNumber.Text(16)
	c.issuing.Lock()
	defer c.issuing.Unlock()
	var known revoked
	found, err := c.journal.Get(revokedKey(serial), &known)
	if err != nil || found {
		return known.At, err
	}
	entry := revoked{Serial: serial, Reason: reason, At: at.UTC().Truncate(time.Second)}
	return entry.At, c.journal.Put(revokedKey(serial), entry)
}

// validReason is CRLReason without removeFromCRL (8) and the unused 7.
func validReason(code int) bool { return code >= 0 && code <= 10 && code != 7 && code != 8 }

func intentKey(id string) string      { return "issued/" + id }
func revokedKey(serial string) string { return "revoked/" + serial }

// publicKeyHash names a key; only RSA keys are certified, since every mail program can use them.
func publicKeyHash(public any) (string, error) {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return "", ca.Refuse("the key is a %T: only RSA keys are certified", public)
	}
	if key.N.BitLen() < minRSABits {
		return "", ca.Refuse("the RSA key has %d bits: at least %d are needed", key.N.BitLen(), minRSABits)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encoding the public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
