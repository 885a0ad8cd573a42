package cms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"go.mozilla.org/pkcs7"
)

// signedData is RFC 5652 section 5.1.
type signedData struct {
	Version      int
	Digests      []pkix.AlgorithmIdentifier `asn1:"set"`
	Content      contentInfo
	Certificates asn1.RawValue `asn1:"optional,tag:0"`
	CRLs         asn1.RawValue `asn1:"optional,tag:1"`
	Signers      []signerInfo  `asn1:"set"`
}

// signerInfo is RFC 5652 section 5.3.
type signerInfo struct {
	Version            int
	ID                 asn1.RawValue
	Digest             pkix.AlgorithmIdentifier
	Attributes         asn1.RawValue `asn1:"optional,tag:0"`
	SignatureAlgorithm pkix.AlgorithmIdentifier
	Signature          []byte
	Unsigned           asn1.RawValue `asn1:"optional,tag:1"`
}

// attribute is RFC 5652 section 5.3; Values is the SET OF.
type attribute struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

// Attribute is an extra signed attribute with one value, encoded as encoding/asn1 does (an asn1.RawValue for anything
// that it cannot express).
type Attribute struct {
	Type  asn1.ObjectIdentifier
	Value any
}

// SignOptions say what a signature carries beside content type and digest.
type SignOptions struct {
	// Detached leaves the content out.
	Detached bool
	// Chain is put into the message beside the signer: issuers, and the sender's encryption certificate in mail.
	Chain []*x509.Certificate
	// SigningTime is left out when zero.
	SigningTime time.Time
	// Capabilities announces the ciphers that we read (RFC 8551 section 2.5.2).
	Capabilities bool
	// EncryptionKeyPreference names the certificate that answers should be encrypted to (RFC 8551 section 2.5.3).
	EncryptionKeyPreference *x509.Certificate
	// Attributes are further signed attributes: SCEP keeps its whole header in them.
	Attributes []Attribute
}

// Sign makes a SignedData with signed attributes and SHA-256, in DER. The key may be opaque (a token).
//
// pkcs7's own signing is not used, because it always writes the wall clock's time and refuses opaque keys.
func Sign(content []byte, cert *x509.Certificate, key crypto.Signer, opts SignOptions) ([]byte, error) {
	attrs, err := signedAttributes(content, opts)
	if err != nil {
		return nil, err
	}
	alg, signature, err := signAttributes(attrs, key)
	if err != nil {
		return nil, fmt.Errorf("signing as %q: %w", cert.Subject, err)
	}
	id, err := asn1.Marshal(identify(cert))
	if err != nil {
		return nil, fmt.Errorf("encoding signer: %w", err)
	}
	digest := algorithm(oidSHA256, nil)
	info := contentInfo{Type: oidData}
	if !opts.Detached {
		octets, err := asn1.Marshal(content)
		if err != nil {
			return nil, fmt.Errorf("encoding content: %w", err)
		}
		info.Content = explicit(0, octets)
	}
	return wrap(oidSignedData, signedData{
		Version:      1,
		Digests:      []pkix.AlgorithmIdentifier{digest},
		Content:      info,
		Certificates: certificateSet(append([]*x509.Certificate{cert}, opts.Chain...)),
		Signers: []signerInfo{{
			Version:            1,
			ID:                 asn1.RawValue{FullBytes: id},
			Digest:             digest,
			Attributes:         asn1.RawValue{FullBytes: retag(attrs, tagContextZero)},
			SignatureAlgorithm: alg,
			Signature:          signature,
		}},
	})
}

// certificateSet joins certificates, each once.
func certificateSet(certs []*x509.Certificate) asn1.RawValue {
	var raw []byte
	seen := make(map[string]bool)
	for _, cert := range certs {
		if !seen[string(cert.Raw)] {
			seen[string(cert.Raw)] = true
			raw = append(raw, cert.Raw...)
		}
	}
	return explicit(0, raw)
}

// signedAttributes encodes the attributes as the SET OF that is signed.
func signedAttributes(content []byte, opts SignOptions) ([]byte, error) {
	digest := crypto.SHA256.New()
	digest.Write(content)
	all := []Attribute{{oidContentType, oidData}, {oidMessageDigest, digest.Sum(nil)}}
	if !opts.SigningTime.IsZero() {
		all = append(all, Attribute{oidSigningTime, opts.SigningTime.UTC()})
	}
	if opts.Capabilities {
		all = append(all, Attribute{oidCapabilities, capabilities()})
	}
	if cert := opts.EncryptionKeyPreference; cert != nil {
		id, err := asn1.Marshal(identify(cert))
		if err != nil {
			return nil, fmt.Errorf("encoding encryption key preference: %w", err)
		}
		all = append(all, Attribute{oidEncryptionKeyPref, asn1.RawValue{FullBytes: retag(id, tagContextZero)}})
	}
	return marshalAttributes(append(all, opts.Attributes...))
}

func marshalAttributes(all []Attribute) ([]byte, error) {
	var encoded []attribute
	for _, a := range all {
		value, err := asn1.Marshal(a.Value)
		if err != nil {
			return nil, fmt.Errorf("encoding attribute %s: %w", a.Type, err)
		}
		set := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}
		encoded = append(encoded, attribute{Type: a.Type, Values: set})
	}
	der, err := asn1.MarshalWithParams(encoded, "set")
	if err != nil {
		return nil, fmt.Errorf("encoding attributes: %w", err)
	}
	return der, nil
}

// capabilities lists the ciphers in the order of preference. AES-GCM is left out although it is read: Thunderbird,
// NSS 3.87 and gpgsm 2.2, which share the same mailbox, do not read it.
func capabilities() []pkix.AlgorithmIdentifier {
	return []pkix.AlgorithmIdentifier{{Algorithm: oidAES256CBC}, {Algorithm: oidAES128CBC}, {Algorithm: oidTripleDES}}
}

func signAttributes(attrs []byte, key crypto.Signer) (pkix.AlgorithmIdentifier, []byte, error) {
	var alg pkix.AlgorithmIdentifier
	switch key.Public().(type) {
	case *rsa.PublicKey:
		alg = algorithm(oidRSA, &asn1Null)
	case *ecdsa.PublicKey:
		alg = algorithm(oidECDSAWithSHA256, nil)
	default:
		return alg, nil, fmt.Errorf("%w: key of type %T", ErrUnsupported, key.Public())
	}
	h := crypto.SHA256.New()
	h.Write(attrs)
	signature, err := key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256)
	return alg, signature, err
}

// CertsOnly makes a SignedData without signers (RFC 5652 section 5.1, "degenerate"), as GetCACert answers.
func CertsOnly(certs ...*x509.Certificate) ([]byte, error) {
	if len(certs) == 0 {
		return nil, errors.New("no certificate for the certificate bag")
	}
	var raw []byte
	for _, cert := range certs {
		raw = append(raw, cert.Raw...)
	}
	der, err := pkcs7.DegenerateCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("encoding certificate bag: %w", err)
	}
	return der, nil
}

// ParseCertsOnly reads the certificates of a SignedData; signatures, if any, are not looked at.
func ParseCertsOnly(ber []byte) (certs []*x509.Certificate, err error) {
	der, err := ToDER(ber)
	if err != nil {
		return nil, err
	}
	// pkcs7 is not trusted with foreign bytes: older versions panicked on three of them.
	defer func() {
		if r := recover(); r != nil {
			certs, err = nil, fmt.Errorf("%w: certificate bag", ErrMalformed)
		}
	}()
	bag, err := pkcs7.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate bag: %v", ErrMalformed, err)
	}
	return bag.Certificates, nil
}
