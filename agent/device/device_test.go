package device

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNewInfo(t *testing.T) {
	tests := map[[2]string][2]string{ // platform, model: model, family
		{"ios", ""}:         {"iPhone15,2", "iPhone"},
		{"ios", "iPad14,3"}: {"iPad14,3", "iPad"},
		{"macos", ""}:       {"Mac14,2", "Mac"},
	}
	for in, want := range tests {
		info, err := NewInfo(bytes.NewReader(make([]byte, 64)), in[0], in[1], "")
		if err != nil || info.Model != want[0] || info.ModelName != want[1] || info.OSVersion != DefaultOSVersion || len(info.UDID) != 25 || len(info.SerialNumber) != 12 {
			t.Errorf("%v: %+v %v", in, info, err)
		}
	}
	if _, err := NewInfo(bytes.NewReader(nil), "ios", "", ""); err == nil {
		t.Error("a device without randomness")
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	f, err := OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("second opening: %v", err)
	}
	if _, err := ReadFolder(dir); err == nil {
		t.Error("a folder without a device is read")
	}
	var state struct{ A int }
	if there, err := f.Load(&state); there || err != nil {
		t.Errorf("%v %v", there, err)
	}
	state.A = 7
	for _, err := range []error{f.Save(state), f.SetLocked(true), f.SetChaos("lost", "duplicate"), f.SaveCA([]byte("x")), f.SaveAPNsCA([]byte("y"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	state.A = 0
	if there, err := f.Load(&state); !there || err != nil || state.A != 7 || !f.Locked() || len(f.Chaos()) != 2 {
		t.Errorf("%v %v %+v", there, err, state)
	}
	if info, err := os.Stat(filepath.Join(dir, stateName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v", err)
	}
	if err := f.Wipe(); err != nil {
		t.Fatal(err)
	}
	if ca, err := f.CA(); err != nil || ca != nil || f.Locked() || len(f.Chaos()) > 0 {
		t.Errorf("wiping left something: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = OpenFolder(dir); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// A process that is killed inside WriteFile leaves a file that may hold keys; the next one deletes it.
func TestHalfWritten(t *testing.T) {
	dir := t.TempDir()
	for path, goes := range map[string]bool{
		".new-device.json-1": true, ".new-2": true, "keychain/.new-ab.key-3": true, "profiles/.new-a.mobileconfig-4": true,
		"user/.new-device.json-5": true, "others/keychain/.new-ab.key-6": true,
		".new-locked-7": false, ".new-world.json-8": false, "contacts/.new-ab.pem-9": false, "device.json": false,
	} {
		t.Run(path, func(t *testing.T) {
			path := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, data := range map[string]string{path: "secret", filepath.Join(dir, stateName): "{}"} {
				if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := ReadFolder(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); err != nil {
				t.Fatal("who looks only deleted it")
			}
			f, err := OpenFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
			if _, err := os.Stat(path); (err != nil) != goes {
				t.Errorf("gone: %v, want %v", err != nil, goes)
			}
		})
	}
}

// A file that is being written says which one it becomes.
func TestHalfWrittenName(t *testing.T) {
	path := filepath.Join(t.TempDir(), logonName) // a folder of that name cannot be replaced
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	err := WriteFile(path, nil)
	var failed *os.LinkError
	if !errors.As(err, &failed) || !isSwitch(strings.TrimPrefix(filepath.Base(failed.Old), halfWritten)) {
		t.Errorf("%v", err)
	}
}
