package platforms

// Reason says why a document is wanted, waiting, failed or removed. The same word stands in the API, the command line,
// the log, the audit log and the tests.
type Reason string

// Reasons to wait.
const (
	// ReasonCertificateMissing: the user has no imported certificate of the purpose that the profile needs.
	ReasonCertificateMissing Reason = "CertificateMissing"
	// ReasonAddressMismatch: certificates exist, none carries the account's address.
	ReasonAddressMismatch Reason = "AddressMismatch"
	// ReasonIssuePending: the certificate of this device has been asked for and is not issued yet.
	ReasonIssuePending Reason = "IssuePending"
	// ReasonIssueRefused: the CA refused; Detail has its words.
	ReasonIssueRefused Reason = "IssueRefused"
	// ReasonRenderPending: the connector has not rendered the document yet.
	ReasonRenderPending Reason = "RenderPending"
	// ReasonConnectorDown: no connector that may do the work has been seen lately.
	ReasonConnectorDown Reason = "ConnectorDown"
	// ReasonRenderFailed: the connector could not render; Detail has its words.
	ReasonRenderFailed Reason = "RenderFailed"
	// ReasonCertificateAuthorityUnknown: no connector offers the CA that the profile names.
	ReasonCertificateAuthorityUnknown Reason = "CertificateAuthorityUnknown"
	// ReasonCannotRevoke: the CA takes no revocation from a connector; somebody has to revoke the certificate there.
	ReasonCannotRevoke Reason = "CannotRevoke"
	// ReasonVariableUnresolved: a variable of the profile has no value for this user and device.
	ReasonVariableUnresolved Reason = "VariableUnresolved"
	// ReasonDependency: a document that must come first is not confirmed yet.
	ReasonDependency Reason = "WaitingForDocument"
	// ReasonDuplicateAccount: another Email profile already sets up this address on the device.
	ReasonDuplicateAccount Reason = "DuplicateAccount"
	// ReasonDeviceIdentityCannotDecrypt: the device's certificate is not RSA with keyEncipherment.
	ReasonDeviceIdentityCannotDecrypt Reason = "DeviceIdentityCannotDecrypt"
	// ReasonNotDeliverable: this platform or version of the product cannot deliver the profile; Detail says which.
	ReasonNotDeliverable Reason = "NotDeliverable"
	// ReasonNotNow: the device said NotNow (locked).
	ReasonNotNow Reason = "NotNow"
	// ReasonUserNotLoggedOn: the user's part of the device can be reached only while the enrolled user is logged on.
	ReasonUserNotLoggedOn Reason = "UserNotLoggedOn"
	// ReasonWaitsForUser: the user must do something on the device first, such as unlock it or set a screen lock.
	ReasonWaitsForUser Reason = "WaitsForUser"
	// ReasonAppMissing: the mail app is not installed on the device.
	ReasonAppMissing Reason = "AppMissing"
	// ReasonDelegationMissing: the companion app has not been given the right to install or to grant keys.
	ReasonDelegationMissing Reason = "DelegationMissing"
	// ReasonNoPushCertificate: a real Apple device is never woken without an APNs certificate.
	ReasonNoPushCertificate Reason = "NoPushCertificate"
	// ReasonMustReenroll: the device enrolled before a push certificate was set, and its Topic can never change; or by a link for
	// another kind of device. Detail says which.
	ReasonMustReenroll Reason = "MustReenroll"
	// ReasonNotSeen: the device has not connected since the document became ready.
	ReasonNotSeen Reason = "DeviceNotSeen"
)

// Reasons to act, and results.
const (
	// ReasonNew: the device has never had the document.
	ReasonNew Reason = "New"
	// ReasonRevisionDiffers: the device has another revision.
	ReasonRevisionDiffers Reason = "RevisionDiffers"
	// ReasonVanished: the inventory no longer shows what was installed.
	ReasonVanished Reason = "Vanished"
	// ReasonInstalled: the device acknowledged; the inventory has not shown it yet.
	ReasonInstalled Reason = "Installed"
	// ReasonVerified: the inventory shows this revision and its certificates.
	ReasonVerified Reason = "Verified"
	// ReasonDeviceRefused: the device answered Error; Detail has its words.
	ReasonDeviceRefused Reason = "DeviceRefused"
	// ReasonUnassigned: no assignment gives the profile to the device any more.
	ReasonUnassigned Reason = "Unassigned"
	// ReasonRetired: an admin retires the device.
	ReasonRetired Reason = "Retired"
	// ReasonRemovalVerified: the inventory after the removal no longer shows it.
	ReasonRemovalVerified Reason = "RemovalVerified"
	// ReasonRemovalReported: the device said that it left (CheckOut, wipe acknowledged).
	ReasonRemovalReported Reason = "RemovalReported"
	// ReasonRemovalUnconfirmed: silence.
	ReasonRemovalUnconfirmed Reason = "RemovalUnconfirmed"
)
