package device

import (
	"bytes"
	"testing"
)

func TestNewWindowsInfo(t *testing.T) {
	info, err := NewWindowsInfo(bytes.NewReader(make([]byte, 64)), "", "")
	if err != nil || len(info.UDID) != 64 || info.Platform != PlatformWindows || info.OSVersion != DefaultWindowsVersion || info.BuildVersion != "22631.3007" {
		t.Errorf("%+v %v", info, err)
	}
	if len(info.DeviceName) > 15 {
		t.Errorf("%s is longer than the name of a computer can be", info.DeviceName)
	}
	if _, err := NewWindowsInfo(bytes.NewReader(nil), "", ""); err == nil {
		t.Error("a PC without randomness")
	}
}

func TestLogon(t *testing.T) {
	f, err := OpenFolder(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // end of the test
	if f.Logon() != LogonUser || Platform(f.Dir) != "" {
		t.Error("a fresh folder has somebody else in it")
	}
	if err := f.SetLogon("anybody"); err == nil {
		t.Error("anybody logs on")
	}
	if err := f.SetLogon(LogonNone); err != nil || f.Logon() != LogonNone {
		t.Errorf("%v %s", err, f.Logon())
	}
	if err := f.Save(Info{Platform: PlatformWindows}); err != nil || Platform(f.Dir) != PlatformWindows {
		t.Errorf("%v %s", err, Platform(f.Dir))
	}
}
