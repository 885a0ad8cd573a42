// Package device is the state folder of a simulated device, and the few things that every platform's device has: who
// it is, a clock, randomness.
//
//	device.json      who the device is, what is installed, which results wait to be sent
//	profiles/        the installed profiles, as XML property lists
//	keychain/        certificates and keys (package keychain)
//	contacts/        encryption certificates of other people, remembered from their signed mail
//	ca.pem           the roots that the device's owner trusts for TLS
//	locked           a file of this name locks the screen
//	logon            who is logged on at a PC: user, others or none
//	world.json       an Android device: installed apps, delegated scopes, whether there is a screen lock
//	chaos            misbehaviour, comma separated words
//	lock             held by the process that may write
//
// Files are replaced, never written in place. A process that dies leaves the old or the new state, not a mixture, and at
// most a file .new-* beside it, which the next one that opens the folder for writing deletes.
package device

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/clock"
)

// Clock is the time that a device lives in. Sleep ends early, with the context's error, when the context does.
type Clock interface {
	Now() time.Time
	Sleep(ctx context.Context, d time.Duration) error
}

// SystemClock is the machine's time.
type SystemClock struct{}

// Now is the present.
func (SystemClock) Now() time.Time { return clock.Now() }

// Sleep waits.
func (SystemClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Info says which device it is. None of it changes when the device is enrolled, erased or enrolled again; the UDID is that
// of the companion app on Android, and changes when the app is removed and installed again.
type Info struct {
	UDID         string `json:"udid"`
	SerialNumber string `json:"serialNumber"`
	Platform     string `json:"platform"`  // ios, macos, windows or android
	Model        string `json:"model"`     // ProductName: iPhone15,2
	ModelName    string `json:"modelName"` // iPhone, iPad, Mac, PC or Android
	DeviceName   string `json:"deviceName"`
	OSVersion    string `json:"osVersion"`
	BuildVersion string `json:"buildVersion"`
}

// PlatformMac is Info.Platform of a Mac.
const PlatformMac = "macos"

// Default versions of a new device.
const (
	DefaultModel     = "iPhone15,2"
	DefaultOSVersion = "18.1"
	defaultBuild     = "22B83"
)

// NewInfo makes up a device. Model and version may be empty.
func NewInfo(random io.Reader, platform, model, osVersion string) (Info, error) {
	if random == nil {
		random = rand.Reader
	}
	var raw [26]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return Info{}, fmt.Errorf("making up a device: %w", err)
	}
	if model == "" {
		model = DefaultModel
		if platform == PlatformMac {
			model = "Mac14,2"
		}
	}
	if osVersion == "" {
		osVersion = DefaultOSVersion
	}
	id := strings.ToUpper(hex.EncodeToString(raw[:]))
	info := Info{
		UDID:         "0000" + id[:4] + "-" + id[4:20],
		SerialNumber: "W" + id[20:31],
		Platform:     platform, Model: model, ModelName: modelName(model),
		OSVersion: osVersion, BuildVersion: defaultBuild,
	}
	info.DeviceName = "Simulated " + info.ModelName
	return info, nil
}

// modelName is the family that a product name such as iPad14,3 belongs to.
func modelName(model string) string {
	for _, family := range []string{"iPhone", "iPad", "iPod", "Mac"} {
		if strings.HasPrefix(strings.ToLower(model), strings.ToLower(family)) {
			return family
		}
	}
	return "iPhone"
}

// halfWritten is how the names of files begin that are not complete yet; that of the file they become follows.
const halfWritten = ".new-"

// WriteFile replaces a file of mode 0600 in one step.
func WriteFile(path string, data []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), halfWritten+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	_, err = temp.Write(data)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return nil
}
