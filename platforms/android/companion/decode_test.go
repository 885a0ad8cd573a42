package companion

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMessagesComeBack(t *testing.T) {
	for _, s := range samples() {
		t.Run(s.name, func(t *testing.T) {
			b := encoded(t, s.value)
			golden(t, s.name+".json", b)
			got, err := s.decode(b)
			if err != nil || !reflect.DeepEqual(got, s.value) {
				t.Errorf("%v\n%+v\n%+v", err, got, s.value)
			}
			newer := bytes.Replace(b, []byte("{"), []byte(`{"from_a_newer_version":{"a":[1,null]},`), 1)
			if got, err := s.decode(newer); err != nil || !reflect.DeepEqual(got, s.value) {
				t.Errorf("with an unknown field: %v", err)
			}
		})
	}
}

// What no message may be.
func TestNoMessage(t *testing.T) {
	deep := strings.Repeat(`{"x":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1)
	cases := []struct{ name, body, want string }{
		{"empty", "", "not JSON"},
		{"XML", "<a/>", "not JSON"},
		{"cut", `{"a":`, "not JSON"},
		{"cut list", `{"a":[1`, "not JSON"},
		{"cut name", `{"a`, "not JSON"},
		{"not UTF-8", "{\"a\":\"\xff\"}", "not UTF-8"},
		{"deep", deep, "deeper than 16"},
		{"very deep", strings.Repeat("[", 100000), "deeper than 16"},
		{"many", `{"x":[` + strings.Repeat("0,", maxList) + `0]}`, "x has more than 5000 entries"},
		{"many fields", `{` + manyFields() + `}`, "more than 5000 entries"},
		{"long text", `{"x":"` + strings.Repeat("y", maxText+1) + `"}`, "x has 4097 bytes"},
		{"long text in a list", `{"x":["` + strings.Repeat("y", maxText+1) + `"]}`, "x has 4097 bytes"},
		{"twice", `{"x":1,"x":2}`, "x is given twice"},
		{"twice in another case", `{"x":{"revision":"a","Revision":"b"}}`, "Revision is given twice"},
		{"two messages", `{} {}`, "follows"},
		{"too big", strings.Repeat(" ", MaxAnswer+1), "at most"},
	}
	for _, c := range cases {
		for _, s := range samples() {
			_, err := s.decode([]byte(c.body))
			if err == nil || !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "at most") || len(err.Error()) > 300 {
				t.Errorf("%s as %s: %v, want %q", c.name, s.name, err, c.want)
			}
		}
	}
	for _, body := range []string{"null", "true", "1", `"x"`, "{}", "[]", "[1]", "[null]"} {
		for _, s := range samples() {
			if s.name == "Events" && (body == "null" || body == "[]") || s.name == "StatusResponse" && (body == "{}" || body == "null") ||
				s.name == "Inventory" && (body == "{}" || body == "null") {
				continue // an empty list, and messages whose fields may all be zero
			}
			if _, err := s.decode([]byte(body)); err == nil {
				t.Errorf("%s is a %s", body, s.name)
			}
		}
	}
}

func manyFields() string {
	var b strings.Builder
	for i := range maxList + 1 {
		fmt.Fprintf(&b, `"f%d":0,`, i)
	}
	return b.String() + `"x":0`
}

func TestRequestsAreRefused(t *testing.T) {
	enroll, status, inv := enrollRequest(), statusReport(), inventory()
	events := samples()[11].value
	cases := []struct {
		name   string
		body   []byte
		decode func([]byte) (any, error)
		want   string
	}{
		{"protocol", replaced(t, enroll, `"protocol": 1`, `"protocol": 0`), reader(DecodeEnrollRequest), "protocol must be 1 or more"},
		{"protocol as text", replaced(t, enroll, `"protocol": 1`, `"protocol": "1"`), reader(DecodeEnrollRequest), "protocol must be a whole number"},
		{"token", replaced(t, enroll, `"one-time"`, `""`), reader(DecodeEnrollRequest), "enrollment_token must be"},
		{"token with a line end", replaced(t, enroll, `"one-time"`, `"hunter2\n"`), reader(DecodeEnrollRequest), "enrollment_token must be"},
		{"install id", replaced(t, enroll, `"5f0c"`, `"5f 0c"`), reader(DecodeEnrollRequest), "device.install_id"},
		{"API level", replaced(t, enroll, `"sdk_int": 35`, `"sdk_int": 20`), reader(DecodeEnrollRequest), "device.sdk_int must be 21 to 999"},
		{"mode", replaced(t, enroll, `"COMPANION"`, `"ROOT"`), reader(DecodeEnrollRequest), "device.management_mode must be one of DEVICE_OWNER"},
		{"model", replaced(t, enroll, `"Pixel 9"`, `"Pixel\u202e9"`), reader(DecodeEnrollRequest), "device.model"},
		{"package", replaced(t, enroll, `"com.waxseal.companion"`, `"companion"`), reader(DecodeEnrollRequest), "agent.package must be the package"},
		{"EC wrap key", replaced(t, enroll, `"RSA"`, `"EC"`), reader(DecodeEnrollRequest), "wrap_key.kty must be RSA"},
		{"no CSR", replaced(t, enroll, `"csr_b64": "UEtDUyAjMTA="`, `"csr_b64": ""`), reader(DecodeEnrollRequest), "wrap_key.csr_b64"},
		{"CSR in no base64", replaced(t, enroll, `"UEtDUyAjMTA="`, `"hunter2!"`), reader(DecodeEnrollRequest), "bytes must be in base64"},
		{"big CSR", replaced(t, enroll, `"UEtDUyAjMTA="`, `"`+strings.Repeat("A", 24<<10)+`"`), reader(DecodeEnrollRequest), "wrap_key.csr_b64 must be 1 to 16384 bytes"},
		{"capability", replaced(t, enroll, `"generate_key"`, `"Generate key"`), reader(DecodeEnrollRequest), "capabilities[4]"},
		{"capability twice", replaced(t, enroll, `"generate_key"`, `"cert_install"`), reader(DecodeEnrollRequest), "capabilities[4] is in the list twice"},
		{"no revision", []byte(`{"wrap_key_id":"` + sum(nil) + `","nonce":"n"}`), reader(DecodePayloadRequest), "revision must be"},
		{"wrap key id", []byte(`{"revision":"r","wrap_key_id":"` + strings.ToUpper(sum(nil)) + `","nonce":"n"}`), reader(DecodePayloadRequest), "wrap_key_id must be a SHA-256"},
		{"no CSR for a key of the device's own", []byte(`{"revision":"r","csr_b64":""}`), reader(DecodeCSRRequest), "csr_b64 must be 1 to 16384 bytes"},
		{"CSR without revision", []byte(`{"csr_b64":"AAAA"}`), reader(DecodeCSRRequest), "revision must be"},
		{"no nonce", []byte(`{"revision":"r","wrap_key_id":"` + sum(nil) + `"}`), reader(DecodePayloadRequest), "nonce must be"},
		{"seq", replaced(t, status, `"seq": 7`, `"seq": 0`), reader(DecodeStatusReport), "seq must be 1 or more"},
		{"huge seq", replaced(t, status, `"seq": 7`, `"seq": 9223372036854775808`), reader(DecodeStatusReport), "seq must be"},
		{"state", replaced(t, status, `"failed"`, `"done"`), reader(DecodeStatusReport), "state must be one of offered"},
		{"attempt", replaced(t, status, `"attempt": 2`, `"attempt": -1`), reader(DecodeStatusReport), "attempt must be 0 to"},
		{"time", replaced(t, status, `"2026-03-02T09:30:00Z"`, `"yesterday"`), reader(DecodeStatusReport), "a time must be as in"},
		{"failed without error", []byte(`{"revision":"r","seq":1,"state":"failed","at":"2026-03-02T09:30:00Z"}`), reader(DecodeStatusReport), "error is missing"},
		{"no time", []byte(`{"revision":"r","seq":1,"state":"offered"}`), reader(DecodeStatusReport), "at must be a time"},
		{"observed", replaced(t, status, `"smime-enc-0123456789ab"`, `"a/b"`), reader(DecodeStatusReport), "observed.alias must be without /"},
		{"error code", replaced(t, status, `"keychain_refused"`, `"Keychain"`), reader(DecodeStatusReport), "error.code must be a word"},
		{"granted to", replaced(t, status, `"a.b"`, `"a"`), reader(DecodeStatusReport), "observed.granted_to[0]"},
		{"alias", replaced(t, inv, `"smime-enc-0123456789ab"`, `"."`), reader(DecodeInventory), "identities[0].alias must be without /"},
		{"alias twice", replaced(t, inv, `"smime-enc-ba9876543210"`, `"smime-enc-0123456789ab"`), reader(DecodeInventory), "identities[1] is in the list twice"},
		{"present without certificate", replaced(t, inv, `"present": false`, `"present": true`), reader(DecodeInventory), "identities[1].cert_sha256"},
		{"grants", replaced(t, inv, `"c.d"`, `"a.b"`), reader(DecodeInventory), "identities[0].grants[1] is in the list twice"},
		{"CA", replaced(t, inv, sum(leafOf("root")), "00"), reader(DecodeInventory), "cas[0] must be a SHA-256"},
		{"mail configuration", replaced(t, inv, `"revision": "r1"`, `"revision": ""`), reader(DecodeInventory), "mail_configs[0].revision"},
		{"app", replaced(t, inv, `"4.2"`, `"4\n2"`), reader(DecodeInventory), "apps[0].version"},
		{"generation", replaced(t, inv, `"g1"`, `"g 1"`), reader(DecodeInventory), "generation must be"},
		{"event without package", replaced(t, events, `"com.microsoft.office.outlook"`, `""`), reader(DecodeEvents), "[0].package must be"},
		{"event's type", replaced(t, events, `"package_added"`, `"Package added"`), reader(DecodeEvents), "[0].type must be a word"},
		{"event's time", []byte(`[{"type":"keychain_changed"}]`), reader(DecodeEvents), "[0].at must be a time"},
		{"events in an object", []byte(`{"events":[]}`), reader(DecodeEvents), "the message must be a list"},
		{"device as a list", []byte(`{"device":[]}`), reader(DecodeEnrollRequest), "device must be an object"},
		{"flag as a text", []byte(`{"screen_lock":"yes"}`), reader(DecodeInventory), "screen_lock must be true or false"},
		{"text as a number", []byte(`{"reason":1}`), reader(DecodeUnenroll), "reason must be a text"},
		{"reason", []byte(`{"reason":"bored"}`), reader(DecodeUnenroll), "reason must be one of user, policy, wipe"},
		{"size", append(encoded(t, inv), bytes.Repeat([]byte(" "), MaxRequest)...), reader(DecodeInventory), "at most 262144"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refused(t, c.body, c.decode, c.want) })
	}
}

func refused(t *testing.T, body []byte, decode func([]byte) (any, error), want string) {
	t.Helper()
	_, err := decode(body)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 500 {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestAnswersAreRefused(t *testing.T) {
	enroll, key := enrollResponse(), secret()
	one := func(change func(*Item)) []byte {
		s := state()
		change(&s.Items[1])
		return encoded(t, s)
	}
	own := func(change func(*Identity)) []byte {
		i := generated()
		change(i.Identity)
		return encoded(t, State{Generation: "g1", ServerTime: now(), Items: []Item{i}})
	}
	root := func(change func(*Item)) []byte {
		s := state()
		change(&s.Items[0])
		return encoded(t, s)
	}
	cases := []struct {
		name   string
		body   []byte
		decode func([]byte) (any, error)
		want   string
	}{
		{"wrap key id", replaced(t, enroll, sum([]byte("wrap certificate")), sum(nil)), reader(DecodeEnrollResponse), "wrap_key_id must be the SHA-256 of"},
		{"credential", replaced(t, enroll, `"bearer"`, `"hunter2 "`), reader(DecodeEnrollResponse), "credential must be"},
		{"poll", replaced(t, enroll, `"interval_s": 900`, `"interval_s": 0`), reader(DecodeEnrollResponse), "poll.interval_s"},
		{"jitter", replaced(t, enroll, `"jitter_pct": 20`, `"jitter_pct": 200`), reader(DecodeEnrollResponse), "poll.jitter_pct"},
		{"item twice", one(func(i *Item) { i.ID = state().Items[0].ID }), reader(DecodeState), "items[1] is in the list twice"},
		{"item id", one(func(i *Item) { i.ID = "identity/x" }), reader(DecodeState), "items[1].item_id must be without /"},
		{"kind", one(func(i *Item) { i.Kind = "wifi" }), reader(DecodeState), "items[1].kind must be one of"},
		{"op", one(func(i *Item) { i.Op = "wipe" }), reader(DecodeState), "items[1].op must be one of"},
		{"dependency", one(func(i *Item) { i.DependsOn = []string{""} }), reader(DecodeState), "items[1].depends_on[0]"},
		{"no content", one(func(i *Item) { i.Identity = nil }), reader(DecodeState), "identity must be there"},
		{"more content", one(func(i *Item) { i.Grant = &Grant{} }), reader(DecodeState), "no other content"},
		{"purpose", one(func(i *Item) { i.Identity.Purpose = "tls" }), reader(DecodeState), "items[1].identity.purpose"},
		{"validity", one(func(i *Item) { i.Identity.NotAfter = i.Identity.NotBefore }), reader(DecodeState), "not_after must be later"},
		{"payload", one(func(i *Item) { i.Identity.Payload = "inline" }), reader(DecodeState), "payload must be one of fetch, generate"},
		{"alias", one(func(i *Item) { i.Identity.Alias = strings.Repeat("a", 65) }), reader(DecodeState), "identity.alias must be 1 to 64"},
		{"a key to fetch and to make", own(func(d *Identity) { d.Payload = PayloadFetch }), reader(DecodeState), "identity.generate must be left out"},
		{"no key to make", own(func(d *Identity) { d.Generate = nil }), reader(DecodeState), "identity.generate is missing"},
		{"half a certificate", own(func(d *Identity) { d.CertSHA256 = "" }), reader(DecodeState), "identity.cert_sha256 must be a SHA-256"},
		{"kind of key", own(func(d *Identity) { d.Generate.KeyAlg = "EC" }), reader(DecodeState), "identity.generate.key_alg must be RSA"},
		{"size of a key", own(func(d *Identity) { d.Generate.KeySize = 512 }), reader(DecodeState), "identity.generate.key_size must be 1024 to 8192"},
		{"no subject", own(func(d *Identity) { d.Generate.Subject = nil }), reader(DecodeState), "identity.generate.subject_b64"},
		{"kind of name", own(func(d *Identity) { d.Generate.Names[0].Type = "ip" }), reader(DecodeState), "identity.generate.names[0].type must be one of email"},
		{"empty name", own(func(d *Identity) { d.Generate.Names[1].Value = "" }), reader(DecodeState), "identity.generate.names[1].value"},
		{"key usage twice", own(func(d *Identity) { d.Generate.KeyUsage = []string{"a", "a"} }), reader(DecodeState), "identity.generate.key_usage[1] is in the list twice"},
		{"certificate of another hash", replaced(t, csrResponse(), sum(leafOf("leaf")), sum(nil)), reader(DecodeCSRResponse), "the SHA-256 of the first certificate"},
		{"an empty answer", []byte(`{"cert_sha256":"` + sum(nil) + `","chain_der_b64":[]}`), reader(DecodeCSRResponse), "chain_der_b64 must be 1 to 10"},
		{"another CA", root(func(i *Item) { i.CACert.DER = []byte("x") }), reader(DecodeState), "ca_cert.sha256 must be the SHA-256 of der_b64"},
		{"no CA", root(func(i *Item) { i.CACert.DER = nil }), reader(DecodeState), "ca_cert.der_b64"},
		{"generation", replaced(t, state(), `"g1"`, `""`), reader(DecodeState), "generation must be"},
		{"values", replaced(t, state(), `"SMIMEEnabled": true,`, `"SMIMEEnabled": true, "smimeenabled": false,`), reader(DecodeState), "given twice"},
		{"envelope", []byte(`{"envelope":"","alg":"CMS","expires_at":"2026-03-02T09:30:00Z"}`), reader(DecodePayloadResponse), "envelope must be"},
		{"algorithm", []byte(`{"envelope":"AAAA","alg":"JWE","expires_at":"2026-03-02T09:30:00Z"}`), reader(DecodePayloadResponse), "alg must be CMS"},
		{"format", replaced(t, key, SecretFormat, "pkcs12"), reader(DecodeSecret), "format must be pkcs8+chain"},
		{"another certificate", replaced(t, key, sum(leafOf("leaf")), sum(nil)), reader(DecodeSecret), "the SHA-256 of the first certificate"},
		{"no chain", replaced(t, key, `"chain_der_b64": [`, `"chain_der_b64": [], "x": [`), reader(DecodeSecret), "chain_der_b64 must be 1 to 10"},
		{"empty certificate", replaced(t, key, `"aXNzdWVy"`, `""`), reader(DecodeSecret), "chain_der_b64[1]"},
		{"key in clear", replaced(t, key, `"aHVudGVyMg=="`, `"hunter2 hunter2"`), reader(DecodeSecret), "base64"},
		{"key as a number", replaced(t, key, `"aHVudGVyMg=="`, `7`), reader(DecodeSecret), "key_der_b64 must be base64"},
		{"ack", []byte(`{"ack_seq":-1}`), reader(DecodeStatusResponse), "ack_seq must be 0"},
		{"code", []byte(`{"code":"Not found"}`), reader(DecodeProblem), "code must be a word"},
		{"retry", []byte(`{"code":"x","retry_after":-1}`), reader(DecodeProblem), "retry_after must be"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refused(t, c.body, c.decode, c.want) })
	}
}

// A key that the device has yet to make has no certificate.
func TestNoCertificateYet(t *testing.T) {
	i := generated()
	i.Identity.CertSHA256, i.Identity.NotBefore, i.Identity.NotAfter = "", time.Time{}, time.Time{}
	b := encoded(t, State{Generation: "g1", ServerTime: now(), Items: []Item{i}})
	if s, err := DecodeState(b); err != nil || !s.Items[0].Identity.NotAfter.IsZero() || bytes.Contains(b, []byte("not_after")) {
		t.Errorf("%v\n%s", err, b)
	}
}

// A state may hold the keys of many years for all apps of a profile.
func TestLargeState(t *testing.T) {
	s := state()
	for i := range 4000 {
		alias := fmt.Sprintf("smime-enc-%012x", i)
		s.Items = append(s.Items, Item{ID: "grant:c.d:" + alias, Revision: sum([]byte(alias)), Kind: KindGrant, Op: OpInstall,
			DependsOn: []string{"identity:" + alias}, Grant: &Grant{Alias: alias, Package: "com.microsoft.office.outlook"}})
	}
	if _, err := DecodeState(encoded(t, s)); err != nil {
		t.Error(err)
	}
}

func fuzz[M any](f *testing.F, name string, decode func([]byte) (M, error)) {
	for _, s := range samples() {
		if s.name == name {
			f.Add(encoded(f, s.value))
		}
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`[null]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(encoded(t, m))
		if err != nil {
			t.Fatalf("what was taken is refused when it is written again: %v", err)
		}
		if !bytes.Equal(encoded(t, again), encoded(t, m)) {
			t.Fatalf("%+v became %+v", m, again)
		}
	})
}

func FuzzEnrollRequest(f *testing.F)   { fuzz(f, "EnrollRequest", DecodeEnrollRequest) }
func FuzzEnrollResponse(f *testing.F)  { fuzz(f, "EnrollResponse", DecodeEnrollResponse) }
func FuzzState(f *testing.F)           { fuzz(f, "State", DecodeState) }
func FuzzPayloadRequest(f *testing.F)  { fuzz(f, "PayloadRequest", DecodePayloadRequest) }
func FuzzPayloadResponse(f *testing.F) { fuzz(f, "PayloadResponse", DecodePayloadResponse) }
func FuzzSecret(f *testing.F)          { fuzz(f, "Secret", DecodeSecret) }
func FuzzStatusReport(f *testing.F)    { fuzz(f, "StatusReport", DecodeStatusReport) }
func FuzzStatusResponse(f *testing.F)  { fuzz(f, "StatusResponse", DecodeStatusResponse) }
func FuzzInventory(f *testing.F)       { fuzz(f, "Inventory", DecodeInventory) }
func FuzzEvents(f *testing.F)          { fuzz(f, "Events", DecodeEvents) }
func FuzzUnenroll(f *testing.F)        { fuzz(f, "Unenroll", DecodeUnenroll) }
func FuzzProblem(f *testing.F)         { fuzz(f, "Problem", DecodeProblem) }
func FuzzCSRRequest(f *testing.F)      { fuzz(f, "CSRRequest", DecodeCSRRequest) }
func FuzzCSRResponse(f *testing.F)     { fuzz(f, "CSRResponse", DecodeCSRResponse) }
