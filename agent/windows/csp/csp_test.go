package csp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

const (
	userPFX   = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"
	userSCEP  = "./User/Vendor/MSFT/ClientCertificateInstall/SCEP"
	rootStore = "./Device/Vendor/MSFT/RootCATrustedCertificates/Root"
	dmc       = "./Device/Vendor/MSFT/DMClient/Provider/Waxseal"
	admxApps  = "./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall"
	config    = "./User/Vendor/MSFT/Policy/Config"
)

// fixture is a PC with its MDM certificate.
type fixture struct {
	*PC
	t   testing.TB
	ca  *testpki.CA
	mdm *testpki.Identity
}

func newFixture(t testing.TB, build string, rules Rules) *fixture {
	f := &fixture{t: t, ca: testpki.NewCA(t, "Example CA")}
	f.mdm = f.ca.Issue(t, testpki.Options{CN: "device"})
	f.PC = New(f.config(build, rules))
	return f
}

func (f *fixture) config(build string, rules Rules) Config {
	return Config{
		Build: build, DeviceID: "9B1C", HWDevID: "A0FF", ProviderID: "Waxseal", DeviceName: "PC-0001", Manufacturer: "Example",
		Model: "Model 7", SerialNumber: "SN1", Now: testpki.Now, Rules: rules,
		Decrypt: func(der []byte) ([]byte, error) { return cms.Decrypt(der, f.mdm.Cert, f.mdm.Key) },
	}
}

func modern(t testing.TB) *fixture { return newFixture(t, "10.0.22631.3007", Rules{}) }

// do executes commands after numbering them and returns the answers by CmdRef: "404 0x86000002", and the data of results.
func (f *fixture) do(commands ...syncml.Command) answers {
	f.t.Helper()
	numbered, _ := syncml.Number(1, commands)
	out, effects := f.Execute("1", numbered)
	a := answers{statuses: map[string]string{}, results: map[string]string{}, effects: effects}
	for n, c := range out {
		if c.ID != strconv.Itoa(n+1) || c.MsgRef != "1" {
			f.t.Errorf("answer %d has CmdID %q and MsgRef %q", n, c.ID, c.MsgRef)
		}
		switch {
		case c.Verb == syncml.Results:
			for _, i := range c.Items {
				a.results[c.CmdRef] += i.Data
			}
		case a.statuses[c.CmdRef] != "":
			f.t.Errorf("two statuses for command %s", c.CmdRef)
		default:
			a.order = append(a.order, c.CmdRef)
			a.statuses[c.CmdRef] = strings.TrimSpace(c.Data + " " + c.OriginalError)
		}
	}
	return a
}

type answers struct {
	order    []string
	statuses map[string]string
	results  map[string]string
	effects  Effects
}

// list are the statuses in their order.
func (a answers) list() string {
	var out []string
	for _, ref := range a.order {
		out = append(out, a.statuses[ref])
	}
	return strings.Join(out, ", ")
}

func (f *fixture) want(want string, commands ...syncml.Command) answers {
	f.t.Helper()
	a := f.do(commands...)
	if got := a.list(); got != want {
		f.t.Errorf("got %s, want %s", got, want)
	}
	return a
}

// read is the value of a Get, or its status in brackets.
func (f *fixture) read(uri string) string {
	f.t.Helper()
	a := f.do(get(uri))
	if a.statuses["1"] != "200" {
		return "[" + a.statuses["1"] + "]"
	}
	return a.results["1"]
}

func (f *fixture) wantValue(uri, want string) {
	f.t.Helper()
	if got := f.read(uri); got != want {
		f.t.Errorf("%s is %q, want %q", uri, got, want)
	}
}

func command(verb syncml.Verb, uri, format, data string) syncml.Command {
	return syncml.Command{Verb: verb, Items: []syncml.Item{{Target: uri, Format: format, Data: data}}}
}

func add(uri, format, data string) syncml.Command { return command(syncml.Add, uri, format, data) }
func replace(uri, format, data string) syncml.Command {
	return command(syncml.Replace, uri, format, data)
}
func get(uri string) syncml.Command        { return command(syncml.Get, uri, "", "") }
func del(uri string) syncml.Command        { return command(syncml.Delete, uri, "", "") }
func exec(uri, data string) syncml.Command { return command(syncml.Exec, uri, "chr", data) }

func atomic(commands ...syncml.Command) syncml.Command {
	return syncml.Command{Verb: syncml.Atomic, Commands: commands}
}

// identity makes an encryption certificate and its PFX.
func (f *fixture) identity(name string, opts testpki.Options) *testpki.Identity {
	opts.CN = name
	return f.ca.Issue(f.t, opts)
}

func (f *fixture) pfx(id *testpki.Identity, password string, flavour pfx.Flavour) string {
	f.t.Helper()
	raw, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: id.Key, Certificate: id.Cert}, password, flavour)
	if err != nil {
		f.t.Fatal(err)
	}
	return encodeBase64(raw)
}

// sealed is a password encrypted to a certificate.
func (f *fixture) sealed(password string, to *testpki.Identity) string {
	f.t.Helper()
	der, err := cms.Encrypt(rand.Reader, []byte(password), certs(to), cms.EncryptOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return encodeBase64(der)
}

// nodes are the commands of a PFX delivery as the server makes them.
func nodes(verb syncml.Verb, id, password, kind, blob string) []syncml.Command {
	at := userPFX + "/" + id
	return []syncml.Command{
		command(verb, at+"/KeyLocation", "int", "3"),
		command(verb, at+"/PFXKeyExportable", "bool", "false"),
		command(verb, at+"/PFXCertPassword", "chr", password),
		command(verb, at+"/PFXCertPasswordEncryptionType", "int", kind),
		command(verb, at+"/PFXCertBlob", "chr", blob),
	}
}

// answered is a command with the status that it gets.
type answered struct {
	name    string
	command syncml.Command
	want    string
}

func TestReadingStatuses(t *testing.T) {
	check(t, []answered{
		{"get a leaf", get("./DevDetail/SwV"), "200"},
		{"get in any case", get("./devdetail/SWV"), "200"},
		{"get without dot", get("DevDetail/SwV"), "200"},
		{"default value", get(dmc + "/Poll/NumberOfFirstRetries"), "200"},
		{"get what is not there", get(userPFX + "/NONE/Status"), "404 0x86000002"},
		{"get an unknown provider", get("./Vendor/MSFT/Office/Install"), "404 0x86000002"},
		{"get an unknown node", get("./DevDetail/Colour"), "404 0x86000002"},
		{"another server's node", get("./Device/Vendor/MSFT/DMClient/Provider/Other/UPN"), "404 0x86000002"},
		{"device node under user", get("./User/Vendor/MSFT/RootCATrustedCertificates/Root"), "404 0x86000002"},
		{"delete what is not there", del(userPFX + "/NONE"), "404 0x86000002"},
		{"get what is executed only", get("./Device/Vendor/MSFT/RemoteWipe/doWipe"), "405 0x86000011"},
	})
}

func TestWritingStatuses(t *testing.T) {
	check(t, []answered{
		{"replace creates in DMClient", replace(dmc+"/EntDMID", "chr", "7"), "200"},
		{"replace what is not there", replace(userPFX+"/NONE/KeyLocation", "int", "3"), "404 0x86000002"},
		{"write what is read only", add("./DevInfo/Man", "chr", "x"), "405 0x86000011"},
		{"replace what is read only", replace(userPFX+"/A/Status", "int", "0"), "405 0x86000011"},
		{"delete what stays", del(dmc + "/HWDevID"), "405 0x86000011"},
		{"exec what is a value", exec(dmc+"/UPN", ""), "405 0x86000011"},
		{"wrong format", add(userPFX+"/A/KeyLocation", "chr", "3"), "415 0x86000001"},
		{"absent format is chr", add(userPFX+"/A/KeyLocation", "", "3"), "415 0x86000001"},
		{"not a number", add(userPFX+"/A/KeyLocation", "int", "three"), "415 0x86000001"},
		{"number out of range", add(userPFX+"/A/KeyLocation", "int", "5"), "415 0x86000001"},
		{"not a bool", replace(dmc+"/RequireMessageSigning", "bool", "1"), "415 0x86000001"},
		{"base64 in lines", add(userPFX+"/A/PFXCertBlob", "chr", "MAA=\r\n"), "415 0x86000001"},
		{"add", add(dmc+"/EntDeviceName", "chr", "Ann_Windows"), "200"},
		{"add an interior node", add(userPFX+"/NEW", "node", ""), "200"},
		{"add a static interior node", add("./Device/Vendor/MSFT/DMClient/Provider", "node", ""), "405 0x86000011"},
	})
}

func TestOtherStatuses(t *testing.T) {
	large := add(dmc+"/UPN", "chr", "x")
	large.Items[0].MoreData = true
	check(t, []answered{
		{"slash at the start", get("/DevDetail/SwV"), "400 0x86000015"},
		{"dot in the middle", get("./DevDetail/./SwV"), "400 0x86000015"},
		{"empty name", get("./DevDetail//SwV"), "400 0x86000015"},
		{"lone star", get(userPFX + "/*"), "400 0x86000015"},
		{"broken escape", get("./DevDetail/%zz"), "400 0x86000015"},
		{"no target", get(""), "400 0x86000015"},
		{"property", get("./DevDetail?list=StructData"), "406 0x86000013"},
		{"unknown element", command("Search", "./DevDetail", "", ""), "400"},
		{"alert", syncml.Command{Verb: syncml.Alert, Data: "1100"}, "400"},
		{"no items", syncml.Command{Verb: syncml.Get}, "400"},
		{"empty atomic", atomic(), "400"},
		{"large object", large, "406 0x86000013"},
		{"server's status", syncml.Command{Verb: syncml.Status, Data: "200"}, ""},
		{"wipe", exec("./Device/Vendor/MSFT/RemoteWipe/doWipe", ""), "202"},
		{"unenrol", exec(dmc+"/Unenroll", "Waxseal"), "202"},
		{"unenrol from another", exec(dmc+"/Unenroll", "Other"), "400 0x80070057"},
		{"renew", exec("./Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/RenewNow", ""), "202"},
	})
}

func check(t *testing.T, tests []answered) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { modern(t).want(tt.want, tt.command) })
	}
}

func TestCommandWithoutID(t *testing.T) {
	out, _ := modern(t).Execute("3", []syncml.Command{get("./DevDetail/SwV")})
	if len(out) != 1 || out[0].Data != "400" || out[0].CmdRef != "" || out[0].MsgRef != "3" {
		t.Errorf("got %+v, want one status 400", out)
	}
}

func TestAddTwice(t *testing.T) {
	f := modern(t)
	f.want("200, 418 0x800700B7", add(dmc+"/UPN", "chr", "ann@example.test"), add(strings.ToLower(dmc)+"/upn", "chr", "x"))
	f.wantValue(dmc+"/UPN", "ann@example.test")
}

func TestSequenceGoesOn(t *testing.T) {
	f := modern(t)
	a := f.want("200, 404 0x86000002, 200", syncml.Command{Verb: syncml.Sequence, Commands: []syncml.Command{
		get("./DevDetail/Colour"), get("./DevDetail/SwV"),
	}})
	if a.results["3"] != "10.0.22631.3007" {
		t.Errorf("results are %v", a.results)
	}
	deep := get("./DevDetail/SwV")
	for range maxSequences + 1 {
		deep = syncml.Command{Verb: syncml.Sequence, Commands: []syncml.Command{deep}}
	}
	f.want("200, 200, 200, 200, 400", deep)
}

func TestSeveralItems(t *testing.T) {
	c := get("./DevInfo/Man")
	c.Items = append(c.Items, syncml.Item{Target: "./DevInfo/None"}, syncml.Item{Target: "./DevInfo/Mod"})
	c.ID = "1"
	out, _ := modern(t).Execute("1", []syncml.Command{c})
	if len(out) != 2 || out[0].Data != "404" || out[0].TargetRef != "./DevInfo/None" {
		t.Fatalf("got %+v", out)
	}
	if items := out[1].Items; len(items) != 2 || items[0].Data != "Example" || items[1].Data != "Model 7" {
		t.Errorf("results are %+v", items)
	}
}

func TestInteriorNodes(t *testing.T) {
	f := modern(t)
	f.wantValue(userPFX, "")
	f.want("200, 200, 200",
		add(userPFX+"/B%7B1%7D/KeyLocation", "int", "3"), add(userPFX+"/a", "node", ""), add(dmc+"/UPN", "chr", "x"))
	f.wantValue(userPFX, "a/B%7B1%7D")
	f.wantValue("./User/Vendor/MSFT/ClientCertificateInstall", "PFXCertInstall/SCEP")
	f.wantValue(userPFX+"/B%7b1%7d", "KeyLocation/PFXCertPasswordEncryptionType/PFXKeyExportable")
	f.wantValue("./Device/Vendor/MSFT/DMClient/Provider", "Waxseal")
	f.wantValue("./Vendor/MSFT/DMClient/HWDevID", "A0FF")
	f.wantValue("./DevDetail/URI", "MaxDepth/MaxSegLen/MaxTotLen")
	f.want("200, 404 0x86000002", del(userPFX+"/A"), del(userPFX+"/A"))
}

func TestRules(t *testing.T) {
	location := add(userPFX+"/A/KeyLocation", "int", "3")
	tests := []struct {
		name    string
		rules   Rules
		command syncml.Command
		want    string
	}{
		{"outside is accepted", Rules{}, location, "200"},
		{"outside is refused", Rules{OutsideAtomic: 405}, location, "405 0x86000004"},
		{"inside", Rules{OutsideAtomic: 405}, atomic(location), "200, 200"},
		{"trust needs no atomic", Rules{OutsideAtomic: 500}, add(rootStore+"/00/EncodedCertificate", "b64", "MAA="), "500 0x8009310B"},
		{"added", Rules{Added: 201}, location, "201"},
		{"added in an atomic", Rules{Added: 201}, atomic(location), "200, 201"},
		{"executed", Rules{Executed: 200}, exec(dmc+"/Unenroll", "Waxseal"), "200"},
		{"replace is not allowed", Rules{ReplaceMissing: 405}, replace(userPFX+"/A/KeyLocation", "int", "3"), "405 0x86000002"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { newFixture(t, "10.0.19045.1", tt.rules).want(tt.want, tt.command) })
	}
}

func TestNobodyLoggedOn(t *testing.T) {
	for status, rules := range map[string]Rules{"500": {}, "404": {NoUser: 404}, "405": {NoUser: 405}} {
		f := newFixture(t, "10.0.22631.1", rules)
		for _, who := range []string{"none", "others"} {
			f.SetLogin(who)
			f.want(status+" 0x800710DF", get(userPFX))
			f.want("200", get("./Device/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"))
		}
		f.SetLogin("user")
		f.want("200", get(userPFX))
	}
}

func TestEffects(t *testing.T) {
	f := modern(t)
	if e := f.do(exec("./Device/Vendor/MSFT/RemoteWipe/doWipeProtected", "")).effects; !e.Wipe || e.Unenroll {
		t.Errorf("wiping has the effects %+v", e)
	}
	a := f.want("202", exec(dmc+"/Unenroll", "Waxseal"), get("./DevDetail/SwV"))
	if !a.effects.Unenroll {
		t.Error("unenrolling has no effect")
	}
	a = f.want("507 0x86000002, 216, 404 0x86000002", atomic(exec(dmc+"/Unenroll", "Waxseal"), del(userPFX+"/NONE")))
	if a.effects.Unenroll {
		t.Error("an effect outlived its Atomic")
	}
}

func TestValueAndSet(t *testing.T) {
	f := modern(t)
	f.SetLogin("none")
	for uri, value := range map[string]string{
		dmc + "/Poll/NumberOfFirstRetries":                                       "8",
		dmc + "/EnrollmentType":                                                  "Full",
		"./Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/RenewPeriod":              "60",
		"./User/Vendor/MSFT/ClientCertificateInstall/SCEP/A/RespondentServerUrl": "https://ca.example.test",
	} {
		if err := f.Set(uri, value); err != nil {
			t.Error(err)
		}
		if got, ok := f.Value(uri); !ok || got != value {
			t.Errorf("%s is %q, %v", uri, got, ok)
		}
	}
	for uri, value := range map[string]string{
		dmc + "/Poll":                      "x",
		dmc + "/Poll/NumberOfFirstRetries": "many",
		"./DevInfo/Man":                    "x",
		"./Nowhere":                        "x",
		userPFX + "/A/PFXCertBlob":         "MAA=",
	} {
		if err := f.Set(uri, value); err == nil || !strings.Contains(err.Error(), uri) {
			t.Errorf("setting %s: %v", uri, err)
		}
	}
}

func TestBuild(t *testing.T) {
	for version, want := range map[string]int{"10.0.16299.15": 16299, "10.0.14393": 14393, "": 1 << 20, "10": 1 << 20, "10.0.x.1": 1 << 20} {
		if got := (Config{Build: version}).build(); got != want {
			t.Errorf("build of %q is %d, want %d", version, got, want)
		}
	}
}

func storeIDs(p *PC, store string) []string {
	var out []string
	for _, c := range p.Certificates(store) {
		out = append(out, fmt.Sprintf("%s:%s:%v", c.ID, c.Cert.Subject.CommonName, c.Key != nil))
	}
	slices.Sort(out)
	return out
}

func wantStore(t *testing.T, p *PC, store string, want ...string) {
	t.Helper()
	if got := storeIDs(p, store); !slices.Equal(got, want) {
		t.Errorf("%s holds %v, want %v", store, got, want)
	}
}

var errTest = errors.New("the authority said no")
