package windows

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const thumb = "AB12AB12AB12AB12AB12AB12AB12AB12AB12AB12"
	id := userPFX + "/" + thumb
	pfx := []Check{{id + "/Status", "0"}, {id + "/Thumbprint", thumb}}
	policy := []Check{{policyArea + "/AlwaysSign", enabled}}
	root := []Check{{storeRoot + "/" + thumb + "/EncodedCertificate", "MIIB"}}
	cases := []struct {
		name   string
		checks []Check
		values map[string]string
		want   string // empty: fine
	}{
		{"fine", pfx, map[string]string{id + "/Status": "0", id + "/Thumbprint": thumb}, ""},
		{"other letters", pfx, map[string]string{strings.ToUpper(id) + "/STATUS": "0", strings.ToLower(id) + "/thumbprint": "ab12 " + strings.ToLower(thumb[4:])}, ""},
		{"trap 4, an invisible mark", pfx, map[string]string{id + "/Status": "0", id + "/Thumbprint": "\u200e" + thumb}, ""},
		{"status in hex", pfx, map[string]string{id + "/Status": "0x56", id + "/Thumbprint": ""},
			"the PC refused the PFX: wrong password or unsupported algorithm (86)"},
		{"wrong password", pfx, map[string]string{id + "/Status": "86"}, "the PC refused the PFX: wrong password or unsupported algorithm (86)"},
		{"status in words", pfx, map[string]string{id + "/Status": "pending"}, `its status is "pending"`},
		{"no status", pfx, map[string]string{id + "/Thumbprint": thumb}, "the PC does not show " + id + "/Status (404)"},
		{"no thumbprint", pfx, map[string]string{id + "/Status": "0"}, "/Thumbprint (404)"},
		{"empty thumbprint", pfx, map[string]string{id + "/Status": "0", id + "/Thumbprint": ""}, "the PC has no certificate where " + thumb},
		{"another certificate", pfx, map[string]string{id + "/Status": "0", id + "/Thumbprint": "cd34"},
			"the PC has another certificate (CD34) than the one delivered (" + thumb + ")"},
		{"policy", policy, map[string]string{policyArea + "/AlwaysSign": "<Enabled/>\n"}, ""},
		{"another policy", policy, map[string]string{policyArea + "/AlwaysSign": disabled}, `the PC has "<disabled/>" at ` + policyArea},
		{"root in lines", root, map[string]string{root[0].LocURI: "MI\r\nIB"}, ""},
		{"another root", root, map[string]string{root[0].LocURI: "MIIC"}, "another CA certificate at " + storeRoot},
		{"nothing to check", nil, nil, ""},
		{"nothing answered", root, nil, "(404)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := Judge(c.checks, c.values)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestImportMeaning(t *testing.T) {
	for status, want := range map[int64]string{
		0: "imported (0)", 5: "access denied (5)", 86: "wrong password or unsupported algorithm (86)", 1234: "the import failed (1234)",
		13: "invalid data: the file is damaged or not a PFX (13)", 0x8009310b: "bad ASN.1: the file is damaged or not a PFX (0x8009310B)",
		-2146881269: "bad ASN.1: the file is damaged or not a PFX (0x8009310B)", 0x80090029: "not supported: the key storage refuses this key (0x80090029)",
		0x80090016: "the key set is missing (0x80090016)", 0x80070056: "wrong password or unsupported algorithm (0x80070056)",
		-2147024810: "wrong password or unsupported algorithm (0x80070056)", 0x80004005: "the import failed (0x80004005)",
	} {
		if got := ImportMeaning(status); got != want {
			t.Errorf("%d: %q, want %q", status, got, want)
		}
	}
}
