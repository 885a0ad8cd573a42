// Package amapi writes what the Android Management API needs to be told, so that a device gets the companion app with the
// rights to install keys and to give them to mail apps. The API delivers neither keys nor certificates (android.md
// section 1): everything else goes between server and companion app.
//
// The types hold the fields that we set, under Google's names.
// Source: developers.google.com/android/management/reference/rest/v1/enterprises.policies.
package amapi

import "encoding/json"

// Policy is what a device must do (enterprises.policies).
type Policy struct {
	Applications []ApplicationPolicy `json:"applications,omitempty"`
	// ChoosePrivateKeyRules are for policies in which no app holds CERT_SELECTION; the last that matches wins.
	ChoosePrivateKeyRules      []ChoosePrivateKeyRule `json:"choosePrivateKeyRules,omitempty"`
	PrivateKeySelectionEnabled bool                   `json:"privateKeySelectionEnabled,omitempty"`
	// CredentialsConfigDisabled keeps the user from deleting keys.
	CredentialsConfigDisabled bool                     `json:"credentialsConfigDisabled,omitempty"`
	StatusReportingSettings   *StatusReportingSettings `json:"statusReportingSettings,omitempty"`
	UsageLog                  *UsageLog                `json:"usageLog,omitempty"`
}

// ApplicationPolicy is about one app.
type ApplicationPolicy struct {
	PackageName     string           `json:"packageName"`
	InstallType     InstallType      `json:"installType,omitempty"`
	DelegatedScopes []Scope          `json:"delegatedScopes,omitempty"`
	Roles           []Role           `json:"roles,omitempty"`
	SigningKeyCerts []SigningKeyCert `json:"signingKeyCerts,omitempty"`
	// ManagedConfiguration is read by the app; Google and everybody who reads the policy see it too.
	ManagedConfiguration json.RawMessage `json:"managedConfiguration,omitempty"`
}

// InstallType says how an app comes onto the device.
type InstallType string

// The install types for the companion app.
const (
	// ForceInstalled comes from Google Play, and the user cannot take it away.
	ForceInstalled InstallType = "FORCE_INSTALLED"
	// RequiredForSetup is the same, and the setup of the device waits for it.
	RequiredForSetup InstallType = "REQUIRED_FOR_SETUP"
	// Custom is an APK of our own, installed through the AMAPI SDK; fully managed devices only, SigningKeyCerts required.
	Custom InstallType = "CUSTOM"
)

// Scope is a right of the device's owner that an app gets.
type Scope string

// The scopes that the companion app needs.
const (
	// CertInstall installs keys and CA certificates; several apps may hold it.
	CertInstall Scope = "CERT_INSTALL"
	// CertSelection gives keys to apps; one app may hold it, and there must be no ChoosePrivateKeyRules then.
	CertSelection Scope = "CERT_SELECTION"
	// ManagedConfigurations sets the managed configuration of other apps, which items of kind mail_config are.
	ManagedConfigurations Scope = "MANAGED_CONFIGURATIONS"
)

// Role exempts an app from power saving, and keeps users from stopping it.
type Role struct {
	RoleType string `json:"roleType"`
}

// RoleCompanionApp is the role of the companion app; one app may have it, and none extensionConfig beside it.
const RoleCompanionApp = "COMPANION_APP"

// SigningKeyCert names the certificate that an app is signed with, by its SHA-256.
type SigningKeyCert struct {
	Fingerprint []byte `json:"signingKeyCertFingerprintSha256"`
}

// ChoosePrivateKeyRule answers an app that asks for a key. With packages and without a pattern, Android 11 gives the key
// to these apps without being asked.
type ChoosePrivateKeyRule struct {
	PackageNames    []string `json:"packageNames,omitempty"`
	PrivateKeyAlias string   `json:"privateKeyAlias"`
	URLPattern      string   `json:"urlPattern,omitempty"`
}

// StatusReportingSettings: the apps' own states are a way to hear of the companion app when it cannot reach the server.
type StatusReportingSettings struct {
	ApplicationReportsEnabled bool `json:"applicationReportsEnabled,omitempty"`
	SoftwareInfoEnabled       bool `json:"softwareInfoEnabled,omitempty"`
}

// UsageLog switches logs on. SecurityLogs tell of each key and CA certificate that is installed or removed, by another way
// than the companion app.
type UsageLog struct {
	EnabledLogTypes []string `json:"enabledLogTypes,omitempty"`
}

// SecurityLogs are for fully managed devices, and from Android 12 for company-owned ones with a work profile.
const SecurityLogs = "SECURITY_LOGS"

// EnrollmentToken brings a device under a policy (enterprises.enrollmentTokens). Value, QRCode and ExpirationTimestamp
// come back from Google; Value and QRCode are secrets.
type EnrollmentToken struct {
	Name                string `json:"name,omitempty"`
	PolicyName          string `json:"policyName,omitempty"`
	Duration            string `json:"duration,omitempty"` // "3600s"
	AdditionalData      string `json:"additionalData,omitempty"`
	OneTimeOnly         bool   `json:"oneTimeOnly,omitempty"`
	AllowPersonalUsage  string `json:"allowPersonalUsage,omitempty"`
	Value               string `json:"value,omitempty"`
	QRCode              string `json:"qrCode,omitempty"`
	ExpirationTimestamp string `json:"expirationTimestamp,omitempty"`
}

// Values of AllowPersonalUsage.
const (
	PersonalUsageAllowed    = "PERSONAL_USAGE_ALLOWED"    // a work profile
	PersonalUsageDisallowed = "PERSONAL_USAGE_DISALLOWED" // fully managed
)
