// Package issuance lets a device have a certificate for a key of its own: it makes the one-time challenges of
// SCEPCertificate profiles, holds requests against what the profile gives the device now, and has a connector's CA
// certify them. What a certificate says comes from the profile, never from the request.
package issuance

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"time"
)

const (
	// ChallengeLife is how long a challenge works: a device may be told to install a profile days before it does.
	ChallengeLife = 7 * 24 * time.Hour
	// maxChallenge is ub-challengePassword of PKCS #9 section 5.4.1.
	maxChallenge = 255
	nonceSize    = 12
	requestSize  = 16
	// fixed is what stands before the enrolment's id.
	fixed = 8 + requestSize
	// purpose separates the key from everything else that could be made of the RA key.
	purpose = "waxseal SCEP challenge, AES-256-GCM"
	// maxSkew is how far another node's clock may be ahead.
	maxSkew = 5 * time.Minute
)

// Binding is what a challenge is for.
type Binding struct {
	EnrolmentID string
	// RequestID names what the profile gives the device: profile, subject, names, key usages and size, and which certificate
	// in a row it is. When any of it changes, so does the id.
	RequestID string
	ExpiresAt time.Time
}

// IdentityRequest is the request id of a device's own identity, which no profile has.
const IdentityRequest = "00000000000000000000000000000000"

// Challenger makes challenges and reads them: encrypted and authenticated by a key that every node of the server has and
// nobody else, so that a challenge needs no row in the database before it is used.
type Challenger struct {
	aead  cipher.AEAD
	rand  io.Reader
	clock func() time.Time
}

// NewChallenger derives the key from the SCEP RA key (RFC 5869).
func NewChallenger(ra *rsa.PrivateKey, rand io.Reader, clock func() time.Time) (*Challenger, error) {
	key, err := hkdf.Key(sha256.New, x509.MarshalPKCS1PrivateKey(ra), nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("deriving the challenge key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("deriving the challenge key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("deriving the challenge key: %w", err)
	}
	return &Challenger{aead: aead, rand: rand, clock: clock}, nil
}

// Make gives a challenge for a request of an enrolment; each is another one.
func (c *Challenger) Make(enrolmentID, requestID string) (string, error) {
	request, err := hex.DecodeString(requestID)
	if err != nil || len(request) != requestSize {
		return "", fmt.Errorf("request %q: it is not %d bytes in hex", requestID, requestSize)
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(c.clock().Add(ChallengeLife).Unix()))
	plain = append(append(plain, request...), enrolmentID...)
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(c.rand, nonce); err != nil {
		return "", fmt.Errorf("making a challenge: %w", err)
	}
	text := base64.RawURLEncoding.EncodeToString(c.aead.Seal(nonce, nonce, plain, nil))
	if len(text) > maxChallenge {
		return "", fmt.Errorf("enrolment %q: its id is too long for a challenge", enrolmentID)
	}
	return text, nil
}

// Open reads a challenge. The error is a *Fault.
func (c *Challenger) Open(text string) (Binding, error) {
	if text == "" {
		return Binding{}, fault(ChallengePasswordMissing, "the request has no challenge password")
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(text) > maxChallenge {
		return Binding{}, fault(ChallengeDecodingError, "the challenge is not one of this server's: it is no base64url")
	}
	if len(sealed) < nonceSize+c.aead.Overhead() {
		return Binding{}, fault(ChallengeDecryptionError, "the challenge is not one of this server's: it is too short")
	}
	plain, err := c.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], nil)
	if err != nil {
		return Binding{}, fault(ChallengeDecryptionError, "the challenge is not one of this server's, or was changed")
	}
	return c.read(plain)
}

func (c *Challenger) read(plain []byte) (Binding, error) {
	if len(plain) <= fixed {
		return Binding{}, fault(ChallengeDeserializationError, "the challenge is of another version of this server")
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0).UTC()
	b := Binding{EnrolmentID: string(plain[fixed:]), RequestID: hex.EncodeToString(plain[8:fixed]), ExpiresAt: expires}
	now := c.clock()
	switch {
	case expires.Sub(now) > ChallengeLife+maxSkew:
		return b, fault(ChallengeInvalidTimestamp, "the challenge is from the future: compare the clocks of the servers")
	case now.After(expires):
		return b, fault(ChallengeExpired, "the challenge expired on %s; the device is given another one", expires.Format(time.RFC3339))
	}
	return b, nil
}
