package profiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// object makes one object from JSON; strict decoding is tested elsewhere.
func object(t testing.TB, kind Kind, name, spec string) Object {
	t.Helper()
	text, err := json.Marshal(map[string]any{"apiVersion": APIVersion, "kind": kind, "name": name, "spec": json.RawMessage(spec)})
	if err != nil {
		t.Fatal(err)
	}
	o, faults := DecodeObject(text, 0, nil)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return o
}

// base are valid objects that cases refer to.
func base(t testing.TB) []Object {
	return []Object{
		object(t, KindUser, "alice@corp.test", `{"displayName":"Alice","addresses":["alice@corp.test"],"formerAddresses":["alice@old.test"],"groups":["sales"]}`),
		object(t, KindPKCSCertificate, "pkcs", `{"certificateAuthority":"softca","subject":"CN={{UserName}}"}`),
		object(t, KindSCEPCertificate, "scep", `{"certificateAuthority":"softca","subject":"CN={{UserName}}"}`),
		object(t, KindPKCSImportedCertificate, "history", `{"intendedPurpose":"smimeEncryption"}`),
		object(t, KindPKCSImportedCertificate, "old-signing", `{"intendedPurpose":"smimeSigning"}`),
		object(t, KindPKCSImportedCertificate, "rest", `{"intendedPurpose":"unassigned"}`),
	}
}

func softcaKnown() Known { return Known{CertificateAuthorities: map[string]bool{CASoft: true}} }

const exchange = `"accountName":"Mail","exchange":{"host":"mail.corp.test","authentication":"usernameAndPassword","usernameSource":"userPrincipalName"}`

type checkCase struct {
	name    string
	kind    Kind
	object  string // name of the object, "x" if empty
	spec    string
	fault   string // part of the only fault; empty for none
	warning string // part of the only warning; empty for none
}

func runCheckCases(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			name := c.object
			if name == "" {
				name = "x"
			}
			faults, warnings := Check(append(base(t), object(t, c.kind, name, c.spec)), softcaKnown())
			expectOne(t, "fault", faults, c.fault)
			expectOne(t, "warning", warnings, c.warning)
		})
	}
}

func expectOne(t *testing.T, what string, got Faults, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("unexpected %s: %s", what, got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0].String(), want)):
		t.Errorf("%s %q, want one with %q", what, got.Error(), want)
	}
}

func TestBaseIsValid(t *testing.T) {
	faults, warnings := Check(base(t), softcaKnown())
	expectOne(t, "fault", faults, "")
	expectOne(t, "warning", warnings, "")
}

func TestNames(t *testing.T) {
	const spec = `{"intendedPurpose":"smimeSigning"}`
	runCheckCases(t, []checkCase{
		{name: "non-ASCII", kind: KindPKCSImportedCertificate, object: "Übung 1", spec: spec},
		{name: "128 characters", kind: KindPKCSImportedCertificate, object: strings.Repeat("ü", 128), spec: spec},
		{name: "129 characters", kind: KindPKCSImportedCertificate, object: strings.Repeat("a", 129), spec: spec, fault: "more than 128"},
		{name: "newline", kind: KindPKCSImportedCertificate, object: "a\nb", spec: spec, fault: `"a\nb": name: has a character that cannot be printed (U+000A)`},
		{name: "invisible", kind: KindPKCSImportedCertificate, object: "a\u200bb", spec: spec, fault: "cannot be printed (U+200B)"},
		{name: "space around", kind: KindPKCSImportedCertificate, object: " a", spec: spec, fault: "begin or end with a space"},
		{name: "twice", kind: KindPKCSImportedCertificate, object: "history", spec: `{"intendedPurpose":"smimeEncryption"}`, fault: "given twice"},
		{name: "user and profile share a name", kind: KindPKCSImportedCertificate, object: "alice@corp.test", spec: spec},
		{name: "user without @", kind: KindUser, object: "bob", spec: `{"addresses":["bob@corp.test"]}`, fault: "is not a UPN"},
		{name: "user twice in another case", kind: KindUser, object: "Alice@corp.test", spec: `{"addresses":["a2@corp.test"]}`, fault: "given twice"},
	})
}

func TestUsers(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "none", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":[]}`, fault: "spec.addresses: is missing"},
		{name: "bad address", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob at corp"]}`, fault: "is not a mail address"},
		{name: "space", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["b ob@corp.test"]}`, fault: "not allowed"},
		{name: "two at signs", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@x@corp.test"]}`, fault: "no valid domain"},
		{name: "apostrophe and plus", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["b.o'brien+x@corp.test"]}`},
		{name: "current and former", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"formerAddresses":["Bob@corp.test"]}`, fault: "spec.formerAddresses[0]: Bob@corp.test is given twice"},
		{name: "another's address", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["ALICE@corp.test"]}`, fault: "belongs to user alice@corp.test"},
		{name: "another's former address", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"formerAddresses":["alice@old.test"]}`},
		{name: "former, now another's", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"formerAddresses":["alice@corp.test"]}`, warning: "now an address of user alice@corp.test"},
		{name: "directory", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"department":"Sales","onPremisesDistinguishedName":"CN=Bob,DC=corp","onPremisesSecurityIdentifier":"S-1-5-21-1004336348-1177238915-682003330-512"}`},
		{name: "SID", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"onPremisesSecurityIdentifier":"S-1-5-x"}`, fault: "spec.onPremisesSecurityIdentifier: \"S-1-5-x\" is no security identifier"},
		{name: "group twice", kind: KindUser, object: "bob@corp.test", spec: `{"addresses":["bob@corp.test"],"groups":["a","a"]}`, fault: "spec.groups[1]"},
	})
}

func TestKnownAddresses(t *testing.T) {
	known := Known{UserAddresses: map[string]string{"info@corp.test": "carol@corp.test"}}
	bob := object(t, KindUser, "bob@corp.test", `{"addresses":["Info@corp.test"]}`)
	faults, _ := Check([]Object{bob}, known)
	expectOne(t, "fault", faults, "Info@corp.test belongs to user carol@corp.test")
	carol := object(t, KindUser, "carol@corp.test", `{"addresses":["carol@corp.test"]}`)
	faults, _ = Check([]Object{carol, bob}, known)
	expectOne(t, "fault", faults, "")
}

func TestAssignments(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "all targets", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{"everybody":true},{"user":"ALICE@corp.test"},{"group":"sales"}]}`},
		{name: "no profiles", kind: KindAssignment, spec: `{"profiles":[],"include":[{"everybody":true}]}`, fault: "spec.profiles: is missing"},
		{name: "no include", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[]}`, fault: "spec.include: is missing"},
		{name: "unknown profile", kind: KindAssignment, spec: `{"profiles":["nope"],"include":[{"everybody":true}]}`, fault: `spec.profiles[0]: there is no profile "nope"`},
		{name: "a user is no profile", kind: KindAssignment, spec: `{"profiles":["alice@corp.test"],"include":[{"everybody":true}]}`, fault: "there is no profile"},
		{name: "two in one target", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{"group":"sales","everybody":true}]}`, fault: "exactly one of"},
		{name: "empty target", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{}]}`, fault: "exactly one of"},
		{name: "unknown user", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{"user":"eve@corp.test"}]}`, warning: `spec.include[0].user: user "eve@corp.test" is not known yet`},
		{name: "unknown group", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{"group":"Sales"}]}`, warning: "has no members yet"},
		{name: "unknown device", kind: KindAssignment, spec: `{"profiles":["pkcs"],"include":[{"everybody":true}],"exclude":[{"device":"d1"}]}`, warning: "spec.exclude[0].device"},
	})
}

func TestKnownReferences(t *testing.T) {
	known := Known{Profiles: map[string]Kind{"stored": KindPKCSImportedCertificate, "mail": KindEmail}, Purposes: map[string]Purpose{"stored": PurposeSMIMESigning},
		Users: map[string]bool{"Eve@corp.test": true}, Groups: map[string]bool{"it": true}, Devices: map[string]bool{"d1": true}}
	assignment := object(t, KindAssignment, "a", `{"profiles":["stored","mail"],"include":[{"user":"eve@corp.test"},{"group":"it"},{"device":"d1"}]}`)
	faults, warnings := Check([]Object{assignment}, known)
	expectOne(t, "fault", faults, "")
	expectOne(t, "warning", warnings, "")
	faults, _ = Check([]Object{object(t, KindEmail, "mail", `{`+exchange+`,"smime":{"encryption":{"certificate":"stored"}}}`)}, known)
	expectOne(t, "fault", faults, `"stored" has the intended purpose smimeSigning`)
	faults, _ = Check([]Object{object(t, KindPKCSImportedCertificate, "mail", `{"intendedPurpose":"smimeSigning"}`)}, known)
	expectOne(t, "fault", faults, "exists as Email and cannot become PKCSImportedCertificate")
}

func TestCertificateRequests(t *testing.T) {
	request := func(more string) string {
		return `{"certificateAuthority":"softca","subject":"CN={{UserName}}"` + more + `}`
	}
	cases := []checkCase{
		{name: "everything", spec: request(`,"template":"smime-signing","subjectAlternativeNames":[{"type":"email","value":"{{emailaddress}}"},{"type":"uri","value":"{{OnPremisesSecurityIdentifier}}"}],"keySize":4096,"keyUsage":["digitalSignature","nonRepudiation","keyEncipherment"],"extendedKeyUsage":["emailProtection","1.3.6.1.4.1.311.20.2.2"],"validity":"365d","renewalThresholdPercentage":99,"revokeOn":["unenroll","retire","wipe","unassign"]`)},
		{name: "no CA", spec: `{"subject":"CN=x"}`, fault: "spec.certificateAuthority: is missing"},
		{name: "unknown CA", spec: `{"certificateAuthority":"adcs","subject":"CN=x"}`, fault: `no connector offers a CA "adcs"; known are softca`},
		{name: "unknown template", spec: request(`,"template":"User"`), fault: `softca has no template "User"`},
		{name: "strict template", spec: request(`,"template":"smime-signing-strict"`)},
		{name: "encryption template", spec: request(`,"template":"smime-encryption"`), fault: `no template "smime-encryption" for keys of one device`},
		{name: "dual template", spec: request(`,"template":"smime-dual"`), fault: `no template "smime-dual" for keys of one device`},
		{name: "no subject", spec: `{"certificateAuthority":"softca"}`, fault: "spec.subject: is empty"},
		{name: "PK-07 broken subject", spec: `{"certificateAuthority":"softca","subject":"CN=Example, Alice"}`, fault: "spec.subject:"},
		{name: "PK-08 unknown variable", spec: `{"certificateAuthority":"softca","subject":"CN={{UserNmae}}"}`, fault: "{{UserNmae}} does not exist"},
		{name: "country in words", spec: `{"certificateAuthority":"softca","subject":"CN={{UserName}},C=Germany"}`, fault: `spec.subject: C: "Germany" is not a country`},
		{name: "long organization", spec: `{"certificateAuthority":"softca","subject":"CN={{UserName}},O=` + strings.Repeat("o", 70) + `"}`, fault: "spec.subject: O: value has 70 characters, at most 64"},
		{name: "fixed values", spec: `{"certificateAuthority":"softca","subject":"CN={{UserName}},O=Corp,C=DE","subjectAlternativeNames":[{"type":"email","value":"helpdesk@corp.test"},{"type":"dns","value":"helpdesk"}]}`},
		{name: "no value", spec: `{"certificateAuthority":"softca","subject":"CN={{AAD_Device_ID}}"}`, warning: "spec.subject: nothing gives the variable {{AAD_Device_ID}} a value yet"},
		{name: "no value in a SAN", spec: request(`,"subjectAlternativeNames":[{"type":"dns","value":"{{fullyqualifieddomainname}}"}]`), warning: "spec.subjectAlternativeNames[0].value: nothing gives"},
		{name: "fixed SAN", spec: request(`,"subjectAlternativeNames":[{"type":"email","value":"helpdesk"}]`), fault: `spec.subjectAlternativeNames[0].value: "helpdesk" is not a mail address`},
		{name: "SAN type", spec: request(`,"subjectAlternativeNames":[{"type":"rfc822","value":"x"}]`), fault: "spec.subjectAlternativeNames[0].type"},
		{name: "SAN value", spec: request(`,"subjectAlternativeNames":[{"type":"email","value":""}]`), fault: "spec.subjectAlternativeNames[0].value: is missing"},
		{name: "SAN variable", spec: request(`,"subjectAlternativeNames":[{"type":"email","value":"{{Mail}}"}]`), fault: "{{Mail}} does not exist"},
		{name: "500 SANs", spec: request(`,"subjectAlternativeNames":[` + strings.Repeat(`{"type":"dns","value":"x"},`, 500) + `{"type":"dns","value":"x"}]`), fault: "more than 500"},
		{name: "key size", spec: request(`,"keySize":1024`), fault: "use 2048, 3072 or 4096"},
		{name: "key usage", spec: request(`,"keyUsage":["sign"]`), fault: "spec.keyUsage[0]"},
		{name: "extended key usage", spec: request(`,"extendedKeyUsage":["email"]`), fault: "spec.extendedKeyUsage[0]"},
		{name: "PK-05 validity under 5 days", spec: request(`,"validity":"119h"`), fault: "119h is not allowed; use 5d to 825d"},
		{name: "5 days", spec: request(`,"validity":"120h"`)},
		{name: "SC-10 validity over 24 months", spec: request(`,"validity":"826d"`), fault: "826d is not allowed"},
		{name: "threshold", spec: request(`,"renewalThresholdPercentage":100`), fault: "use 1 to 99"},
		{name: "negative threshold", spec: request(`,"renewalThresholdPercentage":-1`), fault: "use 1 to 99"},
		{name: "event", spec: request(`,"revokeOn":["leave"]`), fault: "spec.revokeOn[0]"},
	}
	for _, kind := range []Kind{KindPKCSCertificate, KindSCEPCertificate} {
		for i := range cases {
			cases[i].kind = kind
		}
		t.Run(string(kind), func(t *testing.T) { runCheckCases(t, cases) })
	}
}

func TestOfflineLeavesAuthoritiesUnchecked(t *testing.T) {
	faults, _ := Check([]Object{object(t, KindTrustedCertificate, "x", `{"certificateAuthority":"anything"}`)}, Known{})
	expectOne(t, "fault", faults, "")
	faults, _ = Check([]Object{object(t, KindTrustedCertificate, "x", `{"certificateAuthority":"anything"}`)}, Known{CertificateAuthorities: map[string]bool{}})
	expectOne(t, "fault", faults, "none has registered one yet")
}

func TestImportedPurpose(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "missing", kind: KindPKCSImportedCertificate, spec: `{}`, fault: "spec.intendedPurpose: is missing"},
		{name: "VPN is not supported", kind: KindPKCSImportedCertificate, spec: `{"intendedPurpose":"vpn"}`, fault: `"vpn" is not known`},
	})
}

func TestKeySizeOfDevices(t *testing.T) {
	const spec = `{"certificateAuthority":"softca","subject":"CN={{UserName}}","keySize":3072}`
	runCheckCases(t, []checkCase{
		{name: "device", kind: KindSCEPCertificate, spec: spec, warning: "spec.keySize: 3072: of the devices"},
		{name: "connector", kind: KindPKCSCertificate, spec: spec},
	})
}

func TestEmailAccounts(t *testing.T) {
	with := func(more string) string { return `{` + exchange + more + `}` }
	ex := func(more string) string {
		return `{"accountName":"Mail","exchange":{"host":"mail.corp.test","usernameSource":"userPrincipalName",` + more + `}}`
	}
	const server = `{"host":"h.test","authentication":"password"}`
	runCheckCases(t, []checkCase{
		{name: "Exchange", kind: KindEmail, spec: with(``)},
		{name: "no name", kind: KindEmail, spec: strings.Replace(with(``), `"Mail"`, `""`, 1), fault: "spec.accountName: is missing"},
		{name: "address source", kind: KindEmail, spec: with(`,"addressSource":"samAccountName"`), fault: "spec.addressSource"},
		{name: "variables in the name", kind: KindEmail, spec: strings.Replace(with(``), `"Mail"`, `"Mail of {{UserName}}"`, 1)},
		{name: "unknown variable in the name", kind: KindEmail, spec: strings.Replace(with(``), `"Mail"`, `"Mail of {{Team}}"`, 1), fault: "spec.accountName: variable {{Team}} does not exist"},
		{name: "unknown variable in the domain", kind: KindEmail, spec: strings.Replace(ex(`"authentication":"oauth","domain":"{{Domain}}"`), "userPrincipalName", "samAccountName", 1), fault: "spec.exchange.domain: variable {{Domain}} does not exist"},
		{name: "broken domain", kind: KindEmail, spec: strings.Replace(ex(`"authentication":"oauth","domain":"CO\u0007RP"`), "userPrincipalName", "samAccountName", 1), fault: "spec.exchange.domain: has a character"},
		{name: "no server", kind: KindEmail, spec: `{"accountName":"Mail"}`, fault: "exactly one of exchange, imap and pop"},
		{name: "two servers", kind: KindEmail, spec: with(`,"imap":` + server + `,"smtp":` + server), fault: "exactly one of"},
		{name: "Exchange with SMTP", kind: KindEmail, spec: with(`,"smtp":` + server), fault: "spec.smtp: does not belong"},
		{name: "IMAP", kind: KindEmail, spec: `{"accountName":"M","imap":{"host":"h.test","authentication":"ntlm","pathPrefix":"INBOX"},"smtp":` + server + `}`},
		{name: "POP", kind: KindEmail, spec: `{"accountName":"M","pop":` + server + `,"smtp":{"host":"127.0.0.1","authentication":"none","port":25}}`},
		{name: "IMAP without SMTP", kind: KindEmail, spec: `{"accountName":"M","imap":` + server + `}`, fault: "spec.smtp: is missing"},
		{name: "path prefix at SMTP", kind: KindEmail, spec: `{"accountName":"M","imap":` + server + `,"smtp":{"host":"h.test","authentication":"none","pathPrefix":"x"}}`, fault: "spec.smtp.pathPrefix"},
		{name: "port", kind: KindEmail, spec: `{"accountName":"M","imap":` + server + `,"smtp":{"host":"h.test","authentication":"none","port":70000}}`, fault: "spec.smtp.port: 70000"},
		{name: "IMAP authentication", kind: KindEmail, spec: `{"accountName":"M","imap":{"host":"h.test","authentication":"oauth"},"smtp":` + server + `}`, fault: "spec.imap.authentication"},
		{name: "host is a URL", kind: KindEmail, spec: strings.Replace(with(``), "mail.corp.test", "https://mail.corp.test/", 1), fault: "spec.exchange.host: \"https://mail.corp.test/\" is not a host name"},
		{name: "host with port", kind: KindEmail, spec: strings.Replace(with(``), "mail.corp.test", "mail.corp.test:443", 1), fault: "without scheme, port and path"},
		{name: "certificate authentication", kind: KindEmail, spec: ex(`"authentication":"certificate","identityCertificate":"scep"`)},
		{name: "certificate authentication without certificate", kind: KindEmail, spec: ex(`"authentication":"certificate"`), fault: "give both or neither"},
		{name: "certificate with password authentication", kind: KindEmail, spec: ex(`"authentication":"usernameAndPassword","identityCertificate":"scep"`), fault: "give both or neither"},
		{name: "imported certificate to sign in", kind: KindEmail, spec: ex(`"authentication":"certificate","identityCertificate":"history"`), fault: "signing in takes"},
		{name: "domain", kind: KindEmail, spec: ex(`"authentication":"oauth","domain":"CORP"`), fault: "spec.exchange.domain"},
		{name: "OAuth", kind: KindEmail, spec: ex(`"authentication":"oauth","oauthSignInURL":"https://login.test/x"`)},
		{name: "OAuth URL without OAuth", kind: KindEmail, spec: ex(`"authentication":"usernameAndPassword","oauthSignInURL":"https://login.test/x"`), fault: "spec.exchange.oauthSignInURL: belongs to"},
		{name: "OAuth over http", kind: KindEmail, spec: ex(`"authentication":"oauth","oauthTokenRequestURL":"http://login.test/x"`), fault: "must be an https URL"},
		{name: "days", kind: KindEmail, spec: ex(`"authentication":"oauth","daysToSync":2`), fault: "spec.exchange.daysToSync"},
		{name: "no services", kind: KindEmail, spec: ex(`"authentication":"oauth","services":{"userMayChange":false}`), fault: "at least one"},
		{name: "mail only", kind: KindEmail, spec: ex(`"authentication":"oauth","services":{"mail":true},"daysToSync":0`)},
	})
}

func TestEmailSMIME(t *testing.T) {
	smime := func(signing, encryption string) string {
		return `{` + exchange + `,"smime":{"signing":{` + signing + `},"encryption":{` + encryption + `}}}`
	}
	signing := func(name string) string { return smime(`"enabled":true,"certificate":"`+name+`"`, ``) }
	encryption := func(more string) string { return smime(``, `"byDefault":true,"userMayChange":true,`+more) }
	runCheckCases(t, []checkCase{
		{name: "EM-04 PKCS", kind: KindEmail, spec: signing("pkcs")},
		{name: "EM-04 SCEP", kind: KindEmail, spec: signing("scep")},
		{name: "EM-04 imported", kind: KindEmail, spec: signing("old-signing")},
		{name: "EM-04 signing with the history", kind: KindEmail, spec: signing("history"), fault: "signing takes smimeSigning"},
		{name: "EM-04 signing with a user", kind: KindEmail, spec: signing("alice@corp.test"), fault: "there is no profile"},
		{name: "unknown", kind: KindEmail, spec: signing("nope"), fault: "Email x: spec.smime.signing.certificate: there is no profile"},
		{name: "itself", kind: KindEmail, spec: signing("x"), fault: "is a Email"},
		{name: "history", kind: KindEmail, spec: encryption(`"certificate":"history"`)},
		{name: "encryption with signing purpose", kind: KindEmail, spec: encryption(`"certificate":"old-signing"`), fault: "encryption takes smimeEncryption"},
		{name: "encryption with unassigned", kind: KindEmail, spec: encryption(`"certificate":"rest"`), fault: "encryption takes smimeEncryption"},
		{name: "per device PKCS", kind: KindEmail, spec: encryption(`"certificate":"pkcs"`), fault: "makes another key for every device, so mail encrypted to one device cannot be read"},
		{name: "per device SCEP", kind: KindEmail, spec: encryption(`"certificate":"scep"`), fault: "allowPerDeviceCertificate: true"},
		{name: "per device allowed", kind: KindEmail, spec: encryption(`"certificate":"pkcs","allowPerDeviceCertificate":true`)},
		{name: "EM-02 the user picks", kind: KindEmail, spec: smime(`"enabled":true,"userMayChangeCertificate":true`, `"userMayChangeCertificate":true`)},
		{name: "EM-02 nobody picks", kind: KindEmail, spec: smime(`"enabled":true`, ``), warning: "spec.smime.signing.certificate"},
		{name: "EM-02 nobody picks for encryption", kind: KindEmail, spec: smime(``, `"byDefault":true,"perMessageSwitch":true`), warning: "spec.smime.encryption.certificate"},
		{name: "EM-03 forced", kind: KindEmail, spec: smime(``, `"byDefault":true,"certificate":"history"`), warning: "forces encryption"},
		{name: "EM-03 user may opt out", kind: KindEmail, spec: smime(``, `"byDefault":true,"perMessageSwitch":true,"certificate":"history"`)},
		{name: "EM-08 omit", kind: KindEmail, spec: smime(`"whenMissing":"wait"`, `"whenMissing":"omit"`)},
		{name: "EM-08 unknown", kind: KindEmail, spec: smime(``, `"whenMissing":"drop"`), fault: "spec.smime.encryption.whenMissing"},
	})
}

func TestCustom(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "good", kind: KindCustom, spec: `{"platforms":["ios","macos"],"content":"eA=="}`},
		{name: "no platform", kind: KindCustom, spec: `{"platforms":[],"content":"eA=="}`, fault: "spec.platforms: is missing"},
		{name: "wrong platform", kind: KindCustom, spec: `{"platforms":["windows"],"content":"eA=="}`, fault: "use one of ios, macos"},
		{name: "platform twice", kind: KindCustom, spec: `{"platforms":["ios","ios"],"content":"eA=="}`, fault: "given twice"},
		{name: "no content", kind: KindCustom, spec: `{"platforms":["ios"]}`, fault: "spec.file: is missing"},
	})
}

func TestTrustedCertificates(t *testing.T) {
	ca, leaf := makeCertificate(t, &x509.Certificate{IsCA: true, BasicConstraintsValid: true}), makeCertificate(t, &x509.Certificate{BasicConstraintsValid: true})
	v1 := makeCertificate(t, &x509.Certificate{})
	encode := func(der []byte) string { text, _ := json.Marshal(der); return string(text) }
	pemOf := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	good := pemOf("CERTIFICATE", ca)
	inline := func(content []byte) string { return `{"certificate":` + encode(content) + `}` }
	runCheckCases(t, []checkCase{
		{name: "DER", kind: KindTrustedCertificate, spec: inline(ca)},
		{name: "CA of the connector", kind: KindTrustedCertificate, spec: `{"certificateAuthority":"softca"}`},
		{name: "unknown CA", kind: KindTrustedCertificate, spec: `{"certificateAuthority":"x"}`, fault: "no connector offers"},
		{name: "nothing", kind: KindTrustedCertificate, spec: `{}`, fault: "exactly one of"},
		{name: "both", kind: KindTrustedCertificate, spec: `{"certificateAuthority":"softca","certificate":` + encode(ca) + `}`, fault: "exactly one of"},
		{name: "file not read", kind: KindTrustedCertificate, spec: `{"certificateFile":"a.pem"}`, fault: `spec.certificateFile: "a.pem" is empty`},
		{name: "TR-01 key beside", kind: KindTrustedCertificate, spec: inline(append(good, pemOf("EC PRIVATE KEY", []byte{1})...)), fault: "holds a private key"},
		{name: "TR-01 PFX", kind: KindTrustedCertificate, spec: inline([]byte{0x30, 0x82, 1, 0, 2, 1, 3, 0x30}), fault: "PKCS#12"},
		{name: "TR-01 two certificates", kind: KindTrustedCertificate, spec: inline(append(good, good...)), fault: "several certificates"},
		{name: "TR-02 leaf", kind: KindTrustedCertificate, spec: inline(leaf), fault: "no CA certificate"},
		{name: "TR-02 no basic constraints", kind: KindTrustedCertificate, spec: inline(v1), fault: "no CA certificate"},
		{name: "garbage", kind: KindTrustedCertificate, spec: inline([]byte("hello")), fault: "spec.certificate: is not an X.509 certificate"},
		{name: "cut PEM", kind: KindTrustedCertificate, spec: inline(good[:60]), fault: "no complete PEM block"},
		{name: "other PEM", kind: KindTrustedCertificate, spec: inline(pemOf("PKCS7", ca)), fault: `holds a PEM block "PKCS7"`},
	})
}

// makeCertificate signs a template with a key of its own.
func makeCertificate(t testing.TB, template *x509.Certificate) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Unix(1_700_000_000, 0), time.Unix(1_900_000_000, 0)
	if len(template.RawSubject) == 0 && template.Subject.CommonName == "" {
		template.Subject = pkix.Name{CommonName: "Test"}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCheckReportsEverythingAtOnce(t *testing.T) {
	objects := []Object{
		object(t, KindUser, "x", `{"addresses":[]}`),
		object(t, KindCustom, "c", `{"platforms":["tv"]}`),
		{Kind: KindEmail, Name: "no-spec"},
		{Kind: KindEmail, Name: "wrong-spec", Spec: &Custom{}},
	}
	faults, _ := Check(objects, Known{})
	want := []string{"User x: name", "User x: spec.addresses", "Custom c: spec.platforms[0]", "Custom c: spec.file", "Email no-spec: spec", "Email wrong-spec: spec"}
	var got []string
	for _, f := range faults {
		got = append(got, f.Path)
	}
	if !slices.Equal(got, want) {
		t.Errorf("paths %q, want %q", got, want)
	}
	if Faults(nil).Err() != nil {
		t.Error("no faults are an error")
	}
}

func TestRequestDefaults(t *testing.T) {
	var c CertificateRequest
	if c.KeyBits() != 2048 || c.Lifetime() != 365*24*time.Hour || c.RenewalThreshold() != 20 || c.TemplateName() != "smime-signing" || !slices.Equal(c.Revocations(), []Event{EventUnenroll, EventRetire, EventWipe, EventUnassign}) {
		t.Errorf("defaults %d %s %d %s", c.KeyBits(), c.Lifetime(), c.RenewalThreshold(), c.TemplateName())
	}
	c = CertificateRequest{KeySize: 3072, Validity: Duration(10 * Day), RenewalThresholdPercentage: 30, Template: "t", RevokeOn: []Event{EventWipe}}
	if c.KeyBits() != 3072 || c.Lifetime() != 10*Day || c.RenewalThreshold() != 30 || c.TemplateName() != "t" || !slices.Equal(c.Revocations(), []Event{EventWipe}) || len((&CertificateRequest{RevokeOn: []Event{}}).Revocations()) != 0 {
		t.Error("values are not taken")
	}
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if at := c.RenewAt(Certificate{NotBefore: start, NotAfter: start.Add(100 * Day)}); !at.Equal(start.Add(70 * Day)) {
		t.Errorf("PK-10: renewal at %s", at)
	}
}

// PK-10: never after the threshold, and not all at once.
func TestRenewalsAreSpread(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for threshold, latest := range map[int]int{1: 99, 20: 80, 50: 50, 99: 1} {
		c := CertificateRequest{RenewalThresholdPercentage: threshold}
		end := start.Add(time.Duration(latest) * Day)
		first, last := end, start
		for n := range 200 {
			sum := sha256.Sum256([]byte{byte(n)})
			at := c.RenewAt(Certificate{SHA256: hex.EncodeToString(sum[:]), NotBefore: start, NotAfter: start.Add(100 * Day)})
			if at.After(end) || !at.After(start) {
				t.Errorf("threshold %d: renewal at %s", threshold, at)
			}
			if at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		span := time.Duration(min(latest, 100-latest)) * Day / 10
		if width := last.Sub(first); width < span*9/10 || width > span {
			t.Errorf("threshold %d: 200 renewals are spread over %s, want about %s", threshold, width, span)
		}
	}
}

func TestUsages(t *testing.T) {
	bits, err := KeyUsageBits([]string{"digitalSignature", "nonRepudiation"})
	if err != nil || bits != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment {
		t.Errorf("bits %b, %v", bits, err)
	}
	if bits, _ := KeyUsageBits(nil); bits != x509.KeyUsageDigitalSignature {
		t.Errorf("default bits %b", bits)
	}
	oids, err := ExtendedKeyUsageOIDs([]string{"clientAuth", "1.2.3"})
	if err != nil || !oids[0].Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}) || !oids[1].Equal(asn1.ObjectIdentifier{1, 2, 3}) {
		t.Errorf("oids %v, %v", oids, err)
	}
	for _, bad := range []string{"", "1", "3.1", "1.40", "1..2", "01.2", "1.2.x", "1.99999999999"} {
		if _, err := ExtendedKeyUsageOIDs([]string{bad}); err == nil {
			t.Errorf("%q is taken as an OID", bad)
		}
	}
}
