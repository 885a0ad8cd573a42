package syncml

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

const secret = "hunter2"

func header(replace, by string) []byte {
	return []byte(strings.Replace(string(wrap("")), replace, by, 1))
}

func TestDecodeRefuses(t *testing.T) {
	long := strings.Repeat("9", maxID+1)
	cases := []struct {
		name    string
		message []byte
		want    string
	}{
		{"nothing", nil, "one SyncML element"},
		{"text", []byte(secret), "one SyncML element"},
		{"another root", []byte("<SyncHdr/>"), "one SyncML element"},
		{"two roots", append(wrap(""), wrap("")...), "one SyncML element"},
		{"text after the root", append(wrap(""), secret...), "one SyncML element"},
		{"cut off", wrap("")[:100], "not well-formed"},
		{"not UTF-8", wrap("\xff"), "not UTF-8"},
		{"UTF-16", []byte("\xff\xfe<\x00"), "not UTF-8"},
		{"a control character", wrap("<Add>\x01</Add>"), "not UTF-8"},
		{"a control character by reference", wrap("<Add>&#1;</Add>"), "not well-formed"},
		{"another encoding", append([]byte(`<?xml version="1.0" encoding="windows-1252"?>`), wrap("")...), "unknown entity or encoding"},
		{"a document type", append([]byte(`<!DOCTYPE SyncML SYSTEM "file:///etc/passwd">`), wrap("")...), "document type"},
		{"entities that grow", append([]byte(`<!DOCTYPE S [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>`), wrap("<Add><Item><Data>&b;</Data></Item></Add>")...), "document type"},
		{"a document type inside", wrap(`<!DOCTYPE x>`), "document type"},
		{"an unknown entity", wrap("<Add><Item><Data>&" + secret + ";</Data></Item></Add>"), "unknown entity"},
		{"an HTML entity", wrap("<Add><Item><Data>&nbsp;</Data></Item></Add>"), "unknown entity"},
		{"crossing elements", wrap("<Add><" + secret + "></Add></" + secret + ">"), "not well-formed"},
		{"depth", wrap(strings.Repeat("<Atomic>", maxDepth)), "nested more than 32 deep"},
		{"depth in Data", wrap("<Add><Item><Data>" + strings.Repeat("<a>", maxDepth)), "nested more than 32 deep"},
		{"size", wrap(strings.Repeat(" ", MaxMessage)), "larger than 1024 KiB"},
		{"commands", wrap(strings.Repeat("<Add/>", maxCommands+1)), "more than 2000 commands"},
		{"commands inside others", wrap(strings.Repeat("<Atomic><Add/></Atomic>", maxCommands/2+1)), "more than 2000 commands"},
		{"items", wrap("<Get>" + strings.Repeat("<Item/>", maxItems+1) + "</Get>"), "more than 500 items"},
		{"elements", wrap(strings.Repeat("<a/>", maxElements)), "more than 65536 elements"},
		{"no header", []byte("<SyncML><SyncBody/></SyncML>"), "must have a SyncHdr and a SyncBody"},
		{"no body", []byte("<SyncML><SyncHdr/></SyncML>"), "must have a SyncHdr and a SyncBody"},
		{"two headers", []byte("<SyncML><SyncHdr/><SyncHdr/><SyncBody/></SyncML>"), "SyncHdr stands twice"},
		{"two bodies", []byte("<SyncML><SyncHdr/><SyncBody/><SyncBody/></SyncML>"), "SyncBody stands twice"},
		{"two sources", header("</SyncHdr>", "<Source><LocURI>other</LocURI></Source></SyncHdr>"), "Source stands twice in one SyncHdr"},
		{"two LocURIs", header("<LocURI>S</LocURI>", "<LocURI>S</LocURI><LocURI>R</LocURI>"), "LocURI stands twice"},
		{"old DTD", header("<VerDTD>1.2", "<VerDTD>1.1"), `VerDTD is "1.1", only "1.2"`},
		{"old protocol", header("DM/1.2", "SyncML/1.1"), `VerProto is "SyncML/1.1", only "DM/1.2"`},
		{"no version", header("<VerDTD>1.2</VerDTD>", ""), `VerDTD is ""`},
		{"long version", header("<VerDTD>1.2", "<VerDTD>"+strings.Repeat("1", 99)), `VerDTD is "` + strings.Repeat("1", 20) + `", only`},
		{"no session", header("<SessionID>1</SessionID>", "<SessionID> </SessionID>"), "SessionID is missing"},
		{"huge session", header("<SessionID>1", "<SessionID>"+long), "SessionID is longer than 128"},
		{"no MsgID", header("<MsgID>1</MsgID>", ""), "MsgID must be a positive integer"},
		{"MsgID 0", header("<MsgID>1", "<MsgID>0"), "MsgID must be a positive integer"},
		{"MsgID -1", header("<MsgID>1", "<MsgID>-1"), "MsgID must be a positive integer"},
		{"MsgID in hex", header("<MsgID>1", "<MsgID>0x1"), "MsgID must be a positive integer"},
		{"huge MsgID", header("<MsgID>1", "<MsgID>99999999999999999999"), "MsgID must be a positive integer"},
		{"no source", header("<LocURI>S</LocURI>", ""), "Source/LocURI of the header is missing"},
		{"MaxMsgSize", header("</SyncHdr>", "<Meta><MaxMsgSize>"+secret+"</MaxMsgSize></Meta></SyncHdr>"), "MaxMsgSize must be"},
		{"Size", wrap("<Add><Item><Meta><Size>-4</Size></Meta></Item></Add>"), "Size must be"},
		{"two CmdIDs", wrap("<Add><CmdID>1</CmdID><CmdID>2</CmdID></Add>"), "CmdID stands twice in one Add"},
		{"two CmdRefs", wrap("<Status><CmdRef>1</CmdRef><CmdRef>2</CmdRef></Status>"), "CmdRef stands twice in one Status"},
		{"two codes", wrap("<Status><Data>200</Data><Data>" + secret + "</Data></Status>"), "Data stands twice in one Status"},
		{"two Data", wrap("<Add><Item><Data>" + secret + "</Data><Data/></Item></Add>"), "Data stands twice in one Item"},
		{"huge CmdID", wrap("<Add><CmdID>" + long + "</CmdID></Add>"), "CmdID is longer than 128"},
		{"huge CmdRef", wrap("<Status><CmdRef>" + long + "</CmdRef></Status>"), "CmdRef is longer than 128"},
		{"huge HRESULT", wrap(`<Status><Data originalerror="` + long + `"/></Status>`), "originalerror is longer than 128"},
		{"a long name", wrap("<" + strings.Repeat("A", maxName+1) + "/>"), "name of a command must be short"},
		{"a foreign name", wrap("<Über/>"), "name of a command must be short"},
	}
	for _, c := range cases {
		m, err := Decode(c.message)
		var syntax *SyntaxError
		if m != nil || !errors.As(err, &syntax) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v, %v; want %q", c.name, m, err, c.want)
		}
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	_, err := Decode(wrap("\n\n<Add><CmdID>1</CmdID>\n<CmdID>2</CmdID></Add>"))
	if want := "decode SyncML message: line 4: CmdID stands twice in one Add"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// What the receiver answers with a status is not the reader's to refuse.
func TestDecodeTolerates(t *testing.T) {
	cases := []struct {
		name, body string
		want       []Command
	}{
		{"no CmdID", "<Get><Item><Target><LocURI>./a</LocURI></Target></Item></Get>", []Command{set(Get, "", "./a", "", "")}},
		{"unknown command", "<Copy><CmdID>1</CmdID><Other>x</Other></Copy>", []Command{{Verb: "Copy", ID: "1"}}},
		{"unknown in an Atomic", "<Atomic><CmdID>1</CmdID><Meta/><NoResp/><Frob/><Final/></Atomic>",
			[]Command{{Verb: Atomic, ID: "1", Commands: []Command{{Verb: "Frob"}, {Verb: "Final"}}}}},
		{"nested", "<Sequence><CmdID>1</CmdID><Atomic><CmdID>2</CmdID><Add><CmdID>3</CmdID></Add></Atomic></Sequence>",
			[]Command{{Verb: Sequence, ID: "1", Commands: []Command{{Verb: Atomic, ID: "2", Commands: []Command{{Verb: Add, ID: "3"}}}}}}},
		{"an alert's type alone", "<Alert><CmdID>1</CmdID><Data>1226</Data><Meta><Type>t</Type></Meta></Alert>",
			[]Command{{Verb: Alert, ID: "1", Data: "1226", Items: []Item{{Type: "t"}}}}},
		{"several targets", "<Status><CmdID>1</CmdID><TargetRef>./a</TargetRef><TargetRef>./b</TargetRef></Status>",
			[]Command{{Verb: Status, ID: "1", TargetRef: "./a"}}},
		{"a challenge", "<Status><CmdID>1</CmdID><Chal><Meta><Type>syncml:auth-md5</Type></Meta></Chal><Data>401</Data></Status>",
			[]Command{{Verb: Status, ID: "1", Data: "401"}}},
		{"markup in Data", "<Add><Item><Data> <a x='1'>&lt;\r\n</a><!-- c --> </Data></Item></Add>",
			[]Command{{Verb: Add, Items: []Item{{Data: " <a x='1'>&lt;\r\n</a><!-- c --> "}}}}},
		{"a document type in CDATA", "<Add><Item><Data><![CDATA[<!DOCTYPE x>&y;]]></Data></Item></Add>",
			[]Command{{Verb: Add, Items: []Item{{Data: "<!DOCTYPE x>&y;"}}}}},
		{"two meanings of one id", "<Add><CmdID>1</CmdID></Add><Add><CmdID>1</CmdID></Add>", []Command{{Verb: Add, ID: "1"}, {Verb: Add, ID: "1"}}},
	}
	for _, c := range cases {
		m := mustDecode(t, wrap(c.body))
		if !reflect.DeepEqual(m.Commands, c.want) || m.Final {
			t.Errorf("%s: got %+v\nwant %+v", c.name, m.Commands, c.want)
		}
	}
	if m := mustDecode(t, append([]byte("\ufeff<?xml version=\"1.0\"?>\n"), wrap("<Final/>")...)); !m.Final {
		t.Error("Final is lost behind a byte order mark")
	}
}

func TestTheLargestMessagesAreRead(t *testing.T) {
	m := fromDevice(1)
	for range maxCommands {
		m.Commands = append(m.Commands, status("", "1", "2", "Add", "200"))
	}
	m.Commands[0].Items = make([]Item, maxItems)
	m.Commands, _ = Number(1, m.Commands)
	if got := mustDecode(t, mustEncode(t, m)); !reflect.DeepEqual(got, m) {
		t.Error("the message changed")
	}
	filler := MaxMessage - len(mustEncode(t, fromServer(1, set(Add, "1", "./a", "b64", ""))))
	full := mustEncode(t, fromServer(1, set(Add, "1", "./a", "b64", strings.Repeat("A", filler))))
	if len(full) != MaxMessage || len(mustDecode(t, full).Commands[0].Items[0].Data) != filler {
		t.Errorf("%d bytes are not read", len(full))
	}
}

// Text in many pieces must not cost the square of its length.
func TestManyPieces(t *testing.T) {
	pieces := (MaxMessage - 1000) / len("a<!---->")
	m := mustDecode(t, wrap("<Add><Item><Data>"+strings.Repeat("a<!---->", pieces)+"</Data></Item></Add>"))
	if got := m.Commands[0].Items[0].Data; got != strings.Repeat("a", pieces) {
		t.Errorf("got %d characters, want %d", len(got), pieces)
	}
}

func FuzzDecode(f *testing.F) {
	for _, folder := range []string{"golden", "odd"} {
		for _, path := range files(f, folder) {
			f.Add(read(f, path))
		}
	}
	f.Add(wrap("<Sequence><Atomic><Add/></Atomic></Sequence><Frob><Item><Data><a/></Data></Item></Frob>"))
	f.Add([]byte("<!DOCTYPE a [<!ENTITY b 'c'>]><SyncML/>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			if strings.Contains(err.Error(), "larger than") {
				return
			}
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if got := mustDecode(t, again); !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v\nwant %+v\nfrom %s", got, m, again)
		}
		m.Answers(m.MsgID).Value("1", m.Source)
	})
}
