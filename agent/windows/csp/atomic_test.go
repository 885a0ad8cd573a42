package csp

import (
	"encoding/json"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// frozen is the whole state, to be compared.
func frozen(t testing.TB, p *PC) string {
	t.Helper()
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestAtomicRollsBack proves that whatever fails in an Atomic, the tree, the stores and the policies are as before.
func TestAtomicRollsBack(t *testing.T) {
	ca := testpki.NewCA(t, "Example CA")
	root := rootStore + "/" + thumbprint(ca.Cert) + "/EncodedCertificate"
	good := []syncml.Command{
		add(dmc+"/EntDMID", "chr", "1"), replace(dmc+"/UPN", "chr", "bob@example.test"),
		add(root, "b64", encodeBase64(ca.Cert.Raw)), del(userPFX + "/OLD"),
	}
	tests := []struct {
		name string
		bad  syncml.Command
		want string // of the Atomic and the bad command
	}{
		{"get", get("./DevDetail/SwV"), "500 0x86000003"},
		{"missing node", del(userPFX + "/NONE"), "404 0x86000002"},
		{"existing node", add(dmc+"/UPN", "chr", "x"), "418 0x800700B7"},
		{"read only", replace("./DevInfo/Man", "chr", "x"), "405 0x86000011"},
		{"format", add(dmc+"/NumberOfDaysAfterLostContactToUnenroll", "chr", "x"), "415 0x86000001"},
		{"unknown element", command("Copy", dmc+"/UPN", "", ""), "400"},
		{"sequence", syncml.Command{Verb: syncml.Sequence}, "406 0x86000003"},
		{"replace of what was added", replace(dmc+"/ENTDMID", "chr", "2"), "500 0x86000003"},
		{"wrong hash", add(rootStore+"/0000/EncodedCertificate", "b64", encodeBase64(ca.Cert.Raw)), "400 0x80070057"},
		{"unknown policy", add(config+"/App~Policy~Cat/Name", "chr", "<enabled/>"), "404 0x86000002"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := modern(t)
			old := f.identity("old", testpki.Options{})
			f.want("200, 200, 200, 200, 200, 200", atomic(nodes(syncml.Add, "OLD", "secret", "0", f.pfx(old, "secret", pfx.LegacyDES))...))
			f.want("200", add(dmc+"/UPN", "chr", "ann@example.test"))
			before := frozen(t, f.PC)
			_, hresult, _ := cut(tt.want)
			atomicStatus := "507"
			if hresult != "" {
				atomicStatus += " " + hresult
			}
			all := append(append([]syncml.Command{}, good...), tt.bad, add(dmc+"/EntDeviceName", "chr", "x"))
			f.want(atomicStatus+", 216, 216, 216, 216, "+tt.want+", 215", atomic(all...))
			if frozen(t, f.PC) != before {
				t.Error("the failed Atomic left something behind")
			}
		})
	}
}

func cut(status string) (code, hresult string, ok bool) {
	for n := range status {
		if status[n] == ' ' {
			return status[:n], status[n+1:], true
		}
	}
	return status, "", false
}

func TestNestedAtomic(t *testing.T) {
	modern(t).want("507 0x86000003, 216, 500 0x86000003, 215, 215",
		atomic(add(dmc+"/UPN", "chr", "x"), atomic(add(dmc+"/EntDMID", "chr", "1")), add(dmc+"/EntDeviceName", "chr", "x")))
}

func TestAtomicMemberWithoutID(t *testing.T) {
	f := modern(t)
	inner := add(dmc+"/UPN", "chr", "x")
	out, _ := f.Execute("1", []syncml.Command{{Verb: syncml.Atomic, ID: "1", Commands: []syncml.Command{inner}}})
	if len(out) != 2 || out[0].Data != "507" || out[1].Data != "400" {
		t.Errorf("got %+v", out)
	}
	f.wantValue(dmc+"/UPN", "[404 0x86000002]")
}

func TestAtomicSucceeds(t *testing.T) {
	f := modern(t)
	f.want("200, 200, 200, 200",
		atomic(add(dmc+"/UPN", "chr", "x"), replace(dmc+"/EntDMID", "chr", "1"), replace(dmc+"/EntDMID", "chr", "2")))
	f.wantValue(dmc+"/EntDMID", "2")
}
