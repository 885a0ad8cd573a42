package apple

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Payload types that documents are made of.
const (
	typeConfiguration = "Configuration"
	typeRoot          = "com.apple.security.root"
	typePKCS1         = "com.apple.security.pkcs1"
	typePKCS12        = "com.apple.security.pkcs12"
	typeSCEP          = "com.apple.security.scep"
	typeMail          = "com.apple.mail.managed"
	typeEAS           = "com.apple.eas.account"
	typeEWS           = "com.apple.ews.account"
	typeIdentityPref  = "com.apple.security.identitypreference"
	typeCertPref      = "com.apple.security.certificatepreference"
	typeMDM           = "com.apple.mdm"
)

// body is the plan of a document's content, without secrets. It travels as JSON from plan to render.
type body struct {
	DisplayName  string    `json:"displayName,omitempty"`
	Description  string    `json:"description,omitempty"`
	Organization string    `json:"organization,omitempty"`
	Scope        string    `json:"scope,omitempty"` // PayloadScope, Macs only
	Payloads     []planned `json:"payloads,omitempty"`
	// Custom is the admin's profile as an XML property list, whose identifier and UUID render sets.
	Custom []byte `json:"custom,omitempty"`
}

// planned is one payload.
type planned struct {
	Type        string `json:"type"`
	Identifier  string `json:"identifier"`
	UUID        string `json:"uuid"`
	DisplayName string `json:"displayName,omitempty"`
	// Settings are the keys of the payload: strings, booleans, integers.
	Settings map[string]any `json:"settings,omitempty"`
	// Certificate is the DER form that a payload without key holds.
	Certificate []byte `json:"certificate,omitempty"`
	// SCEP asks for a certificate for a key that the device makes.
	SCEP *scepPlan `json:"scep,omitempty"`
	// Credential is the SHA-256 of the certificate whose PKCS#12 render puts in.
	Credential string `json:"credential,omitempty"`
}

// finish computes revision, proof and the encoded body of a document.
func finish(doc *platforms.Document, b body) {
	doc.Body = encodeBody(b)
	h := sha256.New()
	fmt.Fprintf(h, "waxseal/apple/1\x00%s\x00", doc.Identifier)
	h.Write(doc.Body)
	doc.Revision = hex.EncodeToString(h.Sum(nil))
	doc.Proof = derivedUUID(doc.Identifier, doc.Revision)
}

// encodeBody writes the canonical JSON. Structs of strings, numbers and bytes cannot fail, and map keys are sorted.
func encodeBody(b body) json.RawMessage {
	out, err := json.Marshal(b)
	if err != nil {
		panic("apple: body of a document: " + err.Error())
	}
	return out
}

func decodeBody(doc platforms.Document) (body, error) {
	var b body
	d := json.NewDecoder(bytes.NewReader(doc.Body))
	d.UseNumber()
	if err := d.Decode(&b); err != nil {
		return body{}, fmt.Errorf("document %s: body: %w", doc.ID, err)
	}
	for i := range b.Payloads {
		for key, v := range b.Payloads[i].Settings {
			exact, err := exactNumbers(v)
			if err != nil {
				return body{}, fmt.Errorf("document %s: setting %s: %w", doc.ID, key, err)
			}
			b.Payloads[i].Settings[key] = exact
		}
	}
	return b, nil
}

// exactNumbers makes the integers of decoded JSON integers again.
func exactNumbers(v any) (any, error) {
	switch t := v.(type) {
	case json.Number:
		return t.Int64()
	case string, bool:
		return v, nil
	}
	return nil, fmt.Errorf("a value of type %T has no place here", v)
}

// head are the keys that every payload and every profile has.
func head(payloadType, identifier, uuid, displayName string) proplist.Dict {
	d := proplist.Dict{
		"PayloadType":       payloadType,
		"PayloadVersion":    1,
		"PayloadIdentifier": identifier,
		"PayloadUUID":       uuid,
	}
	setString(d, "PayloadDisplayName", displayName)
	return d
}

// setString sets a key unless the value is empty.
func setString(d map[string]any, key, value string) {
	if value != "" {
		d[key] = value
	}
}
