package interop

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pcDelivery is what one PC said and was told. Its files, beside those of delivery: mdm.pem and mdm.key (its identity),
// message-N-request.xml and message-N-answer.xml.
type pcDelivery struct {
	*delivery
	exchanges []exchange
	soap      []element // requests and answers of the enrolment
	syncml    []element // what the server said in sessions
}

const (
	enrolmentPath  = "/EnrollmentServer/"
	managementPath = "/ManagementServer/MDM.svc"
	userPFX        = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall/"
)

// TestDeliveredToPCs enrols two PCs, one of them old, and holds to foreign programs what went over the wire, both ways.
func TestDeliveredToPCs(t *testing.T) {
	need(t, "xmllint")
	h := newHouse(t)
	for _, name := range generations {
		h.importPFX(name)
	}
	for _, tt := range []struct {
		name, version, policy string
		flavour               []string
	}{
		{"pc", "10.0.22631.3007", "OnPremise", aes256},
		{"old-pc", "10.0.14393.0", "Federated", tripleDES},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &pcDelivery{delivery: &delivery{house: h.room(t, tt.name), device: "state", flavour: tt.flavour}}
			d.enrolPC(tt.version, tt.policy)
			d.readMessages()
			d.exportMDM()
			d.openNodes()
			d.steps()
			d.retire(tt.version)
		})
	}
}

func (d *pcDelivery) steps() {
	for _, step := range []struct {
		name string
		test func(*pcDelivery)
	}{
		{"certificate request", (*pcDelivery).checkRequest},
		{"provisioning document", (*pcDelivery).checkProvisioning},
		{"signatures of messages", (*pcDelivery).checkSignatures},
		{"every certificate is there", func(d *pcDelivery) { d.checkHistory() }},
		{"signing certificate", func(d *pcDelivery) { d.checkSigning() }},
		{"ADMX", (*pcDelivery).checkADMX},
		{"OpenSSL", func(d *pcDelivery) { d.checkOpenSSL(); d.checkChains() }},
		{"gpgsm", (*pcDelivery).checkOldReaders},
		{"mail with OpenSSL", func(d *pcDelivery) { d.mailOpenSSL() }},
		{"NSS and mail with it", func(d *pcDelivery) { d.checkNSS() }},
	} {
		d.t.Run(step.name, func(t *testing.T) { step.test(d.within(t)) })
	}
}

// checkOldReaders: gpgsm reads what goes to an old PC, and knows no AES in a PKCS#12.
func (d *pcDelivery) checkOldReaders() {
	if slices.Equal(d.flavour, tripleDES) {
		d.checkGpgsm()
	}
}

// within is the same delivery for a subtest.
func (d *pcDelivery) within(t *testing.T) *pcDelivery {
	out, inner := *d, *d.delivery
	inner.house = d.house.within(t)
	out.delivery = &inner
	return &out
}

// room is the same house with a folder of its own for the files of one device.
func (h *house) room(t *testing.T, name string) *house {
	t.Helper()
	out := *h
	out.folder = &folder{t: t, dir: h.path("room-" + name)}
	if err := os.Mkdir(out.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, shared := range []string{"inputs", "server", "connector", "admin", "logs"} {
		if err := os.Symlink(h.path(shared), out.path(shared)); err != nil {
			t.Fatal(err)
		}
	}
	return &out
}

func (d *pcDelivery) enrolPC(version, policy string) {
	d.t.Helper()
	d.proxy.taken()
	link, secret, _ := strings.Cut(d.waxctl("enroll", "link", "--user", alice, "--platform", "windows"), "\n")
	d.agent(d.device, nil, "enroll", link, "--platform", "windows", "--secret-file", d.write("secret", []byte(secret+"\n")),
		"--auth-policy", policy, "--os-version", version, "--ca", d.proxy.CA)
	d.agent(d.device, nil, "sync", "--wait", "60s")
	d.exchanges = d.proxy.taken()
}

// readMessages reads what was said in the enrolment and in the sessions after it.
func (d *pcDelivery) readMessages() {
	d.t.Helper()
	var soap, said, told []string
	for n, x := range d.exchanges {
		request, answer := d.keepMessage(n, x)
		switch {
		case request == "":
		case x.path == managementPath:
			said, told = append(said, request), append(told, answer)
		default:
			soap = append(soap, request, answer)
		}
	}
	if len(soap) != 2*3 || len(said) < 8 {
		d.t.Fatalf("%d messages of the enrolment and %d of sessions were recorded, want 3 and more than 8, each with its answer", len(soap)/2, len(said))
	}
	d.soap, d.syncml = d.trees(soap), d.checkMessages(said, told)
}

// keepMessage writes both sides of an exchange into files, and gives their names. The pages of the sign-in are HTML, and a
// GET of discovery has no message.
func (d *pcDelivery) keepMessage(n int, x exchange) (request, answer string) {
	d.t.Helper()
	if x.status != http.StatusOK {
		d.t.Errorf("%s was answered with %d", x.path, x.status)
	}
	if x.path == enrolmentPath+"Auth" || len(x.request) == 0 && len(x.reply) == 0 {
		return "", ""
	}
	kind := "application/soap+xml"
	if x.path == managementPath {
		kind = "application/vnd.syncml.dm+xml"
	}
	d.typed(x, kind)
	request, answer = fmt.Sprintf("message-%d-request.xml", n), fmt.Sprintf("message-%d-answer.xml", n)
	d.write(request, x.request)
	d.write(answer, x.reply)
	return request, answer
}

// checkMessages reads messages of sessions, and gives those of the server.
func (d *pcDelivery) checkMessages(said, told []string) []element {
	d.t.Helper()
	out := d.trees(told)
	for _, m := range append(d.trees(said), out...) {
		d.checkMessage(m)
	}
	return out
}

// retire lets the admin take the PC out, and reads what is said at that.
func (d *pcDelivery) retire(version string) {
	d.t.Helper()
	var devices []struct{ ID, OSVersion string }
	if err := json.Unmarshal([]byte(d.waxctl("get", "devices", "-o", "json")), &devices); err != nil {
		d.t.Fatal(err)
	}
	i := slices.IndexFunc(devices, func(o struct{ ID, OSVersion string }) bool { return strings.HasPrefix(o.OSVersion, version) })
	if i < 0 {
		d.t.Fatalf("the server knows no PC with Windows %s: %v", version, devices)
	}
	d.waxctl("device", "retire", devices[i].ID)
	d.proxy.taken()
	d.agent(d.device, nil, "sync", "--wait", "60s")
	var said, told []string
	for n, x := range d.proxy.taken() {
		request, answer := d.keepMessage(len(d.exchanges)+n, x)
		said, told = append(said, request), append(told, answer)
	}
	gone := 0
	for _, m := range d.checkMessages(said, told) {
		for _, c := range m.at("SyncBody").Children {
			if uri := c.at("Item", "Target", "LocURI").Text; c.Name == "Delete" && strings.HasPrefix(uri, userPFX) || c.Name == "Exec" && strings.HasSuffix(uri, "/Unenroll") {
				gone++
			}
		}
	}
	if want := len(d.ids) + 1; gone != want {
		d.t.Errorf("%d commands took keys and the enrolment away, want %d", gone, want)
	}
}

func (d *pcDelivery) typed(x exchange, want string) {
	d.t.Helper()
	for _, kind := range []string{x.header.Get("Content-Type"), x.replyContentType} {
		if !strings.HasPrefix(kind, want) {
			d.t.Errorf("%s has the content type %q, want %s", x.path, kind, want)
		}
	}
}

// checkMessage: the order of OMA DM's DTD, and each command's CmdID first, once in the message (windows.md section 2.2).
func (d *pcDelivery) checkMessage(m element) {
	d.t.Helper()
	var head []string
	for _, c := range m.at("SyncHdr").Children {
		head = append(head, c.Name)
	}
	if len(head) < 6 || !slices.Equal(head[:6], []string{"VerDTD", "VerProto", "SessionID", "MsgID", "Target", "Source"}) {
		d.t.Errorf("the header of a message has %q", head)
	}
	body := m.at("SyncBody").Children
	if len(body) == 0 || body[len(body)-1].Name != "Final" {
		d.t.Errorf("a message does not end with Final")
		return
	}
	seen := map[string]bool{}
	var check func(commands []element)
	check = func(commands []element) {
		for _, c := range commands {
			id, err := strconv.Atoi(c.at("CmdID").value())
			if len(c.Children) == 0 || c.Children[0].Name != "CmdID" || err != nil || id < 1 || seen[c.at("CmdID").value()] {
				d.t.Errorf("a %s has the CmdID %q, not first or not unique", c.Name, c.at("CmdID").Text)
			}
			seen[c.at("CmdID").value()] = true
			if c.Name == "Atomic" {
				check(c.Children[1:])
			}
		}
	}
	check(body[:len(body)-1])
}

// exportMDM takes the key of the PC's own certificate out of its simulated store, as no PC would.
func (d *pcDelivery) exportMDM() {
	d.t.Helper()
	d.agent(d.device, nil, "keychain", "export", "--out", d.path("exported"))
	for dec := json.NewDecoder(bytes.NewReader(d.agent(d.device, nil, "keychain", "list", "--json"))); dec.More(); {
		var i item
		if err := dec.Decode(&i); err != nil {
			d.t.Fatal(err)
		}
		issuer := string(d.peer(nil, "openssl", "x509", "-noout", "-issuer", "-in", d.path("exported", i.SHA256+".pem")))
		if i.HasPrivateKey && strings.Contains(issuer, "Waxseal Device CA") {
			d.write("mdm.pem", d.read("exported", i.SHA256+".pem"))
			d.write("mdm.key", d.read("exported", i.SHA256+".key"))
			return
		}
	}
	d.t.Fatal("the stores of the PC have no certificate of the device CA with a key")
}

// add is one value that the server wrote.
type add struct{ uri, format, data string }

func addOf(c element) add {
	return add{c.at("Item", "Target", "LocURI").Text, c.at("Item", "Meta", "Format").Text, c.at("Item", "Data").Text}
}

// openNodes opens every PKCS#12 that travelled, and keeps the root that the PC was told to trust.
func (d *pcDelivery) openNodes() {
	d.t.Helper()
	for _, m := range d.syncml {
		for _, c := range m.at("SyncBody").all("Atomic") {
			d.openAtomic(c)
		}
		for _, c := range m.at("SyncBody").all("Add") {
			if a := addOf(c); strings.Contains(a.uri, "/RootCATrustedCertificates/Root/") {
				d.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.oneLine(a)}))
			}
		}
	}
	if len(d.ids) == 0 {
		d.t.Fatalf("no PKCS#12 was delivered\n%s", d.tail())
	}
}

// openAtomic: what an import needs, the trigger last; the password for this PC only; the node is named after the certificate.
func (d *pcDelivery) openAtomic(atomic element) {
	d.t.Helper()
	var order []string
	nodes := map[string]add{}
	for _, c := range atomic.Children[1:] {
		a := addOf(c)
		if c.Name != "Add" || !strings.HasPrefix(a.uri, userPFX) {
			d.t.Errorf("an Atomic has a %s of %s", c.Name, a.uri)
		}
		order, nodes[path.Base(a.uri)] = append(order, path.Base(a.uri)), a
	}
	want := []string{"KeyLocation", "PFXKeyExportable", "PFXCertPassword", "PFXCertPasswordEncryptionType", "PFXCertBlob"}
	if !slices.Equal(order, want) {
		d.t.Fatalf("an Atomic has the nodes %q, want %q", order, want)
	}
	for name, value := range map[string]add{"KeyLocation": {format: "int", data: "3"}, "PFXKeyExportable": {format: "bool", data: "false"},
		"PFXCertPasswordEncryptionType": {format: "int", data: "1"}} {
		if got := nodes[name]; got.format != value.format || got.data != value.data {
			d.t.Errorf("%s is %q in the format %s, want %q in %s", name, got.data, got.format, value.data, value.format)
		}
	}
	name := d.keepPKCS12(d.oneLine(nodes["PFXCertBlob"]), d.password(d.oneLine(nodes["PFXCertPassword"])))
	d.ids = append(d.ids, identity{name: name})
	said := string(d.peer(nil, "openssl", "x509", "-noout", "-fingerprint", "-sha1", "-in", name+".pem"))
	_, print, _ := strings.Cut(strings.TrimSpace(said), "=")
	if node := path.Base(path.Dir(nodes["PFXCertBlob"].uri)); node != strings.ReplaceAll(print, ":", "") {
		d.t.Errorf("the certificate with the SHA-1 %s is at the node %s", print, node)
	}
}

var base64Line = regexp.MustCompile(`^[A-Za-z0-9+/]+={0,2}$`)

// oneLine is a value in base64 without line breaks, indentation or blanks: Windows reads no other (windows.md section 5).
func (d *pcDelivery) oneLine(a add) []byte {
	d.t.Helper()
	if !base64Line.MatchString(a.data) {
		d.t.Errorf("%s is not one line of base64", a.uri)
	}
	return d.base64(a.data)
}

// password opens what was encrypted to the PC: by type 1 of the CSP, to its MDM certificate (windows.md section 3.1).
func (d *pcDelivery) password(sealed []byte) string {
	d.t.Helper()
	said := string(d.peer(sealed, "openssl", "cms", "-cmsout", "-print", "-noout", "-inform", "DER"))
	for _, want := range []string{"aes-256-cbc", "d.issuerAndSerialNumber", "rsaEncryption"} {
		if !strings.Contains(said, want) {
			d.t.Errorf("the password is not sealed with %s:\n%s", want, said)
		}
	}
	if n := strings.Count(said, "d.ktri"); n != 1 {
		d.t.Errorf("the password is sealed to %d recipients, want 1", n)
	}
	out := d.peer(sealed, "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-recip", "mdm.pem", "-inkey", "mdm.key")
	if !regexp.MustCompile(`^[!-~]{20,}$`).Match(out) {
		d.t.Errorf("the password has %d bytes; it must be ASCII of 20 or more, without an end mark", len(out))
	}
	return string(out)
}

// checkChains: each certificate is in its file with its issuer.
func (d *pcDelivery) checkChains() {
	for _, id := range d.ids {
		password := string(d.read(id.name + ".password"))
		chain := d.peer(nil, "openssl", "pkcs12", "-legacy", "-nokeys", "-cacerts", "-in", id.name+".p12", "-passin", "pass:"+password)
		file := d.write(id.name+".chain", chain)
		d.peer(nil, "openssl", "verify", "-no_check_time", "-partial_chain", "-CAfile", file, id.name+".pem")
	}
}
