package keyring

import (
	"os"
	"strings"
	"testing"
)

// TestForgettingACA: what is no CA of the keyring is none to forget, above all not a file beside it.
func TestForgettingACA(t *testing.T) {
	k := testKeyring(t, nil)
	for _, name := range []string{"corp", "other"} {
		if err := k.SetCASettings(name, []byte(name+"'s password")); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"../keyring", "", "nobody", "corp.json", "../cas/corp"} {
		if err := k.DropCASettings(name); err == nil || !strings.Contains(err.Error(), "ca list") {
			t.Errorf("%q: got %v", name, err)
		}
	}
	if !Exists(k.dir) {
		t.Fatal("the keyring's settings are gone")
	}
	if err := k.DropCASettings("corp"); err != nil {
		t.Error(err)
	}
	if names, err := k.CANames(); err != nil || len(names) != 1 || names[0] != "other" {
		t.Errorf("got %v, %v", names, err)
	}
}

// TestSettingsAreTheirCAsOwn: a file put in another's place does not open, and none shows a secret.
func TestSettingsAreTheirCAsOwn(t *testing.T) {
	k := testKeyring(t, nil)
	if err := k.SetCASettings("corp", []byte("hunter2")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(k.Path("cas/corp.json"))
	if err != nil || strings.Contains(string(raw), "hunter2") {
		t.Errorf("%s, %v", raw, err)
	}
	if err := os.WriteFile(k.Path("cas/other.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := k.CASettings("other"); err == nil {
		t.Errorf("opened %s", got)
	}
}
