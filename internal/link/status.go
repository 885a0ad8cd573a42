package link

import "strings"

// URLs of what anybody may ask about the S/MIME CA, below the PKI URL of the server. ca is the name of one of its CAs:
// softca, softca-2, softca-root.

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
