package cms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
)

// Cipher is a content encryption algorithm that Encrypt writes.
type Cipher int

// The ciphers. AES256CBC is the zero value, because every peer reads it; AES256GCM makes an AuthEnvelopedData, which
// few do. TripleDESCBC is for old SCEP servers that read nothing better.
const (
	AES256CBC Cipher = iota
	AES128CBC
	AES256GCM
	TripleDESCBC
)

// cipherSpec describes a content encryption algorithm.
type cipherSpec struct {
	oid     asn1.ObjectIdentifier
	keySize int
	aead    bool
	block   func([]byte) (cipher.Block, error)
}

func cipherSpecs() []cipherSpec {
	return []cipherSpec{
		{oidAES256CBC, 32, false, aes.NewCipher},
		{oidAES128CBC, 16, false, aes.NewCipher},
		{oidAES256GCM, 32, true, aes.NewCipher},
		{oidTripleDES, 24, false, des.NewTripleDESCipher},
		{oidAES192CBC, 24, false, aes.NewCipher},
		{oidAES128GCM, 16, true, aes.NewCipher},
		{oidAES192GCM, 24, true, aes.NewCipher},
	}
}

func cipherAmong(specs []cipherSpec, oid asn1.ObjectIdentifier) (cipherSpec, error) {
	for _, spec := range specs {
		if spec.oid.Equal(oid) {
			return spec, nil
		}
	}
	return cipherSpec{}, fmt.Errorf("%w: content encryption %s", ErrUnsupported, oid)
}

// gcmParameters is RFC 5084 section 3.2.
type gcmParameters struct {
	Nonce   []byte
	TagSize int `asn1:"optional,default:12"`
}

// decryptContent opens the ciphertext with the content key. All its failures are ErrDecrypt.
func (env *envelope) decryptContent(spec cipherSpec, key []byte) ([]byte, error) {
	block, err := spec.block(key)
	if err != nil {
		return nil, ErrDecrypt
	}
	if spec.aead {
		return env.openGCM(block)
	}
	var iv []byte
	if parameters(env.algorithm, &iv) != nil || len(iv) != block.BlockSize() {
		return nil, ErrDecrypt
	}
	if len(env.ciphertext) == 0 || len(env.ciphertext)%block.BlockSize() != 0 {
		return nil, ErrDecrypt
	}
	out := make([]byte, len(env.ciphertext))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, env.ciphertext)
	return unpad(out, block.BlockSize())
}

func (env *envelope) openGCM(block cipher.Block) ([]byte, error) {
	var p gcmParameters
	if parameters(env.algorithm, &p) != nil || len(p.Nonce) != 12 || len(env.mac) != p.TagSize {
		return nil, ErrDecrypt
	}
	aead, err := cipher.NewGCMWithTagSize(block, p.TagSize)
	if err != nil {
		return nil, ErrDecrypt
	}
	sealed := append(append([]byte(nil), env.ciphertext...), env.mac...)
	out, err := aead.Open(sealed[:0], p.Nonce, sealed, env.aad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return out, nil
}

// unpad removes the padding of RFC 5652 section 6.3, looking at every byte of the last block whatever it holds.
func unpad(data []byte, size int) ([]byte, error) {
	n := int(data[len(data)-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, size)
	for i := 1; i <= size; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(data[len(data)-i], byte(n))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	if good != 1 {
		return nil, ErrDecrypt
	}
	return data[:len(data)-n], nil
}

// sealed is encrypted content with its algorithm, and its tag when the cipher authenticates.
type sealed struct {
	algorithm  pkix.AlgorithmIdentifier
	ciphertext []byte
	mac        []byte
}

// oddParity sets the lowest bit of each octet of a DES key, which some programs look at (FIPS 46-3).
func oddParity(key []byte) {
	for i, b := range key {
		key[i] = b&0xfe | byte(bits.OnesCount8(b>>1)+1)&1
	}
}

func encryptContent(rand io.Reader, spec cipherSpec, key, content []byte) (sealed, error) {
	block, err := spec.block(key)
	if err != nil {
		return sealed{}, fmt.Errorf("preparing content cipher: %w", err)
	}
	if spec.aead {
		return sealGCM(rand, spec, block, content)
	}
	iv := make([]byte, block.BlockSize())
	if _, err := io.ReadFull(rand, iv); err != nil {
		return sealed{}, fmt.Errorf("reading randomness: %w", err)
	}
	n := block.BlockSize() - len(content)%block.BlockSize()
	out := make([]byte, len(content)+n)
	for i := copy(out, content); i < len(out); i++ {
		out[i] = byte(n)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(out, out)
	alg, err := algorithmWith(spec.oid, iv)
	return sealed{algorithm: alg, ciphertext: out}, err
}

func sealGCM(rand io.Reader, spec cipherSpec, block cipher.Block, content []byte) (sealed, error) {
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealed{}, fmt.Errorf("preparing content cipher: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return sealed{}, fmt.Errorf("reading randomness: %w", err)
	}
	out := aead.Seal(nil, nonce, content, nil)
	alg, err := algorithmWith(spec.oid, gcmParameters{nonce, aead.Overhead()})
	return sealed{algorithm: alg, ciphertext: out[:len(content)], mac: out[len(content):]}, err
}

// algorithmWith makes an algorithm identifier whose parameters are an encoded value.
func algorithmWith(oid asn1.ObjectIdentifier, params any) (pkix.AlgorithmIdentifier, error) {
	der, err := asn1.Marshal(params)
	if err != nil {
		return pkix.AlgorithmIdentifier{}, fmt.Errorf("encoding parameters of %s: %w", oid, err)
	}
	return algorithm(oid, &asn1.RawValue{FullBytes: der}), nil
}

// wrapIV is the initial value of RFC 3394 section 2.2.3.1.
const wrapIV = 0xa6a6a6a6a6a6a6a6

// wrapKey encrypts a key with AES key wrap (RFC 3394 section 2.2.1).
func wrapKey(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(key)%8 != 0 || len(key) < 16 {
		return nil, fmt.Errorf("%w: key wrap of %d bytes", ErrUnsupported, len(key))
	}
	out := append(make([]byte, 8), key...)
	n := len(key) / 8
	a := uint64(wrapIV)
	var b [16]byte
	for t := 1; t <= 6*n; t++ {
		r := out[8*((t-1)%n+1):][:8]
		binary.BigEndian.PutUint64(b[:8], a)
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		a = binary.BigEndian.Uint64(b[:8]) ^ uint64(t)
		copy(r, b[8:])
	}
	binary.BigEndian.PutUint64(out[:8], a)
	return out, nil
}

// unwrapKey is the reverse (RFC 3394 section 2.2.2).
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(wrapped)%8 != 0 || len(wrapped) < 24 || len(wrapped) > 1024 {
		return nil, ErrDecrypt
	}
	out := append([]byte(nil), wrapped[8:]...)
	n := len(out) / 8
	a := binary.BigEndian.Uint64(wrapped[:8])
	var b [16]byte
	for t := 6 * n; t >= 1; t-- {
		r := out[8*((t-1)%n):][:8]
		binary.BigEndian.PutUint64(b[:8], a^uint64(t))
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		a = binary.BigEndian.Uint64(b[:8])
		copy(r, b[8:])
	}
	if a != wrapIV {
		return nil, ErrDecrypt
	}
	return out, nil
}
