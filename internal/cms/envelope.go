package cms

import (
	"crypto"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
)

// EncryptOptions choose the algorithms; the zero value is AES-256-CBC with RSA PKCS #1 v1.5, which every peer reads.
type EncryptOptions struct {
	Cipher Cipher
	// OAEP uses RSAES-OAEP with SHA-256 towards RSA recipients.
	OAEP bool
}

// Encrypt makes an EnvelopedData (or AuthEnvelopedData, for AES256GCM) in DER that each recipient can open:
// RSA keys by key transport, EC keys by one-pass ECDH (RFC 5753), all named by issuer and serial number.
func Encrypt(rand io.Reader, content []byte, recipients []*x509.Certificate, opts EncryptOptions) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, errors.New("encrypting: no recipient")
	}
	if opts.Cipher < AES256CBC || opts.Cipher > TripleDESCBC {
		return nil, fmt.Errorf("%w: cipher %d", ErrUnsupported, opts.Cipher)
	}
	spec := cipherSpecs()[opts.Cipher]
	key := make([]byte, spec.keySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	if opts.Cipher == TripleDESCBC {
		oddParity(key)
	}
	infos, version, err := encryptKeys(rand, key, recipients, opts)
	if err != nil {
		return nil, err
	}
	s, err := encryptContent(rand, spec, key, content)
	if err != nil {
		return nil, err
	}
	info := encryptedContent{Type: oidData, Algorithm: s.algorithm}
	info.Content = asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: s.ciphertext}
	if spec.aead {
		return wrap(oidAuthEnvelopedData, authEnvelopedData{Recipients: infos, Content: info, MAC: s.mac})
	}
	return wrap(oidEnvelopedData, envelopedData{Version: version, Recipients: infos, Content: info})
}

// encryptKeys encrypts the content key to everybody. The version is that of RFC 5652 section 6.1.
func encryptKeys(rand io.Reader, key []byte, certs []*x509.Certificate, opts EncryptOptions) (infos []asn1.RawValue, version int, err error) {
	for _, cert := range certs {
		var der []byte
		switch pub := cert.PublicKey.(type) {
		case *rsa.PublicKey:
			der, err = transportKey(rand, key, cert, pub, opts.OAEP)
		case *ecdsa.PublicKey:
			version = 2
			if opts.Cipher == TripleDESCBC {
				return nil, 0, fmt.Errorf("%w: Triple DES towards the EC key of %q", ErrUnsupported, cert.Subject)
			}
			der, err = agreeKey(rand, key, cert, pub)
		default:
			err = fmt.Errorf("%w: key of type %T", ErrUnsupported, pub)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("encrypting to %q: %w", cert.Subject, err)
		}
		infos = append(infos, asn1.RawValue{FullBytes: der})
	}
	return infos, version, nil
}

// oaepParameters is RFC 4055 section 4.1.
type oaepParameters struct {
	Hash  pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:0"`
	MGF   pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:1"`
	Label pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:2"`
}

func transportKey(rand io.Reader, key []byte, cert *x509.Certificate, pub *rsa.PublicKey, oaep bool) ([]byte, error) {
	alg, encrypted, err := encryptRSA(rand, key, pub, oaep)
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(identify(cert))
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(keyTransport{ID: asn1.RawValue{FullBytes: id}, Algorithm: alg, Key: encrypted})
}

func encryptRSA(rand io.Reader, key []byte, pub *rsa.PublicKey, oaep bool) (pkix.AlgorithmIdentifier, []byte, error) {
	if !oaep {
		//lint:ignore SA1019 PKCS #1 v1.5 is what Apple, Windows and every mail program read.
		out, err := rsa.EncryptPKCS1v15(rand, pub, key)
		return algorithm(oidRSA, &asn1Null), out, err
	}
	hash := algorithm(oidSHA256, &asn1Null)
	mgf, err := algorithmWith(oidMGF1, hash)
	if err != nil {
		return hash, nil, err
	}
	alg, err := algorithmWith(oidOAEP, struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	}{hash, mgf})
	if err != nil {
		return hash, nil, err
	}
	out, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand, pub, key, nil)
	return alg, out, err
}

// Decrypt opens an EnvelopedData or AuthEnvelopedData that names cert among its recipients. The key is an
// *rsa.PrivateKey, an *ecdsa.PrivateKey, a crypto.Decrypter holding an RSA key, or for ECDH an ECDHKey.
//
// ErrNoRecipient, ErrMalformed and ErrUnsupported are about what anybody can see in the message; every failure that
// depends on the key is ErrDecrypt.
func Decrypt(ber []byte, cert *x509.Certificate, key crypto.PrivateKey) ([]byte, error) {
	return decrypt(ber, cert, key, cipherSpecs())
}

// DecryptEvenDES is Decrypt that also opens single DES, for what other programs insist on sending and whose secrecy does
// not rest on the cipher.
func DecryptEvenDES(ber []byte, cert *x509.Certificate, key crypto.PrivateKey) ([]byte, error) {
	return decrypt(ber, cert, key, append(cipherSpecs(), cipherSpec{oidDES, 8, false, des.NewCipher}))
}

func decrypt(ber []byte, cert *x509.Certificate, key crypto.PrivateKey, ciphers []cipherSpec) ([]byte, error) {
	env, err := parseEnvelope(ber)
	if err != nil {
		return nil, err
	}
	spec, err := cipherAmong(ciphers, env.algorithm.Algorithm)
	if err != nil {
		return nil, err
	}
	// OpenSSL 3 and others write GCM into AuthEnvelopedData only; without the tag field there is nothing to check.
	if spec.aead != env.authenticated {
		return nil, fmt.Errorf("%w: %s in this kind of envelope", ErrUnsupported, spec.oid)
	}
	err = ErrNoRecipient
	tries := 0
	for _, r := range env.recipients {
		if !r.Matches(cert) {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		var contentKey, content []byte
		if contentKey, err = r.contentKey(key, spec.keySize); err != nil {
			continue
		}
		if content, err = env.decryptContent(spec, contentKey); err == nil {
			return content, nil
		}
	}
	return nil, err
}

// maxTries bounds the private key operations that one message can ask for by naming a recipient again and again.
const maxTries = 4

func (r recipient) contentKey(key crypto.PrivateKey, size int) ([]byte, error) {
	if r.agreement != nil {
		return r.agreedContentKey(key, size)
	}
	decrypter, ok := key.(crypto.Decrypter)
	if !ok {
		return nil, ErrDecrypt
	}
	if _, ok := decrypter.Public().(*rsa.PublicKey); !ok {
		return nil, ErrDecrypt
	}
	switch {
	case r.algorithm.Algorithm.Equal(oidRSA):
		return rejectImplicitly(decrypter, r.key, size)
	case r.algorithm.Algorithm.Equal(oidOAEP):
		return r.openOAEP(decrypter, size)
	}
	return nil, fmt.Errorf("%w: key encryption %s", ErrUnsupported, r.algorithm.Algorithm)
}

// rejectImplicitly decrypts RSA PKCS #1 v1.5. When the padding is wrong the answer is a random key, so that the
// failure shows only later and looks like any other (RFC 3218 section 2.3.2). *rsa.PrivateKey does that in constant
// time when it is told the length; a token may answer with an error, which is treated alike.
func rejectImplicitly(key crypto.Decrypter, encrypted []byte, size int) ([]byte, error) {
	fallback := make([]byte, size)
	if _, err := io.ReadFull(rand.Reader, fallback); err != nil {
		return nil, fmt.Errorf("reading randomness: %w", err)
	}
	//lint:ignore SA1019 PKCS #1 v1.5 is what Apple, Windows and every mail program write.
	out, err := key.Decrypt(rand.Reader, encrypted, &rsa.PKCS1v15DecryptOptions{SessionKeyLen: size})
	if err != nil || len(out) != size {
		return fallback, nil
	}
	return out, nil
}

func (r recipient) openOAEP(key crypto.Decrypter, size int) ([]byte, error) {
	var p oaepParameters
	if err := parameters(r.algorithm, &p); err != nil {
		return nil, err
	}
	hash, mask, err := maskHashes(p.Hash, p.MGF)
	if err != nil {
		return nil, err
	}
	if len(p.Label.Algorithm) != 0 {
		return nil, fmt.Errorf("%w: OAEP label", ErrUnsupported)
	}
	out, err := key.Decrypt(rand.Reader, r.key, &rsa.OAEPOptions{Hash: hash, MGFHash: mask})
	if err != nil || len(out) != size {
		return nil, ErrDecrypt
	}
	return out, nil
}
