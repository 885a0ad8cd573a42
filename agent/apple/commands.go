package apple

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"slices"

	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// Statuses of a result.
const (
	statusIdle         = "Idle"
	statusAcknowledged = "Acknowledged"
	statusError        = "Error"
	statusFormatError  = "CommandFormatError"
	statusNotNow       = "NotNow"
)

// outcome is what came of a command.
type outcome struct {
	status string
	fields dict
	err    *Error
	after  string // what the device does once the server has the result
}

func acknowledged(fields dict) outcome { return outcome{status: statusAcknowledged, fields: fields} }
func failed(err *Error) outcome        { return outcome{status: statusError, err: err} }

// Bits of AccessRights.
const (
	rightInspectProfiles = 1
	rightProfiles        = 2
	rightLock            = 4
	rightErase           = 8
	rightInformation     = 16
	rightSecurity        = 1024
)

// neededRight is the access right that a command needs.
func neededRight(requestType string) int {
	switch requestType {
	case "InstallProfile", "RemoveProfile":
		return rightProfiles
	case "ProfileList", "CertificateList":
		return rightInspectProfiles
	case "DeviceInformation":
		return rightInformation
	case "SecurityInfo":
		return rightSecurity
	case "EraseDevice":
		return rightErase
	case "DeviceLock":
		return rightLock
	}
	return 0
}

// protected reports whether a command touches what is encrypted while the screen is locked, or the login keychain of a
// Mac, which shows its certificates all the same. iOS never answers NotNow to DeviceInformation, ProfileList, DeviceLock
// and EraseDevice (apple.md section 3).
func (d *Device) protected(requestType string) bool {
	return requestType == "InstallProfile" || requestType == "RemoveProfile" || requestType == "CertificateList" && !d.isMac()
}

// deviceOnly reports whether a command is for the device channel (apple.md section 4).
func deviceOnly(requestType string) bool {
	return requestType == "EraseDevice" || requestType == "DeviceLock"
}

// execute runs a command.
func (d *Device) execute(ctx context.Context, uuid string, command dict) outcome {
	requestType := proplist.String(command, "RequestType")
	if right := neededRight(requestType); d.root().state.MDM.AccessRights&right != right {
		return failed(fail(domainMDM, 12007, "the MDM profile does not grant the access right %d that %s needs", right, requestType))
	}
	if d.owner != nil && deviceOnly(requestType) {
		return failed(fail(domainMDM, 12021, "%q is no request type of a user channel", requestType))
	}
	if d.protected(requestType) && d.locked() || requestType == "InstallProfile" && d.refuseOnce(uuid) {
		return outcome{status: statusNotNow}
	}
	switch requestType {
	case "InstallProfile":
		return d.installProfile(ctx, command)
	case "RemoveProfile":
		return d.removeCommand(command)
	case "ProfileList":
		return acknowledged(dict{"ProfileList": d.profileList(command)})
	case "CertificateList":
		return acknowledged(dict{"CertificateList": d.certificateList(command)})
	case "DeviceInformation":
		return d.deviceInformation(command)
	case "SecurityInfo":
		return acknowledged(dict{"SecurityInfo": d.securityInfo()})
	case "DeviceLock":
		return d.lockCommand()
	case "EraseDevice":
		return outcome{status: statusAcknowledged, after: afterErase}
	}
	return failed(fail(domainMDM, 12021, "%q is not a valid request type", requestType))
}

// refuseOnce is the chaos that answers NotNow to the first offer.
func (d *Device) refuseOnce(uuid string) bool {
	if !d.chaotic(ChaosNotNow) || d.notNow[uuid] {
		return false
	}
	d.notNow[uuid] = true
	return true
}

func (d *Device) installProfile(ctx context.Context, command dict) outcome {
	data, ok := command["Payload"].([]byte)
	if !ok {
		return outcome{status: statusFormatError, err: fail(domainMDM, 12008, "InstallProfile has no Payload")}
	}
	if err := d.install(ctx, data, true); err != nil {
		return failed(asError(err))
	}
	return acknowledged(nil)
}

// removeCommand removes a profile. With the MDM profile the device leaves, after the server has the answer.
func (d *Device) removeCommand(command dict) outcome {
	identifier, ok := command["Identifier"].(string)
	if !ok {
		return outcome{status: statusFormatError, err: fail(domainMDM, 12008, "RemoveProfile has no Identifier")}
	}
	entry := d.state.profile(identifier)
	switch {
	case entry == nil:
		return failed(fail(domainMDM, 12075, "the profile %q is not installed", identifier))
	case identifier == d.state.MDM.Profile:
		return outcome{status: statusAcknowledged, after: afterLeave}
	case !entry.Managed:
		return failed(fail(domainMDM, 12013, "the profile %q is not managed", identifier))
	}
	if err := d.removeProfile(identifier); err != nil {
		return failed(asError(err))
	}
	return acknowledged(nil)
}

func (d *Device) profileList(command dict) []any {
	managedOnly := proplist.Bool(command, "ManagedOnly")
	out := []any{}
	for _, entry := range d.state.Installed {
		managed := entry.Managed || entry.Identifier == d.state.MDM.Profile
		if managedOnly && !managed {
			continue
		}
		out = append(out, listed(entry, managed))
	}
	return out
}

// listed is an item of ProfileList: what a profile is, never what it sets.
func listed(entry installed, managed bool) dict {
	item := dict{
		"IsEncrypted": entry.Encrypted, "IsManaged": managed, "HasRemovalPasscode": false,
		"PayloadRemovalDisallowed": proplist.Bool(entry.top, "PayloadRemovalDisallowed"),
	}
	const keys = "PayloadUUID PayloadIdentifier PayloadVersion PayloadDisplayName PayloadOrganization PayloadDescription"
	copyKeys(item, entry.top, keys)
	if len(entry.Signers) > 0 {
		var signers []any
		for _, der := range entry.Signers {
			signers = append(signers, der)
		}
		item["SignerCertificates"] = signers
	}
	if entry.Encrypted {
		return item
	}
	payloads := []any{}
	for _, p := range payloadsOf(entry.top) {
		inner := dict{}
		copyKeys(inner, p.dict, "PayloadType "+keys)
		payloads = append(payloads, inner)
	}
	item["PayloadContent"] = payloads
	return item
}

// certificateList has no link to profiles and no serial numbers, like the real one.
func (d *Device) certificateList(command dict) []any {
	managedOnly := proplist.Bool(command, "ManagedOnly")
	out := []any{}
	for _, item := range d.keys.Items() {
		managed := false
		for _, holder := range item.Holders {
			entry := d.state.profile(holder.Profile)
			managed = managed || entry != nil && (entry.Managed || entry.Identifier == d.state.MDM.Profile)
		}
		if managedOnly && !managed {
			continue
		}
		out = append(out, dict{"CommonName": commonName(item.Certificate), "IsIdentity": item.Key != nil, "Data": item.Certificate.Raw})
	}
	return out
}

// commonName is what a person calls the certificate.
func commonName(cert *x509.Certificate) string {
	if cert.Subject.CommonName != "" {
		return cert.Subject.CommonName
	}
	if address := firstAddress(cert); address != "" {
		return address
	}
	return cert.Subject.String()
}

// deviceInformation answers the queries that it knows; the others are absent.
func (d *Device) deviceInformation(command dict) outcome {
	queries, ok := command["Queries"].([]any)
	if !ok {
		return outcome{status: statusFormatError, err: fail(domainMDM, 12008, "DeviceInformation has no Queries")}
	}
	known := d.facts()
	answers := dict{}
	for _, query := range queries {
		name, _ := query.(string)
		if value, there := known[name]; there {
			answers[name] = value
		}
	}
	return acknowledged(dict{"QueryResponses": answers})
}

func (d *Device) facts() dict {
	facts := dict{
		"UDID": d.state.UDID, "DeviceName": d.state.DeviceName, "OSVersion": d.state.OSVersion, "BuildVersion": d.state.BuildVersion,
		"ModelName": d.state.ModelName, "Model": d.state.Model, "ProductName": d.state.Model, "SerialNumber": d.state.SerialNumber,
		"DeviceCapacity": 128.0, "AvailableDeviceCapacity": 96.5, "BatteryLevel": 0.8, "IsSupervised": false, "AwaitingConfiguration": false,
	}
	if d.state.Platform == "macos" {
		facts["HostName"], facts["IsAppleSilicon"] = d.state.DeviceName, true
		return facts
	}
	facts["IsMultiUser"] = false
	facts["EASDeviceIdentifier"] = hex.EncodeToString([]byte(d.state.SerialNumber))
	return facts
}

func (d *Device) securityInfo() dict {
	status := dict{"EnrolledViaDEP": false, "IsUserEnrollment": false, "IsActivationLockManageable": false}
	if d.state.Platform == "macos" {
		status["UserApprovedEnrollment"] = true
		return dict{"FDE_Enabled": true, "SystemIntegrityProtectionEnabled": true, "ManagementStatus": status}
	}
	return dict{
		"HardwareEncryptionCaps": 3, "PasscodePresent": true, "PasscodeCompliant": true, "PasscodeCompliantWithProfiles": true,
		"ManagementStatus": status,
	}
}

func (d *Device) lockCommand() outcome {
	if err := d.Lock(true); err != nil {
		return failed(asError(err))
	}
	return acknowledged(dict{"MessageResult": "Success"})
}

// What a device does after the result of RemoveProfile of its MDM profile, or of EraseDevice.
const (
	afterLeave = "leave"
	afterErase = "erase"
)

func (d *Device) afterwards(ctx context.Context, what string) error {
	if what == afterErase {
		return d.erase()
	}
	return d.leave(ctx, "the server removed the MDM profile")
}

// erase gives the device back as it came from the shop: the hardware stays, the owner's trust does not.
func (d *Device) erase() error {
	next := state{Info: d.state.Info, APNs: d.state.APNs, Gone: "the server erased the device"}
	keys := d.keys.Clone()
	keys.Clear()
	if err := d.commit(next, keys); err != nil {
		return err
	}
	if err := d.forgetUsers(); err != nil {
		return err
	}
	return d.folder.Wipe()
}

func copyKeys(into, from dict, keys string) {
	for _, key := range fields(keys) {
		if value, there := from[key]; there {
			into[key] = value
		}
	}
}

// Installed reports whether a profile with the identifier is installed.
func (d *Device) Installed(identifier string) bool {
	return slices.ContainsFunc(d.state.Installed, func(i installed) bool { return i.Identifier == identifier })
}
