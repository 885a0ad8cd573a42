package syncml

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestGoldens(t *testing.T) {
	want := messages()
	for name, m := range want {
		t.Run(name, func(t *testing.T) {
			b := mustEncode(t, m)
			golden(t, name, b)
			if got := mustDecode(t, b); !reflect.DeepEqual(got, m) {
				t.Errorf("got %+v\nwant %+v", got, m)
			}
		})
	}
	for name := range files(t, "golden") {
		if want[name] == nil {
			t.Errorf("testdata/golden/%s.xml belongs to no message", name)
		}
	}
}

// What devices send in odd shapes is the same message as what we would write.
func TestOddShapes(t *testing.T) {
	perItem := firstMessage()
	perItem.MaxMsgSize = 0
	perItem.Commands = perItem.Commands[:2]
	for i, item := range append(devInfo().Items, Item{Source: "./Vendor/MSFT/DMClient/HWDevID", Data: "A1B2"}) {
		perItem.Commands = append(perItem.Commands, Command{Verb: Replace, ID: []string{"4", "5", "6", "7", "8", "9"}[i], Items: []Item{item}})
	}
	want := map[string]*Message{
		"first-message-prefixes": firstMessage(), "unenroll-type-in-alert": unenroll(), "atomic-failed-prefix": atomicFailed(),
		"admx-install-cdata": admxInstall(), "replace-per-item": perItem,
	}
	odd := files(t, "odd")
	if len(odd) != len(want) {
		t.Errorf("testdata/odd has %d files, want %d", len(odd), len(want))
	}
	for name, path := range odd {
		if got := mustDecode(t, read(t, path)); !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s: got %+v\nwant %+v", name, got, want[name])
		}
	}
}

func TestXMLLintReadsAllMessages(t *testing.T) {
	args := []string{"--noout", "--nonet"}
	for _, folder := range []string{"golden", "odd"} {
		for _, path := range files(t, folder) {
			args = append(args, path)
		}
	}
	for name, m := range messages() { // as they are written now, whatever the golden files say
		path := filepath.Join(t.TempDir(), name+".xml")
		if err := os.WriteFile(path, mustEncode(t, m), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	need(t, "xmllint")
	if out, err := exec.Command("xmllint", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("xmllint: %v\n%s", err, out)
	}
}

// need skips a test whose program is not here; strict runs fail instead.
func need(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err == nil {
		return
	}
	if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatalf("%s is missing", name)
	}
	t.Skipf("%s is missing", name)
}

// xmllint takes the Data out of what we wrote exactly as it went in.
func TestXMLLintReadsTheSameData(t *testing.T) {
	need(t, "xmllint")
	path := filepath.Join(t.TempDir(), "m.xml")
	if err := os.WriteFile(path, mustEncode(t, admxInstall()), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("xmllint", "--nonet", "--xpath", `string(//*[local-name()="Add"]/*[local-name()="Item"]/*[local-name()="Data"])`, path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSuffix(string(out), "\n"); got != admx {
		t.Errorf("got %q\nwant %q", got, admx)
	}
}

func TestDataComesBackByteForByte(t *testing.T) {
	for _, data := range []string{"", " ", "a\r\nb\rc\nd\te", "  lead and trail\n", `<a b="c">'&amp;']]></a>`, "ä漢😀\u0085\u2028\ufffd", "\ufeff", "-->", "<![CDATA[x]]>"} {
		m := fromServer(1, set(Add, "1", "./x", "chr", data))
		if got := mustDecode(t, mustEncode(t, m)); got.Commands[0].Items[0].Data != data {
			t.Errorf("%q became %q", data, got.Commands[0].Items[0].Data)
		}
	}
}

func TestEncodeLayout(t *testing.T) {
	cases := []struct {
		name    string
		command Command
		want    string
	}{
		{"status", Command{Verb: Status, ID: "2", MsgRef: "1", CmdRef: "7", Cmd: "Add", TargetRef: "./a", SourceRef: "./b", Data: "200"},
			"<Status><CmdID>2</CmdID><MsgRef>1</MsgRef><CmdRef>7</CmdRef><Cmd>Add</Cmd><TargetRef>./a</TargetRef><SourceRef>./b</SourceRef><Data>200</Data></Status>"},
		{"no id", Command{Verb: Alert, Data: "1201"}, "<Alert><Data>1201</Data></Alert>"},
		{"empty value", set(Add, "1", "./a", "chr", ""),
			`<Add><CmdID>1</CmdID><Item><Target><LocURI>./a</LocURI></Target><Meta><Format xmlns="syncml:metinf">chr</Format></Meta><Data></Data></Item></Add>`},
		{"no value", set(Exec, "1", "./a", "null", ""),
			`<Exec><CmdID>1</CmdID><Item><Target><LocURI>./a</LocURI></Target><Meta><Format xmlns="syncml:metinf">null</Format></Meta></Item></Exec>`},
		{"sequence", Command{Verb: Sequence, ID: "1", Commands: []Command{set(Get, "2", "./a", "", "")}},
			"<Sequence><CmdID>1</CmdID><Get><CmdID>2</CmdID><Item><Target><LocURI>./a</LocURI></Target></Item></Get></Sequence>"},
	}
	for _, c := range cases {
		if got := string(mustEncode(t, fromServer(1, c.command))); !strings.Contains(got, "<SyncBody>"+c.want+"<Final/>") {
			t.Errorf("%s: got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	cases := []struct {
		name    string
		message *Message
		want    string
	}{
		{"NUL in Data", fromServer(1, set(Add, "7", "./a", "chr", secret+"\x00")), "Add 7: Data has a character"},
		{"not UTF-8", fromServer(1, set(Add, "7", "./a", "chr", secret+"\xff")), "Add 7: Data has a character"},
		{"noncharacter in a LocURI", fromServer(1, set(Add, "7", secret+"\uffff", "chr", "")), "LocURI has a character"},
		{"inside an Atomic", fromServer(1, Command{Verb: Atomic, ID: "1", Commands: []Command{set(Add, "2", "./a", "chr", "\x1b")}}), "Add 2: Data"},
		{"no session", &Message{MsgID: 1, Source: "s"}, "SessionID is missing"},
		{"no MsgID", &Message{SessionID: "1", Source: "s"}, "MsgID must be a positive integer"},
		{"no source", &Message{SessionID: "1", MsgID: 1}, "Source/LocURI"},
		{"no verb", fromServer(1, Command{ID: "1"}), "verb must be"},
		{"a verb that is markup", fromServer(1, Command{Verb: "A><B", ID: "1"}), "element 1: the verb must be"},
		{"commands in an Add", fromServer(1, Command{Verb: Add, ID: "1", Commands: []Command{{Verb: Get}}}), "only Atomic and Sequence"},
		{"items in an Atomic", fromServer(1, Command{Verb: Atomic, ID: "1", Items: []Item{{}}}), "holds commands"},
		{"size", fromServer(1, set(Add, "7", "./a", "chr", strings.Repeat("x", MaxMessage))), "larger than 1024 KiB"},
	}
	for _, c := range cases {
		b, err := c.message.Encode()
		if err == nil || b != nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}
