package amapi

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/profiles"
)

// Params say which companion app a policy installs and where it enrols.
type Params struct {
	// Package is the companion app's.
	Package string
	// InstallType is ForceInstalled if empty.
	InstallType InstallType
	// SigningCertSHA256 are fingerprints in hex; needed if the app is not on Google Play.
	SigningCertSHA256 []string
	// ServerURL is where the companion app enrols, https.
	ServerURL string
	// EnrollmentToken is good for one enrolment; empty for a policy of devices that are in already.
	EnrollmentToken string
	// Rules take the place of CERT_SELECTION: aliases that apps get by the policy itself.
	Rules []ChoosePrivateKeyRule
	// SecurityLogs asks Google for the log of keys; for company-owned devices only, and their users are told.
	SecurityLogs bool
}

// configuration is the managed configuration of the companion app. The token is the only secret that may ever be in it.
type configuration struct {
	ServerURL       string `json:"server_url"`
	EnrollmentToken string `json:"enrollment_token,omitempty"`
}

// maxString is the longest text of a managed configuration.
const maxString = 65535

// PolicyFor gives the policy that installs the companion app and lets it do its work.
func PolicyFor(p Params) (Policy, error) {
	if err := p.check(); err != nil {
		return Policy{}, fmt.Errorf("policy: %w", err)
	}
	config, err := json.Marshal(configuration{ServerURL: p.ServerURL, EnrollmentToken: p.EnrollmentToken})
	if err != nil {
		return Policy{}, errors.New("policy: write the managed configuration")
	}
	app := ApplicationPolicy{PackageName: p.Package, InstallType: p.InstallType, DelegatedScopes: scopes(p.Rules),
		Roles: []Role{{RoleCompanionApp}}, ManagedConfiguration: config}
	if app.InstallType == "" {
		app.InstallType = ForceInstalled
	}
	for _, sum := range p.SigningCertSHA256 {
		b, _ := hex.DecodeString(sum) // check has looked at it
		app.SigningKeyCerts = append(app.SigningKeyCerts, SigningKeyCert{Fingerprint: b})
	}
	policy := Policy{Applications: []ApplicationPolicy{app}, ChoosePrivateKeyRules: p.Rules, CredentialsConfigDisabled: true,
		StatusReportingSettings: &StatusReportingSettings{ApplicationReportsEnabled: true, SoftwareInfoEnabled: true}}
	if p.SecurityLogs {
		policy.UsageLog = &UsageLog{EnabledLogTypes: []string{SecurityLogs}}
	}
	return policy, policy.Check()
}

// scopes: rules of the policy and CERT_SELECTION exclude each other.
func scopes(rules []ChoosePrivateKeyRule) []Scope {
	if len(rules) > 0 {
		return []Scope{CertInstall, ManagedConfigurations}
	}
	return []Scope{CertInstall, CertSelection, ManagedConfigurations}
}

func (p Params) check() error {
	if err := profiles.CheckPackage(p.Package); err != nil {
		return fmt.Errorf("the companion app: %w", err)
	}
	u, err := url.Parse(p.ServerURL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(p.ServerURL) > 2048 {
		return errors.New("the server's URL must be https, without user name, password, query and fragment")
	}
	if len(p.EnrollmentToken) > 1024 || strings.ContainsFunc(p.EnrollmentToken, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("the enrolment token must be printable ASCII without blanks, at most 1024 characters")
	}
	for _, sum := range p.SigningCertSHA256 {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != 32 {
			return errors.New("a fingerprint of the app's signing certificate must be a SHA-256 in hex")
		}
	}
	return nil
}

// Check says what Google would refuse of the policy, or what would not work on the device; an admin's own apps may have
// been added to it. Source: android.md section 2.
func (p Policy) Check() error {
	selectors, companions, names := 0, 0, map[string]bool{}
	for _, a := range p.Applications {
		if err := a.check(); err != nil {
			return fmt.Errorf("app %s: %w", a.PackageName, err)
		}
		if names[a.PackageName] {
			return fmt.Errorf("app %s is in the policy twice", a.PackageName)
		}
		names[a.PackageName] = true
		if slices.Contains(a.DelegatedScopes, CertSelection) {
			selectors++
		}
		if slices.Contains(a.Roles, Role{RoleCompanionApp}) {
			companions++
		}
	}
	switch {
	case selectors > 1:
		return fmt.Errorf("%d apps have the scope %s; only one may", selectors, CertSelection)
	case companions > 1:
		return fmt.Errorf("%d apps have the role %s; only one may", companions, RoleCompanionApp)
	case selectors == 1 && (len(p.ChoosePrivateKeyRules) > 0 || p.PrivateKeySelectionEnabled):
		return fmt.Errorf("an app has the scope %s; choosePrivateKeyRules and privateKeySelectionEnabled must be left out then", CertSelection)
	}
	for i, rule := range p.ChoosePrivateKeyRules {
		if rule.PrivateKeyAlias == "" {
			return fmt.Errorf("choosePrivateKeyRules[%d]: privateKeyAlias is missing", i)
		}
	}
	return nil
}

func (a ApplicationPolicy) check() error {
	if err := profiles.CheckPackage(a.PackageName); err != nil {
		return err
	}
	if a.InstallType == Custom && len(a.SigningKeyCerts) == 0 {
		return fmt.Errorf("installType %s needs signingKeyCerts", Custom)
	}
	if len(a.ManagedConfiguration) == 0 {
		return nil
	}
	var config map[string]any
	if err := json.Unmarshal(a.ManagedConfiguration, &config); err != nil || config == nil {
		return errors.New("managedConfiguration must be a JSON object")
	}
	for key, value := range config {
		if s, ok := value.(string); ok && len(s) > maxString {
			return fmt.Errorf("managedConfiguration: %s is longer than %d characters", key, maxString)
		}
	}
	return nil
}

// maxAdditionalData is the room for our own data in an enrolment token of Google's.
const maxAdditionalData = 1024

// TokenFor gives the request for an enrolment token of Google's, for one device of a user. Google gives the user's id back
// with the device (enrollmentTokenData), which binds the two. workProfile is for devices with personal use.
func TokenFor(policyName, userID string, validity time.Duration, workProfile bool) (EnrollmentToken, error) {
	switch {
	case policyName == "":
		return EnrollmentToken{}, errors.New("enrolment token: the name of the policy is missing")
	case userID == "" || len(userID) > maxAdditionalData:
		return EnrollmentToken{}, fmt.Errorf("enrolment token: the user's id must have 1 to %d characters", maxAdditionalData)
	case validity < time.Minute || validity > 30*24*time.Hour:
		return EnrollmentToken{}, errors.New("enrolment token: it must be valid for 1 minute to 30 days")
	}
	usage := PersonalUsageDisallowed
	if workProfile {
		usage = PersonalUsageAllowed
	}
	return EnrollmentToken{PolicyName: policyName, AdditionalData: userID, OneTimeOnly: true, AllowPersonalUsage: usage,
		Duration: strconv.FormatInt(int64(validity/time.Second), 10) + "s"}, nil
}
