package model

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/waxseal/waxseal/internal/link"
)

// Partner is a CA of others that devices ask by SCEP and that asks us whether their requests are right.
type Partner struct {
	Name string // what profiles write in certificateAuthority
	// AppID and SecretHash (of PartnerSecretHash) are its OAuth 2.0 client credentials.
	AppID      string
	SecretHash string
	URL        string   // where devices ask
	Chain      [][]byte // DER: the issuing certificate, then those above it up to the root
	CreatedAt  time.Time
}

// PartnerSecretHash is what is kept of a client secret of 256 random bits: lower-case hex SHA-256, no salt needed.
func PartnerSecretHash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// CA is how profiles see it, beside the CAs of connectors.
func (p Partner) CA() link.CA {
	return link.CA{Name: p.Name, Kind: link.KindPartner, URL: p.URL, Certificate: p.Chain[0], Chain: p.Chain[1:], Members: []string{link.PartnerMember(p.Name)}}
}

// PartnerCertificate is what a partner told of a certificate that it issued, in its own words: it must know them again when
// the certificate is to be revoked.
type PartnerCertificate struct {
	ID              string // NotedID of its thumbprint
	Partner         string
	RequestHash     string // of the SCEPRequest
	Serial          string
	Issuer          string
	CAConfiguration string
	At              time.Time
}

const noted = "sha1:"

// NotedID stands for the SHA-256 of a certificate of which a partner CA has told the SHA-1 (lower-case hex) only. The
// certificate itself is not known then: its DER is empty, and notBefore is when the partner told of it.
func NotedID(sha1 string) string { return noted + sha1 }

// Noted tells whether the certificate is known by what a partner CA told of it only.
func (c Certificate) Noted() bool { return len(c.DER) == 0 && c.SHA256 == NotedID(c.SHA1) }

// Revokers are those who can have the certificate revoked: connectors that offer its CA, or the partner that issued it.
func (c Certificate) Revokers(cas []link.CA) []string {
	if c.Noted() {
		return []string{link.PartnerMember(c.CA)}
	}
	return link.Offering(cas, c.CA)
}

// Revocation is a certificate that a partner CA shall revoke.
type Revocation struct {
	JobID string
	PartnerCertificate
}

// RevocationAnswer is what the partner said to it: revoked, or an error that may pass (RetryAt) or stays.
type RevocationAnswer struct {
	JobID   string
	Revoked bool
	Error   string
	RetryAt time.Time // zero: trying again cannot help
}
