package windowsmdm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
)

// messageID has the blank that Windows puts there.
const messageID = "urn:uuid: 748132ec-a575-4329-b01b-6171a9cf8478"

// soap is a message as Windows sends it.
func soap(action, security, body string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing" ` +
		`xmlns:u="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd" ` +
		`xmlns:wsse="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd" ` +
		`xmlns:wst="http://docs.oasis-open.org/ws-sx/ws-trust/200512" xmlns:ac="http://schemas.xmlsoap.org/ws/2006/12/authorization">` +
		`<s:Header><a:Action s:mustUnderstand="1">` + action + `</a:Action><a:MessageID>` + messageID + `</a:MessageID>` +
		`<a:To s:mustUnderstand="1">https://mdm.example.com:443</a:To>` + security + `</s:Header><s:Body>` + body + `</s:Body></s:Envelope>`
}

func discover(policies ...string) string {
	body := `<Discover xmlns="http://schemas.microsoft.com/windows/management/2012/01/enrollment"><request>` +
		`<EmailAddress></EmailAddress><RequestVersion>5.0</RequestVersion><DeviceType>CIMClient_Windows</DeviceType>` +
		`<ApplicationVersion>10.0.22631.1</ApplicationVersion><OSEdition>48</OSEdition><AuthPolicies>`
	for _, p := range policies {
		body += `<AuthPolicy>` + p + `</AuthPolicy>`
	}
	return soap(mde.ActionDiscover, "", body+`</AuthPolicies></request></Discover>`)
}

func username(user, secret string) string { return usernameOf("#PasswordText", user, secret) }

func usernameOf(kind, user, secret string) string {
	return `<wsse:Security s:mustUnderstand="1"><wsse:UsernameToken u:Id="uuid-cc1ccc1f-2fba-4bcf-b063-ffc0cac77917-4"><wsse:Username>` + user +
		`</wsse:Username><wsse:Password wsse:Type="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0` + kind + `">` +
		secret + `</wsse:Password></wsse:UsernameToken></wsse:Security>`
}

// bearer is the header of a token, encoded so many times.
func bearer(token string, times int) string {
	for range times {
		token = base64.StdEncoding.EncodeToString([]byte(token))
	}
	return `<wsse:Security s:mustUnderstand="1"><wsse:BinarySecurityToken ValueType="` + mde.ValueTypeUserToken + `">` + token + `</wsse:BinarySecurityToken></wsse:Security>`
}

func getPolicies(security string) string {
	return soap(mde.ActionGetPolicies, security, `<GetPolicies xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"><client/></GetPolicies>`)
}

// items is the context of a request, a name and a value in turns.
type items []string

func about(more ...string) items {
	return append(items{"DeviceType", "CIMClient_Windows", "DeviceName", "PC-0001", "OSVersion", "10.0.22631.3007", "MAC", "A2-19-7D-41-B3-9C"}, more...)
}

func usual() items {
	return about("DeviceID", deviceID, "HWDevID", hardware, "EnrollmentType", "Full", "DeviceModel", "Surface", "SerialNumber", "S1", "IMEI", "35", "IMEI", "36")
}

func (c items) xml() string {
	var b strings.Builder
	for i := 0; i < len(c); i += 2 {
		b.WriteString(`<ac:ContextItem Name="` + c[i] + `"><ac:Value>` + c[i+1] + `</ac:Value></ac:ContextItem>`)
	}
	return `<ac:AdditionalContext>` + b.String() + `</ac:AdditionalContext>`
}

func issue(security string, csr []byte, c items) string {
	return tokenRequest(security, mde.RequestIssue, mde.ValueTypePKCS10, csr, c)
}

func renewal(signed []byte, c items) string {
	return tokenRequest("", mde.RequestRenew, mde.ValueTypePKCS7, signed, c)
}

// tokenRequest breaks the lines of its base64, as Windows does.
func tokenRequest(security, request, valueType string, der []byte, c items) string {
	var lines strings.Builder
	for text := base64.StdEncoding.EncodeToString(der); text != ""; {
		n := min(64, len(text))
		lines.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
	return soap(mde.ActionToken, security, `<wst:RequestSecurityToken><wst:TokenType>`+mde.TokenTypeDevice+`</wst:TokenType><wst:RequestType>`+request+
		`</wst:RequestType><wsse:BinarySecurityToken ValueType="`+valueType+`">`+lines.String()+`</wsse:BinarySecurityToken>`+c.xml()+`</wst:RequestSecurityToken>`)
}

// windowsCSR is a request as Windows makes it (windows.md section 1.6): the subject may be a string that cannot hold it.
func windowsCSR(t *testing.T, n, stringTag int) []byte {
	t.Helper()
	name := deviceID[:30] + "!0123456789ABCDEF0123456789ABCDEF\x00"
	subject := marshal(t, []any{asn1.RawValue{Class: 0, Tag: asn1.TagSet, IsCompound: true, Bytes: marshal(t, struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: stringTag, Bytes: []byte(name)}})}})
	template := &x509.CertificateRequest{RawSubject: subject, ExtraExtensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 66, 1, 0}, Value: []byte("0123456789ABCDEF0123456789ABCDEF\x00")}}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testpki.PoolKey(t, n))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func csr(t *testing.T, n int) []byte { return windowsCSR(t, n, asn1.TagUTF8String) }

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// values are the texts of all elements of that name.
func values(t *testing.T, body []byte, name string) []string {
	t.Helper()
	var out []string
	inside := false
	for dec := xml.NewDecoder(bytes.NewReader(body)); ; {
		tok, err := dec.Token()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("the answer is not XML: %v\n%s", err, body)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if inside = tok.Name.Local == name; inside {
				out = append(out, "")
			}
		case xml.CharData:
			if inside {
				out[len(out)-1] += string(tok)
			}
		case xml.EndElement:
			inside = false
		}
	}
}

func value(t *testing.T, body []byte, name string) string {
	t.Helper()
	return strings.Join(values(t, body, name), ",")
}

// wholly checks what holds for every answer.
func wholly(t *testing.T, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) || w.Header().Get("Content-Type") != mde.ContentType || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v for %d bytes", w.Header(), w.Body.Len())
	}
}

// isFault checks a fault's code, and its error type when there is one.
func isFault(t *testing.T, w *httptest.ResponseRecorder, code mde.Subcode, detail mde.ErrorType) {
	t.Helper()
	wholly(t, w)
	body := w.Body.Bytes()
	if w.Code != 200 || value(t, body, "Value") != "s:Receiver,"+string(code) || value(t, body, "ErrorType") != string(detail) {
		t.Errorf("%d %s, want the fault %s %s", w.Code, body, code, detail)
	}
	if !bytes.Contains(body, []byte(w.Header().Get("X-Request-Id"))) {
		t.Errorf("the fault does not hold the request id: %s", body)
	}
}

type characteristic struct {
	Type  string `xml:"type,attr"`
	Parms []struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	} `xml:"parm"`
	Inner []characteristic `xml:"characteristic"`
}

// at walks down; an empty name takes the first that has a certificate.
func (c characteristic) at(path ...string) characteristic {
	for _, name := range path {
		next := characteristic{}
		for _, in := range c.Inner {
			if in.Type == name || name == "" && in.parm("EncodedCertificate") != "" {
				next = in
				break
			}
		}
		c = next
	}
	return c
}

func (c characteristic) parm(name string) string {
	for _, p := range c.Parms {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}

// provisioned reads the document in an answer.
func provisioned(t *testing.T, w *httptest.ResponseRecorder) characteristic {
	t.Helper()
	wholly(t, w)
	raw, err := base64.StdEncoding.DecodeString(value(t, w.Body.Bytes(), "BinarySecurityToken"))
	if err != nil || len(raw) == 0 {
		t.Fatalf("no provisioning document: %d %s", w.Code, w.Body)
	}
	var doc characteristic
	if err := xml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// certificate is the device's in a provisioning document.
func certificate(t *testing.T, doc characteristic, store string) *x509.Certificate {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(doc.at("CertificateStore", "My", store, "").parm("EncodedCertificate"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("no certificate in My/%s: %v", store, err)
	}
	return cert
}
