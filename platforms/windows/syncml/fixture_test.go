package syncml

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	deviceID  = "5B8F2C1E-7D3A-4E0B-9C55-1A2B3C4D5E6F"
	serverURL = "https://mdm.corp.test/ManagementServer/MDM.svc"
	pfxNode   = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall/waxseal-1"
)

func fromDevice(msgID int, commands ...Command) *Message {
	return &Message{SessionID: "5A", MsgID: msgID, Target: serverURL, Source: deviceID, Commands: commands, Final: true}
}

func fromServer(msgID int, commands ...Command) *Message {
	return &Message{SessionID: "5A", MsgID: msgID, Target: deviceID, Source: serverURL, Commands: commands, Final: true}
}

func status(id, msgRef, cmdRef, cmd, code string) Command {
	return Command{Verb: Status, ID: id, MsgRef: msgRef, CmdRef: cmdRef, Cmd: cmd, Data: code}
}

func failed(c Command, hresult string) Command {
	c.OriginalError = hresult
	return c
}

func results(id, msgRef, cmdRef string, items ...Item) Command {
	return Command{Verb: Results, ID: id, MsgRef: msgRef, CmdRef: cmdRef, Items: items}
}

func set(verb Verb, id, uri, format, data string) Command {
	return Command{Verb: verb, ID: id, Items: []Item{{Target: uri, Format: format, Data: data}}}
}

func devInfo() Command {
	return Command{Verb: Replace, ID: "4", Items: []Item{
		{Source: "./DevInfo/DevId", Data: deviceID},
		{Source: "./DevInfo/Man", Data: "Contoso & Sons"},
		{Source: "./DevInfo/Mod", Data: "Book 13"},
		{Source: "./DevInfo/DmV", Data: "1.3"},
		{Source: "./DevInfo/Lang", Data: "en-US"},
	}}
}

func firstMessage() *Message {
	m := fromDevice(1,
		Command{Verb: Alert, ID: "2", Data: AlertClientInitiated},
		Command{Verb: Alert, ID: "3", Data: AlertClientEvent, Items: []Item{{Type: TypeLoginStatus, Data: "user"}}},
		devInfo())
	m.MaxMsgSize = 524288
	return m
}

func statusesOnly() *Message {
	return fromServer(1, status("1", "1", "0", syncHdr, "200"), status("2", "1", "2", "Alert", "200"),
		status("3", "1", "3", "Alert", "200"), status("4", "1", "4", "Replace", "200"))
}

func pfxInstall() *Message {
	return fromServer(2, status("1", "2", "0", syncHdr, "200"),
		set(Delete, "11", pfxNode, "", ""),
		Command{Verb: Atomic, ID: "12", Commands: []Command{
			set(Add, "13", pfxNode+"/KeyLocation", "int", "3"),
			set(Add, "14", pfxNode+"/PFXKeyExportable", "bool", "false"),
			set(Add, "15", pfxNode+"/PFXCertPassword", "chr", "QkFTRTY0LUNNUw=="),
			set(Add, "16", pfxNode+"/PFXCertPasswordEncryptionType", "int", "1"),
			set(Add, "17", pfxNode+"/PFXCertBlob", "chr", "QkFTRTY0LVBGWA=="),
		}})
}

func pfxInstalled() *Message {
	return fromDevice(3, status("1", "2", "0", syncHdr, "200"),
		failed(status("2", "2", "11", "Delete", "404"), "0x86000002"), status("3", "2", "12", "Atomic", "200"),
		status("4", "2", "13", "Add", "200"), status("5", "2", "14", "Add", "200"), status("6", "2", "15", "Add", "200"),
		status("7", "2", "16", "Add", "200"), status("8", "2", "17", "Add", "200"))
}

func atomicFailed() *Message {
	return fromDevice(3, status("1", "2", "0", syncHdr, "200"), status("2", "2", "11", "Delete", "200"),
		failed(status("3", "2", "12", "Atomic", "507"), "0x800710DF"),
		status("4", "2", "13", "Add", "216"), status("5", "2", "14", "Add", "216"),
		failed(status("6", "2", "15", "Add", "500"), "0x80070056"),
		status("7", "2", "16", "Add", "215"), status("8", "2", "17", "Add", "215"))
}

func get() *Message {
	return fromServer(3, status("1", "3", "0", syncHdr, "200"),
		set(Get, "21", pfxNode+"/Status", "", ""), set(Get, "22", pfxNode+"/Thumbprint", "", ""),
		set(Get, "23", "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall", "", ""),
		set(Get, "24", "./Device/Vendor/MSFT/DMClient/Provider/MS%20DM%20Server/EntDMID", "", ""))
}

func getResults() *Message {
	return fromDevice(4, status("1", "3", "0", syncHdr, "200"),
		status("2", "3", "21", "Get", "200"),
		results("3", "3", "21", Item{Source: pfxNode + "/Status", Format: "int", Data: "0"}),
		status("4", "3", "22", "Get", "200"),
		results("5", "3", "22", Item{Source: pfxNode + "/Thumbprint", Format: "chr", Data: "0123456789ABCDEF0123456789ABCDEF01234567"}),
		status("6", "3", "23", "Get", "200"),
		results("7", "3", "23", Item{Source: "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall", Format: "node", Data: "waxseal-1/%7BA-1%7D/two%20words"}),
		failed(status("8", "3", "24", "Get", "404"), "0x86000002"))
}

func unenroll() *Message {
	return fromDevice(1, Command{Verb: Alert, ID: "2", Data: AlertGeneric,
		Items: []Item{{Format: "int", Type: TypeUnenroll, Data: "1"}}}, devInfo())
}

// admx is a piece of a policy definition; its line ends and quotes must arrive as they are.
const admx = "<policyDefinitions revision=\"1.0\">\r\n\t<policies>\n\t\t<policy name=\"L_AlwaysSign\" class=\"User\" key='Software\\Policies'/>\n" +
	"\t</policies><!-- a & b ]]> -->\r</policyDefinitions>"

func admxInstall() *Message {
	return fromServer(2, status("1", "2", "0", syncHdr, "200"),
		Command{Verb: Add, ID: "2", Items: []Item{{
			Target: "./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall/Outlook/Policy/outlk16", Format: "chr", Type: "text/plain", Data: admx}}},
		Command{Verb: Replace, ID: "3", Items: []Item{{
			Target: "./User/Vendor/MSFT/Policy/Config/Outlook~Policy~Security/L_AlwaysSign", Format: "xml", Data: `<enabled/><data id="x" value="1"/>`}}},
		set(Replace, "4", "./Device/Vendor/MSFT/Policy/Config/Experience/Empty", "chr", ""))
}

func largeObject() *Message {
	m := fromDevice(5, status("1", "4", "0", syncHdr, "200"), Command{Verb: Alert, ID: "2", Data: AlertNextMessage},
		results("3", "4", "21", Item{Source: "./DevDetail/Ext/Big", Format: "b64", Type: "text/plain", Size: 9000, Data: "AAAA", MoreData: true}))
	m.Final = false
	return m
}

// messages are those of testdata/golden.
func messages() map[string]*Message {
	return map[string]*Message{
		"first-message": firstMessage(), "statuses-only": statusesOnly(), "pfx-install": pfxInstall(), "pfx-installed": pfxInstalled(),
		"atomic-failed": atomicFailed(), "get": get(), "get-results": getResults(), "unenroll": unenroll(),
		"admx-install": admxInstall(), "large-object": largeObject(),
	}
}

// golden compares with a file of testdata/golden; WAXSEAL_UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".xml")
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := read(t, path); !bytes.Equal(got, want) {
		t.Errorf("%s differs; WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", name, got)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files are the paths of testdata's folder by name without the ending.
func files(t testing.TB, folder string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.xml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("testdata/%s is empty (%v)", folder, err)
	}
	found := map[string]string{}
	for _, p := range paths {
		found[strings.TrimSuffix(filepath.Base(p), ".xml")] = p
	}
	return found
}

func mustDecode(t testing.TB, b []byte) *Message {
	t.Helper()
	m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustEncode(t testing.TB, m *Message) []byte {
	t.Helper()
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wrap puts a body into a message of the device.
func wrap(body string) []byte {
	return []byte(`<SyncML xmlns="SYNCML:SYNCML1.2"><SyncHdr><VerDTD>1.2</VerDTD><VerProto>DM/1.2</VerProto><SessionID>1</SessionID><MsgID>1</MsgID>` +
		`<Target><LocURI>T</LocURI></Target><Source><LocURI>S</LocURI></Source></SyncHdr><SyncBody>` + body + `</SyncBody></SyncML>`)
}
