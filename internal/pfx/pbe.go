package pfx

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"
)

// budget counts the key derivation rounds that a file has asked for.
type budget struct{ left int }

func (b *budget) spend(iterations int) error {
	if iterations < 1 {
		return fmt.Errorf("%w: %d key derivation rounds", ErrMalformed, iterations)
	}
	if iterations > b.left {
		return &UnsupportedError{fmt.Sprintf("more than %d key derivation rounds", MaxIterations)}
	}
	b.left -= iterations
	return nil
}

// pbeParameters is RFC 7292 appendix C.
type pbeParameters struct {
	Salt       []byte
	Iterations int
}

// pbes2Parameters is RFC 8018 appendix A.4.
type pbes2Parameters struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

// pbkdf2Parameters is RFC 8018 appendix A.2.
type pbkdf2Parameters struct {
	Salt       asn1.RawValue
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// legacyCipher is one of the algorithms of RFC 7292 appendix C.
type legacyCipher struct {
	keySize int
	block   func([]byte) (cipher.Block, error)
}

func legacyCipherFor(oid asn1.ObjectIdentifier) (legacyCipher, bool) {
	switch oid.String() {
	case "1.2.840.113549.1.12.1.3":
		return legacyCipher{24, des.NewTripleDESCipher}, true
	case "1.2.840.113549.1.12.1.4":
		return legacyCipher{16, twoKeyTripleDES}, true
	case "1.2.840.113549.1.12.1.5":
		return legacyCipher{16, newRC2}, true
	case "1.2.840.113549.1.12.1.6":
		return legacyCipher{5, newRC2}, true
	}
	return legacyCipher{}, false
}

func twoKeyTripleDES(key []byte) (cipher.Block, error) {
	return des.NewTripleDESCipher(append(key[:16:16], key[:8]...))
}

// decrypt opens what a password encrypted. A wrong password and damaged data cannot be told apart here.
func (b *budget) decrypt(alg pkix.AlgorithmIdentifier, ciphertext []byte, pw passphrase) ([]byte, error) {
	block, iv, err := b.cipherFor(alg, pw)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(iv) != size || len(ciphertext) == 0 || len(ciphertext)%size != 0 {
		return nil, fmt.Errorf("%w: encrypted part of %d bytes", ErrMalformed, len(ciphertext))
	}
	out := make([]byte, len(ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, ciphertext)
	n := int(out[len(out)-1])
	if n < 1 || n > size {
		return nil, ErrWrongPassword
	}
	for _, p := range out[len(out)-n:] {
		if int(p) != n {
			return nil, ErrWrongPassword
		}
	}
	return out[:len(out)-n], nil
}

func (b *budget) cipherFor(alg pkix.AlgorithmIdentifier, pw passphrase) (cipher.Block, []byte, error) {
	legacy, ok := legacyCipherFor(alg.Algorithm)
	if !ok {
		if alg.Algorithm.String() == "1.2.840.113549.1.5.13" {
			return b.pbes2(alg, pw)
		}
		return nil, nil, &UnsupportedError{"encryption " + algorithmName(alg.Algorithm)}
	}
	var p pbeParameters
	if err := parameters(alg, &p); err != nil {
		return nil, nil, err
	}
	if err := b.spend(p.Iterations); err != nil {
		return nil, nil, err
	}
	key := derive(crypto.SHA1, pw.bmp, p.Salt, purposeKey, p.Iterations, legacy.keySize)
	block, err := legacy.block(key)
	return block, derive(crypto.SHA1, pw.bmp, p.Salt, purposeIV, p.Iterations, 8), err
}

// pbes2 is RFC 8018 section 6.2.
func (b *budget) pbes2(alg pkix.AlgorithmIdentifier, pw passphrase) (cipher.Block, []byte, error) {
	var p pbes2Parameters
	if err := parameters(alg, &p); err != nil {
		return nil, nil, err
	}
	keySize, newBlock := 0, aes.NewCipher
	switch p.Cipher.Algorithm.String() {
	case "2.16.840.1.101.3.4.1.2":
		keySize = 16
	case "2.16.840.1.101.3.4.1.22":
		keySize = 24
	case "2.16.840.1.101.3.4.1.42":
		keySize = 32
	case "1.2.840.113549.3.7":
		keySize, newBlock = 24, des.NewTripleDESCipher
	default:
		return nil, nil, &UnsupportedError{"encryption " + algorithmName(p.Cipher.Algorithm)}
	}
	var iv []byte
	if err := parameters(p.Cipher, &iv); err != nil {
		return nil, nil, err
	}
	key, err := b.pbkdf2(p.KDF, pw, keySize)
	if err != nil {
		return nil, nil, err
	}
	block, err := newBlock(key)
	return block, iv, err
}

func (b *budget) pbkdf2(alg pkix.AlgorithmIdentifier, pw passphrase, size int) ([]byte, error) {
	if alg.Algorithm.String() != "1.2.840.113549.1.5.12" {
		return nil, &UnsupportedError{"key derivation " + algorithmName(alg.Algorithm)}
	}
	var p pbkdf2Parameters
	if err := parameters(alg, &p); err != nil {
		return nil, err
	}
	if p.Salt.Tag != asn1.TagOctetString || p.KeyLength != 0 && p.KeyLength != size {
		return nil, fmt.Errorf("%w: key derivation parameters", ErrMalformed)
	}
	prf, err := prfFor(p.PRF.Algorithm)
	if err != nil {
		return nil, err
	}
	if err := b.spend(p.Iterations); err != nil {
		return nil, err
	}
	return pbkdf2.Key(func() hash.Hash { return prf.New() }, string(pw.text), p.Salt.Bytes, p.Iterations, size)
}

// prfFor names the HMAC of PBKDF2; absent means SHA-1.
func prfFor(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch oid.String() {
	case "", "1.2.840.113549.2.7":
		return crypto.SHA1, nil
	case "1.2.840.113549.2.8":
		return crypto.SHA224, nil
	case "1.2.840.113549.2.9":
		return crypto.SHA256, nil
	case "1.2.840.113549.2.10":
		return crypto.SHA384, nil
	case "1.2.840.113549.2.11":
		return crypto.SHA512, nil
	}
	return 0, &UnsupportedError{"pseudo-random function " + algorithmName(oid)}
}

func digestFor(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch oid.String() {
	case "1.3.14.3.2.26":
		return crypto.SHA1, nil
	case "2.16.840.1.101.3.4.2.4":
		return crypto.SHA224, nil
	case "2.16.840.1.101.3.4.2.1":
		return crypto.SHA256, nil
	case "2.16.840.1.101.3.4.2.2":
		return crypto.SHA384, nil
	case "2.16.840.1.101.3.4.2.3":
		return crypto.SHA512, nil
	}
	return 0, &UnsupportedError{"MAC digest " + algorithmName(oid)}
}

// algorithmName is the usual name of what people meet and we refuse, else the number.
func algorithmName(oid asn1.ObjectIdentifier) string {
	switch s := oid.String(); s {
	case "1.2.840.113549.1.12.1.1":
		return "RC4 with 128 bits"
	case "1.2.840.113549.1.12.1.2":
		return "RC4 with 40 bits"
	case "1.2.840.113549.1.5.3":
		return "DES with MD5"
	case "1.2.840.113549.1.5.10":
		return "DES with SHA-1"
	case "1.3.14.3.2.7":
		return "DES"
	case "1.2.840.113549.3.2":
		return "RC2 in PBES2"
	case "1.3.6.1.4.1.11591.4.11":
		return "scrypt"
	case "1.2.840.113549.2.5":
		return "MD5"
	default:
		return s
	}
}
