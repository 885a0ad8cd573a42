package csp

import (
	"maps"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

const outlookADMX = `<?xml version="1.0" encoding="utf-8"?>
<policyDefinitions xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0" schemaVersion="1.0">
<policyNamespaces><target prefix="mail" namespace="Example.Policies.Mail"/></policyNamespaces>
<categories><category name="Outlook"/><category name="Security"><parentCategory ref="mail:Outlook"/></category></categories>
<policies>
<policy name="AlwaysSign" class="User" key="Software\Policies\Microsoft\Office\16.0\Outlook\Security" valueName="AlwaysSign">
<parentCategory ref="Security"/><enabledValue><decimal value="1"/></enabledValue><disabledValue><decimal value="0"/></disabledValue></policy>
<policy name="Formats" class="Both" key="Software\Policies\Microsoft\Office\16.0\Outlook\Security">
<parentCategory ref="Outlook"/><elements><decimal id="Format" valueName="msgformats" maxValue="3" required="true"/></elements></policy>
</policies></policyDefinitions>`

const (
	admxFile   = admxApps + "/Waxseal/Policy/R1"
	alwaysSign = config + "/Waxseal~Policy~Outlook~Security/AlwaysSign"
	formats    = config + "/Waxseal~Policy~Outlook/Formats"
	security   = `Software\Policies\Microsoft\Office\16.0\Outlook\Security\`
)

func TestPolicies(t *testing.T) {
	f := modern(t)
	f.want("404 0x86000002, 200, 418 0x800700B7, 200, 200, 418 0x800700B7",
		replace(alwaysSign, "chr", "<enabled/>"), add(admxFile, "chr", outlookADMX), add(admxFile, "chr", outlookADMX),
		add(alwaysSign, "chr", "<enabled/>"), replace(strings.ToUpper(formats), "chr", `<enabled/> <data id="format" value="1"/>`),
		add(alwaysSign, "chr", "<enabled/>"))
	wantPolicies(t, f.PC, map[string]string{security + "AlwaysSign": "1", security + "msgformats": "1"})
	f.wantValue(alwaysSign, "<enabled/>")
	f.wantValue(strings.Replace(alwaysSign, "/Config/", "/Result/", 1), "<enabled/>")
	f.wantValue(admxApps, "Waxseal")
	f.wantValue(admxApps+"/Waxseal/Policy", "R1")
	f.want("200", replace(alwaysSign, "chr", "<disabled/>"))
	wantPolicies(t, f.PC, map[string]string{security + "AlwaysSign": "0", security + "msgformats": "1"})
	f.want("200, 404 0x86000002", del(alwaysSign), del(alwaysSign))
	wantPolicies(t, f.PC, map[string]string{security + "msgformats": "1"})
	f.want("200", del(admxApps+"/Waxseal"))
	wantPolicies(t, f.PC, nil)
	f.wantValue(formats, "[404 0x86000002]")
}

func wantPolicies(t *testing.T, p *PC, want map[string]string) {
	t.Helper()
	if got := p.Policies(); !maps.Equal(got, want) {
		t.Errorf("policies are %v, want %v", got, want)
	}
}

// TestUserPolicyWins: a policy of class Both can be set for the device and for the user.
func TestUserPolicyWins(t *testing.T) {
	f := modern(t)
	device := strings.Replace(formats, "./User", "./Device", 1)
	f.want("200, 200, 200", add(admxFile, "chr", outlookADMX),
		add(formats, "chr", `<enabled/><data id="Format" value="3"/>`), add(device, "chr", `<enabled/><data id="Format" value="1"/>`))
	wantPolicies(t, f.PC, map[string]string{security + "msgformats": "3"})
}

func TestReplacedFileDropsPolicies(t *testing.T) {
	f := modern(t)
	f.want("200, 200, 200", add(admxFile, "chr", outlookADMX), add(alwaysSign, "chr", "<enabled/>"),
		replace(admxFile, "chr", strings.ReplaceAll(outlookADMX, "AlwaysSign", "NeverSign")))
	wantPolicies(t, f.PC, nil)
}

func TestRefusedPolicies(t *testing.T) {
	closed := strings.Replace(outlookADMX, `Software\Policies\Microsoft\Office\16.0`, `Software\Policies\Microsoft\Windows`, 1)
	tests := []struct {
		name    string
		command syncml.Command
		want    string
	}{
		{"closed key", add(admxApps+"/Other/Policy/R1", "chr", closed), "500 0x80070005"},
		{"no XML", add(admxApps+"/Other/Policy/R1", "chr", "policies"), "500 0x86000018"},
		{"ADMX for the user", add(strings.Replace(admxFile, "./Device", "./User", 1), "chr", outlookADMX), "404 0x86000002"},
		{"wrong class", add(strings.Replace(alwaysSign, "./User", "./Device", 1), "chr", "<enabled/>"), "404 0x86000002"},
		{"wrong category", add(config+"/Waxseal~Policy~Security/AlwaysSign", "chr", "<enabled/>"), "404 0x86000002"},
		{"no area", add(config+"/Bluetooth/AllowAdvertising", "chr", "1"), "404 0x86000002"},
		{"no setting", add(alwaysSign, "chr", "1"), "415 0x86000018"},
		{"required data", add(formats, "chr", "<enabled/>"), "400 0x80070057"},
		{"out of range", add(formats, "chr", `<enabled/><data id="Format" value="4"/>`), "400 0x80070057"},
		{"unknown data", add(alwaysSign, "chr", `<enabled/><data id="Format" value="4"/>`), "400 0x80070057"},
		{"unenrolment by hand", add("./Vendor/MSFT/Policy/Config/Experience/AllowManualMDMUnenrollment", "int", "2"), "415 0x86000001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := modern(t)
			f.want("200, "+tt.want, add(admxFile, "chr", outlookADMX), tt.command)
		})
	}
}
