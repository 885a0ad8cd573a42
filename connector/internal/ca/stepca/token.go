package stepca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/profiles"
)

// Provisioner is a JWK provisioner of step-ca's.
type Provisioner struct {
	// Name is the provisioner's name: the tokens' issuer.
	Name string `json:"provisioner,omitempty"`
	// Key is its private key: a JWK, or encrypted as encryptedKey of ca.json has it (a compact JWE).
	Key string `json:"key,omitempty"`
	// Password opens an encrypted key.
	Password string `json:"password,omitempty"`
}

// signer signs a provisioner's tokens.
type signer struct {
	name  string
	keyID string
	jose  jose.Signer
}

// tokenLife is how long a token may be used; step-ca takes each once.
const tokenLife = 5 * time.Minute

// maxKey bounds a key file.
const maxKey = 16 << 10

// open opens the provisioner's key. No error repeats what the library said of the key.
func open(p Provisioner) (*signer, error) {
	if p.Name == "" {
		return nil, errors.New("provisioner is missing: the name of a provisioner of type JWK, as step ca provisioner list shows it")
	}
	if p.Key == "" {
		return nil, errors.New("key is missing: the provisioner's private key (keyFile)")
	}
	key, err := openKey(p.Key, p.Password)
	if err != nil {
		return nil, err
	}
	algorithm, err := algorithmOf(key)
	if err != nil {
		return nil, err
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return nil, fmt.Errorf("key: it is no private key for signatures by %s", algorithm)
	}
	return &signer{name: p.Name, keyID: key.KeyID, jose: s}, nil
}

func openKey(text, password string) (jose.JSONWebKey, error) {
	var key jose.JSONWebKey
	text = strings.TrimSpace(text)
	switch {
	case len(text) > maxKey:
		return key, fmt.Errorf("key: it is longer than %d bytes", maxKey)
	case !isJWK(text):
		plain, err := decrypt(text, strings.TrimRight(password, "\r\n")) // a file ends with a line break
		if err != nil {
			return key, err
		}
		text = string(plain)
	}
	if err := json.Unmarshal([]byte(text), &key); err != nil {
		return key, errors.New("key: it is neither a JWK nor an encrypted one (encryptedKey of ca.json): PEM is not possible here")
	}
	if key.IsPublic() || !key.Valid() {
		return key, errors.New("key: that is the provisioner's public key: the private one is needed (encryptedKey of ca.json, and its password)")
	}
	if key.KeyID == "" { // step-ca names keys by their thumbprint (RFC 7638)
		sum, err := key.Thumbprint(crypto.SHA256)
		if err != nil {
			return key, errors.New("key: its thumbprint cannot be made")
		}
		key.KeyID = base64.RawURLEncoding.EncodeToString(sum)
	}
	return key, nil
}

// algorithmOf is how a key signs: step-ca takes what the kind of key allows (RFC 7518 section 3.1).
func algorithmOf(key jose.JSONWebKey) (jose.SignatureAlgorithm, error) {
	switch k := key.Key.(type) {
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
	case *rsa.PrivateKey:
		return jose.RS256, nil
	case ed25519.PrivateKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("key: EC keys (P-256, P-384, P-521), Ed25519 and RSA are possible")
}

// isJWK tells a key in clear from an encrypted one, which may be JSON, too.
func isJWK(text string) bool {
	var k struct {
		Type string `json:"kty"`
	}
	return json.Unmarshal([]byte(text), &k) == nil && k.Type != ""
}

// decrypt opens what `step crypto jwk create` and `step ca init` write: RFC 7518 section 4.8.
func decrypt(text, password string) ([]byte, error) {
	parse := jose.ParseEncryptedCompact
	if strings.HasPrefix(text, "{") {
		parse = jose.ParseEncryptedJSON
	}
	encrypted, err := parse(text,
		[]jose.KeyAlgorithm{jose.PBES2_HS256_A128KW, jose.PBES2_HS384_A192KW, jose.PBES2_HS512_A256KW},
		[]jose.ContentEncryption{jose.A128GCM, jose.A192GCM, jose.A256GCM, jose.A128CBC_HS256, jose.A192CBC_HS384, jose.A256CBC_HS512})
	if err != nil {
		return nil, errors.New("key: it is neither a JWK nor one encrypted with a password (encryptedKey of ca.json)")
	}
	if password == "" {
		return nil, errors.New("key: it is encrypted, and password is missing (passwordFile)")
	}
	plain, err := encrypted.Decrypt([]byte(password))
	if err != nil {
		return nil, errors.New("key: the password does not open it")
	}
	return plain, nil
}

// claims are what a token says, beside who signs it, for whom and when (provisioner.jwtPayload of smallstep/certificates).
type claims struct {
	Subject string        `json:"sub"`
	SANs    []string      `json:"sans,omitempty"`
	Bound   *confirmation `json:"cnf,omitempty"`
	Waxseal *wishes       `json:"waxseal,omitempty"`
}

// wishes are what step-ca has no words for. Its admin's templates find them as .Token.waxseal.
type wishes struct {
	Template    string   `json:"template,omitempty"`
	UPNs        []string `json:"upn,omitempty"`
	KeyUsage    []string `json:"keyUsage,omitempty"`
	ExtKeyUsage []string `json:"extKeyUsage,omitempty"`
}

// confirmation binds the token to one request: step-ca compares it with the SHA-256 of the PKCS#10.
type confirmation struct {
	Request string `json:"x5rt#S256"`
}

// signToken is the token for a request. Its names, and not the request's, are the certificate's under step-ca's usual
// template; step-ca wants the request to ask for the same.
func (a *adapter) signToken(s *signer, in ca.Intent, csr []byte) (string, error) {
	sum := sha256.Sum256(csr)
	c := claims{Bound: &confirmation{base64.RawURLEncoding.EncodeToString(sum[:])},
		Waxseal: &wishes{Template: in.Template, KeyUsage: keyUsage(in.KeyUsage), ExtKeyUsage: in.ExtendedKeyUsage}}
	for _, san := range in.SANs {
		if san.Type == profiles.SANUPN { // step-ca's list has no word for it
			c.Waxseal.UPNs = append(c.Waxseal.UPNs, san.Value)
		} else {
			c.SANs = append(c.SANs, san.Value)
		}
	}
	if c.Subject = commonName(in.Subject); c.Subject == "" && len(c.SANs) > 0 {
		c.Subject = c.SANs[0]
	}
	if c.Subject == "" || len(c.SANs) == 0 { // without names, step-ca would take the subject for one
		return "", ca.Refuse("the profile gives no mail address and no other name that step-ca could certify")
	}
	return a.token(s, "/1.0/sign", c)
}

// keyUsage gives nonRepudiation its later name (RFC 5280 section 4.2.1.3), the only one that step-ca's templates know.
func keyUsage(names []string) []string {
	var out []string
	for _, name := range names {
		if strings.EqualFold(name, "nonRepudiation") {
			name = "contentCommitment"
		}
		out = append(out, name)
	}
	return out
}

func commonName(der []byte) string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdns); err != nil {
		return ""
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return name.CommonName
}

// token signs claims for one use at one address.
func (a *adapter) token(s *signer, path string, c claims) (string, error) {
	id := make([]byte, 32)
	if _, err := io.ReadFull(a.rand, id); err != nil {
		return "", fmt.Errorf("making a one-time token: %w", err)
	}
	now := a.clock()
	token, err := jwt.Signed(s.jose).Claims(jwt.Claims{
		ID: hex.EncodeToString(id), Issuer: s.name, Audience: jwt.Audience{a.audience + path},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(tokenLife)),
	}).Claims(c).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing a one-time token: %w", err)
	}
	return token, nil
}
