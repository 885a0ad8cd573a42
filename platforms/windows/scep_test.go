package windows

import (
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
)

func scepSpec() *profiles.SCEPCertificate {
	return &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{CertificateAuthority: "softca",
		Subject: "CN={{UserName}},E={{EmailAddress}}", KeySize: 2048, KeyUsage: []string{"digitalSignature", "nonRepudiation"},
		ExtendedKeyUsage: []string{"emailProtection", "clientAuth"}, Validity: profiles.Duration(365 * profiles.Day),
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANUPN, Value: "{{UserPrincipalName}}"},
			{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}}}}
}

func aliceVars() profiles.Vars {
	return profiles.VarsFor(alice, &profiles.User{DisplayName: "Alice Example", Addresses: []string{alice}})
}

func TestSCEPNodes(t *testing.T) {
	server := scepServer{ID: "signing-1", URL: "https://mdm.corp.test/scep", CAThumbprint: strings.Repeat("ab", 20)}
	nodes, err := scepNodes(server, scepSpec(), aliceVars())
	if err != nil {
		t.Fatal(err)
	}
	if last := nodes[len(nodes)-1]; !last.Exec || !strings.HasSuffix(last.LocURI, "/Install/Enroll") {
		t.Errorf("the last node is %s", last.LocURI)
	}
	var inner []syncml.Command
	for _, n := range nodes {
		inner = append(inner, n.command())
	}
	golden(t, "scep.xml", message(t, []syncml.Command{{Verb: syncml.Atomic, Commands: inner}}))
}

func TestSCEPKeyProtection(t *testing.T) {
	for bits, want := range map[int]string{0: "2", 2048: "2", 4096: "3"} {
		spec := scepSpec()
		spec.KeySize = bits
		nodes, err := scepNodes(scepServer{}, spec, aliceVars())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if strings.HasSuffix(n.LocURI, "/KeyProtection") && n.Data != want {
				t.Errorf("%d bits: %s, want %s", bits, n.Data, want)
			}
		}
	}
}

// Trap 13, PK-07.
func TestSCEPSubject(t *testing.T) {
	for _, c := range []struct{ template, name, want string }{
		{"CN={{UserName}},O=Corp,C=DE", "Alice Example", "CN=Alice Example,O=Corp,C=DE"},
		{"CN={{UserName}}", "Example, Alice", `CN="Example, Alice"`},
		{"CN={{UserName}}", `Alice "Al" Example`, `CN="Alice ""Al"" Example"`},
		{"CN={{UserName}}", `corp\alice`, `CN=corp\alice`},
		{"CN={{UserName}}", "a+b@corp.test", `CN="a+b@corp.test"`},
		{"CN={{UserName}}", "a;b", `CN="a;b"`},
		{"CN={{UserName}}", "a=b", `CN="a=b"`},
		{"CN={{UserName}}", "#1", `CN="#1"`},
		{"CN={{UserName}}", "<a>", `CN="<a>"`},
		{"CN={{UserName}}", "Zoë Ångström", "CN=Zoë Ångström"},
		{`CN=\ a`, "", `CN=" a"`},
		{`CN=Test User (Corp\, LLC)`, "", `CN="Test User (Corp, LLC)"`},
		{"CN={{UserName}}+E=a+b@c.test", "", ""},
		{`CN={{UserName}}+E=a\+b@corp.test,ST=Bern,UID=7`, "A", `CN=A+E="a+b@corp.test",S=Bern,0.9.2342.19200300.100.1.1=7`},
		{"SN=a,SERIALNUMBER=1,L=l,STREET=s,OU=u,T=t,G=g,DC=corp", "", "SN=a,SERIALNUMBER=1,L=l,STREET=s,OU=u,T=t,G=g,DC=corp"},
		{"CN={{IMEI}}", "", ""},
	} {
		vars := aliceVars()
		vars.UserName = c.name
		got, err := scepSubject(c.template, vars)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s of %q: %s, %v; want %s", c.template, c.name, got, err, c.want)
		}
	}
}

func TestSCEPNames(t *testing.T) {
	san := func(kind profiles.SANType, value string) profiles.SubjectAlternativeName {
		return profiles.SubjectAlternativeName{Type: kind, Value: value}
	}
	for _, c := range []struct {
		names []profiles.SubjectAlternativeName
		want  string
		wrong string
	}{
		{nil, "", ""},
		{[]profiles.SubjectAlternativeName{san(profiles.SANDNS, "pc.corp.test"), san(profiles.SANEmail, "a+b@corp.test"), san(profiles.SANURI, "urn:x")},
			"2+a+b@corp.test;3+pc.corp.test;7+urn:x", ""},
		{[]profiles.SubjectAlternativeName{san(profiles.SANURI, "urn:x;y")}, "", "semicolon"},
		{[]profiles.SubjectAlternativeName{san("ip", "127.0.0.1")}, "", `"ip" is not known`},
		{[]profiles.SubjectAlternativeName{san(profiles.SANDNS, "{{IMEI}}")}, "", "IMEI"},
	} {
		got, err := scepNames(c.names, aliceVars())
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%v: %q, %v; want %q, %q", c.names, got, err, c.want, c.wrong)
		}
	}
}

func TestSCEPKeyUsage(t *testing.T) {
	for names, want := range map[string]string{"": "128", "digitalSignature": "128", "digitalSignature nonRepudiation": "192",
		"digitalSignature keyEncipherment": "160", "keyEncipherment": "32", "nonRepudiation": "", "other": ""} {
		got, err := scepKeyUsage(strings.Fields(names))
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", names, got, err)
		}
	}
}

func TestSCEPRefuses(t *testing.T) {
	for name, change := range map[string]func(*profiles.SCEPCertificate){
		"subject": func(s *profiles.SCEPCertificate) { s.Subject = "" },
		"names": func(s *profiles.SCEPCertificate) {
			s.SubjectAlternativeNames = []profiles.SubjectAlternativeName{{Type: "ip"}}
		},
		"usage":    func(s *profiles.SCEPCertificate) { s.KeyUsage = []string{"none"} },
		"purposes": func(s *profiles.SCEPCertificate) { s.ExtendedKeyUsage = []string{"none"} },
	} {
		spec := scepSpec()
		change(spec)
		if _, err := scepNodes(scepServer{}, spec, aliceVars()); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
