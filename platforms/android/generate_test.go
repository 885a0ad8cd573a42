package android

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

const (
	request    = "0123456789abcdef0123456789abcdef"
	ownAlias   = "smime-sign-0123456789ab"
	ownKey     = "identity.mail-signing"
	ownGrant   = "grant." + profiles.PackageOutlook + ".0123456789ab"
	nextAlias  = "smime-sign-fedcba987654"
	nextNumber = "fedcba9876543210fedcba9876543210"
)

// asking is sales with a signing key that the device makes.
func asking(t testing.TB, change func(*platforms.Input)) platforms.Input {
	in := with(sales(t), object("mail-signing", &profiles.SCEPCertificate{CertificateRequest: mailSigning().CertificateRequest}))
	in.Issued = nil
	in.SCEP = map[string]platforms.SCEPEnrolment{"mail-signing": {Request: request, Name: "softca", Subject: []byte("Name"),
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: alice}}, KeyUsage: []string{"digitalSignature"}}}
	change(&in)
	return in
}

// asked changes how the device gets the certificate.
func asked(change func(*platforms.SCEPEnrolment)) func(*platforms.Input) {
	return func(in *platforms.Input) {
		e := in.SCEP["mail-signing"]
		change(&e)
		in.SCEP["mail-signing"] = e
	}
}

func issued(e *platforms.SCEPEnrolment) { e.Issued = sig("signing", 2026, 2027, alice) }

func TestGeneratedKey(t *testing.T) {
	docs := Plan(asking(t, func(*platforms.Input) {}))
	doc := byID(t, docs, ownKey)
	if doc.Identifier != prefixIdentity+ownAlias || doc.Proof != ownAlias || !IsGenerated(doc) || doc.HasSecrets() || len(doc.Certificates) != 0 {
		t.Errorf("%+v", doc)
	}
	want := &companion.Identity{Purpose: companion.PurposeSign, Alias: ownAlias, Payload: companion.PayloadGenerate,
		Generate: &companion.Generate{KeyAlg: "RSA", KeySize: 2048, Subject: []byte("Name"), Names: []companion.Name{{Type: "email", Value: alice}},
			KeyUsage: []string{"digitalSignature"}}}
	if i := item(t, doc); !reflect.DeepEqual(i.Identity, want) || !reflect.DeepEqual(i.DependsOn, []string{docs[0].Identifier}) {
		t.Errorf("%+v", i.Identity)
	}
	if grant := byID(t, docs, ownGrant); grant.Identifier != "grant:"+profiles.PackageOutlook+":"+ownAlias || !reflect.DeepEqual(grant.DependsOn, []string{ownKey}) {
		t.Errorf("%+v", grant)
	}
	if m := byID(t, docs, "mail.company-mail"); m.Reason != "" || !slices.Contains(m.DependsOn, ownGrant) {
		t.Errorf("%+v", m)
	}
}

// The certificate comes while the document is on its way: it must not be another one by that.
func TestIssuedCertificateChangesNoRevision(t *testing.T) {
	before, after := Plan(asking(t, func(*platforms.Input) {})), Plan(asking(t, asked(issued)))
	for i, d := range before {
		if d.ID != after[i].ID || d.Revision != after[i].Revision || d.Identifier != after[i].Identifier || d.Proof != after[i].Proof {
			t.Errorf("%s: %+v became %+v", d.ID, d, after[i])
		}
	}
	c := sig("signing", 2026, 2027, alice)
	doc := byID(t, after, ownKey)
	if id := item(t, doc).Identity; id.CertSHA256 != c.SHA256 || !id.NotAfter.Equal(c.NotAfter) || !reflect.DeepEqual(doc.Certificates, []string{c.SHA256}) {
		t.Errorf("%+v %q", id, doc.Certificates)
	}
}

func TestAnotherRequestIsAnotherAlias(t *testing.T) {
	before := byID(t, Plan(asking(t, asked(issued))), ownKey)
	after := byID(t, Plan(asking(t, asked(func(e *platforms.SCEPEnrolment) { e.Request = nextNumber }))), ownKey)
	if after.Identifier != prefixIdentity+nextAlias || after.Revision == before.Revision || after.Proof == before.Proof {
		t.Errorf("%+v", after)
	}
}

func TestReasonsNotToGenerate(t *testing.T) {
	login := companyMail(packageGmail)
	login.Exchange.Authentication, login.Exchange.IdentityCertificate = profiles.AuthCertificate, "mail-signing"
	cases := map[string]struct {
		id     string
		in     platforms.Input
		reason platforms.Reason
		detail string
	}{
		"Android 8": {ownKey, asking(t, func(in *platforms.Input) { in.Device.OSVersion = "8.1.0" }),
			platforms.ReasonNotDeliverable, "Android 8.1.0 makes no keys for its key chain; from Android 9 on it does"},
		"mail on Android 8": {"mail.company-mail", asking(t, func(in *platforms.Input) { in.Device.OSVersion = "8.1.0" }),
			platforms.ReasonNotDeliverable, "from Android 9 on"},
		"unknown CA": {ownKey, asking(t, func(in *platforms.Input) { in.CAs, in.SCEP = nil, nil }),
			platforms.ReasonCertificateAuthorityUnknown, `"softca"`},
		"partner CA": {ownKey, asking(t, asked(func(e *platforms.SCEPEnrolment) { e.Partner = true })),
			platforms.ReasonNotDeliverable, "which the companion app does not speak"},
		"variable": {ownKey, asking(t, func(in *platforms.Input) { in.User.Addresses, in.SCEP = nil, nil }),
			platforms.ReasonVariableUnresolved, "SCEPCertificate mail-signing: subject"},
		"no order": {ownKey, asking(t, func(in *platforms.Input) { in.SCEP = nil }), platforms.ReasonNotDeliverable, "cannot be written"},
		"another address": {"mail.company-mail", asking(t, asked(func(e *platforms.SCEPEnrolment) { e.SANs = nil })),
			platforms.ReasonAddressMismatch, "without the account's address alice@corp.test"},
		"nothing to sign in with": {"mail.company-mail", asking(t, func(in *platforms.Input) {
			*in = with(*in, object("company-mail", login))
			in.Device.OSVersion = "8"
		}), platforms.ReasonNotDeliverable, "from Android 9 on"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if d := byID(t, Plan(c.in), c.id); d.Reason != c.reason || !strings.Contains(d.Detail, c.detail) {
				t.Errorf("reason %q, detail %q; want %q with %q", d.Reason, d.Detail, c.reason, c.detail)
			}
		})
	}
}

func TestGmailSignsInWithGeneratedKey(t *testing.T) {
	login := companyMail(packageGmail)
	login.Exchange.Authentication, login.Exchange.IdentityCertificate = profiles.AuthCertificate, "mail-signing"
	doc := byID(t, Plan(with(asking(t, func(*platforms.Input) {}), object("company-mail", login))), "mail.company-mail")
	if got := item(t, doc).MailConfig.Values["exchange_login_certificate_alias"]; got != ownAlias {
		t.Errorf("%v", got)
	}
}

// The proof of a generated key is its alias, whichever certificate it has; that of a delivered one is its certificate.
func TestInventoryOfGeneratedKeys(t *testing.T) {
	sum, other := sig("signing", 0, 0).SHA256, sig("other", 0, 0).SHA256
	delivered := "smime-sign-" + sum[:12]
	inv := companion.Inventory{Identities: []companion.Held{{Alias: ownAlias, CertSHA256: sum, Present: true},
		{Alias: delivered, CertSHA256: sum, Present: true}, {Alias: nextAlias, CertSHA256: other}, {Alias: "smime-enc-" + sum[:12], CertSHA256: other, Present: true}}}
	want := map[string]string{prefixIdentity + ownAlias: ownAlias, prefixIdentity + delivered: sum, prefixIdentity + "smime-enc-" + sum[:12]: "smime-enc-" + sum[:12]}
	if got := Documents(inv); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := Certificates(inv); !reflect.DeepEqual(got, map[string]bool{sum: true, other: true}) {
		t.Errorf("%v", got)
	}
}

// A connector puts no key where the device makes one.
func TestNoKeyIsRenderedForGeneratedKey(t *testing.T) {
	c, key := mailbox(t, testpki.RSA2048)
	doc := byID(t, Plan(asking(t, asked(func(e *platforms.SCEPEnrolment) { e.Request, e.Issued = c.SHA256, c }))), ownKey)
	doc.Credentials = []profiles.Certificate{c}
	if _, err := Render(doc, map[string]Key{c.SHA256: key}, sealTo(phone(t).Cert)); err == nil || !strings.Contains(err.Error(), "makes the key") {
		t.Errorf("%v", err)
	}
}
