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
	firstGrantRelease  = 11 // DevicePolicyManager.grantKeyPairToApp, API 30
	firstOwnRelease    = 9  // DevicePolicyManager.generateKeyPair and setKeyPairCertificate, API 28
	smallestAPI        = 21
)

// Release is what a device is called by: the release that it names or, without one, that of its API level; empty if it says
// neither.
func Release(release string, api int) string {
	if release == "" && api >= smallestAPI {
		return strconv.Itoa(releaseOf(api))
	}
	return release
}

// releaseOf gives the release of an API level. Source: https://developer.android.com/tools/releases/platforms.
func releaseOf(api int) int {
	switch {
	case api <= 22:
		return 5
	case api == 23:
		return 6
	case api <= 25:
		return 7
	case api <= 27:
		return 8
	case api <= 31:
		return api - 19
	case api == 32:
		return 12
	}
	return api - 20
}

// PKCS12Flavour says which flavour of PKCS#12 a user of that version can import, given as a release ("15") or as an API
// level ("35"). Anything doubtful gets the old one (android.md P12-2).
func PKCS12Flavour(sdkOrRelease string) string {
	if major(sdkOrRelease) >= firstModernRelease {
		return FlavourModern2023
	}
	return FlavourLegacyDES
}

// major is the release of a version, 0 if it is unknown. An API level is one that says so ("API 29") or is too large for a
// release.
func major(version string) int {
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "API "), ".")
	n, err := strconv.Atoi(first)
	switch {
	case err != nil || n < 0:
		return 0
	case n >= smallestAPI:
		return releaseOf(n)
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
