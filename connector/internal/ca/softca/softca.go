// Package softca is the built-in CA: issuing CAs under a root, templates for mail certificates, revocation lists and OCSP
// answers. It refuses every use that would let a mail certificate pass for a server's or a program's.
//
// The journal (softca.jsonl) knows each certificate before anybody else does: "issued" entries are on the disk before
// Issue returns, keyed by intent, and revocations are entries of their own.
//
//	crash before "issued"            nothing was issued: what was signed is in nobody's hands, and is asked for again
//	crash after it                   the same certificate again
//	crash after "revoked"            the certificate is in the next revocation list, which is made at the start
package softca

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
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
	// Template is the template of profiles that name none.
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
	keys    *keyring.Keyring
	journal *journal.Journal
	issuing sync.Mutex
	book    *book         // nil until a publisher has loaded it
	changed chan struct{} // wakes the publisher
}

// issued is a journal entry.
type issued struct {
	Intent      string    `json:"intent"`
	PublicKey   string    `json:"publicKey"` // SHA-256 of the SubjectPublicKeyInfo
	Serial      string    `json:"serial"`
	Certificate []byte    `json:"certificate"`
	At          time.Time `json:"at"`
	// Issuer names the issuing CA; empty, in old entries: the first.
	Issuer   keyring.AuthorityName `json:"issuer,omitempty"`
	NotAfter time.Time             `json:"notAfter,omitzero"`
}

// revoked is a journal entry.
type revoked struct {
	Serial string    `json:"serial"`
	Reason int       `json:"reason"`
	At     time.Time `json:"at"`
	// Issuer names the issuing CA; empty, in old entries: the first.
	Issuer   keyring.AuthorityName `json:"issuer,omitempty"`
	NotAfter time.Time             `json:"notAfter,omitzero"`
}

// New opens the CA. Its clock, randomness and PKI URL are the keyring's; the server may tell the URL late.
func New(k *keyring.Keyring, j *journal.Journal) *CA {
	return &CA{keys: k, journal: j, changed: make(chan struct{}, 1)}
}

// Info says what the CA offers.
func (c *CA) Info() link.CA {
	info, err := Describe(c.keys)
	if err != nil {
		return link.CA{Name: Name, Kind: Name}
	}
	return info
}

// Describe says what the CA of a keyring offers, without opening its journal. The root is the last of the chain: it is what
// devices trust. Former issuing CAs stay in it, since their certificates live on.
func Describe(k *keyring.Keyring) (link.CA, error) {
	f, err := k.SMIME()
	if err != nil {
		return link.CA{}, err
	}
	info := link.CA{Name: Name, Kind: Name, Certificate: f.Current().Certificate.Raw, Templates: templateNames()}
	for _, former := range f.Issuing[:len(f.Issuing)-1] {
		info.Chain = append(info.Chain, former.Certificate.Raw)
	}
	if f.Root != nil {
		info.Chain = append(info.Chain, f.Root.Certificate.Raw)
	}
	return info, nil
}

// Test looks at the CA's own certificates; all else is on this machine.
func (c *CA) Test(context.Context) []link.CAFinding {
	f, err := c.keys.SMIME()
	if err != nil {
		return []link.CAFinding{{Check: "certificate", Detail: err.Error()}}
	}
	end, now := f.Current().Certificate.NotAfter, c.keys.Now()
	finding := link.CAFinding{Check: "certificate", OK: now.Before(end), Detail: "the issuing CA's own certificate ends on " + end.Format(time.DateOnly)}
	if f.Root != nil && now.Add(MaxValidity).After(end) {
		finding.Detail += "; certificates end with it at the latest, so run waxseal-connector ca roll"
	}
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
	family, err := c.keys.SMIME()
	if err != nil {
		return nil, err
	}
	if found {
		return withChain(family, known.Certificate)
	}
	return c.sign(in, keyHash, family)
}

func withChain(f keyring.Family, certificate []byte) ([][]byte, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	issuer := f.IssuerOf(cert)
	if issuer == nil {
		return nil, fmt.Errorf("the issuing CA of certificate %x is not in this keyring", cert.SerialNumber)
	}
	return append([][]byte{certificate}, f.ChainOf(issuer)...), nil
}

func (c *CA) sign(in ca.Intent, keyHash string, f keyring.Family) ([][]byte, error) {
	issuer := f.Current()
	t, err := c.template(in, issuer)
	if err != nil {
		return nil, err
	}
	der, err := issuer.Sign(t, in.PublicKey)
	if err != nil {
		return nil, err
	}
	entry := issued{Intent: in.ID, PublicKey: keyHash, Serial: t.SerialNumber.Text(16), Certificate: der, At: c.keys.Now().UTC(),
		Issuer: issuer.Name, NotAfter: t.NotAfter}
	if err := c.journal.Put(intentKey(in.ID), entry); err != nil {
		return nil, err
	}
	c.note(entry.Serial, fact{CA: issuer.Name, NotAfter: t.NotAfter})
	return append([][]byte{der}, f.ChainOf(issuer)...), nil
}

// Revoke notes the revocation of a certificate of this CA, whichever connector and issuing CA it came from. Repeated, it
// answers with the first time.
func (c *CA) Revoke(_ context.Context, certificate []byte, reason int, at time.Time) (time.Time, error) {
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return time.Time{}, ca.Refuse("what shall be revoked is no certificate: %v", err)
	}
	family, err := c.keys.SMIME()
	if err != nil {
		return time.Time{}, err
	}
	issuer := family.IssuerOf(cert)
	if issuer == nil {
		return time.Time{}, ca.ErrForeign
	}
	if !validReason(reason) {
		return time.Time{}, ca.Refuse("reason code %d is not one for a revocation (RFC 5280 section 5.3.1)", reason)
	}
	serial := cert.SerialNumber.Text(16)
	c.issuing.Lock()
	defer c.issuing.Unlock()
	if known, err := c.revokedAt(serial); err != nil || !known.IsZero() {
		return known, err
	}
	entry := revoked{Serial: serial, Reason: reason, At: at.UTC().Truncate(time.Second), Issuer: issuer.Name, NotAfter: cert.NotAfter}
	if err := c.journal.Put(revokedKey(serial), entry); err != nil {
		return time.Time{}, err
	}
	c.note(serial, entry.fact())
	return entry.At, nil
}

// revokedAt is when a certificate was revoked, here or by another connector; zero: it was not. The caller holds the lock.
func (c *CA) revokedAt(serial string) (time.Time, error) {
	if c.book != nil {
		return c.book.facts[serial].At, nil
	}
	var known revoked
	_, err := c.journal.Get(revokedKey(serial), &known)
	return known.At, err
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
