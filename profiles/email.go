package profiles

// Email sets up a mail account and its S/MIME settings. Exactly one of Exchange and IMAP (with SMTP) or POP (with SMTP)
// is set (intune-smime 9.1; Apple: com.apple.eas.account, com.apple.mail.managed).
type Email struct {
	AccountName string `json:"accountName"`
	// AddressSource says which address the account has; default primaryAddress.
	AddressSource AddressSource `json:"addressSource,omitempty"`
	Exchange      *Exchange     `json:"exchange,omitempty"`
	IMAP          *MailServer   `json:"imap,omitempty"`
	POP           *MailServer   `json:"pop,omitempty"`
	SMTP          *MailServer   `json:"smtp,omitempty"`
	SMIME         *SMIME        `json:"smime,omitempty"`
	// Android says which mail apps get keys and settings there; nil means Outlook.
	Android *EmailOnAndroid `json:"android,omitempty"`
	// Options of the account, each false by default.
	BlockMovingMessages      bool `json:"blockMovingMessages,omitempty"`      // PreventMove
	BlockThirdPartyApps      bool `json:"blockThirdPartyApps,omitempty"`      // PreventAppSheet
	BlockRecentAddressesSync bool `json:"blockRecentAddressesSync,omitempty"` // disableMailRecentsSyncing
	AllowMailDrop            bool `json:"allowMailDrop,omitempty"`
}

// AddressSource is where an address or user name comes from.
type AddressSource string

// The sources. SAMAccountName is for user names only and needs Exchange.Domain or none.
const (
	SourcePrimaryAddress    AddressSource = "primaryAddress"
	SourceUserPrincipalName AddressSource = "userPrincipalName"
	SourceSAMAccountName    AddressSource = "samAccountName"
)

// Authentication is how the mail program signs in.
type Authentication string

// The ways to sign in. Certificate needs Exchange.IdentityCertificate; the others of Apple's list belong to IMAP, POP and SMTP.
const (
	AuthUsernameAndPassword Authentication = "usernameAndPassword"
	AuthCertificate         Authentication = "certificate"
	AuthOAuth               Authentication = "oauth"
	AuthNone                Authentication = "none"
	AuthPassword            Authentication = "password"
	AuthCRAMMD5             Authentication = "cramMD5"
	AuthNTLM                Authentication = "ntlm"
	AuthHTTPMD5             Authentication = "httpMD5"
)

// Exchange is an Exchange ActiveSync account.
type Exchange struct {
	Host                 string         `json:"host"`
	SSL                  *bool          `json:"ssl,omitempty"` // default true
	Authentication       Authentication `json:"authentication"`
	IdentityCertificate  string         `json:"identityCertificate,omitempty"` // profile name, for AuthCertificate
	UsernameSource       AddressSource  `json:"usernameSource"`
	Domain               string         `json:"domain,omitempty"`
	OAuthSignInURL       string         `json:"oauthSignInURL,omitempty"`
	OAuthTokenRequestURL string         `json:"oauthTokenRequestURL,omitempty"`
	// DaysToSync: 0 (no limit), 1, 3, 7, 14 or 31; nil leaves it to the device.
	DaysToSync *int `json:"daysToSync,omitempty"`
	// Services of the account; nil means all, userMayChange.
	Services *Services `json:"services,omitempty"`
}

// Services switches the parts of an Exchange account (iOS 13+); at least one must be on.
type Services struct {
	Mail      bool `json:"mail"`
	Contacts  bool `json:"contacts"`
	Calendars bool `json:"calendars"`
	Reminders bool `json:"reminders"`
	Notes     bool `json:"notes"`
	// UserMayChange sets the five Enable…UserOverridable keys; default true.
	UserMayChange *bool `json:"userMayChange,omitempty"`
}

// MailServer is one server of an IMAP or POP account.
type MailServer struct {
	Host           string         `json:"host"`
	Port           int            `json:"port,omitempty"`
	SSL            *bool          `json:"ssl,omitempty"` // default true
	Authentication Authentication `json:"authentication"`
	UsernameSource AddressSource  `json:"usernameSource,omitempty"`
	PathPrefix     string         `json:"pathPrefix,omitempty"` // IMAP only
}

// SMIME is absent when the account shall have no S/MIME settings at all (EM-01).
type SMIME struct {
	Signing    SMIMESigning    `json:"signing"`
	Encryption SMIMEEncryption `json:"encryption"`
}

// SMIMESigning says how mail is signed.
type SMIMESigning struct {
	Enabled                  bool    `json:"enabled"`
	Certificate              string  `json:"certificate,omitempty"` // profile name; empty: the user picks (EM-02)
	UserMayChange            bool    `json:"userMayChange,omitempty"`
	UserMayChangeCertificate bool    `json:"userMayChangeCertificate,omitempty"`
	WhenMissing              Missing `json:"whenMissing,omitempty"`
}

// SMIMEEncryption says how mail is encrypted.
type SMIMEEncryption struct {
	ByDefault                bool    `json:"byDefault"`
	Certificate              string  `json:"certificate,omitempty"` // profile name; empty: the user picks
	UserMayChange            bool    `json:"userMayChange,omitempty"`
	UserMayChangeCertificate bool    `json:"userMayChangeCertificate,omitempty"`
	PerMessageSwitch         bool    `json:"perMessageSwitch,omitempty"`
	WhenMissing              Missing `json:"whenMissing,omitempty"`
	// AllowPerDeviceCertificate overrides the rule that a certificate issued per device must not be used for encryption.
	AllowPerDeviceCertificate bool `json:"allowPerDeviceCertificate,omitempty"`
}

// Missing says what happens to the account while a certificate is missing.
type Missing string

// The choices of whenMissing; the default is wait.
const (
	MissingWait Missing = "wait"
	MissingOmit Missing = "omit"
)
