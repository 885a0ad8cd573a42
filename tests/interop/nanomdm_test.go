package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	scepSecret = "scep-secret"
	apiKey     = "nano-secret"
	topic      = "com.apple.mgmt.External.0b1c2d3e"
	enrolment  = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadContent</key>
			<dict>
				<key>URL</key>
				<string>SCEP_URL</string>
				<key>Challenge</key>
				<string>SCEP_SECRET</string>
				<key>Key Type</key>
				<string>RSA</string>
				<key>Key Usage</key>
				<integer>5</integer>
				<key>Keysize</key>
				<integer>2048</integer>
				<key>Subject</key>
				<array><array><array><string>O</string><string>Other Corp</string></array></array><array><array><string>CN</string><string>a phone</string></array></array></array>
			</dict>
			<key>PayloadIdentifier</key>
			<string>com.other.enroll.scep</string>
			<key>PayloadType</key>
			<string>com.apple.security.scep</string>
			<key>PayloadUUID</key>
			<string>CB90E976-AD44-4B69-8108-8095E6260978</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
		<dict>
			<key>AccessRights</key>
			<integer>8191</integer>
			<key>CheckInURL</key>
			<string>MDM_URL/checkin</string>
			<key>CheckOutWhenRemoved</key>
			<true/>
			<key>IdentityCertificateUUID</key>
			<string>CB90E976-AD44-4B69-8108-8095E6260978</string>
			<key>PayloadIdentifier</key>
			<string>com.other.enroll.mdm</string>
			<key>PayloadType</key>
			<string>com.apple.mdm</string>
			<key>PayloadUUID</key>
			<string>96B11019-B54C-49DC-9480-43525834DE7B</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
			<key>ServerCapabilities</key>
			<array><string>com.apple.mdm.per-user-connections</string></array>
			<key>ServerURL</key>
			<string>MDM_URL/mdm</string>
			<key>SignMessage</key>
			<SIGN_MESSAGE/>
			<key>Topic</key>
			<string>TOPIC</string>
		</dict>
	</array>
	<key>PayloadDisplayName</key>
	<string>Other Corp</string>
	<key>PayloadIdentifier</key>
	<string>com.other.enroll</string>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>F9760DD4-F2D1-4F29-8D2C-48D52DD0A9B3</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
`
)

// nano is a NanoMDM server with MicroMDM's SCEP server beside it, behind a TLS proxy, and what its webhook said.
type nano struct {
	*folder
	agentProgram string
	proxy        *proxy
	api          string
	scep         string

	mu     sync.Mutex
	events []event
}

// event is a message of the webhook, as far as it is used here.
type event struct {
	Topic   string `json:"topic"`
	Checkin *struct {
		Raw []byte `json:"raw_payload"`
	} `json:"checkin_event"`
	Result *struct {
		Status  string `json:"status"`
		Command string `json:"command_uuid"`
		Raw     []byte `json:"raw_payload"`
	} `json:"acknowledge_event"`
}

// startNano starts everything; flags go to nanomdm.
func startNano(t *testing.T, flags ...string) *nano {
	t.Helper()
	scepserver, nanomdm := need(t, "scepserver"), need(t, "nanomdm")
	n := &nano{folder: newFolder(t), agentProgram: filepath.Join(programs(t), "waxseal-agent")}
	n.must(nil, scepserver, "ca", "-init", "-depot", "depot", "-keySize", "2048", "-organization", "Other Corp")
	n.scep = n.serve("scepserver", scepserver, "-http-addr", "-depot", "depot", "-challenge", scepSecret, "-allowrenew", "0")
	hook := httptest.NewServer(http.HandlerFunc(n.hook))
	t.Cleanup(hook.Close)
	n.api = n.serve("nanomdm", nanomdm, "-listen", append([]string{"-ca", n.path("depot", "ca.pem"), "-api", apiKey, "-storage", "inmem", "-storage-dsn", "none",
		"-checkin", "-webhook-url", hook.URL}, flags...)...)
	n.proxy = newProxy(t, n.folder)
	n.proxy.forward(t, n.api, "")
	return n
}

// serve starts a program that listens where a flag says, and gives its URL. Somebody else may take the address in between;
// then the program ends, and another address is tried.
func (n *nano) serve(label, program, flag string, args ...string) string {
	n.t.Helper()
	for range 3 {
		address := n.freeAddress()
		ended := n.start(label, program, append([]string{flag, address}, args...)...)
		n.wait("the start of "+label, func() bool { return ended() || listens(address) })
		if !ended() {
			return "http://" + address
		}
	}
	n.t.Fatalf("%s ends at once\n%s", label, n.tail())
	return ""
}

func (n *nano) hook(_ http.ResponseWriter, r *http.Request) {
	var e event
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&e); err != nil {
		return // the test misses the event
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

// enrol makes the enrolment profile and a phone that installs it.
func (n *nano) enrol(signMessage bool, flags ...string) {
	n.t.Helper()
	profile := strings.NewReplacer("SCEP_URL", n.scep+"/scep", "SCEP_SECRET", scepSecret, "MDM_URL", n.proxy.URL, "TOPIC", topic,
		"SIGN_MESSAGE", fmt.Sprint(signMessage)).Replace(enrolment)
	file := n.write("other.mobileconfig", []byte(profile))
	n.must(nil, n.agentProgram, append([]string{"enroll", file, "--platform", "ios", "--state", n.path("phone"), "--ca", n.proxy.CA,
		"--os-version", "18.1", "--model", "iPhone16,1"}, flags...)...)
}

func (n *nano) agent(args ...string) []byte {
	n.t.Helper()
	return n.must(nil, n.agentProgram, append(args, "--state", n.path("phone"))...)
}

// checkin gives the message of a check-in, and fails if it did not come.
func (n *nano) checkin(kind string) dict {
	n.t.Helper()
	n.mu.Lock()
	events := slices.Clone(n.events)
	n.mu.Unlock()
	for _, e := range events {
		if e.Topic == "mdm."+kind && e.Checkin != nil {
			return n.dictionary(e.Checkin.Raw)
		}
	}
	n.t.Fatalf("NanoMDM saw no %s\n%s", kind, n.tail())
	return nil
}

// enqueue gives a command to NanoMDM for the phone.
func (n *nano) enqueue(udid, uuid, command string) {
	n.t.Helper()
	body := `<plist version="1.0"><dict><key>CommandUUID</key><string>` + uuid + `</string><key>Command</key><dict>` + command + `</dict></dict></plist>`
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodPut, n.api+"/v1/enqueue/"+udid+"?nopush=1", strings.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	req.SetBasicAuth("nanomdm", apiKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	if answer, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		n.t.Fatalf("NanoMDM does not enqueue %s: %s %s", uuid, resp.Status, answer)
	}
}

// result is what the phone answered to a command.
func (n *nano) result(uuid, status string) dict {
	n.t.Helper()
	n.mu.Lock()
	events := slices.Clone(n.events)
	n.mu.Unlock()
	for _, e := range events {
		if e.Topic == "mdm.Connect" && e.Result != nil && e.Result.Command == uuid {
			if e.Result.Status != status {
				n.t.Fatalf("%s ended with %s, want %s:\n%s", uuid, e.Result.Status, status, e.Result.Raw)
			}
			return n.dictionary(e.Result.Raw)
		}
	}
	n.t.Fatalf("NanoMDM saw no result of %s\n%s", uuid, n.tail())
	return nil
}

func requestType(name, rest string) string {
	return "<key>RequestType</key><string>" + name + "</string>" + rest
}

func installing(profile []byte) string {
	return requestType("InstallProfile", "<key>Payload</key><data>"+base64.StdEncoding.EncodeToString(profile)+"</data>")
}

// TestNanoMDM: the simulated iPhone is managed by servers that others wrote, in both ways of saying who it is.
func TestNanoMDM(t *testing.T) {
	for _, tt := range []struct {
		name        string
		signMessage bool
		server      []string
		phone       []string
		leave       func(n *nano, udid string)
	}{
		{"Mdm-Signature as iPhones make it", true, nil, nil, (*nano).userRemoves},
		{"Mdm-Signature in DER", true, nil, []string{"--signature", "der"}, (*nano).serverRemoves},
		{"TLS client certificate", false, []string{"-cert-header", certHeader}, nil, (*nano).serverRemoves},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // what takes its time is a phone that waits whether more comes
			n := startNano(t, tt.server...)
			n.enrol(tt.signMessage, tt.phone...)
			udid := n.checkedIn()
			identity := n.inventory(udid)
			n.ordinary(udid)
			n.encrypted(udid, identity)
			n.refusals(udid)
			tt.leave(n, udid)
			n.checkin("CheckOut")
			if left := n.agent("keychain", "list", "--json"); len(left) != 0 {
				t.Errorf("the phone left, its keychain has %s", left)
			}
		})
	}
}

// checkedIn looks at what the phone said when it enrolled.
func (n *nano) checkedIn() (udid string) {
	n.t.Helper()
	authenticate, update := n.checkin("Authenticate"), n.checkin("TokenUpdate")
	if udid = text(authenticate, "UDID"); udid == "" || udid != text(update, "UDID") {
		n.t.Fatalf("UDID is %q, then %q", udid, update["UDID"])
	}
	for key, want := range map[string]string{"Topic": topic, "OSVersion": "18.1", "ProductName": "iPhone16,1"} {
		if text(authenticate, key) != want {
			n.t.Errorf("Authenticate: %s is %v, want %s", key, authenticate[key], want)
		}
	}
	if len(n.data(update, "Token")) != 32 || text(update, "PushMagic") == "" || text(update, "Topic") != topic {
		n.t.Errorf("TokenUpdate is %v", update)
	}
	return udid
}

// inventory asks what a new phone has, and gives its identity certificate in DER.
func (n *nano) inventory(udid string) []byte {
	n.t.Helper()
	n.enqueue(udid, "information", requestType("DeviceInformation", "<key>Queries</key><array><string>UDID</string><string>OSVersion</string><string>SerialNumber</string></array>"))
	n.enqueue(udid, "profiles", requestType("ProfileList", ""))
	n.enqueue(udid, "certificates", requestType("CertificateList", ""))
	n.agent("sync", "--wait", "60s")
	answers, _ := n.result("information", "Acknowledged")["QueryResponses"].(dict)
	if answers["UDID"] != udid || answers["OSVersion"] != "18.1" || answers["SerialNumber"] == nil {
		n.t.Errorf("DeviceInformation answers %v", answers)
	}
	if got := n.installed("profiles"); !slices.Equal(got, []string{"com.other.enroll"}) {
		n.t.Errorf("ProfileList has %q", got)
	}
	list, _ := n.result("certificates", "Acknowledged")["CertificateList"].([]any)
	for _, item := range list {
		if d, _ := item.(dict); d["IsIdentity"] == true {
			if d["CommonName"] != "a phone" {
				n.t.Errorf("the identity's name is %v", d["CommonName"])
			}
			return n.data(d, "Data")
		}
	}
	n.t.Fatalf("CertificateList has no identity: %v", list)
	return nil
}

// installed are the identifiers in the answer to a ProfileList, in order.
func (n *nano) installed(uuid string) (out []string) {
	n.t.Helper()
	list, _ := n.result(uuid, "Acknowledged")["ProfileList"].([]any)
	for _, item := range list {
		d, _ := item.(dict)
		out = append(out, text(d, "PayloadIdentifier"))
	}
	slices.Sort(out)
	return out
}

// onePayload is a profile, written by hand.
func onePayload(identifier, content string) []byte {
	return []byte(`<?xml version="1.0" encoding="UTF-8"?><plist version="1.0"><dict>
<key>PayloadIdentifier</key><string>` + identifier + `</string><key>PayloadType</key><string>Configuration</string>
<key>PayloadUUID</key><string>` + identifier + `-uuid</string><key>PayloadVersion</key><integer>1</integer>` + content + `</dict></plist>`)
}

func payloadXML(kind, identifier, content string) string {
	return `<array><dict><key>PayloadType</key><string>` + kind + `</string><key>PayloadIdentifier</key><string>` + identifier + `</string>
<key>PayloadUUID</key><string>` + identifier + `-uuid</string><key>PayloadVersion</key><integer>1</integer>` + content + `</dict></array>`
}

// ordinary installs a profile with the CA, looks for it, removes it, and looks again.
func (n *nano) ordinary(udid string) {
	n.t.Helper()
	der := n.peer(nil, "openssl", "x509", "-in", n.path("depot", "ca.pem"), "-outform", "DER")
	root := payloadXML("com.apple.security.root", "com.other.root.ca", "<key>PayloadContent</key><data>"+base64.StdEncoding.EncodeToString(der)+"</data>")
	n.enqueue(udid, "install", installing(onePayload("com.other.root", "<key>PayloadContent</key>"+root)))
	n.enqueue(udid, "with", requestType("ProfileList", ""))
	n.enqueue(udid, "remove", requestType("RemoveProfile", "<key>Identifier</key><string>com.other.root</string>"))
	n.enqueue(udid, "without", requestType("ProfileList", ""))
	n.agent("sync", "--wait", "60s")
	n.result("install", "Acknowledged")
	n.result("remove", "Acknowledged")
	if got := n.installed("with"); !slices.Equal(got, []string{"com.other.enroll", "com.other.root"}) {
		n.t.Errorf("after the installation ProfileList has %q", got)
	}
	if got := n.installed("without"); !slices.Equal(got, []string{"com.other.enroll"}) {
		n.t.Errorf("after the removal ProfileList has %q", got)
	}
}

// encrypted installs a profile with an identity that OpenSSL made, encrypted to the phone, and signed.
func (n *nano) encrypted(udid string, identity []byte) {
	n.t.Helper()
	n.write("phone.der", identity)
	n.peer(nil, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Carol", "-addext", "subjectAltName=email:carol@other.test",
		"-keyout", "carol.key", "-out", "carol.pem", "-days", "30")
	n.peer(nil, "openssl", "pkcs12", "-export", "-legacy", "-descert", "-in", "carol.pem", "-inkey", "carol.key", "-passout", "pass:p12-secret", "-out", "carol.p12")
	plain := payloadXML("com.apple.security.pkcs12", "com.other.secret.id", "<key>Password</key><string>p12-secret</string><key>PayloadContent</key><data>"+
		base64.StdEncoding.EncodeToString(n.read("carol.p12"))+"</data>")
	n.peer(nil, "openssl", "x509", "-inform", "DER", "-in", "phone.der", "-out", "phone.pem")
	sealed := n.peer([]byte(`<plist version="1.0">`+plain+`</plist>`), "openssl", "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", "phone.pem")
	n.write("secret.mobileconfig", onePayload("com.other.secret", "<key>IsEncrypted</key><true/><key>EncryptedPayloadContent</key><data>"+
		base64.StdEncoding.EncodeToString(sealed)+"</data>"))
	signed := n.peer(nil, "openssl", "cms", "-sign", "-binary", "-nodetach", "-in", "secret.mobileconfig", "-signer", "carol.pem", "-inkey", "carol.key", "-outform", "DER")
	n.enqueue(udid, "secret", installing(signed))
	n.agent("sync", "--wait", "60s")
	n.result("secret", "Acknowledged")
	if list := string(n.agent("keychain", "list", "--json")); !strings.Contains(list, `"addresses":["carol@other.test"]`) {
		n.t.Errorf("the keychain has:\n%s", list)
	}
}

// refusals: errors carry Apple's domains and codes, which the server passes on.
func (n *nano) refusals(udid string) {
	n.t.Helper()
	n.enqueue(udid, "unknown", requestType("NoSuchCommand", ""))
	n.enqueue(udid, "absent", requestType("RemoveProfile", "<key>Identifier</key><string>com.other.absent</string>"))
	if _, said, ok := n.try(nil, n.agentProgram, "sync", "--state", n.path("phone")); ok || !strings.Contains(string(said), "12021") {
		n.t.Errorf("sync with an unknown command says %s", said)
	}
	for uuid, code := range map[string]float64{"unknown": 12021, "absent": 12075} {
		chain, _ := n.result(uuid, "Error")["ErrorChain"].([]any)
		if len(chain) == 0 {
			n.t.Fatalf("%s has no ErrorChain", uuid)
		}
		if first, _ := chain[0].(dict); first["ErrorCode"] != code || first["ErrorDomain"] != "MCMDMErrorDomain" {
			n.t.Errorf("%s: %v", uuid, first)
		}
	}
}

func (n *nano) userRemoves(string) { n.agent("unenroll") }

func (n *nano) serverRemoves(udid string) {
	n.t.Helper()
	n.enqueue(udid, "leave", requestType("RemoveProfile", "<key>Identifier</key><string>com.other.enroll</string>"))
	n.agent("sync", "--wait", "60s")
	n.result("leave", "Acknowledged")
}
