package android

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

func TestSettingsOfOutlook(t *testing.T) {
	nothing := func(in *platforms.Input) { in.Imported, in.Issued = nil, nil }
	omit := profiles.MissingOmit
	// the values in the order on, on may change, sign, sign may change, encrypt, encrypt may change
	cases := []struct {
		name   string
		smime  profiles.SMIME
		change func(*platforms.Input)
		want   [6]bool
	}{
		{"sign and encrypt", *companyMail().SMIME, nil, [6]bool{true, false, true, false, true, true}},
		{"neither", profiles.SMIME{}, nil, [6]bool{true}},
		{"the user's choice", profiles.SMIME{Signing: profiles.SMIMESigning{UserMayChange: true},
			Encryption: profiles.SMIMEEncryption{UserMayChange: true}}, nil, [6]bool{true, true, false, true, false, true}},
		{"signing without a named certificate", profiles.SMIME{Signing: profiles.SMIMESigning{Enabled: true}}, nothing,
			[6]bool{true, false, true}},
		{"go without", profiles.SMIME{Signing: profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing", WhenMissing: omit},
			Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "mail-history", WhenMissing: omit}}, nothing, [6]bool{true}},
		{"a certificate for signing that is off", profiles.SMIME{Signing: profiles.SMIMESigning{Certificate: "mail-signing"}}, nothing,
			[6]bool{true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			mail := companyMail()
			mail.SMIME = &c.smime
			in := with(sales(t), object("company-mail", mail))
			if c.change != nil {
				c.change(&in)
			}
			doc := byID(t, Plan(in), "mail.company-mail")
			var got [6]bool
			values := item(t, doc).MailConfig.Values
			for i, key := range []string{"", ".UserChangeAllowed", ".SignAllMail", ".SignAllMail.UserChangeAllowed", ".EncryptAllMail",
				".EncryptAllMail.UserChangeAllowed"} {
				got[i] = values["com.microsoft.outlook.Mail.SMIMEEnabled"+key].(bool)
			}
			if got != c.want || len(values) != 6 {
				t.Errorf("%v, want %v (%v)", got, c.want, values)
			}
		})
	}
}

func TestSettingsOfGmail(t *testing.T) {
	login := sig("login", 2026, 2027)
	off := false
	cases := []struct {
		name   string
		change func(*profiles.Exchange)
		want   map[string]any
	}{
		{"by the UPN", func(*profiles.Exchange) {}, map[string]any{"email_address": alice, "exchange_host": "mail.corp.test",
			"exchange_username": alice, "exchange_ssl_required": true}},
		{"by the directory's name", func(x *profiles.Exchange) {
			x.UsernameSource, x.Domain, x.SSL = profiles.SourceSAMAccountName, "CORP", &off
		}, map[string]any{"email_address": alice, "exchange_host": "mail.corp.test", "exchange_username": `CORP\alice`,
			"exchange_ssl_required": false}},
		{"by a certificate", func(x *profiles.Exchange) {
			x.Authentication, x.IdentityCertificate = profiles.AuthCertificate, "login"
		}, map[string]any{"email_address": alice, "exchange_host": "mail.corp.test", "exchange_username": alice,
			"exchange_ssl_required": true, "exchange_login_certificate_alias": aliasOf(aliasSigning, login)}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			mail := companyMail(packageGmail)
			mail.SMIME = nil
			c.change(mail.Exchange)
			in := with(sales(t), object("company-mail", mail), object("login", mailSigning()))
			in.Issued["login"] = login
			docs := Plan(in)
			doc := byID(t, docs, "mail.company-mail")
			if got := item(t, doc).MailConfig; got.Package != packageGmail || !reflect.DeepEqual(got.Values, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if has := len(doc.DependsOn) > 0; has != (mail.Exchange.IdentityCertificate != "") {
				t.Errorf("depends on %v", doc.DependsOn)
			}
			for _, d := range docs {
				if strings.HasPrefix(d.ID, docGrant) {
					t.Errorf("%s without S/MIME", d.ID)
				}
			}
			if i := item(t, byID(t, docs, "identity.login")); !i.Identity.UserSelectable {
				t.Error("nobody could use the key")
			}
		})
	}
}

func TestApps(t *testing.T) {
	in := with(sales(t), object("company-mail", companyMail(packageNine, profiles.PackageOutlook, packageGmail, packageSamsung)))
	docs := Plan(in)
	for _, id := range []string{"mail.company-mail", "mail.company-mail." + packageGmail} {
		if d := byID(t, docs, id); d.Reason != "" {
			t.Errorf("%s: %s", id, d.Detail)
		}
	}
	for _, app := range []string{packageNine, packageGmail, packageSamsung, profiles.PackageOutlook} {
		for _, c := range append(in.Imported, in.Issued["mail-signing"]) {
			byID(t, docs, granted(app, c))
		}
	}
	if has(docs, "mail.company-mail."+packageNine) || has(docs, "mail.company-mail."+profiles.PackageOutlook) {
		t.Error(ids(docs))
	}
	first := byID(t, docs, granted(packageNine, enc("2018", 0, 0)))
	if len(first.Notes) != 1 || !strings.HasPrefix(first.Notes[0], "Nine: ") || len(byID(t, docs, granted(packageNine, enc("2020", 0, 0))).Notes) != 0 {
		t.Errorf("%q", first.Notes)
	}
	if n := byID(t, docs, granted(profiles.PackageOutlook, enc("2018", 0, 0))).Notes; len(n) != 0 {
		t.Errorf("%q", n)
	}
}

// Two Email profiles that name one app share its grants.
func TestGrantsAreShared(t *testing.T) {
	docs := Plan(with(sales(t), object("second", companyMail(packageNine, profiles.PackageOutlook))))
	if got := byID(t, docs, granted(profiles.PackageOutlook, enc("2018", 0, 0))).Profiles; !reflect.DeepEqual(got, []string{"company-mail", "second"}) {
		t.Errorf("%v", got)
	}
}

func TestBeforeAndroid11UsersPickTheKeys(t *testing.T) {
	docs := Plan(changed(t, func(in *platforms.Input) { in.Device.OSVersion = "10" }))
	mail := byID(t, docs, "mail.company-mail")
	if want := []string{history(enc("2026", 0, 0)), "identity.mail-signing"}; !reflect.DeepEqual(mail.DependsOn, want) {
		t.Errorf("%v, want %v", mail.DependsOn, want)
	}
	if !item(t, byID(t, docs, "identity.mail-signing")).Identity.UserSelectable || item(t, byID(t, Plan(sales(t)), "identity.mail-signing")).Identity.UserSelectable {
		t.Error("user_selectable")
	}
}

func TestSettingsChangeTheRevision(t *testing.T) {
	before := byID(t, Plan(sales(t)), "mail.company-mail")
	mail := companyMail()
	mail.SMIME.Signing.UserMayChange = true
	after := byID(t, Plan(with(sales(t), object("company-mail", mail))), "mail.company-mail")
	if before.Revision == after.Revision || before.Identifier != after.Identifier || after.Proof != after.Revision {
		t.Errorf("%+v", after)
	}
}

func TestNotOnAndroid(t *testing.T) {
	mail := companyMail()
	mail.BlockMovingMessages, mail.AllowMailDrop, mail.SMIME.Encryption.PerMessageSwitch = true, true, true
	mail.Exchange.Services = &profiles.Services{Mail: true}
	for _, c := range []struct {
		pkg  string
		want []string
	}{
		{profiles.PackageOutlook, []string{"account itself", "not verified", "blockMovingMessages", "allowMailDrop", "smime.signing.certificate", "perMessageSwitch"}},
		{packageGmail, []string{"S/MIME cannot be set up", "blockMovingMessages", "allowMailDrop", "exchange.services"}},
		{packageNineWork, []string{"may use the keys", "blockMovingMessages", "allowMailDrop"}},
		{"com.example.mail", []string{"may use the keys", "blockMovingMessages", "allowMailDrop"}},
	} {
		got := NotOnAndroid(mail, c.pkg)
		if len(got) != len(c.want) {
			t.Fatalf("%s: %q", c.pkg, got)
		}
		for i, want := range c.want {
			if !strings.HasPrefix(got[i], appName(c.pkg)+": ") || !strings.Contains(got[i], want) {
				t.Errorf("%s: %q, want %q", c.pkg, got[i], want)
			}
		}
	}
	if doc := byID(t, Plan(with(sales(t), object("company-mail", mail))), "mail.company-mail"); len(doc.Notes) != 6 {
		t.Errorf("%q", doc.Notes)
	}
}

func TestInventory(t *testing.T) {
	docs := Plan(sales(t))
	var inv companion.Inventory
	for _, d := range docs {
		switch i := item(t, d); i.Kind {
		case companion.KindCACert:
			inv.CAs = append(inv.CAs, i.CACert.SHA256)
		case companion.KindIdentity:
			inv.Identities = append(inv.Identities, companion.Held{Alias: i.Identity.Alias, CertSHA256: i.Identity.CertSHA256, Present: true,
				Grants: []string{profiles.PackageOutlook}})
		case companion.KindMailConfig:
			inv.MailConfigs = append(inv.MailConfigs, companion.Configured{Package: i.MailConfig.Package, Revision: i.Revision})
		}
	}
	shown, certs := Documents(inv), Certificates(inv)
	if len(shown) != len(docs) {
		t.Errorf("%v", shown)
	}
	for _, d := range docs {
		if shown[d.Identifier] != d.Proof {
			t.Errorf("%s: the inventory proves %q, want %q", d.ID, shown[d.Identifier], d.Proof)
		}
		for _, sum := range d.Certificates {
			if hasKey, there := certs[sum]; !there || hasKey != d.HasSecrets() {
				t.Errorf("%s: certificate %s %v %v", d.ID, sum, there, hasKey)
			}
		}
	}
	for i := range inv.Identities {
		inv.Identities[i].Present = false
	}
	if got := Documents(inv); len(got) != 2 || len(Certificates(inv)) != 1 {
		t.Errorf("what is not present is shown: %v", got)
	}
}
