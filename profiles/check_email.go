package profiles

import (
	"net/url"
	"slices"
)

func (*Email) kind() Kind { return KindEmail }

func (e *Email) check(r *report) {
	if e.AccountName == "" {
		r.fault("spec.accountName", "is missing; it is the name of the account in the mail program")
	} else if err := checkText(e.AccountName); err != nil {
		r.fault("spec.accountName", "%s", err)
	}
	warnNoValue(r, "spec.accountName", e.AccountName)
	if e.AddressSource != "" {
		oneOf(r, "spec.addressSource", e.AddressSource, SourcePrimaryAddress, SourceUserPrincipalName)
	}
	e.checkAccount(r)
	if e.SMIME != nil {
		e.SMIME.check(r)
	}
	e.Android.check(r)
}

// checkText reports what is wrong with text for people that may hold variables.
func checkText(template string) error {
	if err := checkPrintable(template); err != nil {
		return err
	}
	return CheckTemplate(template)
}

// checkAccount checks the servers: exactly one of Exchange, IMAP and POP, and SMTP beside the latter two.
func (e *Email) checkAccount(r *report) {
	n := 0
	for _, set := range []bool{e.Exchange != nil, e.IMAP != nil, e.POP != nil} {
		if set {
			n++
		}
	}
	if n != 1 {
		r.fault("spec", "must have exactly one of exchange, imap and pop")
	}
	if e.Exchange != nil {
		e.Exchange.check(r)
	}
	if e.Exchange != nil && e.SMTP != nil && n == 1 {
		r.fault("spec.smtp", "does not belong to an Exchange account; take it out")
	}
	if (e.IMAP != nil || e.POP != nil) && e.SMTP == nil {
		r.fault("spec.smtp", "is missing; an IMAP or POP account sends through SMTP")
	}
	e.IMAP.check(r, "spec.imap", true)
	e.POP.check(r, "spec.pop", false)
	e.SMTP.check(r, "spec.smtp", false)
}

func (x *Exchange) check(r *report) {
	if err := checkHost(x.Host); err != nil {
		r.fault("spec.exchange.host", "%s", err)
	}
	oneOf(r, "spec.exchange.authentication", x.Authentication, AuthUsernameAndPassword, AuthCertificate, AuthOAuth)
	oneOf(r, "spec.exchange.usernameSource", x.UsernameSource, SourcePrimaryAddress, SourceUserPrincipalName, SourceSAMAccountName)
	if (x.Authentication == AuthCertificate) != (x.IdentityCertificate != "") {
		r.fault("spec.exchange.identityCertificate", "goes together with authentication: certificate; give both or neither")
	}
	if x.Domain != "" && x.UsernameSource != SourceSAMAccountName {
		r.fault("spec.exchange.domain", "belongs to usernameSource: samAccountName")
	}
	if err := checkText(x.Domain); err != nil {
		r.fault("spec.exchange.domain", "%s", err)
	}
	warnNoValue(r, "spec.exchange.domain", x.Domain)
	if x.DaysToSync != nil && !slices.Contains([]int{0, 1, 3, 7, 14, 31}, *x.DaysToSync) {
		r.fault("spec.exchange.daysToSync", "%d is not allowed; use 0 (no limit), 1, 3, 7, 14 or 31", *x.DaysToSync)
	}
	if s := x.Services; s != nil && !s.Mail && !s.Contacts && !s.Calendars && !s.Reminders && !s.Notes {
		r.fault("spec.exchange.services", "must switch on at least one of mail, contacts, calendars, reminders and notes")
	}
	x.checkOAuth(r)
}

func (x *Exchange) checkOAuth(r *report) {
	check := func(field, value string) {
		if value == "" {
			return
		}
		if x.Authentication != AuthOAuth {
			r.fault(field, "belongs to authentication: oauth")
		}
		if u, err := url.Parse(value); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			r.fault(field, "must be an https URL without user name and password")
		}
	}
	check("spec.exchange.oauthSignInURL", x.OAuthSignInURL)
	check("spec.exchange.oauthTokenRequestURL", x.OAuthTokenRequestURL)
}

// check reports on one server of an IMAP or POP account; nil has no faults.
func (m *MailServer) check(r *report, field string, imap bool) {
	if m == nil {
		return
	}
	if err := checkHost(m.Host); err != nil {
		r.fault(field+".host", "%s", err)
	}
	if m.Port < 0 || m.Port > 65535 {
		r.fault(field+".port", "%d is not a port; use 1 to 65535", m.Port)
	}
	oneOf(r, field+".authentication", m.Authentication, AuthNone, AuthPassword, AuthCRAMMD5, AuthNTLM, AuthHTTPMD5)
	if m.UsernameSource != "" {
		oneOf(r, field+".usernameSource", m.UsernameSource, SourcePrimaryAddress, SourceUserPrincipalName, SourceSAMAccountName)
	}
	if m.PathPrefix != "" && !imap {
		r.fault(field+".pathPrefix", "belongs to imap")
	}
}

func (s *SMIME) check(r *report) {
	checkMissing(r, "spec.smime.signing.whenMissing", s.Signing.WhenMissing)
	checkMissing(r, "spec.smime.encryption.whenMissing", s.Encryption.WhenMissing)
	if s.Signing.Enabled && s.Signing.Certificate == "" && !s.Signing.UserMayChangeCertificate {
		r.warn("spec.smime.signing.certificate", "is not given and the user may not choose one; name a profile or set userMayChangeCertificate: true")
	}
	e := s.Encryption
	if e.ByDefault && e.Certificate == "" && !e.UserMayChangeCertificate {
		r.warn("spec.smime.encryption.certificate", "is not given and the user may not choose one; name a profile or set userMayChangeCertificate: true")
	}
	if e.ByDefault && !e.PerMessageSwitch && !e.UserMayChange {
		r.warn("spec.smime.encryption.byDefault", "forces encryption: the user cannot write to anybody without a certificate; "+
			"set perMessageSwitch: true or userMayChange: true if that is not meant")
	}
}

func checkMissing(r *report, field string, m Missing) {
	if m != "" {
		oneOf(r, field, m, MissingWait, MissingOmit)
	}
}
