package escrow

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// seedSize is the keying material that a key pair is derived from (RFC 9180 section 7.1.3: at least as long as a
// private key).
const seedSize = 64

// maxPublicKey bounds a member's public key; the hybrid one has 1216 bytes.
const maxPublicKey = 4096

// kem is the key encapsulation of the suite. Both suites use HKDF-SHA256 and AES-256-GCM (RFC 9180 section 7).
func (s Suite) kem() (hpke.KEM, error) {
	switch s {
	case SuiteHybrid:
		return hpke.MLKEM768X25519(), nil
	case SuiteP256:
		return hpke.DHKEM(ecdh.P256()), nil
	}
	return nil, fmt.Errorf("unknown suite %q: %q and %q are known", clip(string(s)), SuiteHybrid, SuiteP256)
}

// PrivateKey opens what was sealed to its member. It never shows itself: printed in any way it says "escrow key".
type PrivateKey struct {
	suite Suite
	key   hpke.PrivateKey
}

// GenerateKey makes a key from the randomness given.
func GenerateKey(rand io.Reader, suite Suite) (PrivateKey, error) {
	kem, err := suite.kem()
	if err != nil {
		return PrivateKey{}, err
	}
	seed := make([]byte, seedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return PrivateKey{}, fmt.Errorf("reading randomness for an escrow key: %w", err)
	}
	key, err := kem.DeriveKeyPair(seed)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("making an escrow key: %w", err)
	}
	return PrivateKey{suite: suite, key: key}, nil
}

// Member is the public half, as it stands in a key set.
func (k PrivateKey) Member(kind MemberKind, name string) Member {
	public := k.key.PublicKey().Bytes()
	return Member{ID: memberID(public), Kind: kind, Name: name, Suite: k.suite, PublicKey: public}
}

// IsZero tells whether k is no key at all.
func (k PrivateKey) IsZero() bool { return k.key == nil }

// ID is the member's id.
func (k PrivateKey) ID() string { return memberID(k.key.PublicKey().Bytes()) }

// storedKey is the file form of a private key.
type storedKey struct {
	Suite Suite  `json:"suite"`
	Key   []byte `json:"key"` // SerializePrivateKey of RFC 9180
}

// Marshal gives the secret bytes for the keyring's file or the recovery key's file.
func (k PrivateKey) Marshal() ([]byte, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("writing an escrow key: there is none")
	}
	raw, err := k.key.Bytes()
	if err != nil {
		return nil, fmt.Errorf("writing an escrow key: %w", err)
	}
	return json.Marshal(storedKey{Suite: k.suite, Key: raw})
}

// ParsePrivateKey reads what Marshal wrote. Only the connector's keyring calls it.
func ParsePrivateKey(data []byte) (PrivateKey, error) {
	var stored storedKey
	// The decoder's own errors quote the input, which is a secret here.
	if len(data) > maxPublicKey || decodeStrict(data, &stored) != nil {
		return PrivateKey{}, fmt.Errorf("reading an escrow key: the file is not one")
	}
	kem, err := stored.Suite.kem()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("reading an escrow key: %w", err)
	}
	key, err := kem.NewPrivateKey(stored.Key)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("reading an escrow key: the key does not fit its suite %s", stored.Suite)
	}
	return PrivateKey{suite: stored.Suite, key: key}, nil
}

// String hides the key.
func (PrivateKey) String() string { return "escrow key" }

// GoString hides the key from %#v.
func (PrivateKey) GoString() string { return "escrow key" }

// Format hides the key from every verb.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "escrow key") }

// MarshalJSON refuses: a private key has its own form, Marshal.
func (PrivateKey) MarshalJSON() ([]byte, error) {
	return nil, fmt.Errorf("an escrow key is never part of a message")
}

func memberID(public []byte) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:])
}

// sealTo seals plaintext to one member; info separates uses, aad binds the context.
func sealTo(m Member, info string, aad, plaintext []byte) (enc, ciphertext []byte, err error) {
	kem, err := m.Suite.kem()
	if err != nil {
		return nil, nil, err
	}
	public, err := kem.NewPublicKey(m.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("public key of member %q does not fit its suite %s", clip(m.Name), m.Suite)
	}
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, nil, err
	}
	ciphertext, err = sender.Seal(aad, plaintext)
	return enc, ciphertext, err
}

// openWith undoes sealTo.
func openWith(key PrivateKey, info string, enc, aad, ciphertext []byte) ([]byte, error) {
	receiver, err := hpke.NewRecipient(enc, key.key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, ErrOpen
	}
	plaintext, err := receiver.Open(aad, ciphertext)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// clip keeps foreign text in an error short and printable.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return s
}
