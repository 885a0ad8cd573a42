// Package escrow holds the sealed record: one private key with its chain, encrypted to the connectors of a key set, and
// the key set itself, signed by the escrow root. Whom to seal to is never the server's word (docs/adr).
package escrow

import "encoding/json"

// Suite names an HPKE suite.
type Suite string

// The suites. Hybrid is the default; P256 is for connectors whose key sits in a PKCS#11 token.
const (
	SuiteHybrid Suite = "mlkem768x25519-hkdfsha256-aes256gcm"
	SuiteP256   Suite = "p256-hkdfsha256-aes256gcm"
)

// MemberKind tells connectors from the recovery key.
type MemberKind string

// The kinds of members.
const (
	MemberConnector MemberKind = "connector"
	MemberRecovery  MemberKind = "recovery"
)

// Member is one public key that records are sealed to. ID is the lower-case hex SHA-256 of PublicKey.
type Member struct {
	ID        string     `json:"id"`
	Kind      MemberKind `json:"kind"`
	Name      string     `json:"name"`
	Suite     Suite      `json:"suite"`
	PublicKey []byte     `json:"publicKey"`
}

// KeySet is the list of members with a serial number that only grows.
type KeySet struct {
	Serial  uint64   `json:"serial"`
	Members []Member `json:"members"`
}

// SignedKeySet is a key set as the server stores and hands it out: exact bytes, root key and Ed25519 signature.
type SignedKeySet struct {
	KeySet    json.RawMessage `json:"keySet"`
	Root      []byte          `json:"root"`      // Ed25519 public key
	Signature []byte          `json:"signature"` // over a domain-separation prefix and KeySet
}

// Wrap is the data key sealed to one member.
type Wrap struct {
	Member     string `json:"member"`
	Suite      Suite  `json:"suite"`
	Enc        []byte `json:"enc"`
	Ciphertext []byte `json:"ciphertext"`
}

// Record is one private key, sealed. Everything but Wraps and Ciphertext is bound in as associated data.
type Record struct {
	Version    int    `json:"version"`
	ID         string `json:"id"`    // random, 128 bits, lower-case hex
	Owner      string `json:"owner"` // urn:waxseal:user:… or urn:waxseal:enrolment:…
	CertSHA256 string `json:"certSha256"`
	Nonce      []byte `json:"nonce"`
	Ciphertext []byte `json:"ciphertext"` // AES-256-GCM over the Secret
	Wraps      []Wrap `json:"wraps"`
}
