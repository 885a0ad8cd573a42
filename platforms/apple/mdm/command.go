package mdm

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// The request types that this package writes.
const (
	RequestInstallProfile        = "InstallProfile"
	RequestRemoveProfile         = "RemoveProfile"
	RequestProfileList           = "ProfileList"
	RequestCertificateList       = "CertificateList"
	RequestDeviceInformation     = "DeviceInformation"
	RequestSecurityInfo          = "SecurityInfo"
	RequestEraseDevice           = "EraseDevice"
	RequestDeviceLock            = "DeviceLock"
	RequestDeclarativeManagement = "DeclarativeManagement"
)

// Command is one command of a server to a device. A CommandUUID is never used twice.
type Command struct {
	UUID    string  `plist:"CommandUUID"`
	Command Payload `plist:"Command"`
	Raw     []byte  `plist:"-"`
}

// Payload is the body of a command: RequestType and the keys of that request.
type Payload struct {
	RequestType string
	// Payload is the profile of InstallProfile: plain, signed or encrypted.
	Payload []byte `plist:",omitempty"`
	// Identifier is the top-level PayloadIdentifier for RemoveProfile.
	Identifier string `plist:",omitempty"`
	// ManagedOnly limits ProfileList and CertificateList to what management installed.
	ManagedOnly bool `plist:",omitempty"`
	// Queries of DeviceInformation.
	Queries []string `plist:",omitempty"`
	// PIN of six characters for EraseDevice and DeviceLock on a Mac.
	PIN string `plist:",omitempty"`
	// PreserveDataPlan, DisallowProximitySetup and ObliterationBehavior belong to EraseDevice.
	PreserveDataPlan       bool   `plist:",omitempty"`
	DisallowProximitySetup bool   `plist:",omitempty"`
	ObliterationBehavior   string `plist:",omitempty"`
	// Message and PhoneNumber are shown on a locked device.
	Message     string `plist:",omitempty"`
	PhoneNumber string `plist:",omitempty"`
	// Data is the JSON of DeclarativeManagement.
	Data []byte `plist:",omitempty"`
}

// InstallProfile installs or, with the same top-level identifier, replaces a profile.
func InstallProfile(uuid string, profile []byte) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestInstallProfile, Payload: profile}}
}

// RemoveProfile removes the profile with the top-level identifier, its keys and its accounts.
func RemoveProfile(uuid, identifier string) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestRemoveProfile, Identifier: identifier}}
}

// ProfileList asks which profiles are installed.
func ProfileList(uuid string, managedOnly bool) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestProfileList, ManagedOnly: managedOnly}}
}

// CertificateList asks which certificates are installed.
func CertificateList(uuid string, managedOnly bool) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestCertificateList, ManagedOnly: managedOnly}}
}

// DeviceInformation asks for values by Apple's names of them.
func DeviceInformation(uuid string, queries ...string) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestDeviceInformation, Queries: queries}}
}

// SecurityInfo asks about passcode and encryption of the device.
func SecurityInfo(uuid string) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestSecurityInfo}}
}

// EraseDevice wipes the device. A Mac wants a PIN of six characters; others ignore it.
func EraseDevice(uuid, pin string) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestEraseDevice, PIN: pin}}
}

// DeviceLock locks the device and shows a message on it.
func DeviceLock(uuid, message, pin string) *Command {
	return &Command{UUID: uuid, Command: Payload{RequestType: RequestDeviceLock, Message: message, PIN: pin}}
}

// Encode writes the command; the server's side.
func (c *Command) Encode() ([]byte, error) {
	if c.UUID == "" || c.Command.RequestType == "" {
		return nil, errors.New("encode command: CommandUUID or RequestType is empty")
	}
	out, err := proplist.Encode(c)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", c.Command.RequestType, err)
	}
	return out, nil
}

// DecodeCommand reads a command; the device's side. A request type that is not known here is no error: the device
// answers it with MCMDMErrorDomain 12021.
func DecodeCommand(body []byte) (*Command, error) {
	c := &Command{}
	if err := proplist.DecodeInto(body, proplist.MaxProfileSize, c); err != nil {
		return nil, fmt.Errorf("decode command: %w", err)
	}
	if c.UUID == "" || c.Command.RequestType == "" {
		return nil, errors.New("decode command: CommandUUID or RequestType is missing")
	}
	c.Raw = body
	return c, nil
}
