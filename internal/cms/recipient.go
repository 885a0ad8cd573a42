package cms

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// envelopedData is RFC 5652 section 6.1.
type envelopedData struct {
	Version     int
	Originator  asn1.RawValue   `asn1:"optional,tag:0"`
	Recipients  []asn1.RawValue `asn1:"set"`
	Content     encryptedContent
	Unprotected asn1.RawValue `asn1:"optional,tag:1"`
}

// authEnvelopedData is RFC 5083 section 2.1.
type authEnvelopedData struct {
	Version         int
	Originator      asn1.RawValue   `asn1:"optional,tag:0"`
	Recipients      []asn1.RawValue `asn1:"set"`
	Content         encryptedContent
	Authenticated   asn1.RawValue `asn1:"optional,tag:1"`
	MAC             []byte
	Unauthenticated asn1.RawValue `asn1:"optional,tag:2"`
}

// encryptedContent is EncryptedContentInfo of RFC 5652 section 6.1.
type encryptedContent struct {
	Type      asn1.ObjectIdentifier
	Algorithm pkix.AlgorithmIdentifier
	Content   asn1.RawValue `asn1:"optional,tag:0"`
}

// keyTransport is KeyTransRecipientInfo of RFC 5652 section 6.2.1.
type keyTransport struct {
	Version   int
	ID        asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// keyAgreement is KeyAgreeRecipientInfo of RFC 5652 section 6.2.2.
type keyAgreement struct {
	Version    int
	Originator asn1.RawValue `asn1:"explicit,tag:0"`
	UKM        []byte        `asn1:"explicit,optional,tag:1"`
	Algorithm  pkix.AlgorithmIdentifier
	Keys       []agreedKey
}

// agreedKey is RecipientEncryptedKey.
type agreedKey struct {
	ID  asn1.RawValue
	Key []byte
}

// envelope is what both kinds of enveloped data come down to.
type envelope struct {
	recipients []recipient
	algorithm  pkix.AlgorithmIdentifier
	ciphertext []byte
	// aad and mac are set for authenticated content only.
	authenticated bool
	aad, mac      []byte
}

// recipient is one way to the content key.
type recipient struct {
	Recipient
	algorithm pkix.AlgorithmIdentifier
	key       []byte
	agreement *keyAgreement
}

// Recipients lists the certificates that a message is encrypted to. Recipients of other kinds (passwords, symmetric
// keys) are left out.
func Recipients(ber []byte) ([]Recipient, error) {
	env, err := parseEnvelope(ber)
	if err != nil {
		return nil, err
	}
	var out []Recipient
	for _, r := range env.recipients {
		out = append(out, r.Recipient)
	}
	return out, nil
}

func parseEnvelope(ber []byte) (*envelope, error) {
	kind, inner, err := open(ber, oidEnvelopedData, oidAuthEnvelopedData)
	if err != nil {
		return nil, err
	}
	var env envelope
	var raw []asn1.RawValue
	var content encryptedContent
	if kind.Equal(oidEnvelopedData) {
		var data envelopedData
		err = unmarshal(inner, &data, "", "enveloped data")
		raw, content = data.Recipients, data.Content
	} else {
		var data authEnvelopedData
		err = unmarshal(inner, &data, "", "authenticated enveloped data")
		raw, content = data.Recipients, data.Content
		env.authenticated, env.mac = true, data.MAC
		if len(data.Authenticated.FullBytes) != 0 {
			env.aad = retag(data.Authenticated.FullBytes, tagSet)
		}
	}
	if err != nil {
		return nil, err
	}
	env.algorithm = content.Algorithm
	if env.ciphertext, err = content.join(); err != nil {
		return nil, err
	}
	env.recipients, err = parseRecipients(raw)
	return &env, err
}

// join returns the ciphertext, which is [0] IMPLICIT OCTET STRING: primitive, or in segments when the sender streamed.
func (c encryptedContent) join() ([]byte, error) {
	if !c.Content.IsCompound {
		return c.Content.Bytes, nil
	}
	var out []byte
	for in := c.Content.Bytes; len(in) > 0; {
		var part []byte
		rest, err := asn1.Unmarshal(in, &part)
		if err != nil {
			return nil, fmt.Errorf("%w: encrypted content: %v", ErrMalformed, err)
		}
		out, in = append(out, part...), rest
	}
	return out, nil
}

func parseRecipients(raw []asn1.RawValue) ([]recipient, error) {
	var out []recipient
	for _, r := range raw {
		var found []recipient
		var err error
		switch {
		case r.Class == asn1.ClassUniversal && r.Tag == asn1.TagSequence:
			found, err = parseTransport(r.FullBytes)
		case r.Class == asn1.ClassContextSpecific && r.Tag == 1:
			found, err = parseAgreement(r.FullBytes)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func parseTransport(der []byte) ([]recipient, error) {
	var kt keyTransport
	if err := unmarshal(der, &kt, "", "key transport recipient"); err != nil {
		return nil, err
	}
	id, err := parseIdentifier(kt.ID)
	if err != nil {
		return nil, err
	}
	return []recipient{{Recipient: id, algorithm: kt.Algorithm, key: kt.Key}}, nil
}

func parseAgreement(der []byte) ([]recipient, error) {
	var ka keyAgreement
	if err := unmarshal(der, &ka, "tag:1", "key agreement recipient"); err != nil {
		return nil, err
	}
	var out []recipient
	for _, k := range ka.Keys {
		id, err := parseAgreedIdentifier(k.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, recipient{Recipient: id, algorithm: ka.Algorithm, key: k.Key, agreement: &ka})
	}
	return out, nil
}

// parseAgreedIdentifier reads a KeyAgreeRecipientIdentifier: issuer and serial, or [0] IMPLICIT SEQUENCE with the key
// identifier first.
func parseAgreedIdentifier(raw asn1.RawValue) (Recipient, error) {
	if raw.Class != asn1.ClassContextSpecific {
		return parseIdentifier(raw)
	}
	id, ok := keyIdentifier(raw.FullBytes)
	if !ok {
		return Recipient{}, fmt.Errorf("%w: recipient key identifier", ErrMalformed)
	}
	return id, nil
}

// keyIdentifier reads the first field of a RecipientKeyIdentifier; date and other attributes do not matter.
func keyIdentifier(der []byte) (Recipient, bool) {
	var ski []byte
	_, err := asn1.Unmarshal(contentOf(der), &ski)
	return Recipient{SubjectKeyID: ski}, err == nil && len(ski) > 0
}
