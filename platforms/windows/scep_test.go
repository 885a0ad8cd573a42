package windows

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
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

// asking is sales with a signing certificate that the PC asks for itself, after a change.
func asking(t testing.TB, change func(*platforms.Input, *profiles.SCEPCertificate)) platforms.Input {
	spec := scepSpec()
	in := with(sales(t), object("mail-signing", spec))
	in.Issued = nil
	in.SCEP = map[string]platforms.SCEPEnrolment{"mail-signing": {Request: strings.Repeat("0a", 16), URL: "https://mdm.corp.test/scep/softca",
		SANs: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: alice}}}}
	if change != nil {
		change(&in, spec)
	}
	return in
}

// theRequest is the UniqueID of asking's node.
var theRequest = strings.Repeat("0A", 16)

// The PC makes the key; a node for each request, roots and intermediates first, Outlook's policies after it.
func TestSCEPPlan(t *testing.T) {
	ca := testpki.NewCA(t, "Corp root")
	sub := ca.Intermediate(t, "Corp issuing")
	issued := sig("own", 2026, 2027, alice)
	in := asking(t, func(in *platforms.Input, _ *profiles.SCEPCertificate) {
		e := in.SCEP["mail-signing"]
		e.Intermediates, e.Issued = [][]byte{sub.Cert.Raw}, issued
		in.SCEP["mail-signing"] = e
	})
	docs := Plan(in)
	d := byID(t, docs, "identity.mail-signing")
	if d.Reason != "" || d.Identifier != userSCEP+"/"+theRequest || d.Proof != theRequest || !d.UserScope || d.HasSecrets() || !IsSCEP(d) {
		t.Errorf("%+v", d)
	}
	if !slices.Equal(d.Challenges, []string{"mail-signing"}) || !slices.Equal(d.Certificates, []string{issued.SHA256}) || bytes.Contains(d.Body, []byte("challenge-")) {
		t.Errorf("challenges %q, certificates %q", d.Challenges, d.Certificates)
	}
	inter := byID(t, docs, "trust."+hexSHA256(sub.Cert.Raw)[:16])
	if !strings.HasPrefix(inter.Identifier, storeCA+"/") || !slices.Equal(inter.Profiles, []string{"mail-signing"}) || !slices.Contains(d.DependsOn, inter.ID) {
		t.Errorf("%+v, %q", inter, d.DependsOn)
	}
	if mail := byID(t, docs, "mail.company-mail"); mail.Reason != "" || !slices.Contains(mail.DependsOn, d.ID) {
		t.Errorf("%s waits %s, depends on %q", mail.ID, mail.Detail, mail.DependsOn)
	}
	root := sha1.Sum(in.CAs["softca"])
	if want := strings.ToUpper(hex.EncodeToString(root[:])); !bytes.Contains(d.Body, []byte(want)) {
		t.Errorf("no CAThumbprint %s in %s", want, d.Body)
	}
}

// Another request is another node; another address of the server, and the certificate once it is there, are no reason to
// make another key.
func TestSCEPRevision(t *testing.T) {
	of := func(change func(*platforms.SCEPEnrolment)) platforms.Document {
		return byID(t, Plan(asking(t, func(in *platforms.Input, _ *profiles.SCEPCertificate) {
			e := in.SCEP["mail-signing"]
			change(&e)
			in.SCEP["mail-signing"] = e
		})), "identity.mail-signing")
	}
	first := of(func(*platforms.SCEPEnrolment) {})
	for name, change := range map[string]func(*platforms.SCEPEnrolment){
		"issued": func(e *platforms.SCEPEnrolment) { e.Issued = sig("own", 2026, 2027, alice) },
		"moved":  func(e *platforms.SCEPEnrolment) { e.URL = "https://new.corp.test/scep/softca" },
	} {
		if d := of(change); d.Revision != first.Revision || d.Identifier != first.Identifier {
			t.Errorf("%s: another revision", name)
		}
	}
	if d := of(func(e *platforms.SCEPEnrolment) { e.Request = strings.Repeat("0b", 16) }); d.Revision == first.Revision || d.Identifier == first.Identifier {
		t.Error("another request has the same node")
	}
}

// The challenge is in what is sent and nowhere else.
func TestRenderSCEP(t *testing.T) {
	d := byID(t, Plan(asking(t, nil)), "identity.mail-signing")
	payload, err := RenderSCEP(d, "challenge-1")
	if err != nil {
		t.Fatal(err)
	}
	commands, checks, err := Install(d, payload, false)
	if err != nil || len(checks) != 0 || len(commands) != 1 || commands[0].Verb != syncml.Atomic {
		t.Fatalf("%v, %v, %v", commands, checks, err)
	}
	sent := message(t, commands)
	if n := strings.Count(string(sent), "challenge-1"); n != 1 {
		t.Errorf("the challenge is %d times in %s", n, sent)
	}
	if _, err := Render(d, nil, nil); err == nil {
		t.Error("rendered without a challenge")
	}
	waiting, history, broken := d, byID(t, Plan(sales(t)), history(enc("2018", 2018, 2020))), d
	waiting.Reason, broken.Body = platforms.ReasonDependency, []byte("{")
	for name, c := range map[string]struct {
		doc       platforms.Document
		challenge string
	}{"no challenge": {d, ""}, "waits": {waiting, "c"}, "a PFX": {history, "c"}, "broken": {broken, "c"}} {
		if _, err := RenderSCEP(c.doc, c.challenge); err == nil {
			t.Errorf("%s: rendered", name)
		}
	}
	empty := bytes.Replace(payload, []byte("challenge-1"), nil, 1)
	if CheckRendered(d, empty) == nil {
		t.Error("a payload without a challenge is taken")
	}
}

func TestReadAsked(t *testing.T) {
	const id = userSCEP + "/0A"
	for _, c := range []struct {
		status, print, code string
		state               AskedState
		detail              string
	}{
		{"", "", "", AskedNothing, ""}, {"32", "", "", AskedPending, ""}, {"2", "", "0", AskedPending, ""},
		{"1", " ab cd ", "0", AskedDone, ""}, {"1", "", "0", AskedFailed, "shows none"},
		{"16", "", "", AskedFailed, "does not say why"}, {"16", "", "-2147012867", AskedFailed, "cannot be reached (0x80072EFD)"},
		{"16", "", "0x801901F7", AskedFailed, "HTTP 503"}, {"16", "", "2148204809", AskedFailed, "CAThumbprint"},
		{"16", "", "1", AskedFailed, "event log"}, {"8", "", "", AskedFailed, `"8"`},
	} {
		values := map[string]string{}
		for leaf, v := range map[string]string{"status": c.status, "CERTTHUMBPRINT": c.print, "ErrorCode": c.code} {
			if v != "" {
				values[id+"/"+leaf] = v
			}
		}
		got := ReadAsked(id, values)
		if got.State != c.state || !strings.Contains(got.Detail, c.detail) || (got.Thumbprint == "ABCD") != (c.state == AskedDone) {
			t.Errorf("%q %q %q: %+v", c.status, c.print, c.code, got)
		}
	}
	if len(AskedURIs(id)) != 3 {
		t.Error(AskedURIs(id))
	}
}

// No two errors that a person can act on read alike.
func TestEnrolMeaning(t *testing.T) {
	seen := map[string]bool{}
	for _, code := range []int64{0x80072ee7, 0x80072efd, 0x80072ee2, 0x80072f8f, 0x800b0109, 0x80090029, 0x80090016, 0x80092023, 0x80094014,
		0x800705b4, 0x80190193, 0x80004005, -2147467259 + 1} {
		if m := EnrolMeaning(code); seen[m] || !strings.Contains(m, "(0x8") {
			t.Errorf("0x%X: %s", code, m)
		} else {
			seen[m] = true
		}
	}
}

func TestSCEPInventory(t *testing.T) {
	issued := sig("own", 2026, 2027, alice)
	d := byID(t, Plan(asking(t, nil)), "identity.mail-signing")
	d.Certificates = []string{issued.SHA256}
	uris := map[string]string{userSCEP: strings.ToLower(theRequest) + "/other/empty", d.Identifier + "/CertThumbprint": issued.SHA1, userSCEP + "/empty/CertThumbprint": ""}
	if got := Documents(uris); got[d.Identifier] != d.Proof {
		t.Errorf("%v", got)
	}
	if got := Thumbprints(uris); !slices.Equal(got, []string{strings.ToUpper(issued.SHA1)}) {
		t.Errorf("%v", got)
	}
	if got := Certificates([]platforms.Document{d}, uris); len(got) != 0 {
		t.Errorf("a name proves no certificate: %v", got)
	}
	if got := InventoryFor([]platforms.Document{d}); !slices.Equal(got, []string{d.Identifier + "/CertThumbprint"}) {
		t.Errorf("%v", got)
	}
}

func hexSHA256(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
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

// TestSC02OneAddress: all devices are given the one address behind which all nodes are, so that there is no list to walk.
func TestSC02OneAddress(t *testing.T) {
	payload, err := RenderSCEP(byID(t, Plan(asking(t, nil)), "identity.mail-signing"), "challenge-1")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(payload, []byte("https://")); n != 1 || !bytes.Contains(payload, []byte(`"https://mdm.corp.test/scep/softca"`)) {
		t.Errorf("%d addresses in %s", n, payload)
	}
}

// PK-04: a TPM makes no keys of 4096 bits.
func TestPK04SCEPKeyProtection(t *testing.T) {
	for bits, want := range map[int]string{0: "2", 1024: "2", 2048: "2", 4096: "3"} {
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
func TestPK07SCEPSubject(t *testing.T) {
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
