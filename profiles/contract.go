package profiles

import "time"

// Certificate is what is publicly known of one certificate with a private key that a device may get: imported (from
// escrow) or issued for the device.
type Certificate struct {
	SHA256    string    `json:"sha256"` // lower-case hex of the DER form
	SHA1      string    `json:"sha1"`   // lower-case hex, the Windows thumbprint
	DER       []byte    `json:"der"`
	Addresses []string  `json:"addresses"` // rfc822Names in order, exact spelling
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Purpose   Purpose   `json:"purpose"`
	RecordID  string    `json:"recordId"` // the escrow record or sealed issued key that holds its private key
}
