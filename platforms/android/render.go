package android

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// maxPayload bounds an envelope: an RSA 4096 key and a chain make some 15 KB.
const maxPayload = 96 << 10

// Key is a private key with its certificate and those above it, as the connector opens them.
type Key struct {
	PKCS8 []byte
	Chain [][]byte // DER, leaf first
}

// Render gives the secret of a document, encrypted to the device. keys maps the SHA-256 of a certificate to its key. seal
// encrypts to the device's wrap certificate (DER CMS EnvelopedData). A document without secrets has nothing to render,
// for the state shows it as it is; one that must wait is refused.
func Render(doc platforms.Document, keys map[string]Key, seal func([]byte) ([]byte, error)) ([]byte, error) {
	out, err := render(doc, keys, seal)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", doc.ID, err)
	}
	return out, nil
}

func render(doc platforms.Document, keys map[string]Key, seal func([]byte) ([]byte, error)) ([]byte, error) {
	if doc.Reason != "" {
		return nil, fmt.Errorf("the document waits: %s", doc.Reason)
	}
	if err := checkPlanned(doc); err != nil {
		return nil, err
	}
	c := doc.Credentials[0]
	if err := checkKey(c, keys[c.SHA256]); err != nil {
		return nil, fmt.Errorf("certificate %s: %w", c.SHA256, err)
	}
	if seal == nil {
		return nil, errors.New("there is nothing to seal the key with")
	}
	content, err := json.Marshal(companion.Secret{Format: companion.SecretFormat, Key: keys[c.SHA256].PKCS8,
		Chain: keys[c.SHA256].Chain, CertSHA256: c.SHA256, ItemID: doc.Identifier, Revision: doc.Revision})
	if err != nil {
		return nil, errors.New("write the secret")
	}
	defer clear(content)
	sealed, err := seal(content)
	if err != nil {
		return nil, fmt.Errorf("seal the key to the device: %w", err)
	}
	return sealed, CheckRendered(doc, sealed)
}

// checkPlanned holds a document with a private key to the one form that Plan gives it. It comes from a server that the
// connector does not trust: under another alias the key would replace one that is needed.
func checkPlanned(doc platforms.Document) error {
	item, err := decodeBody(doc)
	switch {
	case err != nil:
		return err
	case item.Kind != companion.KindIdentity || len(doc.Credentials) != 1:
		return fmt.Errorf("%s with %d credentials: an identity with one has secrets, and nothing else",
			item.Kind, len(doc.Credentials))
	}
	c := doc.Credentials[0]
	if item.Identity.Payload != companion.PayloadFetch {
		return fmt.Errorf("the device makes the key of %s itself", doc.Identifier)
	}
	if !isHash(c.SHA256) || item.Identity.CertSHA256 != c.SHA256 || !slices.Contains(aliases(c), item.Identity.Alias) {
		return fmt.Errorf("certificate %s goes to one of %q, not to %s", c.SHA256, aliases(c), doc.Identifier)
	}
	return nil
}

func aliases(c profiles.Certificate) []string {
	return []string{aliasOf(aliasEncryption, c), aliasOf(aliasSigning, c)}
}

func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// checkKey: the key chain answers a key that does not fit, or of a kind that it does not know, with false and no reason
// (android.md P12-4 and P12-6).
func checkKey(c profiles.Certificate, k Key) error {
	if len(k.PKCS8) == 0 || len(k.Chain) == 0 {
		return errors.New("there is no key with a certificate")
	}
	if sum := sha256.Sum256(k.Chain[0]); hex.EncodeToString(sum[:]) != c.SHA256 {
		return errors.New("the chain begins with another certificate")
	}
	leaf, err := x509.ParseCertificate(k.Chain[0])
	if err != nil {
		return fmt.Errorf("the certificate does not parse: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
	if err != nil {
		return errors.New("the private key is not PKCS #8")
	}
	var public interface{ Equal(crypto.PublicKey) bool }
	switch key := key.(type) {
	case *rsa.PrivateKey:
		public = &key.PublicKey
	case *ecdsa.PrivateKey:
		public = &key.PublicKey
	default:
		return errors.New("the key is neither RSA nor ECDSA; Android's key chain takes no other")
	}
	if !public.Equal(leaf.PublicKey) {
		return errors.New("the private key is not that of the certificate")
	}
	return nil
}

// CheckRendered refuses a payload that is not exactly the DER form of CMS EnvelopedData (RFC 5652 section 6) to one
// certificate. The server cannot open it.
func CheckRendered(doc platforms.Document, payload []byte) error {
	if !doc.HasSecrets() {
		return fmt.Errorf("%s has no secrets, so nothing is rendered", doc.ID)
	}
	if len(payload) > maxPayload {
		return fmt.Errorf("the envelope has %d bytes; at most %d are taken", len(payload), maxPayload)
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(payload, &info)
	if err != nil || len(rest) > 0 || !info.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}) {
		return errors.New("the key is not encrypted: it must be the DER form of CMS EnvelopedData")
	}
	if der, err := cms.ToDER(payload); err != nil || !bytes.Equal(der, payload) {
		return errors.New("the envelope is not in DER")
	}
	recipients, err := cms.Recipients(payload)
	if err != nil {
		return fmt.Errorf("the envelope: %w", err)
	}
	if len(recipients) != 1 {
		return fmt.Errorf("the key is encrypted to %d certificates; it must be one, the device's", len(recipients))
	}
	return nil
}
