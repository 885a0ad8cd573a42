package apple

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
	"github.com/waxseal/waxseal/profiles"
)

// forUser makes an uploaded profile one for the user channel.
func forUser(t testing.TB, profile []byte) []byte { return scoped(t, profile, scopeUser) }

func scoped(t testing.TB, profile []byte, scope string) []byte {
	t.Helper()
	p, err := ParseProfile(profile)
	if err != nil {
		t.Fatal(err)
	}
	p.Content["PayloadScope"] = scope
	out, err := p.XML()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func forMacs(name string, content []byte) profiles.Object {
	return object(name, &profiles.Custom{Platforms: []profiles.Platform{profiles.MacOS}, Content: content})
}

func TestPlanOfBothChannels(t *testing.T) {
	wifi := example(t, "wifi.mobileconfig")
	customs := []profiles.Object{forMacs("all", wifi), forMacs("mine", forUser(t, wifi)), forMacs("system", scoped(t, wifi, "System"))}
	cases := []struct {
		name         string
		in           platforms.Input
		device, user string
	}{
		{"sales", sales(t), "trust", "trust history mail.company-mail"},
		{"nothing", platformsOnly(t), "", ""},
		{"no account", without(sales(t), "company-mail"), "trust", "trust history identity.mail-signing"},
		{"account alone", with(platformsOnly(t), object("imap", &profiles.Email{IMAP: imapMail().IMAP, SMTP: imapMail().SMTP})), "", "mail.imap"},
		{"SCEP", with(platformsOnly(t), object("scep", &profiles.SCEPCertificate{})), "", "identity.scep"},
		{"custom by scope", with(platformsOnly(t), customs...), "custom.all custom.system", "custom.mine"},
		{"custom after trust", with(sales(t), customs...), "trust custom.all custom.system", "trust history mail.company-mail custom.mine"},
		{"unreadable custom, once", with(platformsOnly(t), forMacs("bad", []byte("not a profile"))), "custom.bad", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			none := ids(Plan(onMac(c.in, "")))
			if got := ids(Plan(onMac(c.in, "device"))); got != c.device || got != none {
				t.Errorf("device channel: %q, without a channel %q, want %q", got, none, c.device)
			}
			if got := ids(Plan(onMac(c.in, "user"))); got != c.user {
				t.Errorf("user channel: %q, want %q", got, c.user)
			}
		})
	}
}

// Neither channel's profiles replace the other's, and their payloads are not the same to a Mac.
func TestChannelsNeverCollide(t *testing.T) {
	wifi := example(t, "wifi.mobileconfig")
	in := with(sales(t), forMacs("all", wifi), forMacs("mine", forUser(t, wifi)))
	seen := map[string]string{}
	once := func(what, where string) {
		if other, twice := seen[what]; twice {
			t.Errorf("%s is in %s and %s", what, other, where)
		}
		seen[what] = where
	}
	prefixes := map[string]string{"device": namespace + ".", "user": namespace + ".user."}
	for channel, scope := range map[string]string{"device": "System", "user": "User"} {
		for _, d := range Plan(onMac(in, channel)) {
			where := channel + " " + d.ID
			p := opened(t, d)
			if p.Scope != scope || p.Identifier != prefixes[channel]+d.ID || p.UUID != d.Proof {
				t.Errorf("%s: scope %q, identifier %s", where, p.Scope, p.Identifier)
			}
			if want := d.ID != "trust"; slices.Contains(d.DependsOn, "trust") != want {
				t.Errorf("%s depends on %v", where, d.DependsOn)
			}
			once(p.Identifier, where)
			once(p.UUID, where)
			for _, pl := range p.Payloads {
				if !strings.HasPrefix(d.ID, docCustom) { // the admin's own
					once(pl.UUID, where)
				}
			}
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d names were looked at", len(seen))
	}
}

// macInputs are assignments with all that an Email profile may ask for.
func macInputs(t *testing.T) map[string]platforms.Input {
	imap := with(platformsOnly(t), object("imap", imapMail()),
		object("imported-signing", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning}))
	imap.Imported = append(imap.Imported, cert("imported", profiles.PurposeSMIMESigning, 2025, 2027, alice))
	pop := imapMail()
	pop.POP, pop.IMAP, pop.SMIME = pop.IMAP, nil, nil
	return map[string]platforms.Input{
		"sales": sales(t), "imap": imap, "pop": with(platformsOnly(t), object("pop", pop)),
		"login": changed(t, func(m *profiles.Email) {
			m.Exchange.Authentication, m.Exchange.IdentityCertificate = profiles.AuthCertificate, "mail-signing"
		}),
		"oauth": changed(t, func(m *profiles.Email) {
			m.Exchange.Authentication, m.Exchange.OAuthSignInURL, m.Exchange.OAuthTokenRequestURL = profiles.AuthOAuth, "https://a.test", "https://b.test"
		}),
		"user picks":    changed(t, func(m *profiles.Email) { m.SMIME.Signing.Certificate, m.SMIME.Encryption.Certificate = "", "" }),
		"encrypts only": changed(t, func(m *profiles.Email) { m.SMIME.Signing = profiles.SMIMESigning{} }),
		"options": changed(t, func(m *profiles.Email) {
			days := 7
			m.BlockMovingMessages, m.BlockThirdPartyApps, m.BlockRecentAddressesSync, m.AllowMailDrop = true, true, true, true
			m.Exchange.DaysToSync, m.Exchange.Services = &days, &profiles.Services{Mail: true}
		}),
		"vanished": func() platforms.Input {
			in := sales(t)
			in.Redeliver = map[string]int{enc("2026", 0, 0).SHA256: 2}
			return in
		}(),
	}
}

// PK-03: an identity on a Mac cannot be taken out. What Apple's schemas say that a Mac does not take (apple.md sections 5.1 and 5.6 to 5.8), whatever the assignment.
func TestMacDocumentsHoldWhatMacsKnow(t *testing.T) {
	onlyIOS := []string{"PreventMove", "PreventAppSheet", "VPNUUID", "MailNumberOfPastDaysToSync", "OAuthTokenRequestURL"}
	userOnly := []string{typeMail, typeEWS, typeIdentityPref, typeCertPref, typePKCS12}
	for name, in := range macInputs(t) {
		for _, channel := range []string{"device", "user"} {
			for _, d := range Plan(onMac(in, channel)) {
				for _, pl := range opened(t, d).Payloads {
					where := name + ", " + channel + " " + d.ID + ", " + pl.Type
					if pl.Type == typeEAS || channel == "device" && slices.Contains(userOnly, pl.Type) {
						t.Errorf("%s: no Mac takes it by this channel", where)
					}
					for key := range pl.Content {
						if strings.HasPrefix(key, "SMIME") || strings.HasPrefix(key, "Enable") || slices.Contains(onlyIOS, key) {
							t.Errorf("%s: no Mac knows the key %s", where, key)
						}
					}
					if pl.Type == typePKCS12 && pl.Content["KeyIsExtractable"] != false {
						t.Errorf("%s: the key can be taken out", where)
					}
				}
			}
		}
	}
}

// References resolve inside one profile only; what they name is an identity.
func TestMacReferencesResolve(t *testing.T) {
	found := 0
	for name, in := range macInputs(t) {
		for _, d := range Plan(onMac(in, "user")) {
			p := opened(t, d)
			kinds := map[any]string{}
			for _, pl := range p.Payloads {
				kinds[pl.UUID] = pl.Type
			}
			for _, pl := range p.Payloads {
				for key, v := range pl.Content {
					if !strings.HasSuffix(key, "CertificateUUID") {
						continue
					}
					found++
					if kinds[v] != typePKCS12 {
						t.Errorf("%s, %s: %s of %s names %q", name, d.ID, key, pl.Type, kinds[v])
					}
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d references were looked at", found)
	}
}

// preferences gives the certificates that Mail finds, by record: its own and the one for mail to the address.
func preferences(t *testing.T, in platforms.Input, id string) (own, to string) {
	t.Helper()
	p := opened(t, byID(t, Plan(onMac(in, "user")), id))
	records := map[any]string{}
	for _, pl := range p.Payloads {
		if pl.Type == typePKCS12 {
			records[pl.UUID] = strings.TrimPrefix(string(pl.Content["PayloadContent"].([]byte)), "pkcs12 of ")
		}
	}
	for _, pl := range p.Payloads {
		target := map[string]*string{typeIdentityPref: &own, typeCertPref: &to}[pl.Type]
		if target == nil {
			continue
		}
		if pl.Content["Name"] != alice || *target != "" {
			t.Errorf("%s is for %v", pl.Type, pl.Content["Name"])
		}
		*target = records[pl.Content["PayloadCertificateUUID"]]
	}
	return own, to
}

func TestMailFindsCertificatesByPreference(t *testing.T) {
	inputs := macInputs(t)
	omit := changed(t, func(m *profiles.Email) {
		m.SMIME.Signing.WhenMissing, m.SMIME.Encryption.WhenMissing = profiles.MissingOmit, profiles.MissingOmit
	})
	omit.Issued = nil
	cases := []struct {
		name, id, own, to string
		in                platforms.Input
	}{
		{"both", "mail.company-mail", "signing", "2026", inputs["sales"]},
		{"signs only", "mail.imap", "imported", "", inputs["imap"]},
		{"encrypts only", "mail.company-mail", "2026", "2026", inputs["encrypts only"]},
		{"signing omitted", "mail.company-mail", "2026", "2026", omit},
		{"nothing named", "mail.company-mail", "", "", inputs["user picks"]},
		{"no S/MIME", "mail.pop", "", "", inputs["pop"]},
		{"delivered again", "mail.company-mail", "signing", "2026", inputs["vanished"]},
	}
	for _, c := range cases {
		if own, to := preferences(t, c.in, c.id); own != c.own || to != c.to {
			t.Errorf("%s: own %q, want %q; to %q, want %q", c.name, own, c.own, to, c.to)
		}
	}
}

func TestMacAccounts(t *testing.T) {
	inputs := macInputs(t)
	cases := []struct {
		input, id, payload string
		want               proplist.Dict
	}{
		{"sales", "mail.company-mail", typeEWS, proplist.Dict{"EmailAddress": alice, "Host": "mail.corp.test", "UserName": alice,
			"SSL": true, "OAuth": nil}},
		{"oauth", "mail.company-mail", typeEWS, proplist.Dict{"OAuth": true, "OAuthSignInURL": "https://a.test"}},
		{"options", "mail.company-mail", typeEWS, proplist.Dict{"allowMailDrop": true, "disableMailRecentsSyncing": nil}},
		{"imap", "mail.imap", typeMail, proplist.Dict{"EmailAccountType": "EmailTypeIMAP", "EmailAddress": alice,
			"IncomingMailServerHostName": "imap.corp.test", "OutgoingMailServerPortNumber": uint64(465)}},
		{"pop", "mail.pop", typeMail, proplist.Dict{"EmailAccountType": "EmailTypePOP"}},
	}
	for _, c := range cases {
		got := payloadOf(t, opened(t, byID(t, Plan(onMac(inputs[c.input], "user")), c.id)), c.payload).Content
		for key, v := range c.want {
			if got[key] != v {
				t.Errorf("%s: %s is %v, want %v", c.input, key, got[key], v)
			}
		}
	}
}

func TestMacChangeOfCurrentSendsHistoryFirst(t *testing.T) {
	in := onMac(sales(t), "user")
	in.PreviousCurrent = map[string]string{"mail.company-mail": enc("2020", 0, 0).SHA256}
	if got := byID(t, Plan(in), "mail.company-mail").DependsOn; !reflect.DeepEqual(got, []string{"trust", "history"}) {
		t.Errorf("depends on %v", got)
	}
}

// A new current certificate is another identity; preferences and account stay the payloads that they were.
func TestMacKeepsPayloadsInPlace(t *testing.T) {
	in := onMac(sales(t), "user")
	before := uuidsOf(opened(t, byID(t, Plan(in), "mail.company-mail")))
	in.Imported = append(in.Imported, cert("2026b", profiles.PurposeSMIMEEncryption, 2026, 2029, alice))
	in.Imported[len(in.Imported)-1].NotBefore = in.Now.AddDate(0, -1, 0)
	after := uuidsOf(opened(t, byID(t, Plan(in), "mail.company-mail")))
	prefix := namespace + ".user.mail.company-mail."
	for _, id := range []string{"account", "identitypreference", "certificatepreference"} {
		if before[prefix+id] == "" || before[prefix+id] != after[prefix+id] {
			t.Errorf("%s: %q, then %q", id, before[prefix+id], after[prefix+id])
		}
	}
	if reflect.DeepEqual(before, after) {
		t.Error("the certificate did not change")
	}
}

// A Mac would refuse the whole profile.
func TestMacRefusesPayloadsOfTheOtherChannel(t *testing.T) {
	upload := func(payloadType string) []byte { return uploaded(t, payloadType, proplist.Dict{"EmailAddress": alice}) }
	cases := []struct {
		name, channel, detail string
		content               []byte
	}{
		{"mail by the device channel", "device", "PayloadScope to User", upload(typeMail)},
		{"Exchange by the device channel", "device", "PayloadScope to User", upload(typeEWS)},
		{"preference by the device channel", "device", "PayloadScope to User", upload(typeCertPref)},
		{"letter case", "device", "PayloadScope to User", upload("com.apple.Mail.managed")},
		{"ActiveSync", "device", typeEWS, upload(typeEAS)},
		{"ActiveSync for the user", "user", typeEWS, forUser(t, upload(typeEAS))},
		{"mail for the user", "user", "", forUser(t, upload(typeMail))},
		{"Wi-Fi", "device", "", upload("com.apple.wifi.managed")},
	}
	for _, c := range cases {
		d := byID(t, Plan(onMac(with(platformsOnly(t), forMacs("x", c.content)), c.channel)), "custom.x")
		refused := d.Reason == platforms.ReasonNotDeliverable && strings.Contains(d.Detail, "test.corp.payload")
		if refused != (c.detail != "") || !strings.Contains(d.Detail, c.detail) {
			t.Errorf("%s: %s %q", c.name, d.Reason, d.Detail)
		}
	}
	onPhone := with(platformsOnly(t), object("x", &profiles.Custom{Platforms: []profiles.Platform{profiles.IOS}, Content: upload(typeEAS)}))
	if d := byID(t, Plan(onPhone), "custom.x"); d.Reason != "" {
		t.Errorf("on an iPhone: %s %s", d.Reason, d.Detail)
	}
}

func TestNotOnMac(t *testing.T) {
	fields := func(m *profiles.Email) string {
		var out []string
		for _, note := range NotOnMac(m) {
			field, fact, ok := strings.Cut(note, ": ")
			if !ok || fact == "" || strings.HasSuffix(fact, ".") {
				t.Errorf("%q is not field and fact", note)
			}
			out = append(out, field)
		}
		return strings.Join(out, " ")
	}
	pop := imapMail()
	pop.SMIME, pop.AllowMailDrop, pop.BlockRecentAddressesSync = nil, true, true
	if got := fields(pop); got != "" {
		t.Errorf("a Mac does all of it, but: %s", got)
	}
	if got, want := fields(imapMail()), "smime.signing.enabled smime.signing.userMayChange smime.signing.userMayChangeCertificate "+
		"smime.encryption.userMayChangeCertificate smime.encryption.perMessageSwitch smime"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	m := companyMail()
	m.BlockMovingMessages, m.BlockThirdPartyApps, m.BlockRecentAddressesSync = true, true, true
	m.Exchange.DaysToSync, m.Exchange.Services, m.Exchange.OAuthTokenRequestURL = new(int), &profiles.Services{Mail: true}, "https://b.test"
	m.SMIME.Encryption.UserMayChange, m.SMIME.Encryption.UserMayChangeCertificate = false, false
	for _, want := range []string{"smime.encryption.byDefault", "smime.encryption.userMayChange", "smime.encryption.userMayChangeCertificate",
		"blockMovingMessages", "blockThirdPartyApps", "blockRecentAddressesSync", "exchange.daysToSync", "exchange.services", "exchange.oauthTokenRequestURL"} {
		if !slices.Contains(strings.Fields(fields(m)), want) {
			t.Errorf("%s is missing in %s", want, fields(m))
		}
	}
}

// Notes are for people: they are there while the document waits, and change no revision. An iPhone has none.
func TestNotesOfMailDocuments(t *testing.T) {
	in := onMac(sales(t), "user")
	ready := byID(t, Plan(in), "mail.company-mail")
	in.Issued = nil
	waiting := byID(t, Plan(in), "mail.company-mail")
	if len(ready.Notes) == 0 || !reflect.DeepEqual(ready.Notes, waiting.Notes) || waiting.Reason != platforms.ReasonIssuePending {
		t.Errorf("ready %q, waiting (%s) %q", ready.Notes, waiting.Reason, waiting.Notes)
	}
	if bytes.Contains(ready.Body, []byte("button")) {
		t.Error("notes are in the body, and so in the revision")
	}
	for _, d := range Plan(sales(t)) {
		if d.Notes != nil {
			t.Errorf("%s has notes on an iPhone: %q", d.ID, d.Notes)
		}
	}
}
