package device

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// PlatformAndroid is Info.Platform of an Android device.
const PlatformAndroid = "android"

// Defaults of a new Android device.
const (
	DefaultAndroidVersion = "15"
	DefaultAndroidModel   = "Pixel 8"
)

// NewAndroidInfo makes up an Android device. Model and version may be empty. The UDID is
// ANDROID_ID, 16 hexadecimal digits, until an app that management knows the device by puts its own in that place.
func NewAndroidInfo(random io.Reader, model, osVersion string) (Info, error) {
	if random == nil {
		random = rand.Reader
	}
	var raw [14]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Info{}, fmt.Errorf("making up a device: %w", err)
	}
	if model == "" {
		model = DefaultAndroidModel
	}
	if osVersion == "" {
		osVersion = DefaultAndroidVersion
	}
	id := hex.EncodeToString(raw[:])
	return Info{
		UDID: id[:16], SerialNumber: "WA" + strings.ToUpper(id[16:26]), Platform: PlatformAndroid, Model: model,
		ModelName: "Android", DeviceName: "Simulated " + model, OSVersion: osVersion,
	}, nil
}
