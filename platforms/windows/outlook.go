package windows

import (
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
)

// Names of the ADMX file on the PC. The app and its category make the name of the policy area.
const (
	appName     = "Waxseal"
	category    = "WaxsealOutlook"
	admxInstall = "./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall"
	admxApp     = admxInstall + "/" + appName
	policyArea  = "./User/Vendor/MSFT/Policy/Config/" + appName + "~Policy~" + category
)

// outlookKey is where classic Outlook reads its policies (HKCU). It is one of the few keys below Software\Policies\Microsoft that
// an ingested ADMX may write (windows.md 3.10).
const outlookKey = `Software\Policies\Microsoft\Office\16.0\Outlook\Security`

// Values of a policy without elements.
const (
	enabled  = "<enabled/>"
	disabled = "<disabled/>"
)

// policy is one on-off policy of our ADMX: a DWORD of outlookKey.
type policy struct {
	name, value, displayName string
}

func (p policy) locURI() string { return policyArea + "/" + p.name }

// Names of policies.
const (
	policyFormat  = "MessageFormats"
	policySign    = "AlwaysSign"
	policyEncrypt = "AlwaysEncrypt"
	policyClear   = "ClearSign"
)

// outlookPolicies is the one table of registry values. msgformats is in the policy catalogue of Office 16.0. The other
// three are documented for Outlook 2003 and not verified for 16.0: Microsoft's outlk16.admx was not at hand.
func outlookPolicies() []policy {
	return []policy{
		{policyFormat, "msgformats", "Use the S/MIME message format"},      // 1 is S/MIME
		{policySign, "AlwaysSign", "Sign all messages"},                    // unverified for 16.0
		{policyEncrypt, "AlwaysEncrypt", "Encrypt all messages"},           // unverified for 16.0
		{policyClear, "ClearSign", "Send signed messages as clear signed"}, // unverified for 16.0
	}
}

// settingsOf turns S/MIME settings into values of policies by name. The message format is always S/MIME, so the set is
// never empty; signed mail is clear signed, as Apple's Mail does it, so that everybody can read it.
func settingsOf(s *profiles.SMIME, signingOmitted, encryptionOmitted bool) map[string]string {
	signs := s.Signing.Enabled && !signingOmitted
	m := map[string]string{policyFormat: enabled}
	if signs {
		m[policyClear] = enabled
	}
	if !signingOmitted {
		m[policySign] = choice(signs, s.Signing.UserMayChange)
	}
	if !encryptionOmitted {
		m[policyEncrypt] = choice(s.Encryption.ByDefault, s.Encryption.UserMayChange)
	}
	return m
}

// choice is the value of a switch: on is a policy, which the user cannot change, since Outlook knows no mere default; off
// is one as well, unless the user may change it. Empty leaves the policy out.
func choice(on, userMayChange bool) string {
	switch {
	case on:
		return enabled
	case userMayChange:
		return ""
	}
	return disabled
}

// finishMail plans the ADMX file and, after it, the policies that it makes known. The file's name is the proof of the
// revision, so the revision is computed without it.
func finishMail(doc *platforms.Document, settings map[string]string) {
	doc.Revision = revision(doc.Identifier, encodeBody(body{Nodes: mailNodes("", settings)}))
	doc.Proof = "R" + doc.Revision[:16]
	doc.Body = encodeBody(body{Nodes: mailNodes(doc.Proof, settings)})
}

// mailNodes are not Atomic: the Policy CSP takes each policy by itself.
func mailNodes(fileID string, settings map[string]string) []node {
	nodes := []node{{LocURI: admxApp + "/Policy/" + fileID, Format: formatText, Type: "text/plain", Data: admx()}}
	for _, p := range outlookPolicies() {
		if v := settings[p.name]; v != "" {
			nodes = append(nodes, node{LocURI: p.locURI(), Format: formatText, Type: "text/plain", Data: v})
		}
	}
	return nodes
}

// admx is the policy definition file. Its order of elements is that of the schema PolicyDefinitions; its strings name a
// language file that ingestion does not need. Source: Microsoft Learn, "Win32 and Desktop Bridge app ADMX policy ingestion".
func admx() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>
<policyDefinitions xmlns="http://schemas.microsoft.com/GroupPolicy/2006/07/PolicyDefinitions" revision="1.0" schemaVersion="1.0">
<policyNamespaces><target prefix="waxseal" namespace="Waxseal.Policies.Outlook"/></policyNamespaces>
<resources minRequiredRevision="1.0"/>
<supportedOn><definitions><definition name="Outlook2016" displayName="Microsoft Outlook 2016 or later"/></definitions></supportedOn>
`)
	fmt.Fprintf(&b, "<categories><category name=%q displayName=\"S/MIME in Outlook\"/></categories>\n<policies>\n", category)
	for _, p := range outlookPolicies() {
		fmt.Fprintf(&b, `<policy name="%s" class="User" displayName="%s" key="%s" valueName="%s">`, p.name, p.displayName, outlookKey, p.value)
		fmt.Fprintf(&b, `<parentCategory ref="%s"/><supportedOn ref="Outlook2016"/>`, category)
		b.WriteString("<enabledValue><decimal value=\"1\"/></enabledValue><disabledValue><decimal value=\"0\"/></disabledValue></policy>\n")
	}
	b.WriteString("</policies>\n</policyDefinitions>\n")
	return b.String()
}
