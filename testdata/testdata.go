// Package testdata embeds real inputs made by other programs: PFX files as people have them, mail encrypted to each of
// their certificates, and the example manifests. make.sh made them with OpenSSL and NSS. A missing folder does not compile.
package testdata

import "embed"

// FS holds pfx/NAME.pfx with its pfx/NAME.password, mail/NAME.eml with the MIME entity inside as mail/NAME.txt, pki/NAME.pem
// and the example files of the admin's format.
//
//go:embed pfx mail pki examples
var FS embed.FS
