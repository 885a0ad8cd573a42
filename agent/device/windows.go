package device

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// PlatformWindows is Info.Platform of a PC.
const PlatformWindows = "windows"

// Defaults of a new PC: Windows 11 23H2.
const (
	DefaultWindowsVersion = "10.0.22631.3007"
	DefaultWindowsModel   = "Virtual PC"
)

// NewWindowsInfo makes up a PC. Model and version may be empty. The UDID is the HWDevID, 64 hexadecimal digits, which
// stays the same when the PC enrols again under another DeviceID (windows.md section 1.6).
func NewWindowsInfo(random io.Reader, model, osVersion string) (Info, error) {
	if random == nil {
		random = rand.Reader
	}
	var raw [40]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Info{}, fmt.Errorf("making up a device: %w", err)
	}
	if model == "" {
		model = DefaultWindowsModel
	}
	if osVersion == "" {
		osVersion = DefaultWindowsVersion
	}
	_, build, _ := strings.Cut(strings.TrimPrefix(osVersion, "10."), ".")
	id := strings.ToUpper(hex.EncodeToString(raw[:]))
	return Info{
		UDID: id[:64], SerialNumber: "WX" + id[64:74], Platform: PlatformWindows, Model: model, ModelName: "PC",
		DeviceName: "PC-" + id[74:80], OSVersion: osVersion, BuildVersion: build,
	}, nil
}
