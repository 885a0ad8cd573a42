package windows

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

func TestPlanSales(t *testing.T) {
	docs := Plan(sales(t))
	trust := docs[0].ID
	want := []string{trust, history(enc("2018", 0, 0)), history(enc("2020", 0, 0)), history(enc("2026", 0, 0)),
		"identity.mail-signing", "mail.company-mail"}
	if got := ids(docs); !reflect.DeepEqual(got, want) {
		t.Fatalf("documents %v, want %v", got, want)
	}
	for _, d := range docs {
		if d.Reason != "" || d.Revision == "" || d.Proof == "" || len(d.Body) == 0 {
			t.Errorf("%s: reason %q %s, revision %q, proof %q", d.ID, d.Reason, d.Detail, d.Revision, d.Proof)
		}
		key := strings.HasPrefix(d.ID, "history.") || strings.HasPrefix(d.ID, "identity.")
		if d.HasSecrets() != key || d.UserScope != strings.Contains(d.Identifier+string(d.Body), "./User/") {
			t.Errorf("%s: secrets %v, user scope %v", d.ID, d.HasSecrets(), d.UserScope)
		}
		if key && (!reflect.DeepEqual(d.DependsOn, []string{trust}) || d.Identifier != userPFX+"/"+d.Proof || !isThumbprint(d.Proof)) {
			t.Errorf("%s: depends on %v, is %s with proof %s", d.ID, d.DependsOn, d.Identifier, d.Proof)
		}
	}
	mail := byID(t, docs, "mail.company-mail")
	if want := []string{history(enc("2026", 0, 0)), "identity.mail-signing"}; !reflect.DeepEqual(mail.DependsOn, want) {
		t.Errorf("mail depends on %v, want %v", mail.DependsOn, want)
	}
	if mail.Identifier != admxApp || mail.Proof != "R"+mail.Revision[:16] || len(mail.Certificates) > 0 {
		t.Errorf("mail is %s with proof %s", mail.Identifier, mail.Proof)
	}
}

func TestTrust(t *testing.T) {
	root := testpki.NewCA(t, "Root")
	below := root.Intermediate(t, "Issuing")
	in := with(sales(t),
		object("again", &profiles.TrustedCertificate{Certificate: partner(t)}),
		object("issuing", &profiles.TrustedCertificate{Certificate: below.Cert.Raw}))
	docs := Plan(in)
	if !reflect.DeepEqual(docs[0].Profiles, []string{"again", "company-root"}) || !strings.HasPrefix(docs[0].Identifier, storeRoot+"/") {
		t.Errorf("root: %s for %v", docs[0].Identifier, docs[0].Profiles)
	}
	if !strings.HasPrefix(docs[1].ID, "trust.") || docs[1].Identifier != storeCA+"/"+docs[1].Proof {
		t.Errorf("intermediate: %s %s", docs[1].ID, docs[1].Identifier)
	}
	signing := byID(t, docs, "identity.mail-signing")
	if !reflect.DeepEqual(signing.DependsOn, []string{docs[0].ID, docs[1].ID}) {
		t.Errorf("a key depends on %v", signing.DependsOn)
	}
}

func TestPlanIsDeterministic(t *testing.T) {
	first := Plan(sales(t))
	in := sales(t)
	slices.Reverse(in.Profiles)
	slices.Reverse(in.Imported)
	in.Device.Name, in.Device.OSVersion, in.Namespace, in.UserID = "renamed", "10.0.14393.0", "other", "other"
	in.Redeliver = map[string]int{enc("2018", 0, 0).SHA256: 2}
	if second := Plan(in); !reflect.DeepEqual(first, second) {
		t.Error("order of input, device or a redelivery changed the plan")
	}
}

// IM-07: a new encryption certificate comes beside the old ones and changes none of their documents.
func TestImportLeavesOtherDocuments(t *testing.T) {
	before := Plan(sales(t))
	after := Plan(changed(t, func(in *platforms.Input) { in.Imported = append(in.Imported, enc("2015", 2015, 2017)) }))
	if len(after) != len(before)+1 {
		t.Fatalf("%v", ids(after))
	}
	for _, d := range before {
		if !reflect.DeepEqual(d, byID(t, after, d.ID)) {
			t.Errorf("%s changed", d.ID)
		}
	}
}

func TestRenewalIsAnotherNodeUnderTheSameID(t *testing.T) {
	before := byID(t, Plan(sales(t)), "identity.mail-signing")
	after := byID(t, Plan(changed(t, func(in *platforms.Input) {
		in.Issued = map[string]profiles.Certificate{"mail-signing": sig("renewed", 2027, 2028, alice)}
	})), "identity.mail-signing")
	if before.Identifier == after.Identifier || before.Revision == after.Revision || before.Proof == after.Proof {
		t.Error("want another node, revision and proof")
	}
}

func TestImportedSigning(t *testing.T) {
	profile := object("sig", imported(profiles.PurposeSMIMESigning))
	a, b := sig("a", 2026, 2028, alice), sig("b", 2026, 2028, "a.example@corp.test")
	both, old := sig("both", 2026, 2028, alice, "a.example@corp.test"), sig("old", 2015, 2017, alice)
	upn := sig("upn", 2026, 2028, "upn@corp.test")
	cases := map[string]struct {
		certs []profiles.Certificate
		want  []string
	}{
		"one":                 {[]profiles.Certificate{a}, []string{"identity.sig a"}},
		"one, and an old one": {[]profiles.Certificate{old, a}, []string{"identity.sig a"}},
		"one for both":        {[]profiles.Certificate{both}, []string{"identity.sig both"}},
		"two":                 {[]profiles.Certificate{b, a}, []string{"identity.sig a", "identity.sig.a.example@corp.test b"}},
		"second address":      {[]profiles.Certificate{b}, []string{"identity.sig b"}},
		"account's address":   {[]profiles.Certificate{upn}, []string{"identity.sig upn"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			mail := companyMail()
			mail.AddressSource = profiles.SourceUserPrincipalName
			in := with(without(sales(t), "mail-signing"), profile, object("company-mail", mail))
			in.UPN, in.Imported = "upn@corp.test", append(in.Imported, c.certs...)
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

// A certificate that was imported for both purposes has one node, so it has one document.
func TestNoTwoDocumentsForOneNode(t *testing.T) {
	in := with(sales(t), object("sig", imported(profiles.PurposeSMIMESigning)), object("sig2", imported(profiles.PurposeSMIMESigning)),
		object("second", companyMail()))
	twice := enc("2026", 2026, 2028)
	twice.Purpose = profiles.PurposeSMIMESigning
	in.Imported = append(in.Imported, twice, in.Imported[0])
	seen := map[string]string{}
	for _, d := range Plan(in) {
		if other, taken := seen[d.Identifier]; taken && d.Identifier != "" {
			t.Errorf("%s and %s are both %s", other, d.ID, d.Identifier)
		}
		seen[d.Identifier] = d.ID
	}
}

func TestReasonsToWait(t *testing.T) {
	smime := func(f func(*profiles.SMIME)) platforms.Input {
		m := companyMail()
		f(m.SMIME)
		return with(sales(t), object("company-mail", m))
	}
	scep := object("scep", &profiles.SCEPCertificate{})
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
			platforms.ReasonDuplicateAccount, "company-mail already sets Outlook's S/MIME policies"},
		{"EM-01 no S/MIME", "mail.company-mail", with(sales(t), object("company-mail", &profiles.Email{})),
			platforms.ReasonNotDeliverable, "no S/MIME settings"},
		{"SCEP, unknown CA", "identity.scep", with(sales(t), scep), platforms.ReasonCertificateAuthorityUnknown, "SCEPCertificate scep"},
		{"SCEP for signing, unknown CA", "mail.company-mail", with(smime(func(s *profiles.SMIME) { s.Signing.Certificate = "scep" }), scep),
			platforms.ReasonCertificateAuthorityUnknown, "scep"},
		{"PK-08 SCEP", "identity.mail-signing", asking(t, func(in *platforms.Input, spec *profiles.SCEPCertificate) {
			spec.Subject, in.SCEP = "CN={{IMEI}}", nil
		}), platforms.ReasonVariableUnresolved, "SCEPCertificate mail-signing: subject"},
		{"SCEP, no enrolment", "identity.mail-signing", asking(t, func(in *platforms.Input, _ *profiles.SCEPCertificate) { in.SCEP = nil }),
			platforms.ReasonNotDeliverable, "cannot be written"},
		{"SCEP, key size", "identity.mail-signing", asking(t, func(_ *platforms.Input, spec *profiles.SCEPCertificate) { spec.KeySize = 3072 }),
			platforms.ReasonNotDeliverable, "keySize 3072"},
		{"SCEP, no intermediate", "trust.mail-signing", asking(t, func(in *platforms.Input, _ *profiles.SCEPCertificate) {
			in.SCEP["mail-signing"] = platforms.SCEPEnrolment{Request: "ab", Intermediates: [][]byte{[]byte("no")}}
		}), platforms.ReasonNotDeliverable, "SCEPCertificate mail-signing"},
		{"EM-08 SCEP for another address", "mail.company-mail", asking(t, func(in *platforms.Input, _ *profiles.SCEPCertificate) {
			in.SCEP["mail-signing"] = platforms.SCEPEnrolment{Request: "ab", SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "bob@corp.test"}}}
		}), platforms.ReasonAddressMismatch, "without the account's address alice@corp.test"},
		{"not a certificate with a key", "mail.company-mail", smime(func(s *profiles.SMIME) { s.Signing.Certificate = "company-root" }),
			platforms.ReasonNotDeliverable, "company-root"},
		{"imported signing missing", "identity.sig", with(sales(t), object("sig", imported(profiles.PurposeSMIMESigning))),
			platforms.ReasonCertificateMissing, "no imported signing certificate"},
		{"imported signing for others", "identity.sig", changed(t, func(in *platforms.Input) {
			*in = with(*in, object("sig", imported(profiles.PurposeSMIMESigning)))
			in.Imported = append(in.Imported, sig("x", 2026, 2028, "former@corp.test"))
		}), platforms.ReasonAddressMismatch, "none of them for alice@corp.test, a.example@corp.test"},
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
			if d.UserScope == strings.HasPrefix(d.ID, "trust") {
				t.Errorf("user scope %v", d.UserScope)
			}
		})
	}
}

func TestCustomProfilesAreSkipped(t *testing.T) {
	in := with(sales(t), object("wifi", &profiles.Custom{Platforms: []profiles.Platform{profiles.Windows}}))
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
		"10.0.16298.1000": FlavourLegacyDES, "10.0.16299.0": FlavourModern2023, "10.0.22631.3007": FlavourModern2023,
		"10.0.14393.0": FlavourLegacyDES, "": FlavourLegacyDES, "10.0": FlavourLegacyDES, "10.0.x.1": FlavourLegacyDES,
		"6.3.17763": FlavourLegacyDES, " 10.0.19045 ": FlavourModern2023, "10.0.-1": FlavourLegacyDES, "22631": FlavourLegacyDES,
	} {
		if got := PKCS12Flavour(version); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}
