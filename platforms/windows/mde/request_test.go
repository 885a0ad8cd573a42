package mde

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
)

func decode(t *testing.T, name string) *Request {
	t.Helper()
	text := requests(t)[name]
	golden(t, name, []byte(text))
	q, err := Decode([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if q.MessageID != messageID || q.To != "https://mdm.corp.test/EnrollmentServer/Service.svc" {
		t.Errorf("%s: MessageID %q, To %q", name, q.MessageID, q.To)
	}
	return q
}

func TestDecodeDiscover(t *testing.T) {
	q := decode(t, "request-discover.xml")
	want := &Discover{EmailAddress: `CORP\ann`, RequestVersion: "5.0", DeviceType: "CIMClient_Windows",
		ApplicationVersion: "10.0.22631.1", OSEdition: "48", AuthPolicies: []string{AuthOnPremise, AuthFederated}}
	if q.Action != ActionDiscover || !reflect.DeepEqual(q.Discover, want) || q.GetPolicies != nil || q.Token != nil {
		t.Errorf("got %+v", q)
	}
	if q.Security.HasUsername || q.Security.HasToken {
		t.Error("a credential from nowhere")
	}
}

func TestDecodeGetPolicies(t *testing.T) {
	q := decode(t, "request-policies.xml")
	want := &GetPolicies{TPMManufacturer: "INTC", TPMFirmwareVersion: "303.12.0.0"}
	if q.Action != ActionGetPolicies || !reflect.DeepEqual(q.GetPolicies, want) {
		t.Errorf("got %+v", q.GetPolicies)
	}
	s := q.Security
	if !s.HasUsername || s.HasToken || s.Username != "ann@corp.test" || s.Password != "one & two" ||
		!strings.HasSuffix(s.PasswordType, "#PasswordText") {
		t.Errorf("security: %t %t %q", s.HasUsername, s.HasToken, s.PasswordType)
	}
	if text := fmt.Sprintf("%v %+v", q, q); strings.Contains(text, "one & two") {
		t.Error("a request that is printed shows its password")
	}
}

func TestDecodeToken(t *testing.T) {
	q := decode(t, "request-token-federated.xml")
	if s := q.Security; !s.HasToken || s.HasUsername || string(s.Token) != "dG9rZW4=" || s.TokenValueType != ValueTypeUserToken {
		t.Errorf("security: %q %q", s.Token, s.TokenValueType)
	}
	token := q.Token
	if token.Renew || token.PKCS7 != nil || token.TokenType != TokenTypeDevice {
		t.Errorf("got %+v", token)
	}
	if !bytes.Equal(token.CSR, windowsCSR(t, asn1.TagUTF8String, windowsCN)) {
		t.Error("the certificate request differs")
	}
	got := []string{token.DeviceID(), token.HWDevID(), token.EnrollmentType(), token.DeviceName(), token.OSVersion(),
		token.OSEdition(), token.RequestVersion(), token.First("Locale"), token.First("IMEI")}
	want := []string{deviceID, hwDevID, "Full", "PC-0001", "10.0.22631.3007", "48", "5.0", "en-US", ""}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	if macs := token.All("MAC"); !reflect.DeepEqual(macs, []string{"A2-19-7D-41-B3-9C", "A2-19-7D-41-B3-9D"}) {
		t.Errorf("MAC: %q", macs)
	}
	if StoreFor("Full") != StoreUser || StoreFor("Device") != StoreSystem || StoreFor("") != StoreUser {
		t.Error("StoreFor")
	}
}

func TestDecodeRenewal(t *testing.T) {
	for _, name := range []string{"request-renewal-automatic.xml", "request-renewal-manual.xml"} {
		token := decode(t, name).Token
		if !token.Renew || token.CSR != nil {
			t.Fatalf("%s: %+v", name, token)
		}
		signed, err := cms.Verify(token.PKCS7)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		csr, err := ParseCSR(signed.Content)
		if err != nil || csr.CheckSignature() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeTokenWithPassword(t *testing.T) {
	csr, err := ParseCSR(decode(t, "request-token-password.xml").Token.CSR)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the request in a PrintableString: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := requests(t)
	discover, token := good["request-discover.xml"], good["request-token-password.xml"]
	csr := lines(windowsCSR(t, asn1.TagUTF8String, windowsCN))
	issue := func(requestType, valueType, text string) string {
		return envelopeOf(ActionToken, passwordHeader, tokenBody(requestType, valueType, text))
	}
	cases := []struct{ name, text, want string }{
		{"empty", "", "no root element"},
		{"cut off", discover[:len(discover)/2], "not well-formed"},
		{"another root", "<a/>", "not a SOAP Envelope"},
		{"too large", discover + strings.Repeat(" ", most.Size), "larger than 256 KiB"},
		{"too deep", "<Envelope>" + strings.Repeat("<a>", most.Depth), "nested deeper"},
		{"too many", "<Envelope>" + strings.Repeat("<a/>", most.Elements), "more than 2000 elements"},
		{"document type", `<!DOCTYPE a [<!ENTITY b "c">]>` + discover, "document types"},
		{"entity", strings.Replace(token, "one &amp; two", "&hunter2;", 1), "not well-formed"},
		{"instruction", `<?php echo 1 ?>` + discover, "processing instructions"},
		{"other encoding", `<?xml version="1.0" encoding="UTF-16"?>` + discover, "not well-formed"},
		{"two roots", discover + discover, "second root"},
		{"text after", discover + "more", "text outside"},
		{"no body", `<Envelope><Header/></Envelope>`, "exactly one element"},
		{"two bodies", strings.Replace(discover, "</s:Envelope>", "<s:Body/></s:Envelope>", 1), "Body occurs more than once"},
		{"two requests", strings.Replace(discover, "<s:Body>", "<s:Body><Discover/>", 1), "exactly one element"},
		{"another request", strings.ReplaceAll(discover, "Discover", "Rediscover"), "none of Discover"},
		{"another action", strings.Replace(discover, ActionDiscover, ActionToken, 1), "Action does not fit"},
		{"no request element", envelopeOf(ActionDiscover, "", "<Discover/>"), "no request element"},
		{"two names", strings.Replace(token, "<wsse:Username>", "<wsse:Username>root</wsse:Username><wsse:Username>", 1), "Username occurs more than once"},
		{"two headers", strings.Replace(token, "<wsse:Security ", "<wsse:Security/><wsse:Security ", 1), "Security occurs more than once"},
		{"no token", envelopeOf(ActionToken, "", "<RequestSecurityToken/>"), "no BinarySecurityToken"},
		{"not base64", issue(RequestIssue, ValueTypePKCS10, "*"), "no DER in base64"},
		{"no DER", issue(RequestIssue, ValueTypePKCS10, "AAAA"), "no DER in base64"},
		{"issue with CMS", issue(RequestIssue, ValueTypePKCS7, csr), "RequestType must be"},
		{"renewal with PKCS#10", issue(RequestRenew, ValueTypePKCS10, csr), "RequestType must be"},
		{"no request type", issue("", ValueTypePKCS10, csr), "RequestType must be"},
	}
	for _, c := range cases {
		q, err := Decode([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") || q != nil {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

func TestTokens(t *testing.T) {
	once := base64.StdEncoding.EncodeToString([]byte("secret token"))
	twice := base64.StdEncoding.EncodeToString([]byte(once))
	thrice := base64.StdEncoding.EncodeToString([]byte(twice))
	cases := map[string][]string{
		"":                      nil,
		"no-base64!":            {"no-base64!"},
		once:                    {once, "secret token"},
		twice:                   {twice, once, "secret token"},
		thrice:                  {thrice, twice, once},
		strings.Trim(once, "="): {strings.Trim(once, "="), "secret token"},
		"AAAA":                  {"AAAA"},
		"/w==":                  {"/w=="},
	}
	for sent, want := range cases {
		if got := (Security{Token: []byte(sent)}).Tokens(); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %q, want %q", sent, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, text := range requests(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte(`<Envelope><Body><Discover><request/></Discover></Body></Envelope>`))
	f.Add([]byte(`<!DOCTYPE a><a/>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := Decode(b)
		if err != nil {
			return
		}
		bodies := 0
		for _, there := range []bool{q.Discover != nil, q.GetPolicies != nil, q.Token != nil} {
			if there {
				bodies++
			}
		}
		if bodies != 1 || len(q.Security.Tokens()) > 3 {
			t.Errorf("%d bodies", bodies)
		}
		if token := q.Token; token != nil && token.Renew == (len(token.PKCS7) == 0) {
			t.Error("a renewal without its request")
		}
	})
}
