package apple

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

type dict = map[string]any

// profile is a configuration profile as it came (apple.md of the design's reference, section 1.2; Apple's
// TopLevel.yaml and CommonPayloadKeys.yaml).
type profile struct {
	top       dict // the top level, with PayloadContent decrypted
	payloads  []payload
	encrypted bool
	signers   [][]byte // DER, leaf first
}

// payload is one dictionary of PayloadContent.
type payload struct {
	dict
}

func (p payload) kind() string { return proplist.String(p.dict, "PayloadType") }
func (p payload) uuid() string { return proplist.String(p.dict, "PayloadUUID") }
func (p payload) id() string   { return proplist.String(p.dict, "PayloadIdentifier") }

func (p *profile) id() string   { return proplist.String(p.top, "PayloadIdentifier") }
func (p *profile) uuid() string { return proplist.String(p.top, "PayloadUUID") }
func (p *profile) name() string {
	if name := proplist.String(p.top, "PayloadDisplayName"); name != "" {
		return name
	}
	return p.id()
}

// find returns the payload with a UUID, nil if there is none.
func (p *profile) find(uuid string) *payload {
	for n := range p.payloads {
		if uuid != "" && p.payloads[n].uuid() == uuid {
			return &p.payloads[n]
		}
	}
	return nil
}

// first returns the first payload of a type.
func (p *profile) first(kind string) *payload {
	for n := range p.payloads {
		if p.payloads[n].kind() == kind {
			return &p.payloads[n]
		}
	}
	return nil
}

// parseProfile reads a profile, plain or signed, decrypts it with an identity of the keychain if it is encrypted, and
// checks what Apple's schema requires of every profile.
func parseProfile(data []byte, keys *keychain.Keychain) (*profile, error) {
	p := &profile{}
	content, err := p.unwrap(data)
	if err != nil {
		return nil, err
	}
	top, err := proplist.DecodeDict(content, maxProfile)
	if err != nil {
		return nil, fail(domainProfile, 1000, "malformed profile: %v", err)
	}
	p.top = top
	if err := checkTop(top); err != nil {
		return nil, err
	}
	items, err := p.content(keys)
	if err != nil {
		return nil, err
	}
	return p, p.takePayloads(items)
}

// unwrap takes the signature off. A signer that has expired, or that nobody trusts, is no reason to refuse: the
// profile shows as unverified. A signature that does not fit is.
func (p *profile) unwrap(data []byte) ([]byte, error) {
	if len(data) == 0 || data[0] != 0x30 {
		return data, nil
	}
	signed, err := cms.Verify(data)
	if err != nil {
		return nil, fail(domainProfile, 1004, "bad signature of the profile: %v", err)
	}
	p.signers = append(p.signers, signed.Signer.Raw)
	for _, cert := range signed.Certificates {
		if !bytes.Equal(cert.Raw, signed.Signer.Raw) {
			p.signers = append(p.signers, cert.Raw)
		}
	}
	return signed.Content, nil
}

func checkTop(top dict) error {
	if err := checkFields(top, domainProfile, 1000, "the profile"); err != nil {
		return err
	}
	if kind := proplist.String(top, "PayloadType"); kind != "Configuration" {
		return fail(domainProfile, 1010, "PayloadType of the profile is %q; it must be Configuration", kind)
	}
	if scope, there := top["PayloadScope"]; there && scope != "System" && scope != "User" {
		return fail(domainProfile, 1010, "PayloadScope of the profile is neither System nor User")
	}
	return nil
}

// checkFields checks the keys that the profile and each payload must have. Codes of the two domains run in step:
// +1 version, +2 missing field, +3 bad type.
func checkFields(d dict, domain string, base int, what string) error {
	for _, key := range []string{"PayloadType", "PayloadIdentifier", "PayloadUUID"} {
		value, there := d[key]
		if !there || value == "" {
			return fail(domain, base+2, "%s lacks the required key %s", what, key)
		}
		if _, ok := value.(string); !ok {
			return fail(domain, base+3, "%s of %s must be a string", key, what)
		}
	}
	version, there := d["PayloadVersion"]
	if !there {
		return fail(domain, base+2, "%s lacks the required key PayloadVersion", what)
	}
	if !isInteger(version) {
		return fail(domain, base+3, "PayloadVersion of %s must be an integer", what)
	}
	if proplist.Int(d, "PayloadVersion") != 1 {
		return fail(domain, base+1, "PayloadVersion of %s must be 1", what)
	}
	return nil
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, uint64:
		return true
	}
	return false
}

// content gives the array of payloads, from the encrypted form if need be.
func (p *profile) content(keys *keychain.Keychain) ([]any, error) {
	value, there := p.top["PayloadContent"]
	if proplist.Bool(p.top, "IsEncrypted") || p.top["EncryptedPayloadContent"] != nil {
		p.encrypted = true
		var err error
		if value, err = p.decrypt(keys); err != nil {
			return nil, err
		}
		there = true
		p.top["PayloadContent"] = value
		delete(p.top, "EncryptedPayloadContent")
		delete(p.top, "IsEncrypted")
	}
	items, ok := value.([]any)
	switch {
	case !there:
		return nil, fail(domainProfile, 1002, "the profile lacks the required key PayloadContent")
	case !ok:
		return nil, fail(domainProfile, 1003, "PayloadContent of the profile must be an array")
	case len(items) == 0:
		return nil, fail(domainProfile, 1005, "the profile is empty")
	}
	return items, nil
}

// decrypt opens EncryptedPayloadContent: CMS EnvelopedData over a property list whose root is the array.
func (p *profile) decrypt(keys *keychain.Keychain) (any, error) {
	sealed := proplist.Bytes(p.top, "EncryptedPayloadContent")
	if sealed == nil {
		return nil, fail(domainProfile, 1002, "the encrypted profile lacks EncryptedPayloadContent")
	}
	plain, err := openWith(keys, sealed)
	if err != nil {
		return nil, fail(domainProfile, 1006, "the profile is encrypted to no identity of this device: %v", err)
	}
	value, err := proplist.DecodeLimit(plain, maxProfile)
	if err != nil {
		return nil, fail(domainProfile, 1000, "malformed encrypted payloads: %v", err)
	}
	return value, nil
}

// openWith decrypts a message with an identity that it names, each tried once, however often it is named.
func openWith(keys *keychain.Keychain, sealed []byte) ([]byte, error) {
	recipients, err := cms.Recipients(sealed)
	if err != nil {
		return nil, err
	}
	for _, item := range keys.Identities() {
		if !slices.ContainsFunc(recipients, func(r cms.Recipient) bool { return r.Matches(item.Certificate) }) {
			continue
		}
		if plain, err := cms.Decrypt(sealed, item.Certificate, item.Key); err == nil {
			return plain, nil
		}
	}
	return nil, errors.New("cannot decrypt")
}

// takePayloads checks every payload, and that none of them shares UUID or identifier with another.
func (p *profile) takePayloads(items []any) error {
	uuids, ids := map[string]bool{p.uuid(): true}, map[string]bool{}
	for n, item := range items {
		d, ok := item.(dict)
		if !ok {
			return fail(domainProfile, 1003, "payload %d of the profile is not a dictionary", n)
		}
		pl := payload{d}
		if err := checkFields(d, domainPayload, 2000, fmt.Sprintf("payload %d", n)); err != nil {
			return err
		}
		if uuids[pl.uuid()] {
			return fail(domainProfile, 1007, "two payloads have the PayloadUUID %s", pl.uuid())
		}
		if ids[pl.id()] {
			return fail(domainProfile, 1008, "two payloads have the PayloadIdentifier %s", pl.id())
		}
		uuids[pl.uuid()], ids[pl.id()] = true, true
		p.payloads = append(p.payloads, pl)
	}
	return nil
}

// same reports whether two payloads are equal in every value, so that an update can leave the installed one alone.
func same(a, b dict) bool {
	left, err := json.Marshal(a)
	if err != nil {
		return false
	}
	right, err := json.Marshal(b)
	return err == nil && bytes.Equal(left, right)
}

// signerNames is for people: who signed the profile.
func signerNames(ders [][]byte) []string {
	var out []string
	for _, der := range ders {
		if cert, err := x509.ParseCertificate(der); err == nil {
			out = append(out, cert.Subject.String())
		}
	}
	return out
}
