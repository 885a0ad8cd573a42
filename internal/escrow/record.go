package escrow

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

const (
	// recordVersion is the only version of a record.
	recordVersion = 1
	// MaxRecordSize bounds a record in JSON form.
	MaxRecordSize = 1 << 20
	// maxSecret bounds the sealed key and chain.
	maxSecret = 256 << 10
	// maxChain bounds the certificates of a chain.
	maxChain = 16
	// dataKeySize is AES-256.
	dataKeySize = 32
	// nonceSize is that of AES-GCM.
	nonceSize = 12

	contentInfo = "waxseal escrow record v1"
	wrapInfo    = "waxseal escrow wrap v1"
	ownerPrefix = "urn:waxseal:"
)

// ErrOpen says that a record does not open: it was changed, or sealed under another name. It does not say which part.
var ErrOpen = errors.New("the sealed record does not open: it was altered or belongs to another key")

// ErrNotRecipient says that a record is not sealed to this key.
var ErrNotRecipient = errors.New("the record is not sealed to this key")

var (
	recordID   = regexp.MustCompile(`^[0-9a-z][0-9a-z-]{14,63}$`)
	hexSHA256  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	ownerChars = regexp.MustCompile(`^urn:waxseal:(user|enrolment):[0-9A-Za-z._~-]{1,128}$`)
)

// Secret is what a record protects. Printed in any way it shows nothing.
type Secret struct {
	PrivateKey []byte   // PKCS#8
	Chain      [][]byte // DER, leaf first
}

// String hides the secret.
func (Secret) String() string { return "escrow secret" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "escrow secret" }

// Format hides the secret from every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "escrow secret") }

// MarshalJSON refuses: a secret is only ever sealed.
func (Secret) MarshalJSON() ([]byte, error) {
	return nil, errors.New("an escrow secret is never part of a message")
}

// NewID makes a record id: 128 random bits in lower-case hex.
func NewID(rand io.Reader) (string, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(rand, b); err != nil {
		return "", fmt.Errorf("making a record id: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// Seal seals a secret to members of a verified key set. The secret must be whole: a leaf, its key, and the leaf's hash.
// The wraps use the system's randomness (HPKE takes no other).
func Seal(rand io.Reader, id, owner, certSHA256 string, s Secret, to []Member) (Record, error) {
	r := Record{Version: recordVersion, ID: id, Owner: owner, CertSHA256: certSHA256}
	if err := r.checkNames(); err != nil {
		return Record{}, fmt.Errorf("sealing: %w", err)
	}
	if err := s.check(certSHA256); err != nil {
		return Record{}, fmt.Errorf("sealing: %w", err)
	}
	random := make([]byte, dataKeySize+nonceSize)
	if _, err := io.ReadFull(rand, random); err != nil {
		return Record{}, fmt.Errorf("sealing: reading randomness: %w", err)
	}
	dataKey, nonce := random[:dataKeySize], random[dataKeySize:]
	defer clear(dataKey)
	plaintext, err := asn1.Marshal(s)
	if err != nil {
		return Record{}, fmt.Errorf("sealing: encoding the secret: %w", err)
	}
	if len(plaintext) > maxSecret {
		return Record{}, fmt.Errorf("sealing: key and chain are longer than %d bytes", maxSecret)
	}
	r.Nonce = nonce
	r.Ciphertext = gcm(dataKey).Seal(nil, nonce, plaintext, r.contentAAD())
	r.Wraps, err = r.wrapAll(dataKey, to)
	return r, err
}

func (r Record) wrapAll(dataKey []byte, to []Member) ([]Wrap, error) {
	if len(to) == 0 || len(to) > MaxMembers {
		return nil, fmt.Errorf("sealing: to %d members: 1 to %d are allowed", len(to), MaxMembers)
	}
	wraps := make([]Wrap, 0, len(to))
	for _, m := range to {
		if err := m.Check(); err != nil {
			return nil, fmt.Errorf("sealing to member %q: %w", clip(m.Name), err)
		}
		w := Wrap{Member: m.ID, Suite: m.Suite}
		var err error
		if w.Enc, w.Ciphertext, err = sealTo(m, wrapInfo, r.wrapAAD(w), dataKey); err != nil {
			return nil, fmt.Errorf("sealing to member %q: %w", clip(m.Name), err)
		}
		wraps = append(wraps, w)
	}
	return wraps, nil
}

// Open gives the secret of a record that is sealed to key. It checks that the private key belongs to the leaf and that
// the leaf is the certificate that the record names.
func Open(r Record, key PrivateKey) (Secret, error) {
	if err := r.Check(); err != nil {
		return Secret{}, err
	}
	dataKey, err := r.dataKey(key)
	if err != nil {
		return Secret{}, err
	}
	defer clear(dataKey)
	return r.openContent(dataKey)
}

// Rewrap seals the record's data key to other members. Id, names and ciphertext stay; the old wraps go.
func Rewrap(_ io.Reader, r Record, key PrivateKey, to []Member) (Record, error) {
	if err := r.Check(); err != nil {
		return Record{}, err
	}
	dataKey, err := r.dataKey(key)
	if err != nil {
		return Record{}, err
	}
	defer clear(dataKey)
	if _, err := r.openContent(dataKey); err != nil {
		return Record{}, err
	}
	r.Wraps, err = r.wrapAll(dataKey, to)
	return r, err
}

func (r Record) dataKey(key PrivateKey) ([]byte, error) {
	if key.IsZero() {
		return nil, ErrNotRecipient
	}
	id := key.ID()
	for _, w := range r.Wraps {
		if w.Member != id || w.Suite != key.suite {
			continue
		}
		dataKey, err := openWith(key, wrapInfo, w.Enc, r.wrapAAD(w), w.Ciphertext)
		if err != nil || len(dataKey) != dataKeySize {
			return nil, ErrOpen
		}
		return dataKey, nil
	}
	return nil, ErrNotRecipient
}

func (r Record) openContent(dataKey []byte) (Secret, error) {
	plaintext, err := gcm(dataKey).Open(nil, r.Nonce, r.Ciphertext, r.contentAAD())
	if err != nil {
		return Secret{}, ErrOpen
	}
	var s Secret
	if rest, err := asn1.Unmarshal(plaintext, &s); err != nil || len(rest) != 0 {
		return Secret{}, errors.New("the sealed record opens, but holds no key and chain")
	}
	if err := s.check(r.CertSHA256); err != nil {
		return Secret{}, fmt.Errorf("the sealed record opens, but %w", err)
	}
	return s, nil
}

// SealedTo tells whether the record has a wrap for that member.
func (r Record) SealedTo(memberID string) bool {
	for _, w := range r.Wraps {
		if w.Member == memberID {
			return true
		}
	}
	return false
}

// contentAAD binds the record's names to its ciphertext; wrapAAD binds them, the suite and the member to each wrap.
// The parts hold no newline (Check), so the encoding is unambiguous.
func (r Record) contentAAD() []byte {
	return []byte(strings.Join([]string{contentInfo, r.ID, r.Owner, r.CertSHA256}, "\n"))
}

func (r Record) wrapAAD(w Wrap) []byte {
	return []byte(strings.Join([]string{wrapInfo, r.ID, r.Owner, r.CertSHA256, string(w.Suite), w.Member}, "\n"))
}

// Check reports what is wrong with the form of a record. It needs no key.
func (r Record) Check() error {
	if err := r.checkNames(); err != nil {
		return err
	}
	if len(r.Nonce) != nonceSize {
		return fmt.Errorf("record %s: nonce of %d bytes, it must have %d", r.ID, len(r.Nonce), nonceSize)
	}
	if len(r.Ciphertext) > maxSecret+64 {
		return fmt.Errorf("record %s: ciphertext longer than %d bytes", r.ID, maxSecret)
	}
	if len(r.Wraps) == 0 || len(r.Wraps) > MaxMembers {
		return fmt.Errorf("record %s: %d wraps: 1 to %d are allowed", r.ID, len(r.Wraps), MaxMembers)
	}
	seen := map[string]bool{}
	for _, w := range r.Wraps {
		if err := w.check(); err != nil {
			return fmt.Errorf("record %s: %w", r.ID, err)
		}
		if seen[w.Member] {
			return fmt.Errorf("record %s: two wraps for one member", r.ID)
		}
		seen[w.Member] = true
	}
	return nil
}

func (w Wrap) check() error {
	if !hexSHA256.MatchString(w.Member) {
		return fmt.Errorf("wrap for %q: a member is named by 64 hex digits", clip(w.Member))
	}
	if _, err := w.Suite.kem(); err != nil {
		return err
	}
	if len(w.Enc) > maxPublicKey || len(w.Ciphertext) > maxPublicKey {
		return fmt.Errorf("wrap for %s is too long", w.Member)
	}
	return nil
}

func (r Record) checkNames() error {
	if r.Version != recordVersion {
		return fmt.Errorf("record of version %d: only version %d is known", r.Version, recordVersion)
	}
	if !recordID.MatchString(r.ID) {
		return fmt.Errorf("record id %q: it is 15 to 64 lower-case letters, digits and hyphens", clip(r.ID))
	}
	if !ownerChars.MatchString(r.Owner) {
		return fmt.Errorf("record %s: owner %q: it is %suser: or %senrolment: and an id", r.ID, clip(r.Owner), ownerPrefix, ownerPrefix)
	}
	if !hexSHA256.MatchString(r.CertSHA256) {
		return fmt.Errorf("record %s: certificate hash %q: it is 64 lower-case hex digits", r.ID, clip(r.CertSHA256))
	}
	return nil
}

// IsOwner tells whether a record may belong to that name.
func IsOwner(owner string) bool { return ownerChars.MatchString(owner) }

// ParseRecord reads the JSON form, bounded and strict, and checks it.
func ParseRecord(data []byte) (Record, error) {
	if len(data) > MaxRecordSize {
		return Record{}, fmt.Errorf("the record is longer than %d bytes", MaxRecordSize)
	}
	var r Record
	if err := decodeStrict(data, &r); err != nil {
		return Record{}, fmt.Errorf("reading a sealed record: %w", err)
	}
	return r, r.Check()
}

// check reports what is wrong with a secret; no error quotes it.
func (s Secret) check(certSHA256 string) error {
	if len(s.Chain) == 0 || len(s.Chain) > maxChain {
		return fmt.Errorf("its chain has %d certificates: 1 to %d are allowed", len(s.Chain), maxChain)
	}
	sum := sha256.Sum256(s.Chain[0])
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(certSHA256)) != 1 {
		return fmt.Errorf("its leaf is not the certificate %s", clip(certSHA256))
	}
	leaf, err := x509.ParseCertificate(s.Chain[0])
	if err != nil {
		return fmt.Errorf("its leaf does not parse: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(s.PrivateKey)
	if err != nil {
		return errors.New("its private key is no PKCS#8 key")
	}
	signer, ok := key.(interface{ Public() crypto.PublicKey })
	if !ok {
		return fmt.Errorf("its private key is a %T, which has no public half", key)
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return errors.New("its private key does not belong to its certificate")
	}
	return nil
}

// gcm is AES-256-GCM under a key of the right size.
func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("escrow: data key of a wrong size: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("escrow: " + err.Error())
	}
	return aead
}
