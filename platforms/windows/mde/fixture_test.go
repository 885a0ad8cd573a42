package mde

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// golden compares with a file of testdata/golden; WAXSEAL_UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if os.Getenv("WAXSEAL_UPDATE_GOLDEN") == "1" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; WAXSEAL_UPDATE_GOLDEN=1 writes it anew\n%s", name, got)
	}
}

const (
	deviceID  = "F6E1E8F9-2C6C-4B4B-8E7C-6F4A9B1C2D3E"
	hwDevID   = "0E5B5C1A7D2F43E69A8B7C6D5E4F30211F2E3D4C5B6A79880917263544536271"
	messageID = "urn:uuid: 748132ec-a575-4329-b01b-6171a9cf8478"
	otherHash = "5B7E0D1C2F3A49586776859403122130"
)

// windowsCN is a common name as real requests have it: a piece of the device's id, "!", 32 hex digits and a NUL. They
// are 64 characters, as many as X.520 allows.
const windowsCN = "F6E1E8F9-2C6C-4B4B-8E7C-6F4A9B!" + otherHash + "\x00"

// nameSET is a RelativeDistinguishedName; encoding/asn1 sees by the name that it is a SET.
type nameSET []struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// windowsCSR is a request as Windows makes it, with a common name of that string type.
func windowsCSR(t testing.TB, tag int, cn string) []byte {
	t.Helper()
	commonName := nameSET{{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: tag, Bytes: []byte(cn)}}}
	subject, err := asn1.Marshal([]nameSET{commonName})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: extensions(t)},
		testpki.PoolKey(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// extensions are EKU clientAuth and Microsoft's own, whose value is no DER.
func extensions(t testing.TB) []pkix.Extension {
	t.Helper()
	eku, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})
	if err != nil {
		t.Fatal(err)
	}
	return []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: eku},
		{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 66, 1, 0}, Value: []byte(otherHash + "\x00")},
	}
}

// renewalCMS is a new request, signed with the certificate of the management channel.
func renewalCMS(t testing.TB) []byte {
	t.Helper()
	id := testpki.NewCA(t, "Device CA").Issue(t, testpki.Options{CN: deviceID})
	der, err := cms.Sign(windowsCSR(t, asn1.TagPrintableString, windowsCN), id.Cert, id.Key,
		cms.SignOptions{SigningTime: testpki.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// lines is base64 with the line breaks that Windows puts in.
func lines(der []byte) string {
	text := base64.StdEncoding.EncodeToString(der)
	var out strings.Builder
	for ; len(text) > 64; text = text[64:] {
		out.WriteString(text[:64] + "\r\n")
	}
	return out.String() + text + "\r\n"
}

// envelopeOf is the request that Windows puts around header and body.
func envelopeOf(action, security, body string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"` +
		` xmlns:u="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"` +
		` xmlns:wsse="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"` +
		` xmlns:wst="http://docs.oasis-open.org/ws-sx/ws-trust/200512"` +
		` xmlns:ac="http://schemas.xmlsoap.org/ws/2006/12/authorization">` + "\n" +
		`<s:Header><a:Action s:mustUnderstand="1">` + "\n " + action + "\n </a:Action>\n" +
		`<a:MessageID>` + messageID + "</a:MessageID>\n" +
		`<a:ReplyTo><a:Address>http://www.w3.org/2005/08/addressing/anonymous</a:Address></a:ReplyTo>` + "\n" +
		`<a:To s:mustUnderstand="1">https://mdm.corp.test/EnrollmentServer/Service.svc</a:To>` + "\n" + security +
		"</s:Header>\n<s:Body>" + body + "</s:Body>\n</s:Envelope>\n"
}

const passwordHeader = `<wsse:Security s:mustUnderstand="1">
 <wsse:UsernameToken u:Id="uuid-cc1ccc1f-2fba-4bcf-b063-ffc0cac77917-4">
  <wsse:Username>ann@corp.test</wsse:Username>
  <wsse:Password wsse:Type="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText">one &amp; two</wsse:Password>
 </wsse:UsernameToken>
</wsse:Security>
`

func tokenHeader(token string) string {
	return `<wsse:Security s:mustUnderstand="1"><wsse:BinarySecurityToken ValueType="` + ValueTypeUserToken +
		`" EncodingType="` + encodingBase64 + `">` + token + "</wsse:BinarySecurityToken></wsse:Security>\n"
}

func discoverBody() string {
	return `<Discover xmlns="http://schemas.microsoft.com/windows/management/2012/01/enrollment/">
<request xmlns:i="http://www.w3.org/2001/XMLSchema-instance">
<OSEdition> 48</OSEdition><EmailAddress>CORP\ann</EmailAddress><RequestVersion>5.0</RequestVersion>
<DeviceType>CIMClient_Windows</DeviceType><ApplicationVersion>10.0.22631.1</ApplicationVersion>
<AuthPolicies><AuthPolicy>OnPremise</AuthPolicy><AuthPolicy>Federated</AuthPolicy></AuthPolicies>
</request></Discover>`
}

const policiesBody = `<GetPolicies xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy">
<client><lastUpdate xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/>` +
	`<preferredLanguage xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/>` +
	`<TPMManufacturer>INTC</TPMManufacturer><TPMFirmwareVersion>303.12.0.0</TPMFirmwareVersion></client>
<requestFilter xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"/></GetPolicies>`

func tokenBody(requestType, valueType, token string) string {
	return `<wst:RequestSecurityToken><wst:TokenType>` + TokenTypeDevice + `</wst:TokenType>` +
		`<wst:RequestType>` + requestType + `</wst:RequestType>` +
		`<wsse:BinarySecurityToken ValueType="` + valueType + `" EncodingType="` + encodingBase64 + `">` + "\r\n" + token +
		`</wsse:BinarySecurityToken>` + context + `</wst:RequestSecurityToken>`
}

const context = `<ac:AdditionalContext xmlns="http://schemas.xmlsoap.org/ws/2006/12/authorization">
<ac:ContextItem Name="UXInitiated"><ac:Value>false</ac:Value></ac:ContextItem>
<ac:ContextItem Name="HWDevID"><ac:Value>` + hwDevID + `</ac:Value></ac:ContextItem>
<ac:ContextItem Name="Locale"><ac:Value>en-US</ac:Value></ac:ContextItem>
<ac:ContextItem Name="TargetedUserLoggedIn"><ac:Value>true</ac:Value></ac:ContextItem>
<ac:ContextItem Name="OSEdition"><ac:Value> 48</ac:Value></ac:ContextItem>
<ac:ContextItem Name="DeviceName"><ac:Value>PC-0001</ac:Value></ac:ContextItem>
<ac:ContextItem Name="MAC"><ac:Value>A2-19-7D-41-B3-9C</ac:Value></ac:ContextItem>
<ac:ContextItem Name="MAC"><ac:Value>A2-19-7D-41-B3-9D</ac:Value></ac:ContextItem>
<ac:ContextItem Name="DeviceID"><ac:Value>` + deviceID + `</ac:Value></ac:ContextItem>
<ac:ContextItem Name="EnrollmentType"><ac:Value>Full</ac:Value></ac:ContextItem>
<ac:ContextItem Name="DeviceType"><ac:Value>CIMClient_Windows</ac:Value></ac:ContextItem>
<ac:ContextItem Name="OSVersion"><ac:Value>10.0.22631.3007</ac:Value></ac:ContextItem>
<ac:ContextItem Name="RequestVersion"><ac:Value>5.0</ac:Value></ac:ContextItem>
</ac:AdditionalContext>`

// requests are all kinds, by the names of their golden files.
func requests(t testing.TB) map[string]string {
	utf8, printable := windowsCSR(t, asn1.TagUTF8String, windowsCN), windowsCSR(t, asn1.TagPrintableString, windowsCN)
	renewal := renewalCMS(t)
	twice := base64.StdEncoding.EncodeToString([]byte(lines(renewal)))
	return map[string]string{
		"request-discover.xml":          envelopeOf(ActionDiscover, "", discoverBody()),
		"request-policies.xml":          envelopeOf(ActionGetPolicies, passwordHeader, policiesBody),
		"request-token-password.xml":    envelopeOf(ActionToken, passwordHeader, tokenBody(RequestIssue, ValueTypePKCS10, lines(printable))),
		"request-token-federated.xml":   envelopeOf(ActionToken, tokenHeader("dG9r\r\nZW4="), tokenBody(RequestIssue, ValueTypePKCS10, lines(utf8))),
		"request-renewal-automatic.xml": envelopeOf(ActionToken, "", tokenBody(RequestRenew, ValueTypePKCS7, lines(renewal))),
		"request-renewal-manual.xml":    envelopeOf(ActionToken, passwordHeader, tokenBody(RequestRenew, valueTypePKCS7Sample, twice)),
	}
}
