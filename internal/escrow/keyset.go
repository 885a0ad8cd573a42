package escrow

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
)

const (
	// MaxMembers is the most members that a key set has.
	MaxMembers = 64
	// MaxKeySetSize bounds the signed bytes.
	MaxKeySetSize = 512 << 10
	// keySetPrefix separates this use of the root's signature from any other.
	keySetPrefix = "waxseal escrow key set v1\n"
	// fingerprintPrefix stands before the hex of a root's hash.
	fingerprintPrefix = "sha256:"
)

// ErrBadSignature says that a key set is not signed by the root that it names.
var ErrBadSignature = errors.New("the key set's signature does not fit its escrow root")

// WrongRootError says that a key set is signed by another root than the pinned one.
type WrongRootError struct{ Pinned, Got string }

func (e *WrongRootError) Error() string {
	return fmt.Sprintf("the key set is signed by escrow root %s, but %s is pinned", e.Got, e.Pinned)
}

// RollbackError says that a key set is older than one that was seen before.
type RollbackError struct{ Lowest, Got uint64 }

func (e *RollbackError) Error() string {
	return fmt.Sprintf("the key set has serial %d, but serial %d was seen before", e.Got, e.Lowest)
}

// Fingerprint names an escrow root: "sha256:" and the lower-case hex SHA-256 of its Ed25519 public key.
func Fingerprint(root []byte) string {
	sum := sha256.Sum256(root)
	return fingerprintPrefix + hex.EncodeToString(sum[:])
}

// ParseFingerprint accepts what a person types: any case, with or without the prefix, colons and spaces ignored.
func ParseFingerprint(s string) (string, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	text = strings.TrimPrefix(text, fingerprintPrefix)
	text = strings.NewReplacer(":", "", " ", "").Replace(text)
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return "", fmt.Errorf("%q is not a fingerprint: it is sha256: and 64 hex digits", clip(s))
	}
	return fingerprintPrefix + text, nil
}

// SignKeySet signs a valid key set.
func SignKeySet(set KeySet, root ed25519.PrivateKey) (SignedKeySet, error) {
	return SignKeySetWith(set, root)
}

// SignKeySetWith signs with a root that hands out signatures and not its key.
func SignKeySetWith(set KeySet, root crypto.Signer) (SignedKeySet, error) {
	public, ok := root.Public().(ed25519.PublicKey)
	if !ok {
		return SignedKeySet{}, fmt.Errorf("signing the key set: the escrow root is a %T, it must be Ed25519", root.Public())
	}
	if err := set.Check(); err != nil {
		return SignedKeySet{}, fmt.Errorf("signing the key set: %w", err)
	}
	raw, err := json.Marshal(set)
	if err != nil {
		return SignedKeySet{}, fmt.Errorf("signing the key set: %w", err)
	}
	signature, err := root.Sign(nil, signedBytes(raw), crypto.Hash(0))
	if err != nil {
		return SignedKeySet{}, fmt.Errorf("signing the key set: %w", err)
	}
	return SignedKeySet{KeySet: raw, Root: public, Signature: signature}, nil
}

// Verify gives the key set if it is signed by the pinned root, not older than lowestSerial, and well formed.
// An empty pin is an error: to pin at first use is the caller's decision, made with Fingerprint(s.Root).
func (s SignedKeySet) Verify(pinnedFingerprint string, lowestSerial uint64) (KeySet, error) {
	if pinnedFingerprint == "" {
		return KeySet{}, errors.New("verifying the key set: no escrow root is pinned")
	}
	if got := Fingerprint(s.Root); got != pinnedFingerprint {
		return KeySet{}, &WrongRootError{Pinned: pinnedFingerprint, Got: got}
	}
	if len(s.KeySet) > MaxKeySetSize {
		return KeySet{}, fmt.Errorf("the key set is longer than %d bytes", MaxKeySetSize)
	}
	if len(s.Root) != ed25519.PublicKeySize || !ed25519.Verify(s.Root, signedBytes(s.KeySet), s.Signature) {
		return KeySet{}, ErrBadSignature
	}
	var set KeySet
	if err := decodeStrict(s.KeySet, &set); err != nil {
		return KeySet{}, fmt.Errorf("reading the key set: %w", err)
	}
	if err := set.Check(); err != nil {
		return KeySet{}, fmt.Errorf("reading the key set: %w", err)
	}
	if set.Serial < lowestSerial {
		return KeySet{}, &RollbackError{Lowest: lowestSerial, Got: set.Serial}
	}
	return set, nil
}

func signedBytes(raw []byte) []byte { return append([]byte(keySetPrefix), raw...) }

// Check reports what is wrong with a key set.
func (k KeySet) Check() error {
	if k.Serial == 0 {
		return errors.New("serial 0: the first key set has serial 1")
	}
	if len(k.Members) > MaxMembers {
		return fmt.Errorf("%d members: at most %d are allowed", len(k.Members), MaxMembers)
	}
	seen := map[string]bool{}
	for i, m := range k.Members {
		if err := m.Check(); err != nil {
			return fmt.Errorf("member %d: %w", i+1, err)
		}
		if seen[m.ID] {
			return fmt.Errorf("member %d: %s is listed twice", i+1, m.ID)
		}
		seen[m.ID] = true
	}
	if len(k.Connectors()) == 0 {
		return errors.New("no connector is a member")
	}
	return nil
}

// Check reports what is wrong with a member.
func (m Member) Check() error {
	if len(m.PublicKey) > maxPublicKey || m.ID != memberID(m.PublicKey) {
		return fmt.Errorf("id %q is not the SHA-256 of the public key", clip(m.ID))
	}
	if m.Kind != MemberConnector && m.Kind != MemberRecovery {
		return fmt.Errorf("kind %q: it is %q or %q", clip(string(m.Kind)), MemberConnector, MemberRecovery)
	}
	if len(m.Name) > 128 || strings.ContainsFunc(m.Name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("name: at most 128 bytes, printable")
	}
	kem, err := m.Suite.kem()
	if err != nil {
		return err
	}
	if _, err := kem.NewPublicKey(m.PublicKey); err != nil {
		return fmt.Errorf("public key does not fit its suite %s", m.Suite)
	}
	return nil
}

// Connectors are the members that may get keys which a connector made: everybody but the recovery key.
func (k KeySet) Connectors() []Member {
	var out []Member
	for _, m := range k.Members {
		if m.Kind == MemberConnector {
			out = append(out, m)
		}
	}
	return out
}

// Member gives the member of that id.
func (k KeySet) Member(id string) (Member, bool) {
	for _, m := range k.Members {
		if m.ID == id {
			return m, true
		}
	}
	return Member{}, false
}

// ParseSignedKeySet reads the JSON form, bounded. It verifies nothing.
func ParseSignedKeySet(data []byte) (SignedKeySet, error) {
	if len(data) > MaxKeySetSize+4096 {
		return SignedKeySet{}, fmt.Errorf("the key set is longer than %d bytes", MaxKeySetSize)
	}
	var s SignedKeySet
	if err := decodeStrict(data, &s); err != nil {
		return SignedKeySet{}, fmt.Errorf("reading the key set: %w", err)
	}
	return s, nil
}

// decodeStrict refuses unknown fields and anything behind the value.
func decodeStrict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}
