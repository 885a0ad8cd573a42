package profiles

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func day(n int) time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n) }

// IM-04: which one of the history is current for an address.
func TestCurrent(t *testing.T) {
	cert := func(id, address string, from, to int) Certificate {
		return Certificate{SHA1: id, Addresses: []string{address}, NotBefore: day(from), NotAfter: day(to)}
	}
	tests := []struct {
		name  string
		certs []Certificate
		want  string
	}{
		{"none", nil, ""},
		{"another address", []Certificate{cert("a", "b@x.test", -1, 1)}, ""},
		{"expired is better than none", []Certificate{cert("a", "a@x.test", -9, -1)}, "a"},
		{"valid before newer expired", []Certificate{cert("a", "a@x.test", -9, 1), cert("b", "a@x.test", -2, -1)}, "a"},
		{"not yet valid", []Certificate{cert("a", "a@x.test", -9, 1), cert("b", "a@x.test", 1, 9)}, "a"},
		{"valid on its last day", []Certificate{cert("a", "a@x.test", -9, 0), cert("b", "a@x.test", 1, 9)}, "a"},
		{"latest start", []Certificate{cert("a", "a@x.test", -2, 1), cert("b", "a@x.test", -1, 1), cert("c", "a@x.test", -3, 9)}, "b"},
		{"latest end", []Certificate{cert("a", "a@x.test", -1, 2), cert("b", "a@x.test", -1, 1)}, "a"},
		{"thumbprint", []Certificate{cert("1f", "a@x.test", -1, 1), cert("e0", "a@x.test", -1, 1), cert("2a", "a@x.test", -1, 1)}, "e0"},
		{"letter case does not exclude", []Certificate{cert("a", "A@X.test", -1, 1)}, "a"},
		{"exact spelling first", []Certificate{cert("a", "a@x.test", -2, 1), cert("b", "A@x.test", -1, 1)}, "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for range 2 {
				got, ok := Current(test.certs, "a@x.test", day(0))
				if got.SHA1 != test.want || ok != (test.want != "") {
					t.Errorf("%q, %v", got.SHA1, ok)
				}
				slices.Reverse(test.certs)
			}
		})
	}
}

func TestDerivePurpose(t *testing.T) {
	tests := []struct {
		name  string
		usage x509.KeyUsage
		want  Purpose
	}{
		{"no key usage", 0, PurposeSMIMEEncryption},
		{"key encipherment", x509.KeyUsageKeyEncipherment, PurposeSMIMEEncryption},
		{"data encipherment", x509.KeyUsageDataEncipherment, PurposeSMIMEEncryption},
		{"key agreement", x509.KeyUsageKeyAgreement, PurposeSMIMEEncryption},
		{"dual use", x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, PurposeSMIMEEncryption},
		{"signature", x509.KeyUsageDigitalSignature, PurposeSMIMESigning},
		{"non-repudiation", x509.KeyUsageContentCommitment, PurposeSMIMESigning},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			cert, err := x509.ParseCertificate(makeCertificate(t, &x509.Certificate{KeyUsage: test.usage}))
			if err != nil || DerivePurpose(cert) != test.want {
				t.Errorf("%s, %v", DerivePurpose(cert), err)
			}
		})
	}
}

func TestCertificateAddresses(t *testing.T) {
	template := &x509.Certificate{
		Subject:         pkix.Name{CommonName: "x", ExtraNames: []pkix.AttributeTypeAndValue{{Type: emailAddressOID(), Value: "old@x.test"}, {Type: emailAddressOID(), Value: "B@x.test"}}},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: mixedNames(t)}},
	}
	cert, err := x509.ParseCertificate(makeCertificate(t, template))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"B@x.test", "a@x.test", "jürgen@x.test", "old@x.test"}
	if got := CertificateAddresses(cert); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := CertificateAddresses(&x509.Certificate{}); len(got) > 0 {
		t.Errorf("%q", got)
	}
}

// mixedNames is a subjectAltName of an SmtpUTF8Mailbox, a UPN and two rfc822Names, one of them twice.
func mixedNames(t *testing.T) []byte {
	t.Helper()
	var names []asn1.RawValue
	for _, other := range []struct {
		oid   asn1.ObjectIdentifier
		value string
	}{{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}, "jürgen@x.test"}, {asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, "upn@x.test"}} {
		der, err := asn1.MarshalWithParams(struct {
			OID   asn1.ObjectIdentifier
			Value string `asn1:"tag:0,explicit,utf8"`
		}{other.oid, other.value}, "tag:0")
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, asn1.RawValue{FullBytes: der})
	}
	for _, a := range []string{"B@x.test", "a@x.test", "B@x.test"} {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(a)})
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestOwns(t *testing.T) {
	u := User{Addresses: []string{"Alice@x.test"}, FormerAddresses: []string{"old@x.test"}}
	tests := []struct {
		address         string
		current, former bool
	}{{"alice@X.test", true, false}, {"OLD@x.test", false, true}, {"bob@x.test", false, false}}
	for _, test := range tests {
		if current, former := u.Owns(test.address); current != test.current || former != test.former {
			t.Errorf("%s: %v, %v", test.address, current, former)
		}
	}
}

func TestEffective(t *testing.T) {
	profile := func(kind Kind, name string) Object { return Object{Kind: kind, Name: name, Spec: newSpec(kind)} }
	assign := func(name string, profiles []string, include, exclude []Target) Object {
		return Object{Kind: KindAssignment, Name: name, Spec: &Assignment{profiles, include, exclude}}
	}
	objects := []Object{
		profile(KindTrustedCertificate, "root"), profile(KindEmail, "mail"), profile(KindCustom, "wifi"), profile(KindCustom, "vpn"), profile(KindPKCSCertificate, "signing"),
		profile(KindUser, "alice@x.test"),
		assign("all", []string{"root", "mail"}, []Target{{Everybody: true}}, nil),
		assign("sales", []string{"wifi", "vpn"}, []Target{{Group: "sales"}}, []Target{{Device: "LOST"}}),
		assign("vip", []string{"vpn"}, []Target{{User: "Alice@x.test"}}, nil),
		assign("test", []string{"signing"}, []Target{{Device: "d1"}}, []Target{{User: "alice@x.test"}}),
		assign("no mail", []string{"mail"}, nil, []Target{{Group: "interns"}}),
	}
	tests := []struct {
		name    string
		subject Subject
		want    []string
	}{
		{"everybody", Subject{UPN: "x@x.test"}, []string{"mail", "root"}},
		{"group", Subject{UPN: "x@x.test", Groups: []string{"sales"}}, []string{"vpn", "wifi", "mail", "root"}},
		{"user", Subject{UPN: "alice@x.test"}, []string{"vpn", "mail", "root"}},
		{"exclude wins over another assignment", Subject{UPN: "alice@x.test", Groups: []string{"sales"}, DeviceID: "lost"}, []string{"mail", "root"}},
		{"exclude wins in one assignment", Subject{UPN: "alice@x.test", DeviceID: "D1"}, []string{"vpn", "mail", "root"}},
		{"device", Subject{UPN: "bob@x.test", DeviceID: "d1"}, []string{"mail", "signing", "root"}},
		{"group excluded elsewhere", Subject{UPN: "bob@x.test", Groups: []string{"interns"}}, []string{"root"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, o := range Effective(objects, test.subject) {
				got = append(got, o.Name)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"365d": 365 * Day, "24h": Day, "90m": 90 * time.Minute, "0d": 0} {
		if d, err := ParseDuration(text); err != nil || d.Time() != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "d", "365", "1y", "-1d", "+1d", "1.5d", "1d12h", " 1d", "99999999d", "1D", "999999999999d"} {
		if _, err := ParseDuration(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for d, want := range map[Duration]string{Duration(Day): "1d", Duration(25 * time.Hour): "25h", Duration(61 * time.Minute): "61m"} {
		text, err := json.Marshal(d)
		var again Duration
		if err != nil || string(text) != `"`+want+`"` || json.Unmarshal(text, &again) != nil || again != d {
			t.Errorf("%s, %v", text, err)
		}
	}
	var d Duration
	if err := json.Unmarshal([]byte("365"), &d); err == nil {
		t.Error("a bare number is taken")
	}
}

func TestDecodeObjects(t *testing.T) {
	const user = `{"apiVersion":"waxseal/v1","kind":"User","name":"a@b.test","spec":{"displayName":"A","addresses":["a@b.test"]}}`
	tests := []struct {
		name, text string
		objects    int
		faults     []string
	}{
		{"one", user, 1, nil},
		{"list", "[" + user + "," + user + "]", 2, nil},
		{"empty list", "[]", 0, nil},
		{"not JSON", "{", 0, []string{"reading JSON"}},
		{"trailing", user + user, 0, []string{"more text follows"}},
		{"too deep", strings.Repeat("[", 40), 0, []string{"nested deeper"}},
		{"no object", `["x"]`, 0, []string{"document number 1: must be an object"}},
		{"kind missing", `{"apiVersion":"waxseal/v1"}`, 0, []string{"kind: is missing"}},
		{"all at once", `[{"apiVersion":"v2","kind":"Email","name":"m","spec":{"accountName":1,"exchange":{"ssl":"yes","daysToSync":1.5,"Host":"x"}}},{"kind":"Nope"}]`, 1,
			[]string{"Email m: apiVersion: must be waxseal/v1", "Email m: spec.accountName: must be text", "Email m: spec.exchange.ssl: must be true or false",
				"Email m: spec.exchange.daysToSync: must be a whole number", "Email m: spec.exchange.Host: unknown field; write it host",
				"Nope number 2: apiVersion: must be", `Nope number 2: kind: "Nope" is not known`}},
		{"twice", strings.Replace(user, `"displayName":"A"`, `"displayName":"A","displayName":"B"`, 1), 1, []string{"spec.displayName: is given twice"}},
		{"base64", `{"apiVersion":"waxseal/v1","kind":"Custom","name":"c","spec":{"content":"%"}}`, 1, []string{"spec.content: must be base64"}},
		{"duration", `{"apiVersion":"waxseal/v1","kind":"PKCSCertificate","name":"c","spec":{"validity":365}}`, 1, []string{`spec.validity: must be text as in "365d"`}},
		{"null list", `{"apiVersion":"waxseal/v1","kind":"User","name":"a@b.test","spec":{"addresses":null}}`, 1, nil},
		{"source is no field", strings.Replace(user, `"kind"`, `"source":{},"kind"`, 1), 1, []string{"source: unknown field"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			objects, faults := DecodeObjects([]byte(test.text))
			if len(objects) != test.objects || len(faults) != len(test.faults) {
				t.Fatalf("%d objects, faults:\n%s", len(objects), faults)
			}
			for i, want := range test.faults {
				if !strings.Contains(faults[i].String(), want) {
					t.Errorf("fault %q, want %q", faults[i], want)
				}
			}
		})
	}
}

// Every kind survives a round trip through encoding/json with the same digest.
func TestObjectRoundTrip(t *testing.T) {
	yes, days := true, 7
	specs := []Spec{
		&User{DisplayName: "A", Addresses: []string{"a@b.test"}, FormerAddresses: []string{"c@b.test"}, Groups: []string{"g"}, SAMAccountName: "a"},
		&Assignment{Profiles: []string{"p"}, Include: []Target{{Group: "g"}}, Exclude: []Target{{Everybody: true}}},
		&TrustedCertificate{Certificate: []byte{1, 2}},
		&PKCSCertificate{CertificateRequest{CertificateAuthority: "softca", Subject: "CN=x", Validity: Duration(Day), RevokeOn: []Event{EventWipe}}},
		&PKCSImportedCertificate{PurposeSMIMESigning},
		&SCEPCertificate{CertificateRequest{CertificateAuthority: "softca", SubjectAlternativeNames: []SubjectAlternativeName{{SANEmail, "x"}}}},
		&Email{AccountName: "m", Exchange: &Exchange{SSL: &yes, DaysToSync: &days, Services: &Services{Mail: true, UserMayChange: &yes}}, SMIME: &SMIME{Signing: SMIMESigning{Enabled: true}}},
		&Custom{Platforms: []Platform{IOS}, Content: []byte("x")},
	}
	if len(specs) != len(Kinds()) {
		t.Fatal("a kind has no case")
	}
	seen := map[string]bool{}
	for _, spec := range specs {
		o := Object{APIVersion: APIVersion, Kind: spec.kind(), Name: "n", Spec: spec}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var again Object
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if again.Digest() != o.Digest() || len(o.Digest()) != 64 || seen[o.Digest()] {
			t.Errorf("%s: digest %s and %s", o.Kind, again.Digest(), o.Digest())
		}
		seen[o.Digest()] = true
	}
}

// The digest is about what is said, not about the file it came from.
func TestDigestIgnoresFileNames(t *testing.T) {
	a := Object{Kind: KindCustom, Name: "n", Spec: &Custom{File: "a", Content: []byte("x")}}
	b := Object{Kind: KindCustom, Name: "n", Spec: &Custom{File: "b", Content: []byte("x")}, Source: &Source{File: "f"}}
	if a.Digest() != b.Digest() {
		t.Error("a file's name changes the digest")
	}
	if a.Spec.(*Custom).File != "a" {
		t.Error("the digest changed the object")
	}
	b.Spec = &Custom{File: "a", Content: []byte("y")}
	if a.Digest() == b.Digest() {
		t.Error("the content does not change the digest")
	}
}

// FuzzDecodeObjects: no panic, and what decodes encodes again to the same digest.
func FuzzDecodeObjects(f *testing.F) {
	f.Add([]byte(`[{"apiVersion":"waxseal/v1","kind":"User","name":"a@b.test","spec":{"displayName":"A","addresses":["a@b.test"]}}]`))
	f.Add([]byte(`{"apiVersion":"waxseal/v1","kind":"PKCSCertificate","name":"c","spec":{"validity":"365d","keySize":2048}}`))
	f.Add([]byte(`{"kind":"Email","spec":{"exchange":null,"smime":{}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, faults := DecodeObjects(data)
		Check(objects, Known{})
		for _, o := range objects {
			if len(faults) > 0 {
				return
			}
			text, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			var again Object
			if err := json.Unmarshal(text, &again); err != nil || again.Digest() != o.Digest() {
				t.Errorf("%s changes: %v", text, err)
			}
		}
	})
}
