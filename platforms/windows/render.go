package windows

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms"
)

const (
	// maxPayload bounds a rendered document. Windows takes messages of 512 KB (windows.md 2.5); a PKCS#12 has 3 to 10.
	maxPayload = 512 << 10
)

// rendered is a document with its secrets, as it waits in the server for its PC.
type rendered struct {
	Identifier string `json:"identifier"`
	Revision   string `json:"revision"`
	body
}

// Render gives the nodes of a document as JSON. creds maps the SHA-256 of a certificate to its PKCS#12. seal encrypts the
// bytes of the password to the PC (DER CMS EnvelopedData, windows.md 3.1 encryption type 1); a document with secrets is
// refused without it. The PKCS#12 needs no other protection than that password. A document that must wait is refused.
func Render(doc platforms.Document, creds map[string]platforms.PKCS12, seal func([]byte) ([]byte, error)) ([]byte, error) {
	out, err := render(doc, creds, seal)
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", doc.ID, err)
	}
	return out, nil
}

func render(doc platforms.Document, creds map[string]platforms.PKCS12, seal func([]byte) ([]byte, error)) ([]byte, error) {
	if doc.Reason != "" {
		return nil, fmt.Errorf("the document waits: %s", doc.Reason)
	}
	b, err := decodeBody(doc)
	if err != nil {
		return nil, err
	}
	if err := checkPlanned(doc, b); err != nil {
		return nil, err
	}
	if doc.HasSecrets() {
		if b.Nodes, err = fill(b.Nodes, creds[doc.Credentials[0].SHA256], seal); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", doc.Credentials[0].SHA256, err)
		}
	}
	return json.Marshal(rendered{Identifier: doc.Identifier, Revision: doc.Revision, body: b})
}

// checkPlanned holds a node set with a private key to the one form that Plan gives it. The body comes from a server that
// the connector does not trust: other nodes would let everybody on the PC take the key out, or send the password in
// clear. A document without credentials has no secrets to fill in.
func checkPlanned(doc platforms.Document, b body) error {
	if !doc.HasSecrets() {
		if slices.ContainsFunc(b.Nodes, func(n node) bool { return n.Secret != "" }) {
			return errors.New("credentials and content do not belong together")
		}
		return nil
	}
	if len(doc.Credentials) != 1 {
		return fmt.Errorf("%d credentials: a PKCS#12 on Windows holds one", len(doc.Credentials))
	}
	c := doc.Credentials[0]
	if !isThumbprint(strings.ToUpper(c.SHA1)) || doc.Identifier != pfxIdentifier(c) {
		return fmt.Errorf("certificate %s goes to %s/ and its SHA-1, not to %s", c.SHA256, userPFX, doc.Identifier)
	}
	if !b.Atomic || !slices.Equal(b.Nodes, pfxNodes(doc.Identifier)) {
		return errors.New("the nodes are not those of a PKCS#12 import")
	}
	return nil
}

// fill puts password and file into the nodes.
func fill(nodes []node, c platforms.PKCS12, seal func([]byte) ([]byte, error)) ([]node, error) {
	if len(c.Bytes) == 0 || c.Password == "" {
		return nil, errors.New("there is no PKCS#12 with a password")
	}
	if seal == nil {
		return nil, errors.New("there is nothing to seal the password with")
	}
	sealed, err := seal([]byte(c.Password))
	if err != nil {
		return nil, fmt.Errorf("seal the password to the PC: %w", err)
	}
	out := slices.Clone(nodes)
	for i := range out {
		switch out[i].Secret {
		case secretPassword:
			out[i].Data = base64.StdEncoding.EncodeToString(sealed)
		case secretPKCS12:
			out[i].Data = base64.StdEncoding.EncodeToString(c.Bytes)
		}
		out[i].Secret = ""
	}
	return out, nil
}

// RenderSCEP gives the nodes of a document whose certificate the PC asks for itself, with a challenge that was made for this
// one sending. It is done where the document is sent, and what it gives is kept nowhere.
func RenderSCEP(doc platforms.Document, challenge string) ([]byte, error) {
	b, err := decodeBody(doc)
	switch {
	case doc.Reason != "":
		return nil, fmt.Errorf("render %s: the document waits: %s", doc.ID, doc.Reason)
	case err != nil:
		return nil, fmt.Errorf("render %w", err)
	case !IsSCEP(doc) || doc.HasSecrets():
		return nil, fmt.Errorf("render %s: it is no request for a certificate", doc.ID)
	case challenge == "":
		return nil, fmt.Errorf("render %s: there is no challenge", doc.ID)
	}
	for i, n := range b.Nodes {
		if n.Secret == secretChallenge {
			b.Nodes[i].Data, b.Nodes[i].Secret = challenge, ""
		}
	}
	out, err := json.Marshal(rendered{Identifier: doc.Identifier, Revision: doc.Revision, body: b})
	if err != nil {
		return nil, fmt.Errorf("render %s: %w", doc.ID, err)
	}
	return out, nil
}

// CheckRendered refuses a payload that is not exactly what was asked for: the planned nodes and no others, with the
// password in CMS EnvelopedData and the PKCS#12 in base64. The server cannot open either.
func CheckRendered(doc platforms.Document, payload []byte) error {
	_, err := checked(doc, payload)
	return err
}

// checked gives the nodes of a payload that belongs to the document.
func checked(doc platforms.Document, payload []byte) (rendered, error) {
	var r rendered
	if err := strict(payload, &r); err != nil {
		return rendered{}, fmt.Errorf("the rendered document: %w", err)
	}
	plan, err := decodeBody(doc)
	if err != nil {
		return rendered{}, err
	}
	switch {
	case r.Identifier != doc.Identifier || r.Revision != doc.Revision:
		return rendered{}, fmt.Errorf("it is %s in revision %s, asked was %s in revision %s", clip(r.Identifier),
			clip(r.Revision), doc.Identifier, doc.Revision)
	case r.Atomic != plan.Atomic || len(r.Nodes) != len(plan.Nodes):
		return rendered{}, fmt.Errorf("it has %d nodes, planned are %d", len(r.Nodes), len(plan.Nodes))
	}
	for i, n := range r.Nodes {
		if err := checkNode(plan.Nodes[i], n); err != nil {
			return rendered{}, fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	return r, nil
}

// checkNode compares a rendered node with the planned one; the value of a secret is looked at for its form alone and
// never repeated in an error.
func checkNode(plan, n node) error {
	data := n.Data
	n.Data, n.Secret = plan.Data, plan.Secret
	switch {
	case n != plan:
		return fmt.Errorf("it is not %s as planned", plan.LocURI)
	case plan.Secret == secretPassword:
		return checkSealed(data)
	case plan.Secret == secretChallenge && data == "":
		return errors.New("there is no challenge")
	case plan.Secret == secretChallenge:
		return nil
	case plan.Secret == secretPKCS12:
		_, err := decode64(data)
		return err
	case data != plan.Data || plan.Secret != "":
		return fmt.Errorf("the value of %s is not as planned", plan.LocURI)
	}
	return nil
}

// checkSealed wants a DER ContentInfo of EnvelopedData with one recipient (RFC 5652 section 6).
func checkSealed(data string) error {
	der, err := decode64(data)
	if err != nil {
		return err
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil || len(rest) > 0 || !info.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}) {
		return errors.New("the password is not encrypted: it must be the DER form of CMS EnvelopedData")
	}
	recipients, err := cms.Recipients(der)
	if err != nil {
		return fmt.Errorf("the encrypted password: %w", err)
	}
	if len(recipients) != 1 {
		return fmt.Errorf("the password is encrypted to %d certificates; it must be one, the PC's", len(recipients))
	}
	return nil
}

// decode64 takes base64 in one line, the only form that Windows reads (trap 5); the decoder itself skips line ends.
func decode64(data string) ([]byte, error) {
	if strings.ContainsAny(data, "\r\n") {
		return nil, errors.New("base64 must be one line")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(data)
	if err != nil || len(b) == 0 {
		return nil, errors.New("the value must be base64 and not empty")
	}
	return b, nil
}

// strict decodes bounded JSON without unknown fields and without anything after it.
func strict(data []byte, into any) error {
	if len(data) > maxPayload {
		return fmt.Errorf("%d bytes: at most %d are read", len(data), maxPayload)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("it is not the JSON of a node set: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the node set")
	}
	return nil
}

// clip keeps foreign text in an error short.
func clip(s string) string {
	const limit = 120
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
