package windows

import (
	"bytes"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// policies are the policies that a mail document sets, by name.
func policies(t testing.TB, doc platforms.Document) map[string]string {
	t.Helper()
	b, err := decodeBody(doc)
	if err != nil {
		t.Fatal(doc.Reason, doc.Detail, err)
	}
	m := map[string]string{}
	for _, n := range b.Nodes[1:] {
		m[strings.TrimPrefix(n.LocURI, policyArea+"/")] = n.Data
	}
	return m
}

func TestPoliciesOfOutlook(t *testing.T) {
	nothing := func(in *platforms.Input) { in.Imported, in.Issued = nil, nil }
	cases := []struct {
		name   string
		smime  profiles.SMIME
		change func(*platforms.Input)
		want   map[string]string
	}{
		{"sign and encrypt", *companyMail().SMIME, nil,
			map[string]string{policyFormat: enabled, policySign: enabled, policyEncrypt: enabled, policyClear: enabled}},
		{"neither, fixed", profiles.SMIME{}, nil,
			map[string]string{policyFormat: enabled, policySign: disabled, policyEncrypt: disabled}},
		{"neither, the user's choice", profiles.SMIME{Signing: profiles.SMIMESigning{UserMayChange: true},
			Encryption: profiles.SMIMEEncryption{UserMayChange: true}}, nil, map[string]string{policyFormat: enabled}},
		{"signing without a named certificate", profiles.SMIME{Signing: profiles.SMIMESigning{Enabled: true}}, nothing,
			map[string]string{policyFormat: enabled, policySign: enabled, policyClear: enabled, policyEncrypt: disabled}},
		{"both omitted", profiles.SMIME{
			Signing:    profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing", WhenMissing: profiles.MissingOmit},
			Encryption: profiles.SMIMEEncryption{ByDefault: true, Certificate: "mail-history", WhenMissing: profiles.MissingOmit}},
			nothing, map[string]string{policyFormat: enabled}},
		{"omit, but there", profiles.SMIME{
			Signing: profiles.SMIMESigning{Enabled: true, Certificate: "mail-signing", WhenMissing: profiles.MissingOmit}}, nil,
			map[string]string{policyFormat: enabled, policySign: enabled, policyClear: enabled, policyEncrypt: disabled}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := with(sales(t), object("company-mail", &profiles.Email{SMIME: &c.smime}))
			if c.change != nil {
				c.change(&in)
			}
			if got := policies(t, byID(t, Plan(in), "mail.company-mail")); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Another setting is another revision under the same identifier, and the file on the PC proves which.
func TestRevisionOfPolicies(t *testing.T) {
	before := byID(t, Plan(sales(t)), "mail.company-mail")
	m := companyMail()
	m.SMIME.Encryption.ByDefault = false
	after := byID(t, Plan(with(sales(t), object("company-mail", m))), "mail.company-mail")
	if before.Revision == after.Revision || before.Proof == after.Proof || before.Identifier != after.Identifier {
		t.Errorf("%s %s and %s %s", before.Revision, before.Proof, after.Revision, after.Proof)
	}
	m.AccountName, m.Exchange.Host = "another", "other.corp.test"
	if same := byID(t, Plan(with(sales(t), object("company-mail", m))), "mail.company-mail"); !reflect.DeepEqual(same, after) {
		t.Error("what Windows does not set changed the document")
	}
}

func TestNotOnWindows(t *testing.T) {
	all := companyMail()
	all.BlockMovingMessages, all.BlockThirdPartyApps, all.BlockRecentAddressesSync, all.AllowMailDrop = true, true, true, true
	all.SMIME.Signing.UserMayChange, all.SMIME.Encryption.PerMessageSwitch = true, false
	free := &profiles.Email{SMIME: &profiles.SMIME{Signing: profiles.SMIMESigning{UserMayChangeCertificate: true},
		Encryption: profiles.SMIMEEncryption{UserMayChangeCertificate: true, PerMessageSwitch: true}}}
	for _, c := range []struct {
		spec *profiles.Email
		want []string
	}{
		{&profiles.Email{}, []string{"the account"}},
		{free, []string{"the account"}},
		{companyMail(), []string{"the account", "smime.signing.certificate:", "smime.signing.userMayChangeCertificate:",
			"smime.encryption.certificate:", "smime.encryption.userMayChange:"}},
		{all, []string{"the account", "blockMovingMessages:", "blockThirdPartyApps:", "blockRecentAddressesSync:", "allowMailDrop:",
			"smime.signing.certificate:", "smime.signing.userMayChange:", "smime.signing.userMayChangeCertificate:",
			"smime.encryption.certificate:", "smime.encryption.userMayChange:", "smime.encryption.perMessageSwitch:"}},
	} {
		got := NotOnWindows(c.spec)
		if len(got) != len(c.want) {
			t.Fatalf("got %q, want %q", got, c.want)
		}
		for i := range got {
			if !strings.HasPrefix(got[i], c.want[i]) {
				t.Errorf("got %q, want %q", got[i], c.want[i])
			}
		}
	}
}

func TestADMX(t *testing.T) {
	golden(t, "outlook.admx", []byte(admx()))
	if !strings.Contains(outlookKey, `Software\Policies\Microsoft\Office\`) {
		t.Error("an ingested ADMX may write below Office only")
	}
	for _, p := range outlookPolicies() {
		if !strings.Contains(admx(), `name="`+p.name+`" class="User"`) {
			t.Errorf("policy %s is not for the user", p.name)
		}
	}
}

func TestXMLLintReadsTheADMX(t *testing.T) {
	need(t, "xmllint")
	cmd := exec.Command("xmllint", "--noout", "-")
	cmd.Stdin = bytes.NewReader([]byte(admx()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
