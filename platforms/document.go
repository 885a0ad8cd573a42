package platforms

import (
	"encoding/json"
	"time"

	"github.com/waxseal/waxseal/profiles"
)

// Device is what a plan needs to know of the device that it plans for.
type Device struct {
	ID           string            `json:"id"`
	Platform     profiles.Platform `json:"platform"`
	OSVersion    string            `json:"osVersion"` // "18.1"; empty is unknown
	Model        string            `json:"model"`     // ProductName, such as "iPhone15,2"
	Name         string            `json:"name"`
	SerialNumber string            `json:"serialNumber"`
	IMEI         string            `json:"imei"`
}

// Input is everything that a plan is made from. A plan is a pure function of it.
type Input struct {
	// Organization is shown to the user as PayloadOrganization or the like.
	Organization string
	// Namespace is the reverse-DNS prefix of document identifiers, such as "io.waxseal.3f2a"; it holds the
	// installation's random id, so that two servers never replace each other's documents.
	Namespace string
	UserID    string
	UPN       string
	User      profiles.User
	Device    Device
	// Channel is the management channel that the plan is for: "device", or "user" for the second one of a Mac.
	Channel string
	// Profiles are the ones that apply to user and device (profiles.Effective).
	Profiles []profiles.Object
	// CAs maps the name of a connector's CA to its root certificate (DER); a name that is missing waits.
	CAs map[string][]byte
	// Issued maps a profile's name to the device's current certificate of that profile.
	Issued map[string]profiles.Certificate
	// SCEP maps the name of a SCEPCertificate profile to how the device gets its certificate; one whose variables have no
	// value here is missing.
	SCEP map[string]SCEPEnrolment
	// Imported are all escrow records of the user, every purpose.
	Imported []profiles.Certificate
	// PreviousCurrent maps a mail document's id to the SHA-256 of the encryption certificate that the account carries on
	// the device at the moment (confirmed), so that the change of the current one can be ordered: history first.
	PreviousCurrent map[string]string
	// Stuck has the ids of mail documents that the connector could not render or the device did not take. They are tried
	// again; nobody should wait for what they carry.
	Stuck map[string]bool
	// InHistory are the SHA-256 of the identities that the history document holds on the device, or may hold by now.
	InHistory []string
	// Redeliver maps a certificate's SHA-256 to how often it vanished from the device although it had been installed. The
	// count goes into the certificate's identifiers, so that the platform takes the next delivery for a new item.
	Redeliver map[string]int
	// Now decides which certificate is current.
	Now time.Time
}

// SCEPEnrolment is how a device gets the certificate of a SCEPCertificate profile, for a key of its own. There is no
// challenge in it.
type SCEPEnrolment struct {
	// Request says which certificate this is: as long as it stays, there is nothing to do.
	Request string
	// URL is where the device asks, Name what it gives GetCACert as its message.
	URL, Name string
	// Partner: the CA is a partner's, which devices ask by SCEP at its own URL.
	Partner  bool
	Subject  []byte // DER RDNSequence, variables expanded
	SANs     []profiles.SubjectAlternativeName
	KeySize  int
	KeyUsage []string
	// Intermediates are the CA certificates (DER) between the certificate and the root.
	Intermediates [][]byte
	// Former are those of the certificate that the device has until it has this one; empty where they do not matter.
	Former [][]byte
	// Issued is the certificate that the device got for this request; its SHA-256 is empty before.
	Issued profiles.Certificate
}

// Document is one thing that is to be delivered to one device.
type Document struct {
	// ID is stable and readable: "trust", "mail.company-mail", "history", "identity.mail-signing", "custom.wifi".
	ID string `json:"id"`
	// Identifier is what the platform calls it (Apple: top-level PayloadIdentifier).
	Identifier string `json:"identifier"`
	// Revision is the digest of the non-secret inputs (lower-case hex).
	Revision string `json:"revision"`
	// Proof is how the platform's inventory names this revision (Apple: top-level PayloadUUID, upper case).
	Proof string `json:"proof"`
	// DependsOn lists ids of documents that must be confirmed before this one is sent.
	DependsOn []string `json:"dependsOn,omitempty"`
	// Credentials are the certificates whose private keys go into the document.
	Credentials []profiles.Certificate `json:"credentials,omitempty"`
	// Challenges are the SCEPCertificate profiles whose one-time challenge goes into the document when it is rendered. On
	// Android the device asks without one, by the document itself.
	Challenges []string `json:"challenges,omitempty"`
	// Certificates are the SHA-256 of every certificate (CA certificates too) that the inventory must show once the
	// document is installed.
	Certificates []string `json:"certificates,omitempty"`
	// Profiles are the names of the admin's profiles that the document serves.
	Profiles []string `json:"profiles,omitempty"`
	// UserScope: the document can only be installed, removed and looked at while its user is logged on (Windows' ./User).
	UserScope bool `json:"userScope,omitempty"`
	// Reason is set when the document must wait; Detail is a sentence that names what is missing.
	Reason Reason `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Notes are sentences about what the profile asks for and this platform cannot do. They are for people and are in no
	// revision.
	Notes []string `json:"notes,omitempty"`
	// Body is the platform's own plan of the content, without secrets; the platform's Render reads it.
	Body json.RawMessage `json:"body,omitempty"`
}

// HasSecrets tells whether the connector must render the document.
func (d Document) HasSecrets() bool { return len(d.Credentials) > 0 }

// PKCS12 is a finished PKCS#12 file for one device.
type PKCS12 struct {
	Bytes    []byte
	Password string
}
