package apple

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// maxPayloads bounds the payloads of one profile that is read.
const maxPayloads = 500

// Profile is a configuration profile that was read.
type Profile struct {
	Identifier        string
	UUID              string
	DisplayName       string
	Organization      string
	Description       string
	Scope             string
	RemovalDisallowed bool
	// Payloads are empty while an encrypted profile has not been opened.
	Payloads []Payload
	// IsEncrypted stays true once the profile has been opened.
	IsEncrypted      bool
	EncryptedContent []byte // DER EnvelopedData
	// Signer is the certificate that signed the profile, nil if it was plain. Nothing says that it is trusted.
	Signer *x509.Certificate
	// Signers are all certificates that came along with the signature, the signer's first.
	Signers []*x509.Certificate
	// Content is the whole profile without PayloadContent.
	Content map[string]any
}

// Payload is one payload of a profile.
type Payload struct {
	Type        string
	Identifier  string
	UUID        string
	DisplayName string
	Version     int
	// Content is the whole payload, the fields above included.
	Content map[string]any
}

// ParseProfile reads a configuration profile of at most four megabytes: plain, signed, or encrypted (then Open gives the
// payloads). A signature must verify, but whether its signer is to be trusted is the caller's business.
func ParseProfile(data []byte) (*Profile, error) {
	p := &Profile{}
	plain, err := p.unwrap(data)
	if err != nil {
		return nil, fmt.Errorf("parse profile: %w", err)
	}
	top, err := proplist.DecodeDict(plain, proplist.MaxProfileSize)
	if err != nil {
		return nil, fmt.Errorf("parse profile: %w", err)
	}
	if err := p.read(top); err != nil {
		return nil, fmt.Errorf("parse profile: %w", err)
	}
	return p, nil
}

// unwrap takes a signature off. DER begins with a SEQUENCE, XML never does.
func (p *Profile) unwrap(data []byte) ([]byte, error) {
	if len(data) > proplist.MaxProfileSize {
		return nil, errors.New("larger than 4 MiB")
	}
	if len(data) == 0 || data[0] != 0x30 {
		return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
	}
	signed, err := cms.Verify(data)
	if err != nil {
		return nil, fmt.Errorf("signature: %w", err)
	}
	p.Signer = signed.Signer
	p.Signers = []*x509.Certificate{signed.Signer}
	for _, c := range signed.Certificates {
		if !c.Equal(signed.Signer) {
			p.Signers = append(p.Signers, c)
		}
	}
	return signed.Content, nil
}

func (p *Profile) read(top proplist.Dict) error {
	if t := proplist.String(top, "PayloadType"); t != typeConfiguration {
		return errors.New("the top-level PayloadType is not Configuration")
	}
	p.Identifier = proplist.String(top, "PayloadIdentifier")
	p.UUID = proplist.String(top, "PayloadUUID")
	if p.Identifier == "" || p.UUID == "" || proplist.Int(top, "PayloadVersion") != 1 {
		return errors.New("the top level lacks PayloadIdentifier, PayloadUUID or PayloadVersion 1")
	}
	p.DisplayName = proplist.String(top, "PayloadDisplayName")
	p.Organization = proplist.String(top, "PayloadOrganization")
	p.Description = proplist.String(top, "PayloadDescription")
	p.Scope = proplist.String(top, "PayloadScope")
	p.RemovalDisallowed = proplist.Bool(top, "PayloadRemovalDisallowed")
	content, present := top["PayloadContent"]
	delete(top, "PayloadContent")
	p.Content = top
	if p.IsEncrypted = proplist.Bool(top, "IsEncrypted"); p.IsEncrypted {
		if p.EncryptedContent = proplist.Bytes(top, "EncryptedPayloadContent"); p.EncryptedContent == nil || present {
			return errors.New("IsEncrypted goes with EncryptedPayloadContent and without PayloadContent")
		}
		return nil
	}
	return p.readPayloads(content)
}

func (p *Profile) readPayloads(content any) error {
	array, ok := content.([]any)
	if !ok || len(array) > maxPayloads {
		return fmt.Errorf("PayloadContent is not an array of at most %d payloads", maxPayloads)
	}
	for i, item := range array {
		d, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("payload %d is not a dictionary", i+1)
		}
		pl := Payload{Type: proplist.String(d, "PayloadType"), Identifier: proplist.String(d, "PayloadIdentifier"),
			UUID: proplist.String(d, "PayloadUUID"), DisplayName: proplist.String(d, "PayloadDisplayName"),
			Version: proplist.Int(d, "PayloadVersion"), Content: d}
		if pl.Type == "" || pl.Identifier == "" || pl.UUID == "" {
			return fmt.Errorf("payload %d lacks PayloadType, PayloadIdentifier or PayloadUUID", i+1)
		}
		p.Payloads = append(p.Payloads, pl)
	}
	return nil
}

// Open decrypts an encrypted profile. decrypt gets the DER EnvelopedData.
func (p *Profile) Open(decrypt func([]byte) ([]byte, error)) error {
	if !p.IsEncrypted {
		return nil
	}
	plain, err := decrypt(p.EncryptedContent)
	if err != nil {
		return fmt.Errorf("open profile %s: %w", p.Identifier, err)
	}
	content, err := proplist.DecodeLimit(plain, proplist.MaxProfileSize)
	if err != nil {
		return fmt.Errorf("open profile %s: %w", p.Identifier, err)
	}
	p.Payloads = nil
	if err := p.readPayloads(content); err != nil {
		return fmt.Errorf("open profile %s: %w", p.Identifier, err)
	}
	return nil
}

// XML gives the whole profile as a plain XML property list, opened if it was; for people to look at.
func (p *Profile) XML() ([]byte, error) {
	top := make(proplist.Dict, len(p.Content)+1)
	for key, v := range p.Content {
		top[key] = v
	}
	if !p.IsEncrypted || p.Payloads != nil {
		delete(top, "IsEncrypted")
		delete(top, "EncryptedPayloadContent")
		payloads := []any{}
		for _, pl := range p.Payloads {
			payloads = append(payloads, pl.Content)
		}
		top["PayloadContent"] = payloads
	}
	return proplist.Encode(top)
}
