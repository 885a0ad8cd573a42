package pfx

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/waxseal/waxseal/internal/cms"
)

// What a key or certificate may at most be: arithmetic with an RSA key as long as the file would take hours.
const (
	maxKeyDER  = 32 << 10
	maxCertDER = 128 << 10
	maxRSABits = 16384
)

// label is what a bag's attributes say.
type label struct {
	name       string
	localKeyID string
}

// tie is what pairs a key with its certificate in a file that is tied: localKeyID, else friendlyName.
func (l label) tie() string {
	switch {
	case l.localKeyID != "":
		return "localKeyID " + l.localKeyID
	case l.name != "":
		return "friendlyName " + l.name
	}
	return ""
}

func (l label) tiedTo(other label) bool { return l.tie() != "" && l.tie() == other.tie() }

type keyEntry struct {
	label
	key    crypto.PrivateKey
	public interface{ Equal(crypto.PublicKey) bool }
}

type certEntry struct {
	label
	cert *x509.Certificate
}

// readSafe reads the authenticated safe: plain and encrypted parts, each full of bags.
func (r *reader) readSafe(safe []byte) error {
	var parts []contentInfo
	if err := unmarshalBER(safe, &parts, "authenticated safe"); err != nil {
		return err
	}
	for _, part := range parts {
		contents, err := r.openPart(part)
		if err != nil {
			return err
		}
		if err := r.readBags(contents, maxNesting); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) openPart(part contentInfo) ([]byte, error) {
	switch part.Type.String() {
	case oidData:
		return octets(part.Content.Bytes)
	case oidEnvelopedData:
		return nil, &UnsupportedError{"encryption to a certificate in place of the password"}
	case oidEncryptedData:
	default:
		return nil, fmt.Errorf("%w: part of type %s", ErrMalformed, part.Type)
	}
	var data encryptedData
	if err := unmarshal(part.Content.Bytes, &data, "encrypted part"); err != nil {
		return nil, err
	}
	ciphertext, err := segments(data.Content.Content)
	if err != nil {
		return nil, err
	}
	return r.open(data.Content.Algorithm, ciphertext)
}

// segments joins an implicitly tagged octet string, which BER may have cut in pieces.
func segments(raw asn1.RawValue) ([]byte, error) {
	if !raw.IsCompound {
		return raw.Bytes, nil
	}
	var out []byte
	for in := raw.Bytes; len(in) > 0; {
		var part []byte
		rest, err := asn1.Unmarshal(in, &part)
		if err != nil {
			return nil, fmt.Errorf("%w: encrypted part: %v", ErrMalformed, err)
		}
		out, in = append(out, part...), rest
	}
	return out, nil
}

// open decrypts and checks that an element came out. Some programs give PBKDF2 the BMPString, so that is tried too.
func (r *reader) open(alg pkix.AlgorithmIdentifier, ciphertext []byte) ([]byte, error) {
	var last error
	for _, pw := range []passphrase{r.pw, {bmp: r.pw.bmp, text: r.pw.bmp}} {
		out, err := r.decrypt(alg, ciphertext, pw)
		if err == nil {
			if der, err := cms.ToDER(out); err == nil {
				return der, nil
			}
			err = ErrWrongPassword
		}
		last = err
		if _, legacy := legacyCipherFor(alg.Algorithm); legacy || !errors.Is(err, ErrWrongPassword) {
			break
		}
	}
	return nil, last
}

func (r *reader) readBags(contents []byte, depth int) error {
	var bags []safeBag
	if err := unmarshalBER(contents, &bags, "safe contents"); err != nil {
		return err
	}
	for _, bag := range bags {
		if err := r.readBag(bag, depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) readBag(bag safeBag, depth int) error {
	l, kind := readLabel(bag.Attributes), bag.Type.String()
	if r.tied && (kind == oidKeyBag || kind == oidSafeContentsBag) {
		r.skipped = true
		return nil
	}
	switch kind {
	case oidKeyBag:
		return r.addKey(bag.Value.Bytes, l)
	case oidShroudedKeyBag:
		var k encryptedKey
		if err := unmarshal(bag.Value.Bytes, &k, "encrypted key"); err != nil {
			return err
		}
		der, err := r.open(k.Algorithm, k.Data)
		if err != nil {
			return err
		}
		return r.addKey(der, l)
	case oidCertBag:
		return r.addCert(bag.Value.Bytes, l)
	case oidSafeContentsBag:
		if depth == 0 {
			return fmt.Errorf("%w: bags nested too deeply", ErrMalformed)
		}
		return r.readBags(bag.Value.Bytes, depth-1)
	}
	return nil // revocation lists and secrets are of no use here
}

// addKey keeps a PKCS #8 key. The parser's own words may describe the key and are not repeated.
func (r *reader) addKey(der []byte, l label) error {
	if len(der) > maxKeyDER {
		return &UnsupportedError{fmt.Sprintf("a private key of %d bytes", len(der))}
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return keyError(der, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return &UnsupportedError{fmt.Sprintf("a private key of type %T", key)}
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return &UnsupportedError{fmt.Sprintf("a private key of type %T", key)}
	}
	for _, known := range r.keys {
		if !r.tied && known.public.Equal(signer.Public()) {
			return nil
		}
	}
	if len(r.keys) == maxKeys {
		return &UnsupportedError{fmt.Sprintf("more than %d private keys", maxKeys)}
	}
	r.keys = append(r.keys, keyEntry{label: l, key: key, public: public})
	return nil
}

// keyError tells a damaged key from one of a kind that Go does not know (DSA, brainpool curves, Ed448).
func keyError(der []byte, err error) error {
	var info struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
		Rest      asn1.RawValue `asn1:"optional,tag:0"`
	}
	if asn1Err := unmarshal(der, &info, "private key"); asn1Err != nil {
		return asn1Err
	}
	if text := err.Error(); strings.Contains(text, "unknown elliptic curve") || strings.Contains(text, "unknown algorithm") {
		return &UnsupportedError{fmt.Sprintf("a private key of algorithm %s", info.Algorithm.Algorithm)}
	}
	return fmt.Errorf("%w: private key of algorithm %s does not parse", ErrMalformed, info.Algorithm.Algorithm)
}

func (r *reader) addCert(der []byte, l label) error {
	var bag certBag
	if err := unmarshal(der, &bag, "certificate bag"); err != nil {
		return err
	}
	if bag.Type.String() != oidX509Certificate {
		return nil // SDSI certificates, which nobody has
	}
	raw, err := octets(bag.Cert.Bytes)
	if err != nil {
		return err
	}
	if len(raw) > maxCertDER {
		return &UnsupportedError{fmt.Sprintf("a certificate of %d bytes", len(raw))}
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxRSABits {
		return &UnsupportedError{fmt.Sprintf("a certificate with an RSA key of %d bits", key.N.BitLen())}
	}
	for _, known := range r.certs {
		if !r.tied && known.cert.Equal(cert) {
			return nil
		}
	}
	if len(r.certs) == maxCerts {
		return &UnsupportedError{fmt.Sprintf("more than %d certificates", maxCerts)}
	}
	r.certs = append(r.certs, certEntry{label: l, cert: cert})
	return nil
}

// readLabel reads the attributes that matter; a strange one is no reason to refuse a key.
func readLabel(attrs []bagAttributes) (l label) {
	for _, a := range attrs {
		var value asn1.RawValue
		if _, err := asn1.Unmarshal(a.Values.Bytes, &value); err != nil {
			continue
		}
		switch a.Type.String() {
		case oidFriendlyName:
			l.name = decodeBMP(value.Bytes)
		case oidLocalKeyID:
			l.localKeyID = string(value.Bytes)
		}
	}
	return l
}

func decodeBMP(b []byte) string {
	units := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		units = append(units, uint16(b[0])<<8|uint16(b[1]))
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00")
}
