package softca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// subjectOf writes a subject as profiles do; no text is an empty one.
func subjectOf(t testing.TB, text string) []byte {
	t.Helper()
	rdns, err := pkix.RDNSequence{}, error(nil)
	if text != "" {
		rdns, err = profiles.ParseSubject(text, profiles.Vars{})
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(rdns)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func issueLeaf(t testing.TB, c catest.CA, in ca.Intent) *x509.Certificate {
	t.Helper()
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func TestTemplates(t *testing.T) {
	c, key := opener(t)(t), testpki.PoolKey(t, 0)
	const signs, commits, enciphers = x509.KeyUsageDigitalSignature, x509.KeyUsageContentCommitment, x509.KeyUsageKeyEncipherment
	cases := []struct {
		template   string
		usage      []string
		ext        []string
		want       x509.KeyUsage
		refused    string
		clientAuth bool
	}{
		{template: "", want: signs},
		{template: "smime-signing", usage: []string{"nonRepudiation"}, ext: []string{"clientAuth"}, want: signs | commits, clientAuth: true},
		{template: "smime-signing", usage: []string{"keyEncipherment"}, want: signs | enciphers},
		{template: "smime-signing", usage: []string{"dataEncipherment"}, refused: "smime-signing has digitalSignature, nonRepudiation, keyEncipherment"},
		{template: "smime-signing-strict", want: signs},
		{template: "smime-signing-strict", usage: []string{"keyEncipherment"}, refused: "key usage keyEncipherment"},
		{template: "smime-signing-strict", ext: []string{"emailProtection", "clientAuth"}, refused: "for mail alone"},
		{template: "smime-encryption", want: enciphers},
		{template: "smime-encryption", usage: []string{"digitalSignature"}, refused: "key usage digitalSignature"},
		{template: "smime-encryption", ext: []string{"1.3.6.1.5.5.7.3.2"}, want: enciphers, clientAuth: true},
		{template: "smime-encryption-strict", usage: []string{"keyEncipherment"}, want: enciphers},
		{template: "smime-dual", want: signs | enciphers},
		{template: "smime-dual-strict", usage: []string{"nonRepudiation"}, want: signs | commits | enciphers},
		{template: "smime-all", refused: "smime-dual-strict"},
	}
	for i, tc := range cases {
		in := catest.Intent(t, "template-0000000000"+string(rune('a'+i)), key)
		in.Template, in.KeyUsage, in.ExtendedKeyUsage = tc.template, tc.usage, tc.ext
		if tc.refused != "" {
			var refused *ca.RefusedError
			if _, err := c.Issue(t.Context(), in); !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%s %v %v: got %v", tc.template, tc.usage, tc.ext, err)
			}
			continue
		}
		leaf := issueLeaf(t, c, in)
		if leaf.KeyUsage != tc.want || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) != tc.clientAuth || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageEmailProtection {
			t.Errorf("%s %v %v: key usage %b, extended %v", tc.template, tc.usage, tc.ext, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
	}
}

// TestPolicies: a reserved policy is a promise about the names, and stands only where they keep it.
func TestPolicies(t *testing.T) {
	c, key := opener(t)(t), testpki.PoolKey(t, 0)
	const sponsor = `O=Example,2.5.4.97=NTRDE-HRB1234,GN=Alice,SN=Doe`
	cases := []struct {
		name, subject, template, want string
		sans                          []profiles.SubjectAlternativeName
	}{
		{name: "a mailbox", subject: "CN=alice@corp.test", want: "2.23.140.1.5.1.2"},
		{name: "a mailbox, strict", subject: "CN=alice@corp.test,E=alice@corp.test,serialNumber=7", template: "smime-signing-strict", want: "2.23.140.1.5.1.3"},
		{name: "nobody", want: "2.23.140.1.5.1.2"},
		{name: "a person", subject: "CN=Alice Doe"},
		{name: "another mailbox", subject: "CN=bob@corp.test"},
		{name: "another spelling", subject: "CN=Alice@corp.test"},
		{name: "an address that is no alternative name", subject: "E=bob@corp.test"},
		{name: "two mailboxes", subject: "CN=alice@corp.test,CN=alice@corp.test"},
		{name: "an organization alone", subject: "O=Example,2.5.4.97=NTRDE-HRB1234"},
		{name: "a user principal name", subject: "CN=alice@corp.test", sans: []profiles.SubjectAlternativeName{{Type: profiles.SANUPN, Value: "alice@corp.test"}}, want: "2.23.140.1.5.1.2"},
		{name: "a user principal name, strict", subject: "CN=alice@corp.test", template: "smime-dual-strict", sans: []profiles.SubjectAlternativeName{{Type: profiles.SANUPN, Value: "alice@corp.test"}}},
		{name: "a host", subject: "CN=alice@corp.test", sans: []profiles.SubjectAlternativeName{{Type: profiles.SANDNS, Value: "corp.test"}}},
		{name: "a sponsor", subject: sponsor + ",CN=Alice Doe,C=DE", want: "2.23.140.1.5.3.2"},
		{name: "a sponsor, strict", subject: sponsor, template: "smime-encryption-strict", want: "2.23.140.1.5.3.3"},
		{name: "another country", subject: sponsor + ",C=FR"},
		{name: "an international number", subject: `O=Example,2.5.4.97=LEIXG-5299000,2.5.4.65=al,CN=al,C=FR`, want: "2.23.140.1.5.3.2"},
		{name: "no registration", subject: `O=Example,2.5.4.97=1234,GN=Alice,SN=Doe`},
		{name: "person and pseudonym", subject: sponsor + ",2.5.4.65=al"},
		{name: "another's name", subject: sponsor + ",CN=Bob Doe"},
		{name: "a unit", subject: sponsor + ",OU=Sales"},
	}
	for i, tc := range cases {
		in := catest.Intent(t, "policy-000000000000"+string(rune('a'+i)), key)
		in.Template, in.Subject = tc.template, subjectOf(t, tc.subject)
		in.SANs = append([]profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "alice@corp.test"}}, tc.sans...)
		got := ""
		for _, p := range issueLeaf(t, c, in).Policies {
			got += p.String()
		}
		if got != tc.want {
			t.Errorf("%s: policy %q, want %q", tc.name, got, tc.want)
		}
	}
}
