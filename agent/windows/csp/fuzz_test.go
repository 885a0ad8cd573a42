package csp

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// FuzzExecute gives a PC whatever decodes as a message. It must answer each command, end an Atomic that fails in the state
// that it began in, and keep a state that can be written and read.
func FuzzExecute(f *testing.F) {
	fx := modern(f)
	ann := fx.identity("Ann", testpki.Options{})
	for _, commands := range [][]syncml.Command{
		{atomic(nodes(syncml.Add, "A1", "secret", "0", fx.pfx(ann, "secret", pfx.LegacyDES))...), get(userPFX), del(userPFX + "/A1")},
		{atomic(request("S1")...), get(userSCEP + "/S1/Status")},
		{add(admxFile, "chr", outlookADMX), replace(alwaysSign, "chr", "<enabled/>"), del(admxApps + "/Waxseal")},
		{add(rootStore+"/"+thumbprint(fx.ca.Cert)+"/EncodedCertificate", "b64", encodeBase64(fx.ca.Cert.Raw)), get(rootStore)},
		{exec(dmc+"/Unenroll", "Waxseal"), get("./DevDetail/Ext")},
	} {
		numbered, _ := syncml.Number(1, commands)
		m := syncml.Message{SessionID: "1", MsgID: 1, Target: "9B1C", Source: "https://mdm.example.test", Commands: numbered, Final: true}
		raw, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	seedFiles(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := syncml.Decode(raw)
		if err != nil {
			return
		}
		pc := New(fx.config("10.0.22631.1", Rules{}))
		for _, c := range m.Commands {
			before := frozen(t, pc)
			out, effects := pc.Execute("1", []syncml.Command{c})
			if c.Verb == syncml.Status || c.Verb == syncml.Results {
				continue
			}
			if len(out) == 0 {
				t.Fatalf("no answer to %s", c.Verb)
			}
			if c.Verb == syncml.Atomic && out[0].Data != "200" && (frozen(t, pc) != before || len(effects.SCEP) > 0 || effects.Unenroll) {
				t.Fatal("a failed Atomic left something behind")
			}
		}
		pc.Tree()
		pc.Policies()
		if err := json.Unmarshal([]byte(frozen(t, pc)), &PC{}); err != nil {
			t.Fatal(err)
		}
	})
}

// seedFiles are the messages of the codec's golden files.
func seedFiles(f *testing.F) {
	files, err := filepath.Glob("../../../platforms/windows/syncml/testdata/*/*.xml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no golden messages: %v", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
}
