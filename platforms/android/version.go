package android

import (
	"strconv"
	"strings"
)

// The PKCS#12 flavours for users who import a file by hand; the companion app gets none.
const (
	// FlavourLegacyDES: 3DES and a SHA-1 MAC, read by every Android.
	FlavourLegacyDES = "LegacyDES"
	// FlavourModern2023: AES-256, PBKDF2 with SHA-256. Up to Android 13 it fails as a wrong password.
	FlavourModern2023 = "Modern2023"
)

// Versions of Android. An API level is never as small as a release (API 21 is Android 5), and no release is as large as an
// API level that is still in use.
const (
	firstModernRelease = 14
	firstModernAPI     = 34
	firstGrantRelease  = 11 // DevicePolicyManager.grantKeyPairToApp, API 30
	firstOwnRelease    = 9  // DevicePolicyManager.generateKeyPair and setKeyPairCertificate, API 28
	smallestAPI        = 21
)

// PKCS12Flavour says which flavour of PKCS#12 a user of that version can import, given as a release ("15") or as an API
// level ("35"). Anything doubtful gets the old one (android.md P12-2).
func PKCS12Flavour(sdkOrRelease string) string {
	n := major(sdkOrRelease)
	if n >= firstModernAPI || n >= firstModernRelease && n < smallestAPI {
		return FlavourModern2023
	}
	return FlavourLegacyDES
}

// major is the first number of a version, 0 if it is unknown.
func major(version string) int {
	first, _, _ := strings.Cut(strings.TrimSpace(version), ".")
	n, err := strconv.Atoi(first)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// grants tells whether keys can be given to apps without asking the user; an unknown version is taken for a recent one.
func grants(release string) bool {
	n := major(release)
	return n == 0 || n >= firstGrantRelease
}

// generates tells whether a device makes keys for its key chain itself; an unknown version is taken for a recent one.
func generates(release string) bool {
	n := major(release)
	return n == 0 || n >= firstOwnRelease
}
