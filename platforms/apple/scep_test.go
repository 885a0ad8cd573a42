package apple

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"reflect"
	"strings"
	"testing"

	"github.com/micromdm/plist"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// asking is sales, with a signing certificate that the iPhone asks for itself.
func asking(t testing.TB) platforms.Input {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Alice Example", Organization: []string{"Corp"},
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: alice}}}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	in := with(without(sales(t), "mail-signing"), object("mail-signing", &profiles.SCEPCertificate{CertificateRequest: mailSigning().CertificateRequest}))
	in.Issued = nil
	in.SCEP = map[string]platforms.SCEPEnrolment{"mail-signing": {Request: "0123456789abcdef0123456789abcdef", URL: "https://mdm.corp.test/scep/softca",
		Name: "softca", Subject: subject, KeySize: 4096, KeyUsage: []string{"digitalSignature"}, Intermediates: [][]byte{[]byte("issuing CA")},
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: alice}, {Type: profiles.SANUPN, Value: alice}}}}
	return in
}

// order changes what the certificate of mail-signing is asked for.
func order(in platforms.Input, change func(*platforms.SCEPEnrolment)) platforms.Input {
	e := in.SCEP["mail-signing"]
	change(&e)
	in.SCEP = map[string]platforms.SCEPEnrolment{"mail-signing": e}
	return in
}

func mailOf(t testing.TB, in platforms.Input) platforms.Document {
	t.Helper()
	return byID(t, Plan(in), "mail.company-mail")
}

func TestSCEPPayload(t *testing.T) {
	doc := mailOf(t, asking(t))
	if doc.Reason != "" || !reflect.DeepEqual(doc.Challenges, []string{"mail-signing"}) || records(doc) != "2026" {
		t.Fatalf("reason %q %s, challenges %v, credentials %s", doc.Reason, doc.Detail, doc.Challenges, records(doc))
	}
	var sealed []byte
	seal := func(b []byte) ([]byte, error) { sealed = bytes.Clone(b); return []byte("sealed"), nil }
	out, err := Render(doc, Secrets{PKCS12: pkcs12s(doc), Challenges: map[string]string{"mail-signing": "one-time"}}, seal)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("one-time")) || bytes.Contains(doc.Body, []byte("one-time")) {
		t.Error("the challenge is readable outside of what is sealed to the device")
	}
	var payloads []map[string]any
	if err := plist.Unmarshal(sealed, &payloads); err != nil {
		t.Fatal(err)
	}
	account, scep := map[string]any{}, map[string]any{}
	for _, p := range payloads {
		switch p["PayloadType"] {
		case typeSCEP:
			scep = p
		case "com.apple.eas.account":
			account = p
		}
	}
	if scep["PayloadUUID"] == nil || account["SMIMESigningCertificateUUID"] != scep["PayloadUUID"] {
		t.Errorf("the account signs with %v, the request is %v", account["SMIMESigningCertificateUUID"], scep["PayloadUUID"])
	}
	want := map[string]any{"URL": "https://mdm.corp.test/scep/softca", "Name": "softca", "Challenge": "one-time", "Keysize": uint64(4096), "Key Type": "RSA",
		"Key Usage": uint64(1), "Retries": uint64(5), "RetryDelay": uint64(10),
		"Subject":        []any{[]any{[]any{"O", "Corp"}}, []any{[]any{"CN", "Alice Example"}}, []any{[]any{"1.2.840.113549.1.9.1", alice}}},
		"SubjectAltName": map[string]any{"rfc822Name": alice, "ntPrincipalName": alice}}
	if got := scep["PayloadContent"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %#v\nwant %#v", got, want)
	}
}

// TestSCEPRunsAgain: the device asks anew whenever its mail profile is another one (apple.md section 7.4). A longer history
// must not be a reason; the current encryption certificate, and another request, are.
func TestSCEPRunsAgain(t *testing.T) {
	before := mailOf(t, asking(t))
	issued := cert("own", profiles.PurposeSMIMESigning, 2026, 2027, alice)
	cases := map[string]struct {
		change func(platforms.Input) platforms.Input
		again  bool
	}{
		"a longer history": {func(in platforms.Input) platforms.Input {
			in.Imported = append(in.Imported, enc("2016", 2016, 2017))
			return in
		}, false},
		"it is issued": {func(in platforms.Input) platforms.Input {
			return order(in, func(e *platforms.SCEPEnrolment) { e.Issued = issued })
		}, false},
		"another current certificate": {func(in platforms.Input) platforms.Input {
			in.Imported = append(in.Imported, enc("2026-next", 2026, 2029))
			in.Now = day(2027)
			return in
		}, true},
		"a renewal": {func(in platforms.Input) platforms.Input {
			return order(in, func(e *platforms.SCEPEnrolment) { e.Request = "fedcba9876543210fedcba9876543210" })
		}, true},
		"another key length": {func(in platforms.Input) platforms.Input {
			return order(in, func(e *platforms.SCEPEnrolment) { e.KeySize = 2048 })
		}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			after := mailOf(t, c.change(asking(t)))
			if again := after.Revision != before.Revision; again != c.again {
				t.Errorf("it asks again: %v, want %v", again, c.again)
			}
			if after.Identifier != before.Identifier {
				t.Error("another identifier would be a second account")
			}
		})
	}
	in := order(asking(t), func(e *platforms.SCEPEnrolment) { e.Issued = issued })
	if doc := mailOf(t, in); !strings.Contains(strings.Join(doc.Certificates, " "), issued.SHA256) {
		t.Error("the inventory need not show the certificate that was issued")
	}
}

func TestSCEPFaults(t *testing.T) {
	doc := mailOf(t, asking(t))
	if _, err := Render(doc, Secrets{PKCS12: pkcs12s(doc)}, func(b []byte) ([]byte, error) { return b, nil }); err == nil || !strings.Contains(err.Error(), "mail-signing") {
		t.Errorf("without a challenge: %v", err)
	}
	if _, err := Render(doc, Secrets{PKCS12: pkcs12s(doc), Challenges: map[string]string{"mail-signing": "x"}}, nil); err == nil {
		t.Error("a key goes to the device unsealed")
	}
	other := order(asking(t), func(e *platforms.SCEPEnrolment) {
		e.SANs = []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "bob@corp.test"}}
	})
	if doc := mailOf(t, other); doc.Reason != platforms.ReasonAddressMismatch {
		t.Errorf("the account's address is not in the certificate: %q", doc.Reason)
	}
	for _, subject := range [][]byte{nil, []byte("name")} {
		broken := order(asking(t), func(e *platforms.SCEPEnrolment) { e.Subject = subject })
		if doc := mailOf(t, broken); doc.Reason != platforms.ReasonNotDeliverable || !strings.Contains(doc.Detail, "mail-signing") {
			t.Errorf("subject %q: %q %s", subject, doc.Reason, doc.Detail)
		}
	}
}

// TestSCEPForOneAccount: each document would have a certificate of its own, and the server would take the former for replaced.
func TestSCEPForOneAccount(t *testing.T) {
	second := companyMail()
	second.AccountName, second.AddressSource = "Second", profiles.SourceUserPrincipalName
	second.SMIME.Encryption = profiles.SMIMEEncryption{}
	in := with(asking(t), object("second", second))
	in.UPN = "upn@corp.test"
	in = order(in, func(e *platforms.SCEPEnrolment) {
		e.SANs = append(e.SANs, profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: in.UPN})
	})
	docs := Plan(in)
	if doc := byID(t, docs, "mail.company-mail"); doc.Reason != "" {
		t.Errorf("the first: %s %s", doc.Reason, doc.Detail)
	}
	if doc := byID(t, docs, "mail.second"); doc.Reason != platforms.ReasonNotDeliverable || !strings.Contains(doc.Detail, "mail.company-mail") {
		t.Errorf("the second: %q %s", doc.Reason, doc.Detail)
	}
}

// Apple's list of key sizes has no 3072.
func TestSCEPKeySize(t *testing.T) {
	doc := mailOf(t, order(asking(t), func(e *platforms.SCEPEnrolment) { e.KeySize = 3072 }))
	if doc.Reason != platforms.ReasonNotDeliverable || !strings.Contains(doc.Detail, "SCEPCertificate mail-signing: keySize 3072") {
		t.Errorf("got %s %q", doc.Reason, doc.Detail)
	}
}
