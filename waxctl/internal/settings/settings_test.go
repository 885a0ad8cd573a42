package settings_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/waxseal/waxseal/waxctl/internal/settings"
)

func TestFlagBeforeEnvironmentBeforeFileBeforeDefault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "waxctl.yaml")
	if err := os.WriteFile(file, []byte("server: https://file\nca: file.pem\ntokenFile: file-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"WAXCTL_SERVER": "https://env", "WAXCTL_CA": "env.pem", "HOME": "/home/x"}
	got, err := settings.Resolve(settings.Settings{Server: "https://flag"}, file, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	want := settings.Settings{Server: "https://flag", CA: "env.pem", TokenFile: "file-token", StateDir: "/home/x/.local/state/waxseal"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAFileThatWasNamedMustBeThereAndRight(t *testing.T) {
	none := func(string) string { return "" }
	if _, err := settings.Resolve(settings.Settings{}, filepath.Join(t.TempDir(), "none.yaml"), none); err == nil {
		t.Error("a missing file that was named is no error")
	}
	file := filepath.Join(t.TempDir(), "waxctl.yaml")
	if err := os.WriteFile(file, []byte("sever: https://x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.Resolve(settings.Settings{}, file, none); err == nil {
		t.Error("a misspelt key is no error")
	}
}
