package apple

import (
	"errors"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// fill works out the account's address and all its keys but those of certificates.
func (p *planner) fill(a *account) error {
	name, err := profiles.Expand(a.spec.AccountName, p.vars)
	if err != nil {
		return unresolved("Email "+a.name+": accountName", err)
	}
	a.body = p.body(name)
	if a.address, err = p.source(a, "addressSource", a.spec.AddressSource); err != nil {
		return err
	}
	a.settings = map[string]any{"EmailAddress": a.address}
	p.fillOptions(a)
	if a.spec.Exchange != nil {
		return p.fillExchange(a, a.spec.Exchange)
	}
	return p.fillMail(a)
}

// fillOptions writes the switches that accounts have in common. A Mac has no PreventMove and no PreventAppSheet, and its
// Exchange account nothing but Mail Drop.
func (p *planner) fillOptions(a *account) {
	setTrue(a.settings, "allowMailDrop", a.spec.AllowMailDrop)
	if p.mac() && a.spec.Exchange != nil {
		return
	}
	setTrue(a.settings, "disableMailRecentsSyncing", a.spec.BlockRecentAddressesSync)
	if p.mac() {
		return
	}
	setTrue(a.settings, "PreventMove", a.spec.BlockMovingMessages)
	setTrue(a.settings, "PreventAppSheet", a.spec.BlockThirdPartyApps)
}

// source gives the value of an address source; variables give errors that name themselves.
func (p *planner) source(a *account, field string, s profiles.AddressSource) (string, error) {
	template := "{{EmailAddress}}"
	switch s {
	case profiles.SourceUserPrincipalName:
		template = "{{UserPrincipalName}}"
	case profiles.SourceSAMAccountName:
		template = "{{OnPremisesSamAccountName}}"
	}
	return p.expand(a, field, template)
}

func (p *planner) expand(a *account, field, template string) (string, error) {
	v, err := profiles.Expand(template, p.vars)
	if err != nil {
		return "", unresolved("Email "+a.name+": "+field, err)
	}
	return v, nil
}

// fillExchange writes the keys of com.apple.eas.account or, for a Mac, of com.apple.ews.account, which names them alike.
// Source: https://developer.apple.com/documentation/devicemanagement/exchangeactivesync and …/exchangewebservices.
func (p *planner) fillExchange(a *account, x *profiles.Exchange) error {
	host, err1 := p.expand(a, "exchange.host", x.Host)
	user, err2 := p.source(a, "exchange.usernameSource", x.UsernameSource)
	domain, err3 := p.expand(a, "exchange.domain", x.Domain)
	if err := errors.Join(err1, err2, err3); err != nil {
		return firstOf(err1, err2, err3)
	}
	if domain != "" && x.UsernameSource == profiles.SourceSAMAccountName {
		user = domain + `\` + user
	}
	a.settings["Host"], a.settings["UserName"] = host, user
	a.settings["SSL"] = orTrue(x.SSL)
	if x.Authentication == profiles.AuthOAuth {
		a.settings["OAuth"] = true
		setString(a.settings, "OAuthSignInURL", x.OAuthSignInURL)
	}
	if !p.mac() {
		setActiveSync(a.settings, x)
	}
	return nil
}

// setActiveSync writes what com.apple.ews.account does not know.
func setActiveSync(settings map[string]any, x *profiles.Exchange) {
	if x.Authentication == profiles.AuthOAuth {
		setString(settings, "OAuthTokenRequestURL", x.OAuthTokenRequestURL)
	}
	if x.DaysToSync != nil {
		settings["MailNumberOfPastDaysToSync"] = *x.DaysToSync
	}
	if x.Services != nil {
		setServices(settings, x.Services)
	}
}

// setServices writes the ten keys of iOS 13; older systems ignore them.
func setServices(settings map[string]any, s *profiles.Services) {
	services := map[string]bool{"Mail": s.Mail, "Contacts": s.Contacts, "Calendars": s.Calendars,
		"Reminders": s.Reminders, "Notes": s.Notes}
	for name, on := range services {
		settings["Enable"+name] = on
		settings["Enable"+name+"UserOverridable"] = orTrue(s.UserMayChange)
	}
}

// fillMail writes the keys of com.apple.mail.managed.
// Source: https://developer.apple.com/documentation/devicemanagement/mail.
func (p *planner) fillMail(a *account) error {
	incoming, accountType := a.spec.IMAP, "EmailTypeIMAP"
	if incoming == nil {
		incoming, accountType = a.spec.POP, "EmailTypePOP"
	}
	if incoming == nil || a.spec.SMTP == nil {
		return waits(platforms.ReasonNotDeliverable, "Email %s: neither exchange nor imap or pop with smtp is set", a.name)
	}
	a.settings["EmailAccountType"] = accountType
	setString(a.settings, "EmailAccountName", p.in.User.DisplayName)
	setString(a.settings, "EmailAccountDescription", a.body.DisplayName)
	if a.spec.IMAP != nil {
		setString(a.settings, "IncomingMailServerIMAPPathPrefix", incoming.PathPrefix)
	}
	return firstOf(p.fillServer(a, "IncomingMailServer", incoming), p.fillServer(a, "OutgoingMailServer", a.spec.SMTP))
}

// fillServer writes the keys of one server; both directions name them alike.
func (p *planner) fillServer(a *account, prefix string, s *profiles.MailServer) error {
	host, err := p.expand(a, "host", s.Host)
	if err != nil {
		return err
	}
	a.settings[prefix+"HostName"] = host
	a.settings[prefix+"Authentication"] = mailAuthentication(s.Authentication)
	a.settings[prefix+"UseSSL"] = orTrue(s.SSL)
	if s.Port != 0 {
		a.settings[prefix+"PortNumber"] = s.Port
	}
	if s.Authentication == profiles.AuthNone {
		return nil
	}
	user, err := p.source(a, "usernameSource", s.UsernameSource)
	a.settings[prefix+"Username"] = user
	return err
}

func mailAuthentication(auth profiles.Authentication) string {
	switch auth {
	case profiles.AuthNone:
		return "EmailAuthNone"
	case profiles.AuthCRAMMD5:
		return "EmailAuthCRAMMD5"
	case profiles.AuthNTLM:
		return "EmailAuthNTLM"
	case profiles.AuthHTTPMD5:
		return "EmailAuthHTTPMD5"
	}
	return "EmailAuthPassword"
}

// setSMIME writes the S/MIME keys by version of iOS (EM-01 to EM-03, EM-07); an unknown version gets old and new ones,
// which does no harm. From iOS 12 on the "user may change" keys are written even when false: absent means the same,
// present is clear to the reader.
func setSMIME(settings map[string]any, version int, s *profiles.SMIME, signing, encryption identity) {
	setString(settings, "SMIMESigningCertificateUUID", signing.uuid)
	setString(settings, "SMIMEEncryptionCertificateUUID", encryption.uuid)
	signs := s.Signing.Enabled && !signing.omitted
	byDefault := s.Encryption.ByDefault && !encryption.omitted
	perMessage := s.Encryption.PerMessageSwitch && !encryption.omitted
	if version == 0 || version >= 10 {
		settings["SMIMESigningEnabled"] = signs
	} else {
		settings["SMIMEEnabled"] = true
	}
	if version < 12 {
		settings["SMIMEEncryptionEnabled"] = byDefault || perMessage
		settings["SMIMEEnablePerMessageSwitch"] = perMessage
	}
	if version != 0 && version < 12 {
		return
	}
	settings["SMIMESigningUserOverrideable"] = s.Signing.UserMayChange
	settings["SMIMESigningCertificateUUIDUserOverrideable"] = s.Signing.UserMayChangeCertificate
	settings["SMIMEEncryptByDefault"] = byDefault
	settings["SMIMEEncryptByDefaultUserOverrideable"] = s.Encryption.UserMayChange
	settings["SMIMEEncryptionCertificateUUIDUserOverrideable"] = s.Encryption.UserMayChangeCertificate
	settings["SMIMEEnableEncryptionPerMessageSwitch"] = perMessage
}

func setTrue(settings map[string]any, key string, on bool) {
	if on {
		settings[key] = true
	}
}

func orTrue(b *bool) bool { return b == nil || *b }

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
