package profiles

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func vars() Vars {
	return Vars{UserName: "Alice Example", UserPrincipalName: "alice@corp.test", EmailAddress: "Alice@corp.test", SerialNumber: "F2L", DeviceID: "d-1",
		DeviceName: "Alice's iPhone", WiFiMAC: "aa:bb", OnPremisesSAMAccountName: "aexample", OnPremisesSecurityID: "S-1-5-21-1"}
}

func TestExpand(t *testing.T) {
	odd := vars()
	odd.UserName = "{{DeviceId}}"
	tests := []struct {
		name, template string
		vars           Vars
		want, err      string
	}{
		{"text", "plain", vars(), "plain", ""},
		{"several", "{{UserName}} <{{EmailAddress}}>", vars(), "Alice Example <Alice@corp.test>", ""},
		{"text behind", "{{DeviceName}}x", vars(), "Alice's iPhonex", ""},
		{"case-tolerant", "{{username}}{{DEVICEID}}{{Device_serial}}{{ wifimacaddress }}", vars(), "Alice Exampled-1F2Laa:bb", ""},
		{"a value is not expanded again", "{{UserName}}", odd, "{{DeviceId}}", ""},
		{"PK-08 no value", "{{UserName}}{{IMEINumber}}", vars(), "", "variable {{IMEINumber}} has no value"},
		{"unknown", "{{Salary}}", vars(), "", "variable {{Salary}} does not exist"},
		{"empty name", "{{}}", vars(), "", "variable {{}} does not exist"},
		{"open", "{{UserName", vars(), "", "{{ without }}"},
		{"nested", "{{User{{Name}}}}", vars(), "", "{{ without }}"},
		{"close only", "UserName}}", vars(), "", "}} without {{"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Expand(test.template, test.vars)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// Every documented name resolves, whatever its case.
func TestVariableNames(t *testing.T) {
	for _, name := range VariableNames() {
		for _, spelled := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if err := CheckTemplate("{{" + spelled + "}}"); err != nil {
				t.Error(err)
			}
		}
		_, err := Expand("{{"+name+"}}", Vars{})
		if unresolvable, ok := errors.AsType[*UnresolvableError](err); !ok || unresolvable.Variable != name || unresolvable.Unknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVarsFor(t *testing.T) {
	v := VarsFor("alice@corp.test", &User{DisplayName: "Alice", Addresses: []string{"A@corp.test", "b@corp.test"}, SAMAccountName: "al",
		OnPremisesDistinguishedName: "CN=Alice,DC=corp", OnPremisesSecurityIdentifier: "S-1-5-21-1", Department: "Sales"})
	got, err := Expand("{{OnPrem_Distinguished_Name}} {{OnPremisesSecurityIdentifier}} {{Department}}", v)
	if err != nil || got != "CN=Alice,DC=corp S-1-5-21-1 Sales" {
		t.Errorf("%q, %v", got, err)
	}
	if v.UserName != "Alice" || v.EmailAddress != "A@corp.test" || v.UserPrincipalName != "alice@corp.test" || v.OnPremisesSAMAccountName != "al" {
		t.Errorf("%+v", v)
	}
	if v := VarsFor("x@y", &User{}); v.EmailAddress != "" {
		t.Errorf("%+v", v)
	}
}

func TestExpandNames(t *testing.T) {
	names, err := ExpandNames([]SubjectAlternativeName{{SANUPN, "{{UserPrincipalName}}"}, {SANURI, "{{OnPremisesSecurityIdentifier}}"}, {SANEmail, "{{EmailAddress}}"}}, vars())
	if err != nil {
		t.Fatal(err)
	}
	want := []SubjectAlternativeName{{SANEmail, "Alice@corp.test"}, {SANUPN, "alice@corp.test"}, {SANURI, "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1"}}
	for i := range want {
		if names[i] != want[i] {
			t.Errorf("name %d is %v, want %v", i, names[i], want[i])
		}
	}
	for _, bad := range []SubjectAlternativeName{{SANEmail, "{{UserName}}"}, {SANDNS, "{{FullyQualifiedDomainName}}"}} {
		if _, err := ExpandNames([]SubjectAlternativeName{bad}, vars()); err == nil {
			t.Errorf("%v expands", bad)
		}
	}
}

// show writes a sequence in its own order, one type:value a part.
func show(t *testing.T, sequence pkix.RDNSequence) string {
	t.Helper()
	der, err := asn1.Marshal(sequence)
	if err != nil {
		t.Fatal(err)
	}
	var again pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &again); err != nil || len(rest) > 0 {
		t.Fatalf("reading back: %v", err)
	}
	var parts []string
	for _, rdn := range again {
		var set []string
		for _, a := range rdn {
			set = append(set, a.Type.String()+":"+a.Value.(string))
		}
		parts = append(parts, strings.Join(set, "+"))
	}
	return strings.Join(parts, "|")
}

func TestParseSubject(t *testing.T) {
	tests := []struct{ name, template, userName, want, err string }{
		{"order of RFC 4514", "CN={{UserName}},O=Corp,C=DE", "", "2.5.4.6:DE|2.5.4.10:Corp|2.5.4.3:Alice Example", ""},
		{"with address", "CN={{UserName}},E={{EmailAddress}}", "", "1.2.840.113549.1.9.1:Alice@corp.test|2.5.4.3:Alice Example", ""},
		{"PK-07 specials in a value", "CN={{UserName}},O=Corp", `Alice, O=Evil; + "x" \ =y`, `2.5.4.10:Corp|2.5.4.3:Alice, O=Evil; + "x" \ =y`, ""},
		{"PK-07 escaped comma", `CN=Test User (Corp\, LLC)`, "", "2.5.4.3:Test User (Corp, LLC)", ""},
		{"PK-07 quoted", `CN="Corp, LLC; a+b=c \"d\"" , O=X`, "", `2.5.4.10:X|2.5.4.3:Corp, LLC; a+b=c "d"`, ""},
		{"hex pairs", `CN=\C3\A9t\C3\A9`, "", "2.5.4.3:été", ""},
		{"several in one RDN", "CN=a+SERIALNUMBER={{SerialNumber}},O=b", "", "2.5.4.10:b|2.5.4.3:a+2.5.4.5:F2L", ""},
		{"semicolon and spaces", "cn = a b  ; o= c", "", "2.5.4.10:c|2.5.4.3:a b", ""},
		{"escaped space at the end", `CN=a\ `, "", "2.5.4.3:a ", ""},
		{"dotted OID", "1.2.3.4=x", "", "1.2.3.4:x", ""},
		{"all names", "CN=a,E=b,OU=c,O=d,L=e,ST=f,C=GB,SERIALNUMBER=g,G=h,SN=i", "", "2.5.4.4:i|2.5.4.42:h|2.5.4.5:g|2.5.4.6:GB|2.5.4.8:f|2.5.4.7:e|2.5.4.10:d|2.5.4.11:c|1.2.840.113549.1.9.1:b|2.5.4.3:a", ""},
		{"empty", " ", "", "", "is empty"},
		{"unescaped comma", "CN=Example, Alice", "", "", `"Alice" has no value`},
		{"unknown attribute", "XX=1", "", "", `attribute "XX" is not known`},
		{"no value", "CN=,O=x", "", "", "CN: has no value"},
		{"trailing comma", "CN=a,", "", "", "has no value"},
		{"open quote", `CN="a`, "", "", "closing quotation mark"},
		{"text behind a quote", `CN="a"b`, "", "", "text follows"},
		{"quote inside", `CN=a"b`, "", "", "quotation mark inside"},
		{"lone backslash", `CN=a\`, "", "", "stands at the end"},
		{"bad escape", `CN=a\zz`, "", "", "special character or two hex digits"},
		{"not UTF-8", `CN=\FF`, "", "", "not UTF-8"},
		{"no such value", "CN={{IMEI}}", "", "", "subject CN: variable {{IMEI}} has no value"},
		{"too long", "CN={{UserName}}", strings.Repeat("x", 65), "", "65 characters, at most 64"},
		{"country", "C=Germany", "", "", "two letters"},
		{"control character", "CN={{UserName}}", "a\x00b", "", "cannot be printed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := vars()
			if test.userName != "" {
				v.UserName = test.userName
			}
			got, err := ParseSubject(test.template, v)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || show(t, got) != test.want {
				t.Errorf("%s, %v; want %s", show(t, got), err, test.want)
			}
		})
	}
}

func TestParseSubjectKeepsUnresolvable(t *testing.T) {
	_, err := ParseSubject("CN={{imei}}", vars())
	if u, ok := errors.AsType[*UnresolvableError](err); !ok || u.Variable != "imei" {
		t.Errorf("error %v", err)
	}
}

// OpenSSL and crypto/x509 read the subject as the admin wrote it.
func TestSubjectInCertificate(t *testing.T) {
	v := vars()
	v.UserName = "Example, Alice; =+"
	sequence, err := ParseSubject("CN={{UserName}},E={{EmailAddress}},O=Corp,C=DE", v)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := asn1.Marshal(sequence)
	if err != nil {
		t.Fatal(err)
	}
	der := makeCertificate(t, &x509.Certificate{RawSubject: raw})
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.Subject.CommonName != v.UserName || cert.Subject.Country[0] != "DE" {
		t.Fatalf("subject %v, %v", cert.Subject, err)
	}
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	cmd := exec.Command("openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253,show_type")
	cmd.Stdin = strings.NewReader(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	out, err := cmd.CombinedOutput()
	want := `subject=CN=UTF8STRING:Example\, Alice\; =\+,emailAddress=IA5STRING:Alice@corp.test,O=PRINTABLESTRING:Corp,C=PRINTABLESTRING:DE`
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("openssl says %s, %v; want %s", got, err, want)
	}
}

// FuzzParseSubject: no panic, and what CheckSubject takes has only known variables.
func FuzzParseSubject(f *testing.F) {
	for _, seed := range []string{"CN={{UserName}},E={{EmailAddress}}", `CN="a, b"+O=c;1.2.3=d`, `CN=\C3\A9\,`, "CN=", "=", `\`, `CN="`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, template string) {
		sequence, err := ParseSubject(template, vars())
		if err == nil {
			if _, err := asn1.Marshal(sequence); err != nil {
				t.Errorf("%q cannot be encoded: %v", template, err)
			}
			if err := CheckSubject(template); err != nil {
				t.Errorf("%q parses and does not check: %v", template, err)
			}
		}
	})
}
