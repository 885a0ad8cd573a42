package apple

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
)

// A process that dies when device.json says that the device has left, and nothing else was deleted yet, leaves keys on the
// disk. Who opens the device next deletes them; who looks at it does not.
func TestInterruptedLeaving(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	u.send(userProfile(t, "org.user", p12(t, "id", id, pfx.LegacyDES)))
	mustSync(t, d)
	dir := d.Folder().Dir
	former := filepath.Join(t.TempDir(), "former")
	if err := os.CopyFS(former, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := d.Unenroll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"keychain", "profiles", device.LogonUser} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(former, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := View(Config{State: dir}); err != nil {
		t.Fatal(err)
	}
	if found := secrets(t, dir); len(found) != 4 { // the identities of the Mac and of its user, and their profiles
		t.Fatalf("before it is opened: %v", found)
	}
	again, err := Open(Config{State: dir, Clock: u.device.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	if found := secrets(t, dir); len(found) != 0 {
		t.Errorf("still there: %v", found)
	}
}

// secrets are the files with keys, and with profiles, in a state folder.
func secrets(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".key") || strings.HasSuffix(path, ".mobileconfig") {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A user channel is tidied, too: the key of a profile that never came to be goes.
func TestInterruptedUserChannel(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	mustSync(t, d)
	login := d.userOf(device.LogonUser).keys.Clone()
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	if err := login.Add(keychain.Item{Certificate: id.Cert, Key: id.Key}, keychain.Holder{Profile: "org.never", Payload: "U"}); err != nil {
		t.Fatal(err)
	}
	if err := login.Save(); err != nil { // and here the process dies
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(Config{State: d.Folder().Dir, Clock: u.device.clock})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	if found := secrets(t, d.Folder().Path(device.LogonUser)); len(found) != 0 {
		t.Errorf("still there: %v", found)
	}
	mustSync(t, again)
}
