package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

// maxSigners bounds the work that one message can ask for.
const maxSigners = 8

// maxRSA is the longest modulus in bytes (16384 bits) that is worth an exponentiation.
const maxRSA = 2048

// Signed is a message whose signatures all verified.
type Signed struct {
	// Content is what was signed, the given bytes for a detached signature.
	Content []byte
	// Signer is the certificate whose key signed; of several signers, the first.
	Signer *x509.Certificate
	// Certificates are all that came along, the signer's among them.
	Certificates []*x509.Certificate
	// SigningTime is the signer's word, zero when not given. Nothing may be decided by it.
	SigningTime time.Time
	// EncryptionCertificate is the one that the signer wants answers encrypted to (RFC 8551 section 2.5.3), nil when
	// it names none or the certificate did not come along.
	EncryptionCertificate *x509.Certificate

	attributes []attribute
}

// Attribute returns the encoded single value of a signed attribute, nil when absent or not single.
func (s *Signed) Attribute(oid asn1.ObjectIdentifier) []byte {
	value, err := single(s.attributes, oid)
	if err != nil {
		return nil
	}
	return value
}

// Verify checks the signatures of a message that carries its content.
func Verify(ber []byte) (*Signed, error) { return verify(ber, nil, false) }

// VerifyDetached checks the signatures of a message over content that came separately. Apple devices sign their MDM
// requests this way, in BER, with SHA-1 and without signed attributes.
func VerifyDetached(ber, content []byte) (*Signed, error) { return verify(ber, content, true) }

func verify(ber, content []byte, detached bool) (*Signed, error) {
	_, inner, err := open(ber, oidSignedData)
	if err != nil {
		return nil, err
	}
	var sd signedData
	if err := unmarshal(inner, &sd, "", "signed data"); err != nil {
		return nil, err
	}
	if content, err = sd.contentToCheck(content, detached); err != nil {
		return nil, err
	}
	certs, err := parseCertificates(sd.Certificates.Bytes)
	if err != nil {
		return nil, err
	}
	return verifySigners(sd, content, certs)
}

// contentToCheck returns what the signatures are about. A detached signature may still carry the content, as streaming
// signers write it, but then it must be the same.
func (sd signedData) contentToCheck(given []byte, detached bool) ([]byte, error) {
	attached, err := attachedContent(sd.Content)
	if !detached {
		return attached, err
	}
	if err == nil && len(attached) > 0 && !bytes.Equal(attached, given) {
		return nil, fmt.Errorf("%w: detached signature carries other content", ErrSignature)
	}
	return given, nil
}

func verifySigners(sd signedData, content []byte, certs []*x509.Certificate) (*Signed, error) {
	if len(sd.Signers) == 0 {
		return nil, ErrNoSigner
	}
	if len(sd.Signers) > maxSigners {
		return nil, fmt.Errorf("%w: %d signers", ErrMalformed, len(sd.Signers))
	}
	var first *Signed
	for _, si := range sd.Signers {
		signed, err := si.verify(sd.Content.Type, content, certs)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = signed
		}
	}
	return first, nil
}

// attachedContent returns the content octets. PKCS #7 version 1.5 allowed other types than an octet string; those
// are signed over the content of the element.
func attachedContent(info contentInfo) ([]byte, error) {
	if len(info.Content.Bytes) == 0 {
		return nil, fmt.Errorf("%w: signed data without content", ErrMalformed)
	}
	var content asn1.RawValue
	if err := unmarshal(info.Content.Bytes, &content, "", "content"); err != nil {
		return nil, err
	}
	return content.Bytes, nil
}

func (si signerInfo) verify(contentType asn1.ObjectIdentifier, content []byte, certs []*x509.Certificate) (*Signed, error) {
	cert, err := si.signer(certs)
	if err != nil {
		return nil, err
	}
	signed := &Signed{Content: content, Signer: cert, Certificates: certs}
	if len(si.Attributes.FullBytes) == 0 {
		// RFC 5652 section 5.3: attributes may be missing only when the content is plain data.
		if !contentType.Equal(oidData) {
			return nil, fmt.Errorf("%w: content type %s without signed attributes", ErrSignature, contentType)
		}
		return signed, si.checkSignature(cert, content)
	}
	if signed.attributes, err = si.checkAttributes(contentType, content); err != nil {
		return nil, err
	}
	if err := si.checkSignature(cert, retag(si.Attributes.FullBytes, tagSet)); err != nil {
		return nil, err
	}
	signed.readAttributes()
	return signed, nil
}

func (si signerInfo) signer(certs []*x509.Certificate) (*x509.Certificate, error) {
	id, err := parseIdentifier(si.ID)
	if err != nil {
		return nil, err
	}
	for _, cert := range certs {
		if id.Matches(cert) {
			return cert, nil
		}
	}
	return nil, ErrNoSigner
}

// checkAttributes demands the content type and the digest of RFC 5652 section 11, each once and with the right value.
func (si signerInfo) checkAttributes(contentType asn1.ObjectIdentifier, content []byte) ([]attribute, error) {
	var attrs []attribute
	if err := unmarshal(retag(si.Attributes.FullBytes, tagSet), &attrs, "set", "signed attributes"); err != nil {
		return nil, err
	}
	raw, err := single(attrs, oidContentType)
	if err != nil {
		return nil, err
	}
	var named asn1.ObjectIdentifier
	if err := unmarshal(raw, &named, "", "content type attribute"); err != nil {
		return nil, err
	}
	if !named.Equal(contentType) {
		return nil, fmt.Errorf("%w: content type attribute says %s", ErrSignature, named)
	}
	if raw, err = single(attrs, oidMessageDigest); err != nil {
		return nil, err
	}
	var want []byte
	if err := unmarshal(raw, &want, "", "digest attribute"); err != nil {
		return nil, err
	}
	hash, err := hashOf(si.Digest.Algorithm)
	if err != nil {
		return nil, err
	}
	h := hash.New()
	h.Write(content)
	if subtle.ConstantTimeCompare(h.Sum(nil), want) != 1 {
		return nil, fmt.Errorf("%w: content differs from what was signed", ErrSignature)
	}
	return attrs, nil
}

// single returns the encoded value of an attribute that must be there once, with one value.
func single(attrs []attribute, oid asn1.ObjectIdentifier) ([]byte, error) {
	var found []byte
	for _, a := range attrs {
		if !a.Type.Equal(oid) {
			continue
		}
		var value asn1.RawValue
		if a.Values.Tag != asn1.TagSet || a.Values.Class != asn1.ClassUniversal || found != nil {
			return nil, fmt.Errorf("%w: attribute %s", ErrMalformed, oid)
		}
		if err := unmarshal(a.Values.Bytes, &value, "", "attribute value"); err != nil {
			return nil, err
		}
		found = value.FullBytes
	}
	if found == nil {
		return nil, fmt.Errorf("%w: no attribute %s", ErrMalformed, oid)
	}
	return found, nil
}

// readAttributes fills in what the attributes tell and nothing depends on.
func (s *Signed) readAttributes() {
	if raw := s.Attribute(oidSigningTime); raw != nil {
		var t time.Time
		if unmarshal(raw, &t, "", "signing time") == nil {
			s.SigningTime = t.UTC()
		}
	}
	id, ok := s.keyPreference()
	if !ok {
		return
	}
	for _, cert := range s.Certificates {
		if id.Matches(cert) {
			s.EncryptionCertificate = cert
			return
		}
	}
}

// keyPreference reads the attribute of RFC 8551 section 2.5.3, or Microsoft's older one, as a recipient.
func (s *Signed) keyPreference() (Recipient, bool) {
	raw := s.Attribute(oidEncryptionKeyPref)
	if raw == nil {
		raw = s.Attribute(oidMicrosoftKeyPref)
	}
	if raw == nil {
		return Recipient{}, false
	}
	switch raw[0] {
	case 0xa0: // issuerAndSerialNumber
		raw = retag(raw, tagSequence)
	case 0xa1: // receipentKeyId, which begins with the key identifier
		return keyIdentifier(raw)
	case 0x82: // subjectAltKeyIdentifier
		raw = retag(raw, 0x80)
	}
	id, err := parseIdentifier(asn1.RawValue{Class: int(raw[0] >> 6), Tag: int(raw[0] & 0x1f), FullBytes: raw, Bytes: contentOf(raw)})
	return id, err == nil
}

func contentOf(der []byte) []byte {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(der, &raw); err != nil {
		return nil
	}
	return raw.Bytes
}

// checkSignature verifies the signature over message, which is the attributes or the content itself.
func (si signerInfo) checkSignature(cert *x509.Certificate, message []byte) error {
	hash, err := hashOf(si.Digest.Algorithm)
	if err != nil {
		return err
	}
	scheme, fixed, err := signatureScheme(si.SignatureAlgorithm.Algorithm)
	if err != nil {
		return err
	}
	if fixed != 0 && fixed != hash {
		return fmt.Errorf("%w: digest of %s signed as %s", ErrSignature, hash, fixed)
	}
	var valid bool
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		valid, err = si.checkRSA(scheme, hash, key, message)
	case *ecdsa.PublicKey:
		valid = scheme == schemeECDSA && ecdsa.VerifyASN1(key, sum(hash, message), si.Signature)
	case ed25519.PublicKey:
		valid = scheme == schemeEd25519 && ed25519.Verify(key, message, si.Signature)
	default:
		err = fmt.Errorf("%w: signer's key of type %T", ErrUnsupported, key)
	}
	if err == nil && !valid {
		err = ErrSignature
	}
	return err
}

func sum(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}

func (si signerInfo) checkRSA(scheme int, hash crypto.Hash, key *rsa.PublicKey, message []byte) (bool, error) {
	if key.Size() > maxRSA {
		return false, fmt.Errorf("%w: signer's RSA key of %d bytes", ErrUnsupported, key.Size())
	}
	digest := sum(hash, message)
	switch scheme {
	case schemePKCS1:
		return rsa.VerifyPKCS1v15(key, hash, digest, si.Signature) == nil, nil
	case schemePSS:
		salt, err := pssSalt(si.SignatureAlgorithm, hash)
		if err != nil {
			return false, err
		}
		return rsa.VerifyPSS(key, hash, digest, si.Signature, &rsa.PSSOptions{SaltLength: salt, Hash: hash}) == nil, nil
	}
	return false, nil
}

// pssParameters is RFC 4055 section 3.1.
type pssParameters struct {
	Hash    pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:0"`
	MGF     pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:1"`
	Salt    int                      `asn1:"explicit,optional,tag:2,default:20"`
	Trailer int                      `asn1:"explicit,optional,tag:3,default:1"`
}

// pssSalt returns the salt length, having checked that both hashes are the digest algorithm: nothing else is in use,
// and a mixture would let the weaker one decide.
func pssSalt(alg pkix.AlgorithmIdentifier, hash crypto.Hash) (int, error) {
	var p pssParameters
	if err := parameters(alg, &p); err != nil {
		return 0, err
	}
	first, second, err := maskHashes(p.Hash, p.MGF)
	if err != nil {
		return 0, err
	}
	if first != hash || second != hash || p.Trailer != 1 || p.Salt < 0 || p.Salt > 512 {
		return 0, fmt.Errorf("%w: RSA-PSS parameters differ from the digest", ErrSignature)
	}
	return p.Salt, nil
}

// maskHashes reads the digest and the mask generation digest that PSS and OAEP share; absent means SHA-1.
func maskHashes(digest, mgf pkix.AlgorithmIdentifier) (hash, mask crypto.Hash, err error) {
	hash, mask = crypto.SHA1, crypto.SHA1
	if len(digest.Algorithm) != 0 {
		if hash, err = hashOf(digest.Algorithm); err != nil {
			return 0, 0, err
		}
	}
	if len(mgf.Algorithm) == 0 {
		return hash, mask, nil
	}
	var inner pkix.AlgorithmIdentifier
	if !mgf.Algorithm.Equal(oidMGF1) {
		return 0, 0, fmt.Errorf("%w: mask generation %s", ErrUnsupported, mgf.Algorithm)
	}
	if err := parameters(mgf, &inner); err != nil {
		return 0, 0, err
	}
	mask, err = hashOf(inner.Algorithm)
	return hash, mask, err
}

// Recipient identifies a certificate inside a message, by issuer and serial number or by subject key identifier.
type Recipient struct {
	id           issuerAndSerial
	SubjectKeyID []byte
}

// Matches reports whether the certificate is the one meant.
func (r Recipient) Matches(cert *x509.Certificate) bool {
	if len(r.SubjectKeyID) != 0 {
		return bytes.Equal(r.SubjectKeyID, cert.SubjectKeyId)
	}
	return r.id.names(cert)
}

// String is for messages to people: the issuer and serial number, or the key identifier in hex.
func (r Recipient) String() string {
	if len(r.SubjectKeyID) != 0 {
		return fmt.Sprintf("key id %x", r.SubjectKeyID)
	}
	var name pkix.RDNSequence
	if unmarshal(r.id.Issuer.FullBytes, &name, "", "name") != nil {
		return fmt.Sprintf("serial %x", r.id.Serial)
	}
	return fmt.Sprintf("serial %x of %s", r.id.Serial, name)
}

// parseIdentifier reads a SignerIdentifier or RecipientIdentifier (RFC 5652 sections 5.3 and 6.2.1).
func parseIdentifier(raw asn1.RawValue) (Recipient, error) {
	if raw.Class == asn1.ClassContextSpecific && raw.Tag == 0 && len(raw.Bytes) > 0 {
		return Recipient{SubjectKeyID: raw.Bytes}, nil
	}
	var id issuerAndSerial
	if err := unmarshal(raw.FullBytes, &id, "", "issuer and serial number"); err != nil {
		return Recipient{}, err
	}
	return Recipient{id: id}, nil
}
