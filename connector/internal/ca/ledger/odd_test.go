package ledger

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// openWith is open after change was made to the settings, at a time.
func (r *rig) openWith(t *testing.T, now time.Time, change func(s *ca.Settings)) *CA {
	t.Helper()
	j, err := journal.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	s := ca.Settings{Name: "corp", Kind: "test", URL: "https://ca.corp.test", Templates: []string{"mail"},
		Issuers: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.up.ca.Cert.Raw}))}
	change(&s)
	c, err := New(s, r.up, j, func(e ...keyring.Event) error { r.events = append(r.events, e...); return nil }, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func refusedBy(err error) bool {
	var refused *ca.RefusedError
	return errors.As(err, &refused)
}

// TestOddIsNotForEver: what made a certificate odd may be put right, at the settings at once, at the CA after a while. The
// handle of the odd one would lead to it again.
func TestOddIsNotForEver(t *testing.T) {
	other := testpki.NewCA(t, "Another CA")
	wrongIssuers := func(s *ca.Settings) {
		s.Issuers = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Cert.Raw}))
	}
	same := func(*ca.Settings) {}
	t.Run("issuersFile", func(t *testing.T) {
		r, in := newRig(t), intent(t, "odd-issuers-000001")
		if _, err := r.openWith(t, testpki.Now(), wrongIssuers).Issue(t.Context(), in); !refusedBy(err) {
			t.Fatalf("got %v", err)
		}
		if _, err := r.openWith(t, testpki.Now(), wrongIssuers).Issue(t.Context(), in); !refusedBy(err) || r.up.enrols != 1 {
			t.Fatalf("still wrong: %v, asked %d times", err, r.up.enrols)
		}
		if _, err := r.openWith(t, testpki.Now(), same).Issue(t.Context(), in); err != nil {
			t.Errorf("put right: %v", err)
		}
		if r.up.enrols != 2 || r.up.handles[1] != nil {
			t.Errorf("asked %d times with %q", r.up.enrols, r.up.handles)
		}
	})
	t.Run("url", func(t *testing.T) {
		r, in := newRig(t), intent(t, "odd-url-0000000001")
		r.up.change = func(o *testpki.Options) { o.Emails = []string{"boss@corp.test"} }
		if _, err := r.openWith(t, testpki.Now(), func(s *ca.Settings) { s.URL = "https://wrong.corp.test" }).Issue(t.Context(), in); !refusedBy(err) {
			t.Fatalf("got %v", err)
		}
		r.up.change = nil
		if _, err := r.openWith(t, testpki.Now(), same).Issue(t.Context(), in); err != nil {
			t.Errorf("put right: %v", err)
		}
	})
	t.Run("at the CA", func(t *testing.T) {
		r, in := newRig(t), intent(t, "odd-at-the-ca-0001")
		r.up.change = func(o *testpki.Options) { o.Emails = []string{"boss@corp.test"} }
		if _, err := r.open(t).Issue(t.Context(), in); !refusedBy(err) {
			t.Fatalf("got %v", err)
		}
		r.up.change = nil
		if _, err := r.openWith(t, testpki.Now().Add(6*24*time.Hour), same).Issue(t.Context(), in); !refusedBy(err) || r.up.enrols != 1 {
			t.Errorf("too soon: %v, asked %d times", err, r.up.enrols)
		}
		if _, err := r.openWith(t, testpki.Now().Add(7*24*time.Hour), same).Issue(t.Context(), in); err != nil || r.up.handles[1] != nil {
			t.Errorf("put right: %v, handles %q", err, r.up.handles)
		}
	})
}

// TestHandleOfAnotherCA: a handle says nothing to a CA at another address, or of another protocol.
func TestHandleOfAnotherCA(t *testing.T) {
	for name, change := range map[string]func(s *ca.Settings){
		"kind": func(s *ca.Settings) { s.Kind = "other" },
		"url":  func(s *ca.Settings) { s.URL = "https://new.corp.test" },
	} {
		r, in := newRig(t), intent(t, "other-ca-000000001")
		r.up.lose = true
		if _, err := r.open(t).Issue(t.Context(), in); err == nil {
			t.Fatal("a lost answer gave a certificate")
		}
		if _, err := r.openWith(t, testpki.Now(), change).Issue(t.Context(), in); err != nil || r.up.handles[1] != nil {
			t.Errorf("%s: %v, handle %q", name, err, r.up.handles)
		}
	}
}

// TestNotYetValid: the server would refuse it, and asking again would give another like it.
func TestNotYetValid(t *testing.T) {
	r, in := newRig(t), intent(t, "not-yet-valid-0001")
	r.up.change = func(o *testpki.Options) { o.NotBefore = testpki.Now().Add(time.Hour) }
	if _, err := r.open(t).Issue(t.Context(), in); err == nil || refusedBy(err) || !strings.Contains(err.Error(), "clock") {
		t.Fatalf("got %v", err)
	}
	if _, err := r.open(t).Issue(t.Context(), in); err == nil || refusedBy(err) {
		t.Fatalf("got %v", err)
	}
	if chain, err := r.openWith(t, testpki.Now().Add(time.Hour), func(*ca.Settings) {}).Issue(t.Context(), in); err != nil || len(chain) == 0 || r.up.enrols != 1 {
		t.Errorf("later: %v, asked %d times", err, r.up.enrols)
	}
}

// sanOf is an alternative name extension with names as they stand.
func sanOf(t *testing.T, names ...asn1.RawValue) pkix.Extension {
	t.Helper()
	der, err := asn1.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: der}
}

func simple(tag int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}
}

func upn(t *testing.T, oid asn1.ObjectIdentifier, value string) asn1.RawValue {
	t.Helper()
	der, err := asn1.MarshalWithParams(struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"explicit,tag:0,utf8"`
	}{oid, value}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	return asn1.RawValue{FullBytes: der}
}

// TestMoreThanWasAskedFor: names, uses and whatever else gives its holder a power that nobody asked for, or makes it useless.
func TestMoreThanWasAskedFor(t *testing.T) {
	mail := simple(1, "Alice.Example@corp.test")
	userPrincipal := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
	named := func(names ...asn1.RawValue) func(o *testpki.Options) {
		return func(o *testpki.Options) {
			o.Emails, o.Extensions = nil, []pkix.Extension{sanOf(t, append([]asn1.RawValue{mail}, names...)...)}
		}
	}
	security := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, Value: []byte("S-1-5-21-1-2-3-500")}
	cases := []struct {
		name, says string
		change     func(o *testpki.Options)
		asks       []profiles.SubjectAlternativeName
	}{
		{"another user's logon", "administrator@corp.test", named(upn(t, userPrincipal, "administrator@corp.test")), nil},
		{"the logon that was asked for", "", named(upn(t, userPrincipal, "alice@corp.test")), []profiles.SubjectAlternativeName{{Type: profiles.SANUPN, Value: "alice@corp.test"}}},
		{"the address as logon", "", named(upn(t, userPrincipal, "alice.example@corp.test")), nil},
		{"a Kerberos name", "1.3.6.1.5.2.2", named(upn(t, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 2, 2}, "krbtgt")), nil},
		{"a host", "dc1.corp.test", func(o *testpki.Options) { o.DNS = []string{"dc1.corp.test"} }, nil},
		{"all hosts", "*.corp.test", func(o *testpki.Options) { o.DNS = []string{"*.corp.test"} }, nil},
		{"the host that was asked for", "", func(o *testpki.Options) { o.DNS = []string{"PC.corp.test"} }, []profiles.SubjectAlternativeName{{Type: profiles.SANDNS, Value: "pc.corp.test"}}},
		{"an address of a host", "7f000001", named(simple(7, "\x7f\x00\x00\x01")), nil},
		{"a URI", "tag:microsoft.com", func(o *testpki.Options) {
			o.URIs = []*url.URL{{Scheme: "tag", Opaque: "microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"}}
		}, nil},
		{"an account's SID", "SID", func(o *testpki.Options) { o.Extensions = []pkix.Extension{security} }, nil},
		{"the SID that was asked for", "", func(o *testpki.Options) {
			o.URIs = []*url.URL{{Scheme: "tag", Opaque: "microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"}}
			o.Extensions = []pkix.Extension{security}
		}, []profiles.SubjectAlternativeName{{Type: profiles.SANURI, Value: "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"}}},
		{"signs certificates", "key usage", func(o *testpki.Options) { o.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign }, nil},
		{"the address twice", "Alice.Example@corp.test", named(mail), nil},
		{"what nobody understands", "critical", func(o *testpki.Options) {
			o.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}, nil},
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.up.change = tc.change
			in := intent(t, "more-than-asked-00"+string(rune('a'+i)))
			in.SANs = append(in.SANs, tc.asks...)
			_, err := r.open(t).Issue(t.Context(), in)
			if tc.says == "" && err != nil || tc.says != "" && (!refusedBy(err) || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
		})
	}
}

// TestExtendedKeyUsageThatWasAskedFor: what the profile names must be there; where it names none, the CA's template says it.
func TestExtendedKeyUsageThatWasAskedFor(t *testing.T) {
	for i, tc := range []struct {
		asked []string
		has   x509.ExtKeyUsage
		right bool
	}{
		{[]string{"emailProtection"}, x509.ExtKeyUsageServerAuth, false},
		{[]string{"emailProtection", "clientAuth"}, x509.ExtKeyUsageEmailProtection, false},
		{[]string{"emailProtection"}, x509.ExtKeyUsageEmailProtection, true},
		{[]string{"1.3.6.1.5.5.7.3.4"}, x509.ExtKeyUsageAny, true},
		{nil, x509.ExtKeyUsageClientAuth, true},
	} {
		r := newRig(t)
		r.up.change = func(o *testpki.Options) { o.ExtKeyUsage = []x509.ExtKeyUsage{tc.has} }
		in := intent(t, "extended-usage-000"+string(rune('a'+i)))
		in.ExtendedKeyUsage = tc.asked
		if _, err := r.open(t).Issue(t.Context(), in); tc.right && err != nil || !tc.right && !refusedBy(err) {
			t.Errorf("%v: got %v", tc.asked, err)
		}
	}
}

// TestKeyUsageThatWasAskedFor: a key that may not be used as the profile wants is of no use.
func TestKeyUsageThatWasAskedFor(t *testing.T) {
	for i, tc := range []struct {
		asked []string
		has   x509.KeyUsage
		right bool
	}{
		{[]string{"keyEncipherment"}, x509.KeyUsageDigitalSignature, false},
		{[]string{"digitalSignature"}, x509.KeyUsageKeyEncipherment, false},
		{[]string{"digitalSignature", "nonRepudiation"}, x509.KeyUsageDigitalSignature, true},
		{nil, x509.KeyUsageDigitalSignature, true},
	} {
		r := newRig(t)
		r.up.change = func(o *testpki.Options) { o.KeyUsage = tc.has }
		in := intent(t, "key-usage-asked-00"+string(rune('a'+i)))
		in.KeyUsage = tc.asked
		if _, err := r.open(t).Issue(t.Context(), in); tc.right && err != nil || !tc.right && !refusedBy(err) {
			t.Errorf("%v: got %v", tc.asked, err)
		}
	}
}
