// Package companion is the protocol between a server and the companion app on an Android device: JSON over HTTPS, the
// desired state as a document with a generation, secrets in envelopes to a key that the device holds (android.md section 8;
// docs/protocols/android.md). It has no state of its own.
package companion

import "time"

// Protocol is the version that both sides speak.
const Protocol = 1

// Paths of the protocol; {item} is an item's id.
const (
	PathEnroll    = "/agent/v1/enroll"
	PathRenew     = "/agent/v1/renew"
	PathState     = "/agent/v1/state"
	PathPayload   = "/agent/v1/items/{item}/payload"
	PathCSR       = "/agent/v1/items/{item}/csr"
	PathStatus    = "/agent/v1/items/{item}/status"
	PathInventory = "/agent/v1/inventory"
	PathEvents    = "/agent/v1/events"
	PathUnenroll  = "/agent/v1/unenroll"
)

// ParamWrapKey is the parameter of PathState that names the wrap key which the app uses.
const ParamWrapKey = "wrap_key_id"

// ManagementMode is what the companion app may do on the device.
type ManagementMode string

// The modes.
const (
	ModeDeviceOwner  ManagementMode = "DEVICE_OWNER"
	ModeProfileOwner ManagementMode = "PROFILE_OWNER"
	ModeCompanion    ManagementMode = "COMPANION" // delegated scopes of an owner such as Android Device Policy
	ModeNone         ManagementMode = "NONE"
)

// Capability is a right that the companion app has at the moment.
type Capability string

// The capabilities.
const (
	CapabilityCertInstall   Capability = "cert_install"
	CapabilityCertSelection Capability = "cert_selection"
	CapabilityCAInstall     Capability = "ca_install"
	CapabilityHasKeyPair    Capability = "has_key_pair" // API 31
	CapabilityGenerateKey   Capability = "generate_key"
)

// EnrollRequest brings a device in. Repeating it with the same install id, wrap key and token gives the same device.
type EnrollRequest struct {
	Protocol        int          `json:"protocol"`
	EnrollmentToken string       `json:"enrollment_token"`
	Device          Device       `json:"device"`
	Agent           Agent        `json:"agent"`
	WrapKey         WrapKey      `json:"wrap_key"`
	Capabilities    []Capability `json:"capabilities"`
}

// Device is what the app says of the device.
type Device struct {
	InstallID      string         `json:"install_id"` // random, made at the installation of the app
	SDKInt         int            `json:"sdk_int"`
	Release        string         `json:"release,omitempty"` // "15"
	SecurityPatch  string         `json:"security_patch,omitempty"`
	Manufacturer   string         `json:"manufacturer,omitempty"`
	Model          string         `json:"model,omitempty"`
	ManagementMode ManagementMode `json:"management_mode"`
	AMAPIName      string         `json:"amapi_device_name,omitempty"`
	Serial         string         `json:"serial,omitempty"`
	Name           string         `json:"name,omitempty"`
}

// Agent is the app itself.
type Agent struct {
	Package           string `json:"package"`
	Version           string `json:"version"`
	SigningCertSHA256 string `json:"signing_cert_sha256,omitempty"`
}

// WrapKey is the device-held key that secrets are encrypted to: RSA of 2048 bits or more, in a PKCS#10 request that it
// signed, so that possession is proved. The server has it certified and encrypts to the certificate.
type WrapKey struct {
	KeyType string `json:"kty"` // "RSA"
	CSR     []byte `json:"csr_b64"`
}

// EnrollResponse binds the device. Credential is a bearer token for all other calls; it is shown once.
type EnrollResponse struct {
	DeviceID        string    `json:"device_id"`
	UserHint        string    `json:"user_hint"`
	Credential      string    `json:"credential"`
	WrapKeyID       string    `json:"wrap_key_id"` // SHA-256 of the certificate
	WrapCertificate []byte    `json:"wrap_certificate_b64"`
	Poll            Poll      `json:"poll"`
	ServerTime      time.Time `json:"server_time"`
}

// RenewRequest asks for a certificate of a further wrap key, before that of the one in use ends. Repeating it with the same
// key gives the same certificate.
type RenewRequest struct {
	WrapKey WrapKey `json:"wrap_key"`
}

// RenewResponse certifies the key. The server encrypts to it from the first poll on that names it (ParamWrapKey).
type RenewResponse struct {
	WrapKeyID       string `json:"wrap_key_id"` // SHA-256 of the certificate
	WrapCertificate []byte `json:"wrap_certificate_b64"`
}

// Poll says how often to ask for the state when long polls do not work.
type Poll struct {
	IntervalSeconds int `json:"interval_s"`
	JitterPercent   int `json:"jitter_pct"`
}

// Kind is what an item is about.
type Kind string

// The kinds, in the order in which they are installed; removal goes the other way.
const (
	KindCACert     Kind = "ca_cert"
	KindIdentity   Kind = "identity"
	KindGrant      Kind = "grant"
	KindMailConfig Kind = "mail_config"
)

// Op is what to do with an item.
type Op string

// The ops.
const (
	OpInstall Op = "install"
	OpRemove  Op = "remove"
)

// State is what should be on the device (GET PathState). Generation changes whenever Items do; it is opaque.
type State struct {
	Generation string    `json:"generation"`
	ServerTime time.Time `json:"server_time"`
	Items      []Item    `json:"items"`
	Policy     Policy    `json:"policy"`
	// Pending counts items that will come by themselves.
	Pending int `json:"pending,omitempty"`
}

// Policy is how the app behaves.
type Policy struct {
	RemoveOnUnenroll       bool `json:"remove_on_unenroll"`
	MaxAttempts            int  `json:"max_attempts"`
	ReportInventorySeconds int  `json:"report_inventory_every_s"`
	// ReportInventory asks for an inventory now.
	ReportInventory bool `json:"report_inventory,omitempty"`
	// Unenroll ends the enrolment once all items are removed.
	Unenroll bool `json:"unenroll,omitempty"`
}

// Item is one thing of the desired state. ID never changes its meaning; another Revision means to do it again.
type Item struct {
	ID        string   `json:"item_id"`
	Revision  string   `json:"revision"`
	Kind      Kind     `json:"kind"`
	Op        Op       `json:"op"`
	DependsOn []string `json:"depends_on,omitempty"`
	// Attempt is another one when the server asks anew under the same revision: for what failed, or was not removed.
	Attempt    int         `json:"attempt,omitempty"`
	CACert     *CACert     `json:"ca_cert,omitempty"`
	Identity   *Identity   `json:"identity,omitempty"`
	Grant      *Grant      `json:"grant,omitempty"`
	MailConfig *MailConfig `json:"mail_config,omitempty"`
}

// CACert is a certificate for the user's trusted credentials of the managed profile.
type CACert struct {
	SHA256 string `json:"sha256"`
	DER    []byte `json:"der_b64"`
}

// Identity is a certificate with its key, under an alias of the key chain that is never used for another certificate, or
// for that of another request.
type Identity struct {
	Purpose string `json:"purpose"` // "smime_sign", "smime_encrypt" or "both"
	Current bool   `json:"current"`
	Alias   string `json:"alias"`
	// CertSHA256, NotBefore and NotAfter are known once there is a certificate; one whose key the device has yet to make has
	// none.
	CertSHA256     string    `json:"cert_sha256,omitempty"`
	NotBefore      time.Time `json:"not_before,omitzero"`
	NotAfter       time.Time `json:"not_after,omitzero"`
	UserSelectable bool      `json:"user_selectable"`
	Payload        string    `json:"payload"` // "fetch" or "generate"
	// Generate says what key to make, and what to ask a certificate for; set with payload "generate".
	Generate *Generate `json:"generate,omitempty"`
}

// Generate is a key that the device makes itself (DevicePolicyManager.generateKeyPair, API 28), and the request for its
// certificate. What the certificate says, the server decides all the same.
type Generate struct {
	KeyAlg  string `json:"key_alg"` // "RSA"
	KeySize int    `json:"key_size"`
	Subject []byte `json:"subject_b64"` // DER Name
	Names   []Name `json:"names,omitempty"`
	// KeyUsage are names of RFC 5280 section 4.2.1.3, such as digitalSignature; none leaves them to the CA.
	KeyUsage []string `json:"key_usage,omitempty"`
}

// Name is a subject alternative name: "email", "dns", "uri" or "upn".
type Name struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Grant lets an app use a key without asking the user (API 30).
type Grant struct {
	Alias             string `json:"alias"`
	Package           string `json:"package"`
	SigningCertSHA256 string `json:"signing_cert_sha256,omitempty"`
}

// MailConfig is managed configuration of a mail app.
type MailConfig struct {
	Package string         `json:"package"`
	Values  map[string]any `json:"values"`
}

// PayloadRequest asks for an identity's envelope.
type PayloadRequest struct {
	Revision  string `json:"revision"`
	WrapKeyID string `json:"wrap_key_id"`
	Nonce     string `json:"nonce"`
}

// PayloadResponse is DER CMS EnvelopedData to the wrap certificate; its content is a Secret as JSON.
type PayloadResponse struct {
	Envelope  []byte    `json:"envelope"`
	Alg       string    `json:"alg"` // "CMS"
	ExpiresAt time.Time `json:"expires_at"`
}

// CSRRequest asks for the certificate of a key that the device made (POST PathCSR; android.md section 8.3). The same key
// again gets the same certificate.
type CSRRequest struct {
	Revision string `json:"revision"`
	CSR      []byte `json:"csr_b64"` // PKCS#10
}

// CSRResponse is the certificate with those above it.
type CSRResponse struct {
	CertSHA256 string   `json:"cert_sha256"`
	Chain      [][]byte `json:"chain_der_b64"` // leaf first
}

// Secret is what an envelope holds.
type Secret struct {
	Format     string   `json:"format"` // "pkcs8+chain"
	Key        []byte   `json:"key_der_b64"`
	Chain      [][]byte `json:"chain_der_b64"` // leaf first
	CertSHA256 string   `json:"cert_sha256"`
	ItemID     string   `json:"item_id"`
	Revision   string   `json:"revision"`
}

// ItemState is where an item is on the device.
type ItemState string

// The states. Installed, granted, verified and removed end an item well; failed ends it badly until the next revision.
const (
	StateOffered           ItemState = "offered"
	StateFetching          ItemState = "fetching"
	StateFetched           ItemState = "fetched"
	StateInstalling        ItemState = "installing"
	StateInstalled         ItemState = "installed"
	StateGranted           ItemState = "granted"
	StateVerified          ItemState = "verified"
	StateRemoving          ItemState = "removing"
	StateRemoved           ItemState = "removed"
	StateWaitingDependency ItemState = "waiting_dependency"
	StateWaitingUser       ItemState = "waiting_user"
	StateWaitingApp        ItemState = "waiting_app"
	StateRetryWait         ItemState = "retry_wait"
	StateFailed            ItemState = "failed"
	StateSuperseded        ItemState = "superseded"
)

// StatusReport is one step of an item (PUT PathStatus). Seq grows with each report of the installation; a late one is
// acknowledged and ignored.
type StatusReport struct {
	Revision string    `json:"revision"`
	Seq      int64     `json:"seq"`
	State    ItemState `json:"state"`
	Attempt  int       `json:"attempt"`
	At       time.Time `json:"at"`
	Observed *Observed `json:"observed,omitempty"`
	Error    *Error    `json:"error,omitempty"`
}

// Observed is what the app saw in the key chain after the step.
type Observed struct {
	Alias      string   `json:"alias,omitempty"`
	CertSHA256 string   `json:"cert_sha256,omitempty"`
	HasKeyPair bool     `json:"has_key_pair"`
	GrantedTo  []string `json:"granted_to,omitempty"`
}

// StatusResponse acknowledges a report.
type StatusResponse struct {
	AckSeq int64 `json:"ack_seq"`
}

// Error is why a step failed (android.md section 8.7).
type Error struct {
	Code      ErrorCode `json:"code"`
	Retryable bool      `json:"retryable"`
	Detail    string    `json:"detail,omitempty"`
	Exception string    `json:"exception,omitempty"`
}

// ErrorCode names a fault on the device.
type ErrorCode string

// Inventory is what is on the device (POST PathInventory).
type Inventory struct {
	Generation   string       `json:"generation"`
	SDKInt       int          `json:"sdk_int,omitempty"` // may have changed since the enrolment
	Release      string       `json:"release,omitempty"` // "15"
	Identities   []Held       `json:"identities"`
	CAs          []string     `json:"cas"` // SHA-256
	MailConfigs  []Configured `json:"mail_configs,omitempty"`
	Capabilities []Capability `json:"capabilities"`
	Apps         []App        `json:"apps"`
	ScreenLock   bool         `json:"screen_lock"`
	UserUnlocked bool         `json:"user_unlocked"`
}

// Held is one alias of the key chain.
type Held struct {
	Alias      string   `json:"alias"`
	CertSHA256 string   `json:"cert_sha256"`
	Present    bool     `json:"present"`
	Grants     []string `json:"grants,omitempty"` // packages
}

// Configured says which revision of a mail configuration an app has.
type Configured struct {
	Package  string `json:"package"`
	Revision string `json:"revision"`
}

// App is an installed app.
type App struct {
	Package string `json:"package"`
	Version string `json:"version"`
}

// Event tells of something that happened on the device (POST PathEvents): "keychain_changed", "trust_store_changed",
// "package_added", "package_removed", "restrictions_changed".
type Event struct {
	Type    string    `json:"type"`
	Package string    `json:"package,omitempty"`
	At      time.Time `json:"at"`
}

// Unenroll says goodbye (POST PathUnenroll): "user", "policy" or "wipe".
type Unenroll struct {
	Reason string `json:"reason"`
}

// Problem is the body of every refusal: a code, and a sentence. RetryAfterSeconds is set where waiting helps.
type Problem struct {
	Code              string `json:"code"`
	Detail            string `json:"detail"`
	RetryAfterSeconds int    `json:"retry_after,omitempty"`
}
