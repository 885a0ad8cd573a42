package apple

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

func TestPlanSales(t *testing.T) {
	docs := Plan(sales(t))
	if got, want := ids(docs), "trust history mail.company-mail"; got != want {
		t.Fatalf("documents %q, want %q", got, want)
	}
	for _, d := range docs {
		if d.Reason != "" || d.Revision == "" || d.Identifier != namespace+"."+d.ID {
			t.Errorf("%s: reason %q %s, revision %q, identifier %q", d.ID, d.Reason, d.Detail, d.Revision, d.Identifier)
		}
		if d.ID != "trust" && !reflect.DeepEqual(d.DependsOn, []string{"trust"}) {
			t.Errorf("%s depends on %v", d.ID, d.DependsOn)
		}
		if d.HasSecrets() == (d.ID == "trust") {
			t.Errorf("%s: secrets %v", d.ID, d.HasSecrets())
		}
	}
	if got := records(byID(t, docs, "history")); got != "2018 2020" {
		t.Errorf("history holds %q", got)
	}
	if got := records(byID(t, docs, "mail.company-mail")); got != "2026 signing" {
		t.Errorf("mail holds %q", got)
	}
}

func records(d platforms.Document) string {
	var names []string
	for _, c := range d.Credentials {
		names = append(names, c.RecordID)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// Whatever is assigned, no identity is in two documents, and every encryption certificate is in one.
func TestEachIdentityInOneDocument(t *testing.T) {
	inputs := map[string]platforms.Input{
		"sales":   sales(t),
		"no mail": without(sales(t), "company-mail"),
		"two accounts": with(sales(t), object("second", companyMail()), object("imap", imapMail()),
			object("imported-signing", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning})),
		"unknown CA":     without(sales(t), "company-root"),
		"nothing issued": func() platforms.Input { in := sales(t); in.Issued = nil; return in }(),
		"mac": func() platforms.Input {
			in := sales(t)
			in.Device.Platform, in.Channel = profiles.MacOS, "user"
			return in
		}(),
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			seen := map[string]string{}
			for _, d := range Plan(in) {
				for _, c := range d.Credentials {
					if other, twice := seen[c.SHA256]; twice {
						t.Errorf("%s is in %s and %s", c.RecordID, other, d.ID)
					}
					seen[c.SHA256] = d.ID
				}
			}
			for _, c := range in.Imported {
				if seen[c.SHA256] == "" && name != "nothing issued" {
					t.Errorf("%s is in no document", c.RecordID)
				}
			}
		})
	}
}

func TestPlanIsDeterministic(t *testing.T) {
	first := Plan(sales(t))
	in := sales(t)
	slices.Reverse(in.Profiles)
	slices.Reverse(in.Imported)
	in.Device.Name, in.Device.OSVersion = "renamed", "18.2"
	if second := Plan(in); !reflect.DeepEqual(first, second) {
		t.Error("order of input, device name or minor version changed the plan")
	}
}

// EM-05: importing an old key changes the history and nothing of the account.
func TestImportOfOldKeyLeavesAccount(t *testing.T) {
	in := sales(t)
	before := Plan(in)
	in.Imported = append(in.Imported, enc("2015", 2015, 2017))
	after := Plan(in)
	if a, b := byID(t, before, "mail.company-mail"), byID(t, after, "mail.company-mail"); !reflect.DeepEqual(a, b) {
		t.Error("the account changed")
	}
	a, b := byID(t, before, "history"), byID(t, after, "history")
	if a.Revision == b.Revision || a.Proof == b.Proof || a.Identifier != b.Identifier {
		t.Error("the history must have a new revision under the same identifier")
	}
	uuids := uuidsOf(opened(t, b))
	for identifier, uuid := range uuidsOf(opened(t, a)) {
		if uuids[identifier] != uuid {
			t.Errorf("payload %s changed its UUID", identifier)
		}
	}
}

func uuidsOf(p *Profile) map[string]string {
	m := map[string]string{}
	for _, pl := range p.Payloads {
		m[pl.Identifier] = pl.UUID
	}
	return m
}

func TestChangeOfCurrentSendsHistoryFirst(t *testing.T) {
	in := sales(t)
	in.PreviousCurrent = map[string]string{"mail.company-mail": enc("2020", 0, 0).SHA256}
	mail := byID(t, Plan(in), "mail.company-mail")
	if !reflect.DeepEqual(mail.DependsOn, []string{"trust", "history"}) {
		t.Errorf("depends on %v", mail.DependsOn)
	}
	in.PreviousCurrent["mail.company-mail"] = enc("2026", 0, 0).SHA256
	mail = byID(t, Plan(in), "mail.company-mail")
	if !reflect.DeepEqual(mail.DependsOn, []string{"trust"}) {
		t.Errorf("depends on %v although nothing changes", mail.DependsOn)
	}
}

func TestVanishedIdentityGetsAnotherUUID(t *testing.T) {
	in := sales(t)
	before := opened(t, byID(t, Plan(in), "history"))
	in.Redeliver = map[string]int{enc("2018", 0, 0).SHA256: 1}
	doc := byID(t, Plan(in), "history")
	after := opened(t, doc)
	if before.UUID == after.UUID || before.Identifier != after.Identifier {
		t.Error("want a new revision of the same document")
	}
	if before.Payloads[0].UUID == after.Payloads[0].UUID || before.Payloads[1].UUID != after.Payloads[1].UUID {
		t.Error("want a fresh UUID for the vanished one alone")
	}
}

func TestReasonsToWait(t *testing.T) {
	change := func(f func(*platforms.Input)) platforms.Input {
		in := sales(t)
		f(&in)
		return in
	}
	smime := func(f func(*profiles.SMIME)) platforms.Input {
		m := companyMail()
		f(m.SMIME)
		return with(without(sales(t), "company-mail"), object("company-mail", m))
	}
	cases := []struct {
		name, id string
		in       platforms.Input
		reason   platforms.Reason
		detail   string
	}{
		{"EM-08 nothing imported", "mail.company-mail", change(func(in *platforms.Input) { in.Imported = nil }),
			platforms.ReasonCertificateMissing, "alice@corp.test has no imported encryption certificate"},
		{"nothing imported, history", "history", change(func(in *platforms.Input) { in.Imported = nil }),
			platforms.ReasonCertificateMissing, "no imported encryption certificate"},
		{"EM-08 other address", "mail.company-mail", change(func(in *platforms.Input) {
			in.Imported = []profiles.Certificate{cert("x", profiles.PurposeSMIMEEncryption, 2026, 2028, "a.example@corp.test")}
		}), platforms.ReasonAddressMismatch, "none of them for alice@corp.test"},
		{"signing for another address", "mail.company-mail", change(func(in *platforms.Input) {
			in.Issued = map[string]profiles.Certificate{"mail-signing": cert("s", profiles.PurposeSMIMESigning, 2026, 2027, "other@corp.test")}
		}), platforms.ReasonAddressMismatch, "is for other@corp.test"},
		{"not issued", "mail.company-mail", change(func(in *platforms.Input) { in.Issued = nil }),
			platforms.ReasonIssuePending, "mail-signing"},
		{"unknown CA", "mail.company-mail", change(func(in *platforms.Input) { in.Issued, in.CAs = nil, nil }),
			platforms.ReasonCertificateAuthorityUnknown, `"softca"`},
		{"unknown CA, trust", "trust", change(func(in *platforms.Input) { in.CAs = nil }),
			platforms.ReasonCertificateAuthorityUnknown, "company-root"},
		{"profile not assigned", "mail.company-mail", without(sales(t), "mail-history"),
			platforms.ReasonCertificateMissing, "mail-history"},
		{"PK-08 variable of the account", "mail.company-mail", change(func(in *platforms.Input) { in.User.Addresses = nil }),
			platforms.ReasonVariableUnresolved, "EmailAddress"},
		{"PK-08 variable of a certificate", "identity.imei", with(sales(t), object("imei", &profiles.PKCSCertificate{
			CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{IMEI}}"}})),
			platforms.ReasonVariableUnresolved, "IMEI"},
		{"EM-09 duplicate account", "mail.second", with(sales(t), object("second", companyMail())),
			platforms.ReasonDuplicateAccount, "company-mail already sets up alice@corp.test"},
		{"SCEP", "identity.scep", with(sales(t), object("scep", &profiles.SCEPCertificate{})),
			platforms.ReasonCertificateAuthorityUnknown, "no connector offers"},
		{"SCEP for signing", "mail.company-mail", with(smime(func(s *profiles.SMIME) { s.Signing.Certificate = "scep" }),
			object("scep", &profiles.SCEPCertificate{})), platforms.ReasonCertificateAuthorityUnknown, "scep"},
		{"not a certificate", "mail.company-mail", smime(func(s *profiles.SMIME) { s.Signing.Certificate = "company-root" }),
			platforms.ReasonNotDeliverable, "company-root"},
		{"custom with a key", "custom.bad", with(sales(t), object("bad", &profiles.Custom{Platforms: []profiles.Platform{profiles.IOS},
			Content: []byte("not a profile")})), platforms.ReasonNotDeliverable, "Custom bad"},
		{"imported signing missing", "identity.sig", with(sales(t), object("sig",
			&profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning})),
			platforms.ReasonCertificateMissing, "no imported signing certificate"},
	}
	mac := func(in platforms.Input) platforms.Input {
		in.Device.Platform, in.Channel = profiles.MacOS, channelUser
		return in
	}
	for _, c := range slices.Clone(cases) { // the user of a Mac waits for the same
		c.name, c.in = "Mac, "+c.name, mac(c.in)
		if c.id != "custom.bad" { // is for iPhones
			cases = append(cases, c)
		}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := byID(t, Plan(c.in), c.id)
			if d.Reason != c.reason || !strings.Contains(d.Detail, c.detail) || strings.Contains(d.Detail, "\n") {
				t.Errorf("got %s %q, want %s …%s…", d.Reason, d.Detail, c.reason, c.detail)
			}
			if d.Revision != "" || len(d.Credentials) > 0 || d.Body != nil {
				t.Error("a waiting document has no content")
			}
			if _, err := Render(d, Secrets{}, nil); err == nil {
				t.Error("a waiting document must not be rendered")
			}
		})
	}
}

// EM-08 with whenMissing: omit. The account goes out without what is missing, and without a dangling UUID.
func TestOmitWhatIsMissing(t *testing.T) {
	in := sales(t)
	m := companyMail()
	m.SMIME.Signing.WhenMissing, m.SMIME.Encryption.WhenMissing = profiles.MissingOmit, profiles.MissingOmit
	in = with(without(in, "company-mail"), object("company-mail", m))
	in.Issued, in.Imported = nil, nil
	doc := byID(t, Plan(in), "mail.company-mail")
	if doc.Reason != "" || doc.HasSecrets() {
		t.Fatalf("%s %s", doc.Reason, doc.Detail)
	}
	got := payloadOf(t, opened(t, doc), typeEAS).Content
	for _, key := range []string{"SMIMESigningEnabled", "SMIMEEncryptByDefault", "SMIMEEnableEncryptionPerMessageSwitch"} {
		if got[key] != false {
			t.Errorf("%s is %v", key, got[key])
		}
	}
	for key := range got {
		if strings.HasSuffix(key, "CertificateUUID") {
			t.Errorf("%s dangles", key)
		}
	}
}

// Reading mail does not wait for an account that will not come soon.
func TestHistoryTakesOverFromAStuckAccount(t *testing.T) {
	in := sales(t)
	m := companyMail()
	m.SMIME.Signing.Certificate = "odd" // has no key, and never will
	in = with(without(in, "company-mail"), object("company-mail", m), object("odd", &profiles.TrustedCertificate{Certificate: []byte("root")}))
	if got := records(byID(t, Plan(in), "history")); got != "2018 2020 2026" {
		t.Errorf("history holds %q", got)
	}
	in = without(sales(t), "company-mail")
	docs := Plan(in)
	if got := records(byID(t, docs, "history")); got != "2018 2020 2026" {
		t.Errorf("history holds %q without an account", got)
	}
	if got := records(byID(t, docs, "identity.mail-signing")); got != "signing" {
		t.Errorf("identity document holds %q", got)
	}
}

func TestImportedSigning(t *testing.T) {
	in := with(sales(t), object("imported-signing", &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMESigning}))
	in.Imported = append(in.Imported, cert("old", profiles.PurposeSMIMESigning, 2020, 2021, alice),
		cert("new", profiles.PurposeSMIMESigning, 2025, 2027, alice),
		cert("second", profiles.PurposeSMIMESigning, 2025, 2027, "a.example@corp.test"))
	if got := records(byID(t, Plan(in), "identity.imported-signing")); got != "new second" {
		t.Errorf("identity document holds %q", got)
	}
	in = with(without(in, "company-mail"), object("imap", imapMail()))
	docs := Plan(in)
	mail := byID(t, docs, "mail.imap")
	if got := records(mail); got != "new" || strings.Contains(ids(docs), "identity.imported-signing") {
		t.Errorf("mail holds %q of %s", got, ids(docs))
	}
}

func TestSMIMEKeysByVersion(t *testing.T) {
	oldKeys := []string{"SMIMEEncryptionEnabled", "SMIMEEnablePerMessageSwitch"}
	newKeys := []string{"SMIMEEncryptByDefault", "SMIMEEncryptByDefaultUserOverrideable", "SMIMESigningUserOverrideable",
		"SMIMESigningCertificateUUIDUserOverrideable", "SMIMEEncryptionCertificateUUIDUserOverrideable",
		"SMIMEEnableEncryptionPerMessageSwitch"}
	cases := map[string]struct{ old, new, master bool }{
		"18.1": {false, true, false}, "12.0": {false, true, false}, "11.4": {true, false, false},
		"10.3": {true, false, false}, "9.3": {true, false, true}, "": {true, true, false}, "strange": {true, true, false},
	}
	for version, want := range cases {
		in := sales(t)
		in.Device.OSVersion = version
		p := opened(t, byID(t, Plan(in), "mail.company-mail"))
		got := payloadOf(t, p, typeEAS).Content
		for _, key := range oldKeys {
			if _, has := got[key]; has != want.old {
				t.Errorf("%q: %s present %v", version, key, has)
			}
		}
		for _, key := range newKeys {
			if _, has := got[key]; has != want.new {
				t.Errorf("%q: %s present %v", version, key, has)
			}
		}
		if _, has := got["SMIMEEnabled"]; has != want.master {
			t.Errorf("%q: SMIMEEnabled present %v", version, has)
		}
	}
}

// Each UUID of the account names an identity payload of the same profile.
func TestReferencesResolve(t *testing.T) {
	in := sales(t)
	m := companyMail()
	m.Exchange.Authentication, m.Exchange.IdentityCertificate = profiles.AuthCertificate, "mail-signing"
	p := opened(t, byID(t, Plan(with(without(in, "company-mail"), object("company-mail", m))), "mail.company-mail"))
	account := payloadOf(t, p, typeEAS).Content
	identities := map[any]string{}
	for _, pl := range p.Payloads {
		if pl.Type == typePKCS12 {
			identities[pl.UUID] = string(pl.Content["PayloadContent"].([]byte))
		}
	}
	if len(identities) != 2 {
		t.Fatalf("%d identities", len(identities))
	}
	want := map[string]string{"SMIMESigningCertificateUUID": "signing", "SMIMEEncryptionCertificateUUID": "2026", "PayloadCertificateUUID": "signing"}
	for key, record := range want {
		if got := identities[account[key]]; got != "pkcs12 of "+record {
			t.Errorf("%s names %q", key, got)
		}
	}
}

// EM-01 and EM-02.
func TestSMIMEOffAndUserPicks(t *testing.T) {
	m := companyMail()
	m.SMIME = nil
	in := with(without(sales(t), "company-mail"), object("company-mail", m))
	for key := range payloadOf(t, opened(t, byID(t, Plan(in), "mail.company-mail")), typeEAS).Content {
		if strings.HasPrefix(key, "SMIME") {
			t.Errorf("%s although there are no S/MIME settings", key)
		}
	}
	m = companyMail()
	m.SMIME.Signing.Certificate, m.SMIME.Encryption.Certificate = "", ""
	in = with(without(sales(t), "company-mail"), object("company-mail", m))
	got := payloadOf(t, opened(t, byID(t, Plan(in), "mail.company-mail")), typeEAS).Content
	if got["SMIMESigningEnabled"] != true || got["SMIMEEncryptByDefault"] != true || got["SMIMESigningCertificateUUID"] != nil {
		t.Errorf("got %v", got)
	}
}

func TestPOPAccount(t *testing.T) {
	m := imapMail()
	m.POP, m.IMAP, m.SMIME = m.IMAP, nil, nil
	m.SMTP.Authentication = profiles.AuthNone
	got := payloadOf(t, opened(t, byID(t, Plan(with(platformsOnly(t), object("pop", m))), "mail.pop")), typeMail).Content
	if got["EmailAccountType"] != "EmailTypePOP" || got["OutgoingMailServerAuthentication"] != "EmailAuthNone" || got["OutgoingMailServerUsername"] != nil {
		t.Errorf("got %v", got)
	}
}

func platformsOnly(t *testing.T) platforms.Input {
	in := sales(t)
	in.Profiles = nil
	return in
}

func TestExchangeSettings(t *testing.T) {
	days := 7
	m := companyMail()
	m.SMIME = nil
	m.BlockMovingMessages, m.BlockThirdPartyApps, m.BlockRecentAddressesSync, m.AllowMailDrop = true, true, true, true
	m.Exchange = &profiles.Exchange{Host: "h", Authentication: profiles.AuthOAuth, UsernameSource: profiles.SourceSAMAccountName,
		Domain: "CORP", OAuthSignInURL: "https://a.test", OAuthTokenRequestURL: "https://b.test", DaysToSync: &days,
		Services: &profiles.Services{Mail: true}}
	in := with(platformsOnly(t), object("m", m))
	in.User.SAMAccountName = "alice"
	got := payloadOf(t, opened(t, byID(t, Plan(in), "mail.m")), typeEAS).Content
	want := map[string]any{"UserName": `CORP\alice`, "OAuth": true, "OAuthSignInURL": "https://a.test",
		"OAuthTokenRequestURL": "https://b.test", "MailNumberOfPastDaysToSync": uint64(7), "SSL": true, "EnableMail": true,
		"EnableNotes": false, "EnableMailUserOverridable": true, "PreventMove": true, "PreventAppSheet": true,
		"disableMailRecentsSyncing": true, "allowMailDrop": true, "EmailAddress": alice}
	for key, v := range want {
		if got[key] != v {
			t.Errorf("%s is %v, want %v", key, got[key], v)
		}
	}
	in.User.SAMAccountName = ""
	if d := byID(t, Plan(in), "mail.m"); d.Reason != platforms.ReasonVariableUnresolved || !strings.Contains(d.Detail, "OnPremisesSamAccountName") {
		t.Errorf("%s %s", d.Reason, d.Detail)
	}
}

func TestCustomDocument(t *testing.T) {
	content := example(t, "wifi.mobileconfig")
	in := with(sales(t), object("wifi", &profiles.Custom{Platforms: []profiles.Platform{profiles.IOS}, Content: content}),
		object("mac-only", &profiles.Custom{Platforms: []profiles.Platform{profiles.MacOS}, Content: content}))
	docs := Plan(in)
	if strings.Contains(ids(docs), "mac-only") {
		t.Error("a profile for Macs on an iPhone")
	}
	doc := byID(t, docs, "custom.wifi")
	p := opened(t, doc)
	if p.Identifier != namespace+".custom.wifi" || p.UUID != doc.Proof || p.DisplayName != "Office Wi-Fi" {
		t.Errorf("got %s %s %s", p.Identifier, p.UUID, p.DisplayName)
	}
	if p.Payloads[0].Identifier != "test.corp.wifi.office" || p.Payloads[0].Content["SSID_STR"] != "office" {
		t.Errorf("payload %v", p.Payloads[0])
	}
	rewritten := bytes.ReplaceAll(content, []byte("\t"), []byte(" "))
	in = with(sales(t), object("wifi", &profiles.Custom{Platforms: []profiles.Platform{profiles.IOS}, Content: rewritten}))
	if again := byID(t, Plan(in), "custom.wifi"); again.Revision != doc.Revision {
		t.Error("white space changed the revision")
	}
}

func TestDerivedUUID(t *testing.T) {
	u := derivedUUID("a", "b")
	if len(u) != 36 || u != strings.ToUpper(u) || u[14] != '5' || !strings.ContainsRune("89AB", rune(u[19])) {
		t.Errorf("%s is no upper-case UUID version 5", u)
	}
	if u == derivedUUID("ab") || u == derivedUUID("a", "c") || u != derivedUUID("a", "b") {
		t.Error("parts must tell")
	}
}

func TestPKCS12Flavour(t *testing.T) {
	cases := []struct {
		version  string
		platform profiles.Platform
		modern   bool
		want     string
	}{
		{"18.1", profiles.IOS, true, FlavourModern2023}, {"26.0", profiles.IOS, true, FlavourModern2023},
		{"18.1", profiles.IOS, false, FlavourLegacyDES}, {"17.7", profiles.IOS, true, FlavourLegacyDES},
		{"", profiles.IOS, true, FlavourLegacyDES}, {"15.1", profiles.MacOS, true, FlavourLegacyDES},
		{"26.0", profiles.MacOS, true, FlavourLegacyDES},
	}
	for _, c := range cases {
		if got := PKCS12Flavour(c.version, c.platform, c.modern); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
}
