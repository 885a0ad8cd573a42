package device

import (
	"bytes"
	"testing"
)

func TestNewAndroidInfo(t *testing.T) {
	info, err := NewAndroidInfo(bytes.NewReader(make([]byte, 64)), "", "")
	if err != nil || len(info.UDID) != 16 || info.Platform != PlatformAndroid || info.OSVersion != DefaultAndroidVersion || info.DeviceName != "Simulated Pixel 8" {
		t.Errorf("%+v %v", info, err)
	}
	if info, err = NewAndroidInfo(nil, "SM-S931B", "12.1"); err != nil || info.Model != "SM-S931B" || info.OSVersion != "12.1" {
		t.Errorf("%+v %v", info, err)
	}
	if _, err := NewAndroidInfo(bytes.NewReader(nil), "", ""); err == nil {
		t.Error("a device without randomness")
	}
}
