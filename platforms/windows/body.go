package windows

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Roots of the CSPs that documents live under.
const (
	userPFX   = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"
	devicePFX = "./Device/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"
	userSCEP  = "./User/Vendor/MSFT/ClientCertificateInstall/SCEP"
	storeRoot = "./Device/Vendor/MSFT/RootCATrustedCertificates/Root"
	storeCA   = "./Device/Vendor/MSFT/RootCATrustedCertificates/CA"
)

// Formats of nodes (OMA DM 1.2, Meta/Format).
const (
	formatText    = "chr"
	formatInteger = "int"
	formatBoolean = "bool"
	formatBase64  = "b64"
	formatNull    = "null"
)

// body is the plan of a document's nodes, without secrets. It travels as JSON from plan to render.
type body struct {
	// Atomic: the nodes go in one Atomic, as ClientCertificateInstall wants it.
	Atomic bool   `json:"atomic,omitempty"`
	Nodes  []node `json:"nodes"`
}

// node is one node to be written, or executed, in the order of the list.
type node struct {
	LocURI string `json:"locURI"`
	Format string `json:"format,omitempty"`
	Type   string `json:"type,omitempty"`
	Data   string `json:"data,omitempty"`
	// Exec starts an action rather than write a value.
	Exec bool `json:"exec,omitempty"`
	// Secret is what Render puts into Data; a rendered node has none.
	Secret secret `json:"secret,omitempty"`
}

// secret names what only the renderer knows.
type secret string

const (
	secretPassword  secret = "password"  // of the PKCS#12, in CMS EnvelopedData
	secretPKCS12    secret = "pkcs12"    // the file itself
	secretChallenge secret = "challenge" // of SCEP
)

// pfxNodes import a PKCS#12. All values must be there before the blob, whose writing starts the import. Keys are
// imported into software, for a TPM may refuse an RSA 4096 key, and stay on the PC. Source: "ClientCertificateInstall
// CSP"; windows.md 3.1, traps 6, 8 and 9.
func pfxNodes(identifier string) []node {
	return []node{
		{LocURI: identifier + "/KeyLocation", Format: formatInteger, Data: "3"},
		{LocURI: identifier + "/PFXKeyExportable", Format: formatBoolean, Data: "false"},
		{LocURI: identifier + "/PFXCertPassword", Format: formatText, Secret: secretPassword},
		{LocURI: identifier + "/PFXCertPasswordEncryptionType", Format: formatInteger, Data: "1"},
		{LocURI: identifier + "/PFXCertBlob", Format: formatText, Secret: secretPKCS12},
	}
}

// trustNodes add a CA certificate; its hash node comes by itself. Base64 must be one line (trap 5).
func trustNodes(identifier string, der []byte) []node {
	return []node{{LocURI: identifier + "/EncodedCertificate", Format: formatBase64,
		Data: base64.StdEncoding.EncodeToString(der)}}
}

// pfxIdentifier is the node of a certificate with its key. Mail programs look at the user's store only (trap 10).
func pfxIdentifier(c profiles.Certificate) string { return userPFX + "/" + strings.ToUpper(c.SHA1) }

// isThumbprint tells whether s is a SHA-1 in upper-case hex, the only name that a certificate's node gets.
func isThumbprint(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 20 && s == strings.ToUpper(s)
}

// finish computes the revision and sets the encoded body. The proof is the caller's: Windows proves each kind differently.
func finish(doc *platforms.Document, b body) {
	doc.Body = encodeBody(b)
	doc.Revision = revision(doc.Identifier, doc.Body)
}

func revision(identifier string, encoded []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "waxseal/windows/1\x00%s\x00", identifier)
	h.Write(encoded)
	return hex.EncodeToString(h.Sum(nil))
}

// encodeBody writes the canonical JSON. Structs of strings and booleans cannot fail.
func encodeBody(b body) json.RawMessage {
	out, err := json.Marshal(b)
	if err != nil {
		panic("windows: body of a document: " + err.Error())
	}
	return out
}

func decodeBody(doc platforms.Document) (body, error) {
	var b body
	if err := strict(doc.Body, &b); err != nil {
		return body{}, fmt.Errorf("document %s: body: %w", doc.ID, err)
	}
	return b, nil
}
