package framework

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// Store is the credential storage of one profile: its key chain and the CAs that its user trusts.
type Store struct {
	Keys map[string]Key    `json:"keys,omitempty"` // by alias
	CAs  map[string][]byte `json:"cas,omitempty"`  // DER by SHA-256
	// KeyChanges and CAChanges count what was changed; Android tells apps by ACTION_KEYCHAIN_CHANGED and
	// ACTION_TRUST_STORE_CHANGED.
	KeyChanges int `json:"keyChanges"`
	CAChanges  int `json:"caChanges"`
}

// Key is a private key with its chain. What apps see of it never includes the key.
type Key struct {
	PKCS8      []byte   `json:"key"`
	Chain      [][]byte `json:"chain"` // leaf first; empty until a key that was made here has its certificate
	Selectable bool     `json:"selectable"`
	UIDs       []int    `json:"uids,omitempty"` // of apps that may use it
}

// KeyPair is what installKeyPair takes.
type KeyPair struct {
	Key   crypto.PrivateKey
	Chain []*x509.Certificate // leaf first
}

// Fingerprint is the SHA-256 of the leaf, empty without one.
func (k Key) Fingerprint() string {
	if len(k.Chain) == 0 {
		return ""
	}
	return Fingerprint(k.Chain[0])
}

// Fingerprint is the SHA-256 of a certificate, in lower-case hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// KnownKey reports whether the key store takes that kind of key: RSA and ECDSA (android.md P12-4).
func KnownKey(key crypto.PrivateKey) bool {
	switch key.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey:
		return true
	}
	return false // Ed25519, DSA
}

// Fits reports whether a private key is that of a certificate.
func Fits(key crypto.PrivateKey, cert *x509.Certificate) bool {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// put stores a key pair under an alias in place of what was there, whose grants go with it (android.md AL-1).
func (s *Store) put(alias string, pair KeyPair, selectable bool, uids ...int) error {
	der, err := x509.MarshalPKCS8PrivateKey(pair.Key)
	if err != nil {
		return fmt.Errorf("encoding the private key of %s: %w", alias, err)
	}
	k := Key{PKCS8: der, Selectable: selectable, UIDs: uids, Chain: encoded(pair.Chain)}
	if s.Keys == nil {
		s.Keys = map[string]Key{}
	}
	s.Keys[alias] = k
	s.KeyChanges++
	return nil
}

func encoded(chain []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, cert := range chain {
		out = append(out, cert.Raw)
	}
	return out
}

func (s *Store) delete(alias string) bool {
	if _, there := s.Keys[alias]; !there {
		return false
	}
	delete(s.Keys, alias)
	s.KeyChanges++
	return true
}

// grant lets a UID use a key, or not any more.
func (s *Store) grant(alias string, uid int, granted bool) bool {
	k, there := s.Keys[alias]
	if !there {
		return false
	}
	k.UIDs = slices.DeleteFunc(slices.Clone(k.UIDs), func(u int) bool { return u == uid })
	if granted {
		k.UIDs = append(k.UIDs, uid)
	}
	s.Keys[alias] = k
	s.KeyChanges++
	return true
}

// Aliases are all aliases in alphabetical order. No app can list them; the simulation can.
func (s *Store) Aliases() []string { return slices.Sorted(maps.Keys(s.Keys)) }
