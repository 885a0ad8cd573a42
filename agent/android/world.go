package android

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/profiles"
)

// worldName is the file with what the owner and the administrator of the phone decide. It is apart from device.json, so
// that it can be changed while the device runs.
const worldName = "world.json"

// packageGmail is installed on a new device, beside Outlook.
const packageGmail = "com.google.android.gm"

// Signer is the SHA-256 of the certificate by which a simulated app is signed.
func Signer(pkg string) string {
	sum := sha256.Sum256([]byte("signer of " + pkg))
	return hex.EncodeToString(sum[:])
}

// populate installs the apps of a new device.
func populate(w *framework.World) error {
	for _, pkg := range []string{Package, profiles.PackageOutlook, packageGmail} {
		w.Install(pkg, appVersion, Signer(pkg))
	}
	return nil
}

func readWorld(f *device.Folder) (framework.World, error) {
	var w framework.World
	raw, err := os.ReadFile(f.Path(worldName))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err != nil {
		return w, fmt.Errorf("reading %s: %w", worldName, err)
	}
	if err := json.Unmarshal(raw, &w); err != nil {
		return w, fmt.Errorf("reading %s: %w", worldName, err)
	}
	return w, nil
}

// ChangeWorld changes apps, delegations or the screen lock. It works while another process runs the device, which sees it
// at its next poll.
func ChangeWorld(f *device.Folder, change func(*framework.World) error) error {
	w, err := readWorld(f)
	if err != nil {
		return err
	}
	if err := change(&w); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %s: %w", worldName, err)
	}
	return device.WriteFile(f.Path(worldName), append(raw, '\n'))
}

// Change is ChangeWorld for a device that is open here.
func (d *Device) Change(change func(*framework.World) error) error {
	if err := ChangeWorld(d.folder, change); err != nil {
		return err
	}
	return d.look()
}

// InstallApp installs an app from the store.
func InstallApp(f *device.Folder, pkg string) error {
	if err := profiles.CheckPackage(pkg); err != nil {
		return err
	}
	return ChangeWorld(f, func(w *framework.World) error {
		w.Install(pkg, appVersion, Signer(pkg))
		return nil
	})
}

// look takes notice of the world.
func (d *Device) look() error {
	if d.state.Phone == nil {
		return nil
	}
	w, err := readWorld(d.folder)
	if err != nil {
		return err
	}
	d.state.Phone.World, d.state.Phone.Locked = w, d.folder.Locked()
	return nil
}

// installApp is the first start of a newly installed companion app: its storage is empty. The id of the installation is
// what the server knows the device by, and so is its UDID here.
func (d *Device) installApp() error {
	id, err := d.identifier()
	if err != nil {
		return err
	}
	d.state.App = app{InstallID: id, Records: map[string]*record{}}
	d.state.App.Seen, d.state.UDID = d.sees(), id
	return nil
}

// reinstalled reports whether another installation of the app wrote the storage: its UID was another one.
func (d *Device) reinstalled() bool {
	return d.state.App.Seen.Apps[Package] != d.state.Phone.World.Apps[Package].UID
}

// reinstall does what the storage of the app suffers when its user removes and installs it, or does so for chaos.
func (d *Device) reinstall() error {
	if d.chaotic(ChaosReinstall) {
		if err := d.Change(func(w *framework.World) error { return w.Reinstall(Package) }); err != nil {
			return err
		}
	}
	if !d.reinstalled() {
		return nil
	}
	enrolled := d.Enrolled()
	if err := d.installApp(); err != nil {
		return err
	}
	d.dropClient()
	if enrolled {
		d.state.Gone = "the companion app was removed or installed anew, which loses its enrolment"
	}
	return d.save()
}

// DeleteKey is the user who deletes a key of the work profile, named by its alias or by the SHA-256 of its certificate,
// or by the beginning of that.
func (d *Device) DeleteKey(id string) error {
	alias, err := d.aliasOf(id)
	if err != nil {
		return err
	}
	if err := d.state.Phone.DeleteKey(alias); err != nil {
		return err
	}
	return d.save()
}

// ImportPKCS12 is the user who opens a PKCS#12 file; the key goes into the work profile, where the app leaves it alone.
func (d *Device) ImportPKCS12(file []byte, password, alias string) error {
	if err := d.state.Phone.ImportPKCS12(&d.state.Phone.Work, file, password, alias); err != nil {
		return err
	}
	return d.save()
}

// Pick is the user who picks a key for an app, where none is granted.
func (d *Device) Pick(pkg, alias string) error {
	if err := d.state.Phone.Pick(pkg, alias); err != nil {
		return err
	}
	return d.save()
}

// DeleteWorkProfile is the user who deletes the work profile, with the companion app in it. Nobody is told.
func (d *Device) DeleteWorkProfile() error {
	d.state.Phone.DeleteWorkProfile()
	if err := d.installApp(); err != nil {
		return err
	}
	d.state.Gone = "the user deleted the work profile"
	return d.save()
}
