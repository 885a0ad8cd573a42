package android

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

func TestPlanSales(t *testing.T) {
	docs := Plan(sales(t))
	trust, outlook, signing := docs[0].ID, profiles.PackageOutlook, sig("signing", 0, 0)
	keys := []profiles.Certificate{enc("2018", 0, 0), enc("2020", 0, 0), enc("2026", 0, 0), signing}
	want := []string{trust, history(keys[0]), history(keys[1]), history(keys[2]), "identity.mail-signing", granted(outlook, keys[0]),
		granted(outlook, keys[1]), granted(outlook, keys[2]), granted(outlook, signing), "mail.company-mail"}
	if got := ids(docs); !reflect.DeepEqual(got, want) {
		t.Fatalf("documents %v, want %v", got, want)
	}
	for _, d := range docs {
		if d.Reason != "" || d.Revision == "" || d.Proof == "" || len(d.Body) == 0 || d.UserScope {
			t.Errorf("%s: reason %q %s, revision %q, proof %q", d.ID, d.Reason, d.Detail, d.Revision, d.Proof)
		}
		if strings.ContainsAny(d.Identifier, "/ ?#%") || d.HasSecrets() != strings.HasPrefix(d.Identifier, prefixIdentity) {
			t.Errorf("%s: identifier %q, secrets %v", d.ID, d.Identifier, d.HasSecrets())
		}
	}
	old := docs[1]
	if old.Identifier != "identity:smime-enc-"+keys[0].SHA256[:12] || old.Proof != keys[0].SHA256 || !reflect.DeepEqual(old.DependsOn, []string{trust}) {
		t.Errorf("%+v", old)
	}
	if i := item(t, docs[4]); i.Identity.Alias != "smime-sign-"+signing.SHA256[:12] || !reflect.DeepEqual(i.DependsOn, []string{docs[0].Identifier}) {
		t.Errorf("%+v", i)
	}
	if g := docs[5]; g.Identifier != "grant:"+outlook+":smime-enc-"+keys[0].SHA256[:12] || !reflect.DeepEqual(g.DependsOn, []string{old.ID}) {
		t.Errorf("%+v", g)
	}
	if m := docs[9]; !reflect.DeepEqual(m.DependsOn, []string{granted(outlook, keys[2]), granted(outlook, signing)}) || m.Proof != m.Revision {
		t.Errorf("%+v", m)
	}
}

func TestItemsGolden(t *testing.T) {
	var items []companion.Item
	for _, d := range Plan(sales(t)) {
		items = append(items, item(t, d))
	}
	golden(t, "sales.json", indented(t, items))
}

// The newest certificate may have expired while an older one is still good; then the older one is current and comes last.
func TestCurrentComesLast(t *testing.T) {
	docs := Plan(changed(t, func(in *platforms.Input) {
		in.Imported = []profiles.Certificate{enc("good", 2024, 2028), enc("lapsed", 2025, 2026), enc("old", 2018, 2020)}
	}))
	want := []string{history(enc("old", 0, 0)), history(enc("lapsed", 0, 0)), history(enc("good", 0, 0))}
	if got := ids(docs)[1:4]; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTrust(t *testing.T) {
	docs := Plan(with(sales(t), object("again", &profiles.TrustedCertificate{Certificate: partner(t)}),
		object("unknown", &profiles.TrustedCertificate{CertificateAuthority: "other"})))
	if !reflect.DeepEqual(docs[0].Profiles, []string{"again", "company-root"}) || docs[0].Identifier != "ca:"+docs[0].Proof ||
		!reflect.DeepEqual(docs[0].Certificates, []string{docs[0].Proof}) {
		t.Errorf("%+v", docs[0])
	}
	key := byID(t, docs, "identity.mail-signing")
	if !reflect.DeepEqual(key.DependsOn, []string{docs[0].ID, "trust.unknown"}) || !reflect.DeepEqual(item(t, key).DependsOn, []string{docs[0].Identifier}) {
		t.Errorf("a key depends on %v, its item on %v", key.DependsOn, item(t, key).DependsOn)
	}
}

func TestPlanIsDeterministic(t *testing.T) {
	first := Plan(sales(t))
	in := sales(t)
	slices.Reverse(in.Profiles)
	slices.Reverse(in.Imported)
	in.Device.Name, in.Device.OSVersion, in.Namespace, in.UserID = "renamed", "13", "other", "other"
	in.Redeliver = map[string]int{enc("2018", 0, 0).SHA256: 2}
	if second := Plan(in); !reflect.DeepEqual(first, second) {
		t.Error("order of input, device or a redelivery changed the plan")
	}
}

// IM-07: a new encryption certificate comes beside the old ones and changes none of their documents.
func TestImportLeavesOtherDocuments(t *testing.T) {
	before := Plan(sales(t))
	after := Plan(changed(t, func(in *platforms.Input) { in.Imported = append(in.Imported, enc("2015", 2015, 2017)) }))
	if len(after) != len(before)+2 {
		t.Fatalf("%v", ids(after))
	}
	for _, d := range before {
		if !reflect.DeepEqual(d, byID(t, after, d.ID)) {
			t.Errorf("%s changed", d.ID)
		}
	}
}

// What only describes a key never has it delivered again.
func TestDescriptionIsInNoRevision(t *testing.T) {
	before := Plan(sales(t))
	mail := companyMail()
	mail.SMIME.Signing.UserMayChangeCertificate = true
	in := with(sales(t), object("another-root", &profiles.TrustedCertificate{CertificateAuthority: "second"}), object("company-mail", mail))
	in.CAs["second"] = partner(t)
	twice := enc("2018", 2018, 2020)
	twice.Purpose = profiles.PurposeSMIMESigning
	in.Imported = append(in.Imported, twice)
	after := Plan(in)
	for _, d := range before {
		if got := byID(t, after, d.ID); got.Revision != d.Revision {
			t.Errorf("%s has another revision", d.ID)
		}
	}
	if i := item(t, byID(t, after, history(twice))).Identity; !i.UserSelectable || i.Purpose != companion.PurposeBoth {
		t.Errorf("%+v", i)
	}
}

func TestRenewalIsAnotherAliasUnderTheSameID(t *testing.T) {
	before := byID(t, Plan(sales(t)), "identity.mail-signing")
	after := byID(t, Plan(changed(t, func(in *platforms.Input) {
		in.Issued = map[string]profiles.Certificate{"mail-signing": sig("renewed", 2027, 2028, alice)}
	})), "identity.mail-signing")
	if before.Identifier == after.Identifier || before.Revision == after.Revision || before.Proof == after.Proof {
		t.Error("want another alias, revision and proof")
	}
}

func TestImportedSigning(t *testing.T) {
	profile := object("sig", imported(profiles.PurposeSMIMESigning))
	a, b := sig("a", 2026, 2028, alice), sig("b", 2026, 2028, "a.example@corp.test")
	old := sig("old", 2015, 2017, alice)
	cases := map[string]struct {
		certs []profiles.Certificate
		want  []string
	}{
		"one, and an old one": {[]profiles.Certificate{old, a}, []string{"identity.sig a"}},
		"two":                 {[]profiles.Certificate{b, a}, []string{"identity.sig a", "identity.sig.a.example@corp.test b"}},
		"second address":      {[]profiles.Certificate{b}, []string{"identity.sig b"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := with(without(sales(t), "mail-signing"), profile)
			in.Imported = append(in.Imported, c.certs...)
			var got []string
			for _, d := range Plan(in) {
				if strings.HasPrefix(d.ID, "identity.") {
					got = append(got, d.ID+" "+d.Credentials[0].RecordID)
				}
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestNoTwoDocumentsForOneItem(t *testing.T) {
	in := with(sales(t), object("sig", imported(profiles.PurposeSMIMESigning)), object("sig2", imported(profiles.PurposeSMIMESigning)),
		object("second", companyMail(packageGmail, profiles.PackageOutlook, packageNine)), object("third", companyMail(packageNine)))
	twice := enc("2026", 2026, 2028)
	twice.Purpose = profiles.PurposeSMIMESigning
	in.Imported = append(in.Imported, twice, in.Imported[0])
	identifiers, names := map[string]string{}, map[string]bool{}
	for _, d := range Plan(in) {
		if other, taken := identifiers[d.Identifier]; taken && d.Identifier != "" {
			t.Errorf("%s and %s are both %s", other, d.ID, d.Identifier)
		}
		if names[d.ID] {
			t.Errorf("two documents are %s", d.ID)
		}
		identifiers[d.Identifier], names[d.ID] = d.ID, true
	}
}

func TestReasonsToWait(t *testing.T) {
	smime := func(f func(*profiles.SMIME)) platforms.Input {
		m := companyMail()
		f(m.SMIME)
		return with(sales(t), object("company-mail", m))
	}
	gmail := func(f func(*profiles.Exchange)) platforms.Input {
		m := companyMail(packageGmail)
		f(m.Exchange)
		return with(sales(t), object("company-mail", m))
	}
	outlook, newest := profiles.PackageOutlook, enc("2026", 0, 0)
	cases := []struct {
		name, id string
		in       platforms.Input
		reason   platforms.Reason
		detail   string
	}{
		{"EM-08 nothing imported", "mail.company-mail", changed(t, func(in *platforms.Input) { in.Imported = nil }),
			platforms.ReasonCertificateMissing, "alice@corp.test has no imported encryption certificate"},
		{"nothing imported, history", "history", changed(t, func(in *platforms.Input) { in.Imported = nil }),
			platforms.ReasonCertificateMissing, "no imported encryption certificate"},
		{"EM-08 other address", "mail.company-mail", changed(t, func(in *platforms.Input) {
			in.Imported = []profiles.Certificate{cert("x", profiles.PurposeSMIMEEncryption, 2026, 2028, "a.example@corp.test")}
		}), platforms.ReasonAddressMismatch, "none of them for alice@corp.test"},
		{"signing for another address", "mail.company-mail", changed(t, func(in *platforms.Input) {
			in.Issued = map[string]profiles.Certificate{"mail-signing": sig("s", 2026, 2027, "other@corp.test")}
		}), platforms.ReasonAddressMismatch, "is for other@corp.test"},
		{"signing for no address", "mail.company-mail", changed(t, func(in *platforms.Input) {
			in.Issued = map[string]profiles.Certificate{"mail-signing": sig("s", 2026, 2027)}
		}), platforms.ReasonAddressMismatch, "no address"},
		{"not issued", "mail.company-mail", changed(t, func(in *platforms.Input) { in.Issued = nil }),
			platforms.ReasonIssuePending, "mail-signing"},
		{"not issued, identity", "identity.mail-signing", changed(t, func(in *platforms.Input) { in.Issued = nil }),
			platforms.ReasonIssuePending, "mail-signing"},
		{"unknown CA", "identity.mail-signing", changed(t, func(in *platforms.Input) { in.Issued, in.CAs = nil, nil }),
			platforms.ReasonCertificateAuthorityUnknown, `"softca"`},
		{"unknown CA, trust", "trust.company-root", changed(t, func(in *platforms.Input) { in.CAs = nil }),
			platforms.ReasonCertificateAuthorityUnknown, "company-root"},
		{"not a certificate to trust", "trust.bad", with(sales(t), object("bad", &profiles.TrustedCertificate{Certificate: []byte("no")})),
			platforms.ReasonNotDeliverable, "TrustedCertificate bad"},
		{"profile not assigned", "mail.company-mail", without(sales(t), "mail-history"),
			platforms.ReasonCertificateMissing, "mail-history"},
		{"PK-08 variable of the account", "mail.company-mail", changed(t, func(in *platforms.Input) { in.User.Addresses = nil }),
			platforms.ReasonVariableUnresolved, "EmailAddress"},
		{"PK-08 variable of a certificate", "identity.imei", with(sales(t), object("imei", &profiles.PKCSCertificate{
			CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN={{IMEI}}"}})),
			platforms.ReasonVariableUnresolved, "IMEI"},
		{"PK-08 variable of a name", "identity.imei", with(sales(t), object("imei", &profiles.PKCSCertificate{
			CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca", Subject: "CN=x",
				SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANDNS, Value: "{{IMEI}}"}}}})),
			platforms.ReasonVariableUnresolved, "alternative name dns"},
		{"second Email profile", "mail.second", with(sales(t), object("second", companyMail())),
			platforms.ReasonDuplicateAccount, "company-mail already sets up Outlook"},
		{"EM-01 no S/MIME", "mail.company-mail", with(sales(t), object("company-mail", &profiles.Email{})),
			platforms.ReasonNotDeliverable, "no S/MIME settings"},
		{"not a certificate with a key", "mail.company-mail", smime(func(s *profiles.SMIME) { s.Signing.Certificate = "company-root" }),
			platforms.ReasonNotDeliverable, "company-root"},
		{"imported signing missing", "identity.sig", with(sales(t), object("sig", imported(profiles.PurposeSMIMESigning))),
			platforms.ReasonCertificateMissing, "no imported signing certificate"},
		{"no grants before Android 11", granted(outlook, newest), changed(t, func(in *platforms.Input) { in.Device.OSVersion = "10" }),
			platforms.ReasonNotDeliverable, "Android 10 gives no keys to apps; from Android 11 on it does"},
		{"Gmail for IMAP", "mail.imap", with(sales(t), object("imap", &profiles.Email{IMAP: &profiles.MailServer{},
			Android: &profiles.EmailOnAndroid{Apps: []string{packageGmail}}})), platforms.ReasonNotDeliverable, "Exchange accounts only"},
		{"Gmail, user name", "mail.company-mail", gmail(func(x *profiles.Exchange) { x.UsernameSource, x.Host = "", "{{IMEI}}" }),
			platforms.ReasonVariableUnresolved, "exchange.host"},
		{"Gmail, certificate to sign in", "mail.company-mail", gmail(func(x *profiles.Exchange) {
			x.Authentication, x.IdentityCertificate = profiles.AuthCertificate, "login"
		}), platforms.ReasonCertificateMissing, "login, which it uses to sign in, is not assigned"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := byID(t, Plan(c.in), c.id)
			if d.Reason != c.reason || !strings.Contains(d.Detail, c.detail) {
				t.Errorf("reason %q, detail %q; want %q with %q", d.Reason, d.Detail, c.reason, c.detail)
			}
			if d.Revision != "" || d.Body != nil {
				t.Error("a waiting document has neither revision nor content")
			}
			if _, err := Item(d, companion.OpInstall, false); err == nil {
				t.Error("it has an item")
			}
		})
	}
}

func TestCustomProfilesAreSkipped(t *testing.T) {
	in := with(sales(t), object("wifi", &profiles.Custom{Platforms: []profiles.Platform{profiles.Android}}))
	if got, want := ids(Plan(in)), ids(Plan(sales(t))); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestNothingAssigned(t *testing.T) {
	if docs := Plan(platforms.Input{UPN: alice}); len(docs) != 0 {
		t.Errorf("%v", ids(docs))
	}
}

func TestPKCS12Flavour(t *testing.T) {
	for version, want := range map[string]string{
		"": FlavourLegacyDES, "x": FlavourLegacyDES, "-15": FlavourLegacyDES, "9": FlavourLegacyDES, "13": FlavourLegacyDES,
		"14": FlavourModern2023, "14.0.1": FlavourModern2023, " 16 ": FlavourModern2023, "8.1.0": FlavourLegacyDES,
		"21": FlavourLegacyDES, "28": FlavourLegacyDES, "33": FlavourLegacyDES, "34": FlavourModern2023, "37": FlavourModern2023,
	} {
		if got := PKCS12Flavour(version); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}
