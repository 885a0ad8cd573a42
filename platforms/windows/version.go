package windows

import (
	"strconv"
	"strings"
)

// The PKCS#12 flavours that Windows imports.
const (
	// FlavourLegacyDES: 3DES and a SHA-1 MAC, read by every Windows.
	FlavourLegacyDES = "LegacyDES"
	// FlavourModern2023: AES-256, PBKDF2 with SHA-256; read from Windows 10 1709 and Server 2019 on (PKCS12_PBES2_EXPORT_PARAMS).
	FlavourModern2023 = "Modern2023"
)

// firstModernBuild is Windows 10 1709.
const firstModernBuild = 16299

// PKCS12Flavour says which flavour of PKCS#12 the PC gets by its version (./DevDetail/SwV, such as "10.0.22631.3007"). A
// flavour too modern looks to an old build like a wrong password, so anything doubtful gets the old one (windows.md 4).
func PKCS12Flavour(osVersion string) string {
	if build(osVersion) >= firstModernBuild {
		return FlavourModern2023
	}
	return FlavourLegacyDES
}

// build is the third number of a version, 0 if it is unknown or of a Windows before 10.
func build(osVersion string) int {
	parts := strings.Split(strings.TrimSpace(osVersion), ".")
	if len(parts) < 3 {
		return 0
	}
	major, err1 := strconv.Atoi(parts[0])
	n, err2 := strconv.Atoi(parts[2])
	if err1 != nil || err2 != nil || major < 10 {
		return 0
	}
	return n
}
