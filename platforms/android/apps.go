package android

import (
	"slices"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Packages of mail apps that we know. Outlook's is profiles.PackageOutlook.
const (
	packageGmail    = "com.google.android.gm"
	packageNine     = "com.ninefolders.hd3"
	packageNineWork = "com.ninefolders.hd3.work"
	packageSamsung  = "com.samsung.android.email.provider"
)

// appName is what people call an app.
func appName(pkg string) string {
	switch pkg {
	case profiles.PackageOutlook:
		return "Outlook"
	case packageGmail:
		return "Gmail"
	case packageNine:
		return "Nine"
	case packageNineWork:
		return "Nine Work"
	case packageSamsung:
		return "Samsung Email"
	}
	return pkg
}

// configurable are the apps whose managed configuration has known names. Those of others must be read from the app itself
// (android.md section 6), so they get keys and no settings.
func configurable(apps []string) []string {
	return slices.DeleteFunc(apps, func(pkg string) bool { return !hasSettings(pkg) })
}

func hasSettings(pkg string) bool { return pkg == profiles.PackageOutlook || pkg == packageGmail }

// smime begins the keys of Outlook's S/MIME settings. Source: Microsoft Learn, "S/MIME for Outlook for iOS and Android".
const smime = "com.microsoft.outlook.Mail.SMIMEEnabled"

// outlook gives Outlook's S/MIME settings; it knows no others that we set. A user who may change both signing and
// encrypting may as well turn S/MIME off.
func (p *planner) outlook(a *account) (map[string]any, error) {
	s := a.spec.SMIME
	encryptionOmitted, err := p.require(a, s.Encryption.Certificate, "encrypt", s.Encryption.WhenMissing)
	if err != nil {
		return nil, err
	}
	signingOmitted := false
	if s.Signing.Enabled {
		if signingOmitted, err = p.require(a, s.Signing.Certificate, "sign", s.Signing.WhenMissing); err != nil {
			return nil, err
		}
	}
	return map[string]any{
		smime:                                       true,
		smime + ".UserChangeAllowed":                s.Signing.UserMayChange && s.Encryption.UserMayChange,
		smime + ".SignAllMail":                      s.Signing.Enabled && !signingOmitted,
		smime + ".SignAllMail.UserChangeAllowed":    s.Signing.UserMayChange,
		smime + ".EncryptAllMail":                   s.Encryption.ByDefault && !encryptionOmitted,
		smime + ".EncryptAllMail.UserChangeAllowed": s.Encryption.UserMayChange,
	}, nil
}

// gmail gives the account, without S/MIME. Source: Google Workspace support, "Configure Gmail with managed
// configurations" (answer 7065453).
func (p *planner) gmail(a *account) (map[string]any, error) {
	x := a.spec.Exchange
	host, err := p.expand(a.name, "exchange.host", x.Host)
	if err != nil {
		return nil, err
	}
	user, err := p.userName(a.name, x)
	if err != nil {
		return nil, err
	}
	values := map[string]any{"email_address": a.address, "exchange_host": host, "exchange_username": user,
		"exchange_ssl_required": x.SSL == nil || *x.SSL}
	if x.Authentication != profiles.AuthCertificate {
		return values, nil
	}
	key, err := p.signsIn(a, x.IdentityCertificate)
	if err != nil {
		return nil, err
	}
	alias := p.need(a, key)
	if alias == "" {
		return nil, waits(platforms.ReasonCertificateMissing, "Email %s: the certificate of %s, which it uses to sign in, is not delivered to this device",
			a.name, x.IdentityCertificate)
	}
	values["exchange_login_certificate_alias"] = alias
	return values, nil
}

// userName is the name to sign in with.
func (p *planner) userName(name string, x *profiles.Exchange) (string, error) {
	user, err := p.source(name, "exchange.usernameSource", x.UsernameSource)
	if err != nil || x.Domain == "" || x.UsernameSource != profiles.SourceSAMAccountName {
		return user, err
	}
	domain, err := p.expand(name, "exchange.domain", x.Domain)
	return domain + `\` + user, err
}

// NotOnAndroid lists what an Email profile says and an app on Android is not told, a sentence each (android.md section 6).
func NotOnAndroid(spec *profiles.Email, pkg string) []string {
	out := notInApp(pkg)
	for _, b := range []struct {
		field string
		set   bool
	}{{"blockMovingMessages", spec.BlockMovingMessages}, {"blockThirdPartyApps", spec.BlockThirdPartyApps},
		{"blockRecentAddressesSync", spec.BlockRecentAddressesSync}, {"allowMailDrop", spec.AllowMailDrop},
		{"exchange.daysToSync", pkg == packageGmail && spec.Exchange != nil && spec.Exchange.DaysToSync != nil},
		{"exchange.services", pkg == packageGmail && spec.Exchange != nil && spec.Exchange.Services != nil}} {
		if b.set {
			out = append(out, appName(pkg)+": "+b.field+": the app has no such setting")
		}
	}
	if s := spec.SMIME; s != nil && pkg == profiles.PackageOutlook {
		out = append(out, notInOutlook(s)...)
	}
	return out
}

// notInApp is what is true of an app whatever a profile says.
func notInApp(pkg string) []string {
	switch pkg {
	case profiles.PackageOutlook:
		return []string{
			"Outlook: the account itself is not set up; the user adds it",
			"Outlook: it may use the keys, but whether it takes keys that another management than Intune delivers is not verified",
		}
	case packageGmail:
		return []string{"Gmail: S/MIME cannot be set up; a Google Workspace account uses the hosted S/MIME of its domain"}
	}
	return []string{appName(pkg) + ": it may use the keys, but the account and S/MIME are not set up; the user does that in the app"}
}

func notInOutlook(s *profiles.SMIME) []string {
	var out []string
	if s.Signing.Certificate != "" || s.Encryption.Certificate != "" {
		out = append(out, "Outlook: smime.signing.certificate and smime.encryption.certificate: they are delivered first, "+
			"but Outlook chooses by the account's address")
	}
	if s.Encryption.PerMessageSwitch {
		out = append(out, "Outlook: smime.encryption.perMessageSwitch: the app has no such setting")
	}
	return out
}
