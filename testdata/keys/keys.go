// Package keys has RSA keys for tests, so that none has to wait for keys to be made. They are in public and protect nothing.
// It is a package of its own, so that no program carries them: package testdata, which waxctl's demo has in it, does not.
package keys

import "embed"

// FS holds rsa-0.pem to rsa-9.pem: RSA-2048, PKCS #8, PEM.
//
//go:embed *.pem
var FS embed.FS
