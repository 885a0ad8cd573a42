package cms

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
)

// ECDHKey is an EC key that hands out shared secrets only, as a token does. *ecdh.PrivateKey is one.
type ECDHKey interface {
	Curve() ecdh.Curve
	ECDH(remote *ecdh.PublicKey) ([]byte, error)
}

// sharedInfo is ECC-CMS-SharedInfo of RFC 5753 section 7.2.
type sharedInfo struct {
	Wrap      pkix.AlgorithmIdentifier
	UKM       []byte `asn1:"explicit,optional,tag:0"`
	KeyLength []byte `asn1:"explicit,tag:2"`
}

// originatorKey is OriginatorPublicKey of RFC 5652 section 6.2.2.
type originatorKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// agreementHash names the digest of a key agreement scheme: standard or cofactor Diffie-Hellman, which are the same
// thing on the NIST curves, with the X9.63 derivation.
func agreementHash(oid asn1.ObjectIdentifier) (crypto.Hash, error) {
	switch oid.String() {
	case "1.3.133.16.840.63.0.2", "1.3.133.16.840.63.0.3":
		return crypto.SHA1, nil
	case "1.3.132.1.11.0", "1.3.132.1.14.0":
		return crypto.SHA224, nil
	case "1.3.132.1.11.1", "1.3.132.1.14.1":
		return crypto.SHA256, nil
	case "1.3.132.1.11.2", "1.3.132.1.14.2":
		return crypto.SHA384, nil
	case "1.3.132.1.11.3", "1.3.132.1.14.3":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("%w: key agreement %s", ErrUnsupported, oid)
}

func wrapKeySize(oid asn1.ObjectIdentifier) (int, error) {
	switch {
	case oid.Equal(oidAES128Wrap):
		return 16, nil
	case oid.Equal(oidAES192Wrap):
		return 24, nil
	case oid.Equal(oidAES256Wrap):
		return 32, nil
	}
	return 0, fmt.Errorf("%w: key wrap %s", ErrUnsupported, oid)
}

// deriveKEK runs the X9.63 key derivation (SEC 1 section 3.6.1) over the shared secret.
func deriveKEK(secret []byte, hash crypto.Hash, wrapAlg pkix.AlgorithmIdentifier, ukm []byte, size int) ([]byte, error) {
	bits := binary.BigEndian.AppendUint32(nil, uint32(size*8))
	info, err := asn1.Marshal(sharedInfo{Wrap: wrapAlg, UKM: ukm, KeyLength: bits})
	if err != nil {
		return nil, fmt.Errorf("encoding shared info: %w", err)
	}
	var out []byte
	for counter := uint32(1); len(out) < size; counter++ {
		h := hash.New()
		h.Write(secret)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		h.Write(info)
		out = h.Sum(out)
	}
	return out[:size], nil
}

// agreeKey encrypts the content key to an EC certificate with a fresh key, SHA-256 and AES key wrap.
func agreeKey(rand io.Reader, key []byte, cert *x509.Certificate, pub *ecdsa.PublicKey) ([]byte, error) {
	remote, err := pub.ECDH()
	if err != nil {
		return nil, err
	}
	fresh, err := remote.Curve().GenerateKey(rand)
	if err != nil {
		return nil, err
	}
	secret, err := fresh.ECDH(remote)
	if err != nil {
		return nil, err
	}
	wrapAlg := algorithm(oidAES256Wrap, nil)
	if len(key) == 16 {
		wrapAlg = algorithm(oidAES128Wrap, nil)
	}
	kek, err := deriveKEK(secret, crypto.SHA256, wrapAlg, nil, len(key))
	if err != nil {
		return nil, err
	}
	wrapped, err := wrapKey(kek, key)
	if err != nil {
		return nil, err
	}
	return marshalAgreement(cert, fresh.PublicKey(), wrapAlg, wrapped)
}

func marshalAgreement(cert *x509.Certificate, fresh *ecdh.PublicKey, wrapAlg pkix.AlgorithmIdentifier, wrapped []byte) ([]byte, error) {
	point := fresh.Bytes()
	originator, err := asn1.MarshalWithParams(originatorKey{
		Algorithm: algorithm(oidEC, nil),
		Key:       asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	}, "tag:1")
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(identify(cert))
	if err != nil {
		return nil, err
	}
	alg, err := algorithmWith(oidECDHSHA256, wrapAlg)
	if err != nil {
		return nil, err
	}
	return asn1.MarshalWithParams(keyAgreement{
		Version:    3,
		Originator: explicit(0, originator),
		Algorithm:  alg,
		Keys:       []agreedKey{{ID: asn1.RawValue{FullBytes: id}, Key: wrapped}},
	}, "tag:1")
}

// agreedContentKey derives the key encryption key with the originator's key and unwraps the content key.
func (r recipient) agreedContentKey(key crypto.PrivateKey, size int) ([]byte, error) {
	hash, err := agreementHash(r.algorithm.Algorithm)
	if err != nil {
		return nil, err
	}
	var wrapAlg pkix.AlgorithmIdentifier
	if err := parameters(r.algorithm, &wrapAlg); err != nil {
		return nil, err
	}
	wrapSize, err := wrapKeySize(wrapAlg.Algorithm)
	if err != nil {
		return nil, err
	}
	secret, err := r.agreement.secret(key)
	if err != nil {
		return nil, err
	}
	kek, err := deriveKEK(secret, hash, wrapAlg, r.agreement.UKM, wrapSize)
	if err != nil {
		return nil, err
	}
	contentKey, err := unwrapKey(kek, r.key)
	if err != nil || len(contentKey) != size {
		return nil, ErrDecrypt
	}
	return contentKey, nil
}

// secret makes the shared secret. Only the originator's key in the message itself is accepted: the other forms need
// the sender's certificate, and S/MIME does not use them.
func (ka *keyAgreement) secret(key crypto.PrivateKey) ([]byte, error) {
	private, ok := ecdhKey(key)
	if !ok {
		return nil, ErrDecrypt
	}
	var originator originatorKey
	if err := unmarshal(ka.Originator.Bytes, &originator, "tag:1", "originator's key"); err != nil {
		return nil, err
	}
	remote, err := private.Curve().NewPublicKey(originator.Key.RightAlign())
	if err != nil {
		return nil, ErrDecrypt
	}
	secret, err := private.ECDH(remote)
	if err != nil {
		return nil, ErrDecrypt
	}
	return secret, nil
}

func ecdhKey(key crypto.PrivateKey) (ECDHKey, bool) {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		private, err := k.ECDH()
		return private, err == nil
	case ECDHKey:
		return k, true
	}
	return nil, false
}
