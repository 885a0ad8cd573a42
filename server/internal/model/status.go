package model

import "time"

// CAFile is a revocation list or certificate of the S/MIME CA, served as it is.
type CAFile struct {
	Name      string // crl/softca.crl, aia/softca.cer
	Content   []byte
	Number    int64 // of a revocation list (RFC 5280 section 5.2.3); 0 for a certificate
	UpdatedAt time.Time
}

// CAAnswer is the signed OCSP answer for one certificate of the S/MIME CA.
type CAAnswer struct {
	CA         string
	Serial     string // lower-case hex
	NotAfter   time.Time
	Revoked    bool
	ThisUpdate time.Time
	NextUpdate time.Time
	// SHA1 and SHA256 are the responses for requests that name the issuer by these hashes.
	SHA1   []byte
	SHA256 []byte
}
