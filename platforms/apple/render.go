package apple

import (
	"errors"
	"fmt"
	"maps"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Secrets are what a plan leaves out.
type Secrets struct {
	// PKCS12 by the SHA-256 of the certificate.
	PKCS12 map[string]platforms.PKCS12
	// Challenges of SCEP, by the name of the profile.
	Challenges map[string]string
}

// Render gives the bytes of the configuration profile, not signed. seal encrypts DER to the device (CMS EnvelopedData); a
// document with private keys is refused without it, and its whole PayloadContent goes through it. A document that must
// wait is refused.
func Render(doc platforms.Document, secrets Secrets, seal func([]byte) ([]byte, error)) ([]byte, error) {
	out, err := render(doc, secrets, seal)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", doc.ID, err)
	}
	return out, nil
}

func render(doc platforms.Document, secrets Secrets, seal func([]byte) ([]byte, error)) ([]byte, error) {
	if doc.Reason != "" {
		return nil, fmt.Errorf("the document waits: %s", doc.Reason)
	}
	b, err := decodeBody(doc)
	if err != nil {
		return nil, err
	}
	if b.Custom != nil && doc.HasSecrets() {
		return nil, errors.New("credentials and content do not belong together")
	}
	if b.Custom != nil {
		return renderCustom(doc, b)
	}
	payloads, secret, err := renderPayloads(b.Payloads, secrets)
	if err != nil {
		return nil, err
	}
	if secret != doc.HasSecrets() {
		return nil, errors.New("credentials and content do not belong together")
	}
	top := head(typeConfiguration, doc.Identifier, doc.Proof, b.DisplayName)
	setString(top, "PayloadDescription", b.Description)
	setString(top, "PayloadOrganization", b.Organization)
	setString(top, "PayloadScope", b.Scope)
	if !secret {
		top["PayloadContent"] = payloads
		return proplist.Encode(top)
	}
	return renderSealed(top, payloads, seal)
}

// renderSealed encrypts the array of payloads: a property list whose root is the array, as DER EnvelopedData in
// EncryptedPayloadContent. Source: https://developer.apple.com/documentation/devicemanagement/toplevel.
func renderSealed(top proplist.Dict, payloads []any, seal func([]byte) ([]byte, error)) ([]byte, error) {
	if seal == nil {
		return nil, errors.New("the document has secrets and nothing to seal them with")
	}
	plain, err := proplist.Encode(payloads)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(plain)
	if err != nil {
		return nil, fmt.Errorf("seal the content to the device: %w", err)
	}
	top["EncryptedPayloadContent"] = sealed
	top["IsEncrypted"] = true
	return proplist.Encode(top)
}

// renderPayloads tells as well whether a secret is among them.
func renderPayloads(plans []planned, secrets Secrets) (payloads []any, secret bool, err error) {
	payloads = []any{}
	for _, p := range plans {
		d := head(p.Type, p.Identifier, p.UUID, p.DisplayName)
		maps.Copy(d, p.Settings)
		if p.Certificate != nil {
			d["PayloadContent"] = p.Certificate
		}
		if p.SCEP != nil {
			if d["PayloadContent"], err = p.SCEP.content(secrets.Challenges); err != nil {
				return nil, false, err
			}
		}
		if p.Credential != "" {
			secret = true
			if err := p.checkIdentity(); err != nil {
				return nil, false, err
			}
			c, ok := secrets.PKCS12[p.Credential]
			if !ok || len(c.Bytes) == 0 || c.Password == "" {
				return nil, false, fmt.Errorf("no PKCS#12 with a password for the certificate %s", p.Credential)
			}
			d["PayloadContent"], d["Password"] = c.Bytes, c.Password
		}
		payloads = append(payloads, d)
	}
	return payloads, secret, nil
}

// checkIdentity holds an identity to the one form that plan gives it. The body comes from a server that the connector does
// not trust: in a payload of another type the device would send the password to a host of the server's choice, and
// other settings would let everybody on a Mac take the key out.
func (p planned) checkIdentity() error {
	if p.Type != typePKCS12 || p.Certificate != nil || p.SCEP != nil {
		return fmt.Errorf("payload %s: a private key goes into a payload of type %s and no other", p.Identifier, typePKCS12)
	}
	for key, v := range p.Settings {
		if key != "PayloadCertificateFileName" && (key != "KeyIsExtractable" || v != false) {
			return fmt.Errorf("payload %s: the setting %s has no place beside a private key", p.Identifier, key)
		}
	}
	return nil
}

// renderCustom keeps the admin's payloads and makes the profile one of ours.
func renderCustom(doc platforms.Document, b body) ([]byte, error) {
	top, err := proplist.DecodeDict(b.Custom, proplist.MaxProfileSize)
	if err != nil {
		return nil, err
	}
	top["PayloadIdentifier"] = doc.Identifier
	top["PayloadUUID"] = doc.Proof
	setString(top, "PayloadOrganization", b.Organization)
	setString(top, "PayloadScope", b.Scope)
	return proplist.Encode(top)
}
