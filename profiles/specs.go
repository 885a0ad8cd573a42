package profiles

// Purpose is what an imported certificate is for (Microsoft Graph: intendedPurpose).
type Purpose string

// The intended purposes.
const (
	PurposeUnassigned      Purpose = "unassigned"
	PurposeSMIMESigning    Purpose = "smimeSigning"
	PurposeSMIMEEncryption Purpose = "smimeEncryption"
)

// Platform is a family of devices.
type Platform string

// The platforms of the promise. iOS includes iPadOS.
const (
	IOS     Platform = "ios"
	MacOS   Platform = "macos"
	Windows Platform = "windows"
	Android Platform = "android"
)

// User is a person. The object's name is the UPN.
type User struct {
	DisplayName string `json:"displayName"`
	// Addresses are the mail addresses, exact spelling; the first is the primary one.
	Addresses []string `json:"addresses"`
	// FormerAddresses are accepted when certificates are imported and never issued for.
	FormerAddresses []string `json:"formerAddresses,omitempty"`
	Groups          []string `json:"groups,omitempty"`
	// SAMAccountName is the user's name in the directory, for {{OnPremisesSamAccountName}} and usernameSource samAccountName.
	SAMAccountName string `json:"samAccountName,omitempty"`
	// OnPremisesDistinguishedName, OnPremisesSecurityIdentifier and Department are for the variables of these names.
	OnPremisesDistinguishedName  string `json:"onPremisesDistinguishedName,omitempty"`
	OnPremisesSecurityIdentifier string `json:"onPremisesSecurityIdentifier,omitempty"`
	Department                   string `json:"department,omitempty"`
}

// Assignment gives profiles to users, groups, devices or everybody. Exclude wins over include.
type Assignment struct {
	Profiles []string `json:"profiles"`
	Include  []Target `json:"include"`
	Exclude  []Target `json:"exclude,omitempty"`
}

// Target names exactly one of its fields.
type Target struct {
	User      string `json:"user,omitempty"`
	Group     string `json:"group,omitempty"`
	Device    string `json:"device,omitempty"`
	Everybody bool   `json:"everybody,omitempty"`
}

// TrustedCertificate is a CA certificate that devices shall trust. Exactly one of CertificateFile (or its content in
// Certificate) and CertificateAuthority is set.
type TrustedCertificate struct {
	// CertificateFile names a file beside the manifest; internal/manifest reads it into Certificate.
	CertificateFile string `json:"certificateFile,omitempty"`
	// Certificate is the DER form.
	Certificate []byte `json:"certificate,omitempty"`
	// CertificateAuthority names a CA of the connector whose root is meant.
	CertificateAuthority string `json:"certificateAuthority,omitempty"`
}

// SubjectAlternativeName is one name of a certificate; Value may hold variables.
type SubjectAlternativeName struct {
	Type  SANType `json:"type"`
	Value string  `json:"value"`
}

// SANType is the kind of a subject alternative name.
type SANType string

// The kinds of names (Microsoft Learn: subject alternative name of a PKCS profile).
const (
	SANEmail SANType = "email"
	SANUPN   SANType = "upn"
	SANDNS   SANType = "dns"
	SANURI   SANType = "uri"
)

// Event is something after which certificates may be revoked.
type Event string

// The events of revokeOn.
const (
	EventUnenroll Event = "unenroll"
	EventRetire   Event = "retire"
	EventWipe     Event = "wipe"
	EventUnassign Event = "unassign"
	// EventSupersede: a newer certificate of the profile is on the device, by renewal or since the profile asks for something
	// else. It is in no default: who checks an old signature would meet a revoked certificate.
	EventSupersede Event = "supersede"
)

// CertificateRequest is what PKCSCertificate and SCEPCertificate share: how a certificate for one device looks.
type CertificateRequest struct {
	CertificateAuthority       string                   `json:"certificateAuthority"`
	Template                   string                   `json:"template,omitempty"`
	Subject                    string                   `json:"subject"`
	SubjectAlternativeNames    []SubjectAlternativeName `json:"subjectAlternativeNames,omitempty"`
	KeySize                    int                      `json:"keySize,omitempty"` // bits; 0 means 2048
	KeyUsage                   []string                 `json:"keyUsage,omitempty"`
	ExtendedKeyUsage           []string                 `json:"extendedKeyUsage,omitempty"`
	Validity                   Duration                 `json:"validity,omitempty"`                   // default 365d
	RenewalThresholdPercentage int                      `json:"renewalThresholdPercentage,omitempty"` // percent of the lifetime that remains; 0 means 20
	RevokeOn                   []Event                  `json:"revokeOn,omitzero"`                    // absent: see Revocations; empty: none
}

// PKCSCertificate is a certificate that the connector makes for each device, key included.
type PKCSCertificate struct{ CertificateRequest }

// SCEPCertificate is a certificate whose key the device makes itself.
type SCEPCertificate struct{ CertificateRequest }

// PKCSImportedCertificate delivers the user's imported certificates of one purpose.
type PKCSImportedCertificate struct {
	IntendedPurpose Purpose `json:"intendedPurpose"`
}

// Custom is an uploaded .mobileconfig. It never carries keys or passwords.
type Custom struct {
	Platforms []Platform `json:"platforms"`
	// File names a file beside the manifest; internal/manifest reads it into Content.
	File    string `json:"file,omitempty"`
	Content []byte `json:"content,omitempty"`
}
