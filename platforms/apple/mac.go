package apple

import "github.com/waxseal/waxseal/profiles"

// prefer writes the two preferences by which Mail on a Mac finds certificates of an address; its account payloads know no
// S/MIME keys (apple.md sections 5.1 and 5.9). Both name payloads of the same profile.
func (p *planner) prefer(a *account, signing, encryption identity) {
	own := signing.uuid
	if own == "" {
		own = encryption.uuid
	}
	for _, pref := range []struct{ kind, suffix, uuid, title string }{
		{typeIdentityPref, ".identitypreference", own, "Own certificate for "},
		{typeCertPref, ".certificatepreference", encryption.uuid, "Certificate for mail to "},
	} {
		if pref.uuid == "" {
			continue
		}
		a.body.Payloads = append(a.body.Payloads, planned{Type: pref.kind, Identifier: a.doc.Identifier + pref.suffix,
			UUID: p.payloadUUID(a.doc.ID, pref.suffix, ""), DisplayName: pref.title + a.address,
			Settings: map[string]any{"Name": a.address, "PayloadCertificateUUID": pref.uuid}})
	}
}

// NotOnMac lists, as sentences, what an Email profile asks for and no management can do on a Mac, and what is left to the
// user.
func NotOnMac(spec *profiles.Email) []string {
	out := []string{"Mail signs and encrypts by the two buttons of a new message, which the user sets and Mail remembers; no payload does"}
	s := spec.SMIME
	if s != nil && (!s.Signing.UserMayChangeCertificate || !s.Encryption.UserMayChangeCertificate) {
		out = append(out, "smime.*.userMayChangeCertificate: the user may choose another certificate in Keychain Access")
	}
	if s != nil && s.Encryption.ByDefault {
		out = append(out, "smime.encryption.byDefault: Mail encrypts when the user says so, and where it knows everybody's certificate")
	}
	for _, b := range []struct {
		field string
		set   bool
	}{{"blockMovingMessages", spec.BlockMovingMessages}, {"blockThirdPartyApps", spec.BlockThirdPartyApps},
		{"blockRecentAddressesSync", spec.BlockRecentAddressesSync}, {"allowMailDrop", spec.AllowMailDrop}} {
		if b.set {
			out = append(out, b.field+": Mail on a Mac has no such setting")
		}
	}
	if spec.Exchange != nil && (spec.Exchange.Services != nil || spec.Exchange.DaysToSync != nil) {
		out = append(out, "exchange.services and exchange.daysToSync: the Exchange account of a Mac has no such settings")
	}
	return out
}
