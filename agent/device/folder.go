package device

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// File names in a state folder.
const (
	stateName  = "device.json"
	caName     = "ca.pem"
	apnsCAName = "apns-ca.pem"
	lockedName = "locked"
	chaosName  = "chaos"
	logonName  = "logon"
	worldName  = "world.json"
)

// ErrBusy says that another process works with the state folder.
var ErrBusy = errors.New("another waxseal-agent works with this state folder; stop it, or use another --state")

// Folder is a state folder.
type Folder struct {
	Dir  string
	lock *os.File
}

// OpenFolder opens a state folder, making it if there is none, and locks it for writing. It deletes what processes that
// died left half written.
func OpenFolder(dir string) (*Folder, error) {
	if dir == "" {
		return nil, errors.New("no state folder given: use --state DIR")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("opening %s: %w", dir, ErrBusy)
	}
	f := &Folder{Dir: dir, lock: lock}
	if err := f.sweep(); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("opening the state folder: %w", err)
	}
	return f, nil
}

// sweep deletes half-written files, which may hold keys, wherever the holder of the lock writes any.
func (f *Folder) sweep() error {
	for _, channel := range []string{"", LogonUser, LogonOthers} {
		for _, part := range []string{"", "profiles", "keychain"} {
			if err := sweep(f.Path(channel, part)); err != nil {
				return err
			}
		}
	}
	return nil
}

func sweep(dir string) error {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, file := range files {
		becomes, half := strings.CutPrefix(file.Name(), halfWritten)
		if !half || isSwitch(becomes) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, file.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isSwitch tells whether a file may be written by another process while this one holds the lock, so that it is not
// known to be left over. None of them holds a secret.
func isSwitch(name string) bool {
	return slices.ContainsFunc([]string{lockedName, chaosName, logonName, worldName}, func(s string) bool { return strings.HasPrefix(name, s+"-") })
}

// ReadFolder opens a state folder for looking only; it waits for nobody.
func ReadFolder(dir string) (*Folder, error) {
	if _, err := os.Stat(filepath.Join(dir, stateName)); err != nil {
		return nil, fmt.Errorf("%q is no state folder of a simulated device: %w", dir, err)
	}
	return &Folder{Dir: dir}, nil
}

// Close gives the folder free.
func (f *Folder) Close() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Close()
}

// Path names a file in the folder.
func (f *Folder) Path(parts ...string) string {
	return filepath.Join(append([]string{f.Dir}, parts...)...)
}

// Load reads device.json; it reports false if there is none.
func (f *Folder) Load(into any) (bool, error) {
	raw, err := os.ReadFile(f.Path(stateName))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the device's state: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return false, fmt.Errorf("reading %s: %w", stateName, err)
	}
	return true, nil
}

// Save replaces device.json.
func (f *Folder) Save(state any) error {
	raw, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the device's state: %w", err)
	}
	return WriteFile(f.Path(stateName), append(raw, '\n'))
}

// CA is what the owner trusts for TLS, in PEM; empty if nothing was given.
func (f *Folder) CA() ([]byte, error) { return f.optional(caName) }

// SaveCA keeps it.
func (f *Folder) SaveCA(pem []byte) error { return WriteFile(f.Path(caName), pem) }

// APNsCA is what the device trusts for the push service, in PEM.
func (f *Folder) APNsCA() ([]byte, error) { return f.optional(apnsCAName) }

// SaveAPNsCA keeps it.
func (f *Folder) SaveAPNsCA(pem []byte) error { return WriteFile(f.Path(apnsCAName), pem) }

func (f *Folder) optional(name string) ([]byte, error) {
	raw, err := os.ReadFile(f.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return raw, nil
}

// Locked reports whether the screen is locked.
func (f *Folder) Locked() bool {
	_, err := os.Stat(f.Path(lockedName))
	return err == nil
}

// SetLocked locks or unlocks the screen. It works while another process runs the device.
func (f *Folder) SetLocked(locked bool) error {
	if locked {
		return WriteFile(f.Path(lockedName), nil)
	}
	err := os.Remove(f.Path(lockedName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Chaos are the words of the chaos file.
func (f *Folder) Chaos() []string {
	raw, _ := f.optional(chaosName) //nolint:errcheck // an unreadable switch is a switch that is off
	return strings.FieldsFunc(string(raw), func(r rune) bool { return r == ',' || r == '\n' || r == ' ' })
}

// SetChaos replaces the words; none turns chaos off.
func (f *Folder) SetChaos(words ...string) error {
	return WriteFile(f.Path(chaosName), []byte(strings.Join(words, ",")))
}

// Who can be logged on at a PC (windows.md section 2.3, LoginStatus): the user who enrolled it, somebody else, nobody.
const (
	LogonUser   = "user"
	LogonOthers = "others"
	LogonNone   = "none"
)

// Logon is who is logged on; unless told otherwise, the user who enrolled.
func (f *Folder) Logon() string {
	raw, _ := f.optional(logonName) //nolint:errcheck // an unreadable switch stands where it stood at first
	switch who := strings.TrimSpace(string(raw)); who {
	case LogonOthers, LogonNone:
		return who
	}
	return LogonUser
}

// SetLogon lets somebody log on. It works while another process runs the device.
func (f *Folder) SetLogon(who string) error {
	switch who {
	case LogonUser, LogonOthers, LogonNone:
		return WriteFile(f.Path(logonName), []byte(who))
	}
	return fmt.Errorf("%q cannot log on; %s, %s and %s can", who, LogonUser, LogonOthers, LogonNone)
}

// Platform reads which kind of device the folder holds; empty if it holds none.
func Platform(dir string) string {
	var state struct {
		Platform string `json:"platform"`
	}
	f := Folder{Dir: dir}
	if _, err := f.Load(&state); err != nil {
		return ""
	}
	return state.Platform
}

// Wipe deletes what an erased device does not have any more: its owner's trust, contacts and switches.
func (f *Folder) Wipe() error {
	for _, name := range []string{caName, apnsCAName, lockedName, logonName, chaosName, "contacts"} {
		if err := os.RemoveAll(f.Path(name)); err != nil {
			return fmt.Errorf("erasing the device: %w", err)
		}
	}
	return nil
}
