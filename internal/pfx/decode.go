package pfx

import (
	"crypto"
	"crypto/hmac"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"github.com/waxseal/waxseal/internal/cms"
)

// reader collects what a file holds.
type reader struct {
	budget
	pw      passphrase
	keys    []keyEntry
	certs   []certEntry
	tied    bool // see DecodeTied
	skipped bool // a bag that DecodeTied does not look into
}

// Decode reads every private key of a file with its certificate. The file may be BER, and encrypted with anything
// from RC2 to AES; a key that has no certificate in the file is an error, because it would be lost silently.
func Decode(ber []byte, password string) ([]Identity, error) {
	return decode(ber, password, MaxIterations, false)
}

// DecodeTied reads a file as Apple's importers do (Security's p12import.c): keys in shrouded bags only, and nothing out of
// bags within bags. A key belongs to the certificate whose bag has the same localKeyID or, where there is none, the same
// friendlyName, and not to any other with its public key. Of several bags that are alike in that, the last counts.
func DecodeTied(ber []byte, password string) ([]Identity, error) {
	return decode(ber, password, MaxIterations, true)
}

func decode(ber []byte, password string, iterations int, tied bool) ([]Identity, error) {
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
		r := reader{budget: budget, pw: pw, tied: tied}
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
