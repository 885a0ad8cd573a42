package pfx

import (
	"crypto"
	"crypto/hmac"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"strings"
	"unicode/utf16"

	"github.com/waxseal/waxseal/internal/cms"
)

const (
	oidData          = "1.2.840.113549.1.7.1"
	oidSignedData    = "1.2.840.113549.1.7.2"
	oidEnvelopedData = "1.2.840.113549.1.7.3"
	oidEncryptedData = "1.2.840.113549.1.7.6"

	oidKeyBag          = "1.2.840.113549.1.12.10.1.1"
	oidShroudedKeyBag  = "1.2.840.113549.1.12.10.1.2"
	oidCertBag         = "1.2.840.113549.1.12.10.1.3"
	oidSafeContentsBag = "1.2.840.113549.1.12.10.1.6"

	oidX509Certificate = "1.2.840.113549.1.9.22.1"
	oidFriendlyName    = "1.2.840.113549.1.9.20"
	oidLocalKeyID      = "1.2.840.113549.1.9.21"
	oidPBMAC1          = "1.2.840.113549.1.5.14"
)

// maxNesting bounds safe contents inside safe contents.
const maxNesting = 4

// pfxFile is PFX of RFC 7292 section 4.
type pfxFile struct {
	Version  int
	AuthSafe contentInfo
	MAC      macData `asn1:"optional"`
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,optional,tag:0"`
}

type macData struct {
	MAC struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// pbmac1Parameters is RFC 8018 appendix A.5.
type pbmac1Parameters struct {
	KDF pkix.AlgorithmIdentifier
	MAC pkix.AlgorithmIdentifier
}

// encryptedData is RFC 5652 section 8.
type encryptedData struct {
	Version int
	Content struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"optional,tag:0"`
	}
	Unprotected asn1.RawValue `asn1:"optional,tag:1"`
}

type safeBag struct {
	Type       asn1.ObjectIdentifier
	Value      asn1.RawValue   `asn1:"explicit,tag:0"`
	Attributes []bagAttributes `asn1:"set,optional"`
}

type bagAttributes struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type certBag struct {
	Type asn1.ObjectIdentifier
	Cert asn1.RawValue `asn1:"explicit,tag:0"`
}

// label is what a bag's attributes say.
type label struct {
	name       string
	localKeyID string
}

type keyEntry struct {
	label
	key    crypto.PrivateKey
	public interface{ Equal(crypto.PublicKey) bool }
}

type certEntry struct {
	label
	cert *x509.Certificate
}

// reader collects what a file holds.
type reader struct {
	budget
	pw    passphrase
	keys  []keyEntry
	certs []certEntry
}

// Decode reads every private key of a file with its certificate. The file may be BER, and encrypted with anything
// from RC2 to AES; a key that has no certificate in the file is an error, because it would be lost silently.
func Decode(ber []byte, password string) ([]Identity, error) {
	return decode(ber, password, MaxIterations)
}

func decode(ber []byte, password string, iterations int) ([]Identity, error) {
	file, safe, err := parse(ber)
	if err != nil {
		return nil, err
	}
	budget := budget{left: iterations}
	candidates := passphrases(password)
	if len(file.MAC.MAC.Digest) != 0 {
		pw, err := budget.authenticate(file.MAC, safe, candidates)
		if err != nil {
			return nil, err
		}
		candidates = []passphrase{pw}
	}
	for _, pw := range candidates {
		r := reader{budget: budget, pw: pw}
		err = r.readSafe(safe)
		if err == nil {
			return r.pair()
		}
		budget = r.budget
		if !errors.Is(err, ErrWrongPassword) {
			break
		}
	}
	return nil, err
}

// parse returns the outer structure and the octets of the authenticated safe.
func parse(ber []byte) (pfxFile, []byte, error) {
	var file pfxFile
	if len(ber) > MaxSize {
		return file, nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	if err := unmarshalBER(ber, &file, "file"); err != nil {
		return file, nil, err
	}
	if file.Version != 3 {
		return file, nil, &UnsupportedError{fmt.Sprintf("version %d of the format", file.Version)}
	}
	switch file.AuthSafe.Type.String() {
	case oidData:
	case oidSignedData:
		return file, nil, &UnsupportedError{"a signature in place of the password"}
	default:
		return file, nil, fmt.Errorf("%w: content type %s", ErrMalformed, file.AuthSafe.Type)
	}
	safe, err := octets(file.AuthSafe.Content.Bytes)
	return file, safe, err
}

// unmarshalBER parses one element, all of it.
func unmarshalBER(ber []byte, into any, what string) error {
	der, err := cms.ToDER(ber)
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrMalformed, what, err)
	}
	return unmarshal(der, into, what)
}

func unmarshal(der []byte, into any, what string) error {
	rest, err := asn1.Unmarshal(der, into)
	if err != nil {
		return fmt.Errorf("%w: %s: %v", ErrMalformed, what, err)
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes behind %s", ErrMalformed, len(rest), what)
	}
	return nil
}

func parameters(alg pkix.AlgorithmIdentifier, into any) error {
	return unmarshal(alg.Parameters.FullBytes, into, "algorithm parameters")
}

func octets(der []byte) ([]byte, error) {
	var out []byte
	return out, unmarshal(der, &out, "octet string")
}

// authenticate finds the form of the password that the MAC fits.
func (b *budget) authenticate(mac macData, safe []byte, candidates []passphrase) (passphrase, error) {
	for _, pw := range candidates {
		sum, err := b.macSum(mac, safe, pw)
		if err != nil {
			return passphrase{}, err
		}
		if subtle.ConstantTimeCompare(sum, mac.MAC.Digest) == 1 {
			return pw, nil
		}
	}
	return passphrase{}, ErrWrongPassword
}

func (b *budget) macSum(mac macData, safe []byte, pw passphrase) ([]byte, error) {
	if mac.MAC.Algorithm.Algorithm.String() == oidPBMAC1 {
		return b.pbmac1(mac.MAC.Algorithm, safe, pw)
	}
	digest, err := digestFor(mac.MAC.Algorithm.Algorithm)
	if err != nil {
		return nil, err
	}
	if err := b.spend(mac.Iterations); err != nil {
		return nil, err
	}
	key := derive(digest, pw.bmp, mac.Salt, purposeMAC, mac.Iterations, digest.Size())
	return hmacSum(digest, key, safe), nil
}

func hmacSum(digest crypto.Hash, key, message []byte) []byte {
	h := hmac.New(func() hash.Hash { return digest.New() }, key)
	h.Write(message)
	return h.Sum(nil)
}

// pbmac1 is RFC 9579 section 4: the key length is the digest's unless given.
func (b *budget) pbmac1(alg pkix.AlgorithmIdentifier, safe []byte, pw passphrase) ([]byte, error) {
	var p pbmac1Parameters
	if err := parameters(alg, &p); err != nil {
		return nil, err
	}
	digest, err := prfFor(p.MAC.Algorithm)
	if err != nil {
		return nil, err
	}
	var kdf pbkdf2Parameters
	if err := parameters(p.KDF, &kdf); err != nil {
		return nil, err
	}
	size := digest.Size()
	if kdf.KeyLength > 0 && kdf.KeyLength <= 64 {
		size = kdf.KeyLength
	}
	key, err := b.pbkdf2(p.KDF, pw, size)
	if err != nil {
		return nil, err
	}
	return hmacSum(digest, key, safe), nil
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
	l := readLabel(bag.Attributes)
	switch bag.Type.String() {
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
		if known.public.Equal(signer.Public()) {
			return nil
		}
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
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	for _, known := range r.certs {
		if known.cert.Equal(cert) {
			return nil
		}
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
