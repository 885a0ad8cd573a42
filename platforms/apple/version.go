package apple

import (
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// major is the first number of an OS version, 0 if it is unknown.
func major(osVersion string) int {
	first, _, _ := strings.Cut(osVersion, ".")
	n, err := strconv.Atoi(first)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// The PKCS#12 flavours that Apple's importers read.
const (
	// FlavourLegacyDES: 3DES and a SHA-1 MAC, read by every importer.
	FlavourLegacyDES = "LegacyDES"
	// FlavourModern2023: AES-256, PBKDF2 with SHA-256; read from iOS 18 on. A Mac's profile installer may still use the
	// old importer.
	FlavourModern2023 = "Modern2023"
)

// PKCS12Flavour says which flavour of PKCS#12 the device gets. A flavour too modern looks to the device like a wrong
// password, so anything doubtful gets the old one.
func PKCS12Flavour(osVersion string, platform profiles.Platform, modernAllowed bool) string {
	if modernAllowed && platform == profiles.IOS && major(osVersion) >= 18 {
		return FlavourModern2023
	}
	return FlavourLegacyDES
}
