package issuance

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// theOrder is what the profile gives Alice's device.
func theOrder(t testing.TB) link.CertifyJob {
	t.Helper()
	rdn, err := profiles.ParseSubject("CN=Alice Example,E=alice@corp.test", profiles.Vars{})
	if err != nil {
		t.Fatal(err)
	}
	subject, err := asn1.Marshal(rdn)
	if err != nil {
		t.Fatal(err)
	}
	return link.CertifyJob{RequestID: request, EnrolmentID: "e-1", DeviceID: "d-1", UserID: "u-1", Profile: "mail-signing", Subject: subject,
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "alice@corp.test"}, {Type: profiles.SANUPN, Value: "alice@corp.test"}},
		Request: profiles.CertificateRequest{CertificateAuthority: "softca", KeySize: 2048, KeyUsage: []string{"digitalSignature"},
			ExtendedKeyUsage: []string{"emailProtection"}}}
}

func extension(t testing.TB, id asn1.ObjectIdentifier, value any) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: id, Value: der}
}

func names(raw ...asn1.RawValue) []asn1.RawValue { return raw }

func name(tag int, v string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(v)}
}

func otherName(t testing.TB, id asn1.ObjectIdentifier, v string) asn1.RawValue {
	t.Helper()
	der, err := asn1.MarshalWithParams(struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}{id, v}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

func requestOf(t testing.TB, key *rsa.PrivateKey, subject []byte, extensions ...pkix.Extension) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: extensions}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// TestSC03Check: what a request asks for and the profile does not give is refused, whatever a CA would make of it.
func TestSC03Check(t *testing.T) {
	order := theOrder(t)
	key := testpki.PoolKey(t, 3)
	other, err := asn1.Marshal(pkix.Name{CommonName: "Boss Example"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	san := func(raw ...asn1.RawValue) pkix.Extension { return extension(t, oidSubjectAltName, names(raw...)) }
	usage := func(b byte, n int) pkix.Extension {
		return extension(t, oidKeyUsage, asn1.BitString{Bytes: []byte{b}, BitLength: n})
	}
	eku := func(ids ...asn1.ObjectIdentifier) pkix.Extension { return extension(t, oidExtKeyUsage, ids) }
	mail, server := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	whole := []pkix.Extension{san(name(1, "alice@corp.test"), otherName(t, oidUPN, "alice@corp.test")), usage(0x80, 1), eku(mail)}
	empty := []byte{0x30, 0}
	cases := []struct {
		name         string
		key          *rsa.PrivateKey
		subject      []byte
		extensions   []pkix.Extension
		want, strict Code
	}{
		{"all of it", key, order.Subject, whole, "", ""},
		{"nothing but a key", key, empty, nil, "", SubjectNameMissing},
		{"subject alone", key, order.Subject, nil, "", SubjectAltNameMissing},
		{"another subject", key, other, whole, SubjectNameMismatch, SubjectNameMismatch},
		{"short key", small, order.Subject, whole, KeyLengthMismatch, KeyLengthMismatch},
		{"foreign address", key, order.Subject, []pkix.Extension{san(name(1, "boss@corp.test"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"an address more", key, order.Subject, []pkix.Extension{san(name(1, "alice@corp.test"), name(1, "boss@corp.test"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"address in other letters", key, order.Subject, []pkix.Extension{san(name(1, "Alice@corp.test"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"a domain", key, order.Subject, []pkix.Extension{san(name(2, "corp.test"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"a directory name", key, order.Subject, []pkix.Extension{san(name(4, "x"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"another's UPN", key, order.Subject, []pkix.Extension{san(otherName(t, oidUPN, "boss@corp.test"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"another other name", key, order.Subject, []pkix.Extension{san(otherName(t, asn1.ObjectIdentifier{1, 2, 3}, "x"))}, SubjectAltNameMismatch, SubjectAltNameMismatch},
		{"one name of two", key, order.Subject, []pkix.Extension{san(name(1, "alice@corp.test"))}, "", SubjectAltNameMismatch},
		{"encipherment", key, order.Subject, []pkix.Extension{usage(0xa0, 3)}, KeyUsageMismatch, SubjectAltNameMissing},
		{"certificate signing", key, order.Subject, []pkix.Extension{usage(0x84, 6)}, KeyUsageMismatch, SubjectAltNameMissing},
		{"server authentication", key, order.Subject, []pkix.Extension{eku(mail, server)}, EnhancedKeyUsageMismatch, SubjectAltNameMissing},
		{"no extended key usage", key, order.Subject, whole[:2], "", EnhancedKeyUsageMissing},
		{"no key usage", key, order.Subject, []pkix.Extension{whole[0], whole[2]}, "", KeyUsageMismatch},
		{"SC-09 extensions that are nobody's business", key, order.Subject, append(whole[:3:3], extension(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, "User"),
			extension(t, asn1.ObjectIdentifier{2, 5, 29, 14}, []byte{1, 2, 3}), extension(t, oidBasicConstraints, struct{}{}), extension(t, asn1.ObjectIdentifier{1, 2, 3, 4}, "x")), "", ""},
		{"a CA", key, order.Subject, append(whole[:3:3], extension(t, oidBasicConstraints, struct{ CA bool }{true})), KeyUsageMismatch, KeyUsageMismatch},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			csr := requestOf(t, tc.key, tc.subject, tc.extensions...)
			if err := Check(csr, order, false); codeOf(err) != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err := Check(csr, order, true); codeOf(err) != tc.strict {
				t.Errorf("strictly: got %v, want %q", err, tc.strict)
			}
		})
	}
}

// TestNamesOfAnyEncoding: devices choose string types; a URI and a name beyond ASCII are read, too.
func TestNamesOfAnyEncoding(t *testing.T) {
	order := theOrder(t)
	order.SANs = []profiles.SubjectAlternativeName{{Type: profiles.SANURI, Value: "https://corp.test/alice"}, {Type: profiles.SANEmail, Value: "älice@corp.test"},
		{Type: profiles.SANDNS, Value: "Phone.corp.test"}}
	u, err := url.Parse("https://corp.test/alice")
	if err != nil {
		t.Fatal(err)
	}
	csr := requestOf(t, testpki.PoolKey(t, 3), order.Subject, extension(t, oidSubjectAltName,
		names(name(6, u.String()), otherName(t, oidUTF8Mailbox, "älice@corp.test"), name(2, "phone.CORP.test"))))
	if err := Check(csr, order, false); err != nil {
		t.Error(err)
	}
}

func FuzzCheck(f *testing.F) {
	order := theOrder(f)
	key := testpki.PoolKey(f, 3)
	f.Add(requestOf(f, key, order.Subject, extension(f, oidSubjectAltName, names(name(1, "alice@corp.test")))).Raw)
	f.Add(requestOf(f, key, []byte{0x30, 0}).Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return
		}
		if err := Check(csr, order, true); err == nil && len(csr.EmailAddresses) != 1 {
			t.Errorf("a request with the addresses %q passed strictly", csr.EmailAddresses)
		}
	})
}
