package link

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// What anybody may ask about the S/MIME CA, below the PKI URL of the server. ca is the name of one of its CAs: softca,
// softca-2, softca-root.

// CRLURL is where a CA's revocation list is (RFC 5280 section 4.2.1.13).
func CRLURL(base, ca string) string { return strings.TrimRight(base, "/") + "/" + CRLFile(ca) }

// IssuerURL is where a CA's certificate is (RFC 5280 section 4.2.2.1, caIssuers).
func IssuerURL(base, ca string) string { return strings.TrimRight(base, "/") + "/" + IssuerFile(ca) }

// OCSPURL is where a CA's OCSP responder is (RFC 6960 appendix A.1).
func OCSPURL(base, ca string) string { return strings.TrimRight(base, "/") + "/ocsp/" + ca }

// CRLFile is the path of a revocation list.
func CRLFile(ca string) string { return "crl/" + ca + ".crl" }

// IssuerFile is the path of a CA's certificate.
func IssuerFile(ca string) string { return "aia/" + ca + ".cer" }

// MaxStatus bounds each list of a status message.
const MaxStatus = 500

// StatusRequest is how a connector keeps the server's revocation lists and OCSP answers fresh, and learns what the other
// connectors issued and revoked (POST /connector/v1/status). Every list has at most MaxStatus entries.
type StatusRequest struct {
	// Cursor is the last change that the connector has learnt of; 0 at first.
	Cursor int64 `json:"cursor"`
	// Files are revocation lists and CA certificates. Lists are not taken (Stale) from a connector that has not learnt of
	// every revocation: a list of its own would take one back.
	Files   []StatusFile   `json:"files,omitempty"`
	Answers []StatusAnswer `json:"answers,omitempty"`
	// Have are certificates for which the server shall have an answer that says so.
	Have []StatusHave `json:"have,omitempty"`
	// Review asks for certificates that the server counts as revoked though no answer says so.
	Review bool `json:"review,omitempty"`
	// Shared are the CA keys sealed to other connectors, by the ids of their keys.
	Shared map[string][]byte `json:"shared,omitempty"`
	// Received is the SHA-256 (hex) of the CA keys that this connector has received last.
	Received string `json:"received,omitempty"`
}

// StatusResponse is what the connector lacks, and what the server does.
type StatusResponse struct {
	Cursor int64 `json:"cursor"`
	// Learned are, in the order of their change, certificates of others and revocations since the cursor; More: there are more.
	Learned []StatusAnswer `json:"learned,omitempty"`
	More    bool           `json:"more,omitempty"`
	// Lacks are those of Have that the server has no such answer for.
	Lacks []StatusHave `json:"lacks,omitempty"`
	// Due are answers that shall be made anew.
	Due []StatusAnswer `json:"due,omitempty"`
	// Revoked are the answer to Review.
	Revoked []StatusRevocation `json:"revoked,omitempty"`
	Stale   bool               `json:"stale,omitempty"`
	// CRLNumber is the highest of the stored lists.
	CRLNumber int64 `json:"crlNumber,omitempty"`
	// SealedCAs are the CA keys sealed to this connector, unless they are the received ones.
	SealedCAs []byte `json:"sealedCAs,omitempty"`
}

// StatusFile is one file to be served as it is.
type StatusFile struct {
	Name    string `json:"name"` // CRLFile or IssuerFile
	Content []byte `json:"content"`
}

// StatusHave says what is known of a certificate.
type StatusHave struct {
	CA      string `json:"ca"`
	Serial  string `json:"serial"` // lower-case hex
	Revoked bool   `json:"revoked,omitempty"`
}

// StatusAnswer is the signed OCSP answer for one certificate. Its signature is what another connector believes.
type StatusAnswer struct {
	StatusHave
	NotAfter time.Time `json:"notAfter"`
	// SHA1 and SHA256 are the responses (DER) for requests that name the issuer by these hashes. SHA1 is left out in what
	// the server hands out.
	SHA1   []byte `json:"sha1,omitempty"`
	SHA256 []byte `json:"sha256"`
}

// StatusRevocation is a certificate that the server counts as revoked. It is signed by nobody: it can only add.
type StatusRevocation struct {
	Certificate []byte    `json:"certificate"`
	At          time.Time `json:"at"`
}

// Status exchanges what there is to know about issued certificates.
func (c *Client) Status(ctx context.Context, r StatusRequest) (StatusResponse, error) {
	var out StatusResponse
	err := c.call(ctx, http.MethodPost, "status", r, &out)
	return out, wrap("publishing revocation lists and OCSP answers", err)
}
