package mde

import (
	"encoding/base64"
	"encoding/xml"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
)

// answer is how a PC reads what all answers have.
type answer struct {
	XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
	Header  struct {
		Action struct {
			Value          string `xml:",chardata"`
			MustUnderstand string `xml:"http://www.w3.org/2003/05/soap-envelope mustUnderstand,attr"`
		} `xml:"http://www.w3.org/2005/08/addressing Action"`
		RelatesTo string   `xml:"http://www.w3.org/2005/08/addressing RelatesTo"`
		Created   []string `xml:"Security>Timestamp>Created"`
		Expires   []string `xml:"Security>Timestamp>Expires"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Header"`
	Body struct {
		Discover *discovered    `xml:"http://schemas.microsoft.com/windows/management/2012/01/enrollment DiscoverResponse>DiscoverResult"`
		Policies *xmlTree       `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy GetPoliciesResponse"`
		Token    *issuedToken   `xml:"http://docs.oasis-open.org/ws-sx/ws-trust/200512 RequestSecurityTokenResponseCollection>RequestSecurityTokenResponse"`
		Fault    *receivedFault `xml:"http://www.w3.org/2003/05/soap-envelope Fault"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Body"`
}

type discovered struct {
	AuthPolicy, EnrollmentVersion                                              string
	EnrollmentPolicyServiceUrl, EnrollmentServiceUrl, AuthenticationServiceUrl string
}

type issuedToken struct {
	TokenType          string
	DispositionMessage *string `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollment DispositionMessage"`
	RequestID          string  `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollment RequestID"`
	Token              struct {
		Value        string `xml:",chardata"`
		ValueType    string `xml:",attr"`
		EncodingType string `xml:",attr"`
	} `xml:"RequestedSecurityToken>BinarySecurityToken"`
}

type receivedFault struct {
	Code    string                                        `xml:"Code>Value"`
	Subcode string                                        `xml:"Code>Subcode>Value"`
	Reason  string                                        `xml:"Reason>Text"`
	Detail  *struct{ ErrorType, Message, TraceId string } `xml:"Detail>DeviceEnrollmentServiceError"`
}

// xmlTree keeps names and order.
type xmlTree struct {
	XMLName xml.Name
	Text    string    `xml:",chardata"`
	Nil     string    `xml:"http://www.w3.org/2001/XMLSchema-instance nil,attr"`
	Inner   []xmlTree `xml:",any"`
}

func read(t *testing.T, b []byte, action string) answer {
	t.Helper()
	var a answer
	if err := xml.Unmarshal(b, &a); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if a.Header.Action.Value != action || a.Header.Action.MustUnderstand != "1" || a.Header.RelatesTo != messageID {
		t.Errorf("header: %+v", a.Header)
	}
	return a
}

func discovery() Discovery {
	return Discovery{AuthPolicy: AuthOnPremise, PolicyURL: "https://mdm.corp.test/EnrollmentServer/Policy.svc",
		EnrollmentURL: "https://mdm.corp.test/EnrollmentServer/Enrollment.svc", AuthenticationURL: "https://mdm.corp.test/signin?a=1&b=<"}
}

func TestDiscoverResponse(t *testing.T) {
	for _, policy := range []string{AuthOnPremise, AuthFederated} {
		d := discovery()
		d.AuthPolicy = policy
		b, err := DiscoverResponse(messageID, d)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "answer-discover-"+policy+".xml", b)
		want := &discovered{policy, "4.0", d.PolicyURL, d.EnrollmentURL, ""}
		if policy == AuthFederated {
			want.AuthenticationServiceUrl = d.AuthenticationURL
		}
		if got := read(t, b, ActionDiscoverResponse).Body.Discover; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", policy, got)
		}
	}
}

func TestDiscoverResponseRefuses(t *testing.T) {
	cases := map[string]func(*Discovery){
		"AuthPolicy must be":     func(d *Discovery) { d.AuthPolicy = "" },
		"PolicyURL must be":      func(d *Discovery) { d.PolicyURL = "" },
		"EnrollmentURL must be":  func(d *Discovery) { d.EnrollmentURL = "http://mdm.corp.test/" },
		"the same host name":     func(d *Discovery) { d.PolicyURL = "https://other.corp.test/" },
		"AuthenticationURL must": func(d *Discovery) { d.AuthPolicy, d.AuthenticationURL = AuthFederated, "" },
	}
	for want, spoil := range cases {
		d := discovery()
		spoil(&d)
		if _, err := DiscoverResponse(messageID, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

const day = 24 * time.Hour

func TestPoliciesResponse(t *testing.T) {
	policies := map[string]Policy{
		"answer-policies.xml":     {MinimalKeyLength: 2048, Validity: 365 * day, Renewal: 42 * day},
		"answer-policies-tpm.xml": {MinimalKeyLength: 4096, Validity: 365 * day, Renewal: 42 * day, CryptoProviders: []string{ProviderTPM, ProviderSoftware}},
	}
	for name, p := range policies {
		b, err := PoliciesResponse(messageID, p)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, b)
		tree := read(t, b, ActionGetPoliciesResponse).Body.Policies
		if got := strings.Join(order(*tree), " "); got != policyOrder(len(p.CryptoProviders)) {
			t.Errorf("%s: order of the schema: %s", name, got)
		}
	}
	for _, p := range []Policy{{}, {MinimalKeyLength: 1024, Validity: day, Renewal: time.Hour}, {MinimalKeyLength: 2048, Validity: day, Renewal: day}} {
		if _, err := PoliciesResponse(messageID, p); err == nil {
			t.Errorf("%+v: want an error", p)
		}
	}
}

// order lists the elements; an absent value, which must be marked as such, has a dash.
func order(tree xmlTree) []string {
	name := tree.XMLName.Local
	if tree.Nil == "true" {
		name += "-"
	}
	names := []string{name}
	for _, inner := range tree.Inner {
		names = append(names, order(inner)...)
	}
	return names
}

func policyOrder(providers int) string {
	keys := "cryptoProviders-"
	if providers > 0 {
		keys = "cryptoProviders" + strings.Repeat(" provider", providers)
	}
	return "GetPoliciesResponse response policyID policyFriendlyName- nextUpdateHours- policiesNotChanged- policies policy " +
		"policyOIDReference cAs- attributes commonName policySchema certificateValidity validityPeriodSeconds renewalPeriodSeconds " +
		"permission enroll autoEnroll privateKeyAttributes minimalKeyLength keySpec- keyUsageProperty- permissions- " +
		"algorithmOIDReference- " + keys + " revision majorRevision minorRevision supersededPolicies- privateKeyFlags- " +
		"subjectNameFlags- enrollmentFlags- generalFlags- hashAlgorithmOIDReference rARequirements- keyArchivalAttributes- " +
		"extensions- cAs- oIDs oID value group oIDReferenceID defaultName"
}

func TestTokenResponse(t *testing.T) {
	b, err := TokenResponse(messageID, []byte("<wap-provisioningdoc/>"), testpki.Now().In(time.FixedZone("", 3600)))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "answer-token.xml", b)
	a := read(t, b, ActionTokenResponse)
	if !reflect.DeepEqual(a.Header.Created, []string{"2026-03-02T09:25:00.000Z"}) || !reflect.DeepEqual(a.Header.Expires, []string{"2026-03-02T09:35:00.000Z"}) {
		t.Errorf("timestamp: %v %v", a.Header.Created, a.Header.Expires)
	}
	token := a.Body.Token
	if token.TokenType != TokenTypeDevice || token.DispositionMessage == nil || token.RequestID != "0" ||
		token.Token.ValueType != valueTypeProvisioning || token.Token.EncodingType != encodingBase64 {
		t.Errorf("got %+v", token)
	}
	if document, _ := base64.StdEncoding.DecodeString(token.Token.Value); string(document) != "<wap-provisioningdoc/>" {
		t.Errorf("document: %s", document)
	}
	if _, err := TokenResponse(messageID, nil, testpki.Now()); err == nil {
		t.Error("an empty document: want an error")
	}
}

func TestFaultResponse(t *testing.T) {
	faults := map[string]Fault{
		"fault-authentication": {Subcode: Authentication, Reason: "The user name or the password is wrong", TraceID: "r-17"},
		"fault-cap":            {Subcode: Authorization, Detail: DeviceCapReached, Reason: "Ann <ann@corp.test> has 10 devices", TraceID: "r-18"},
		"fault-service":        {Subcode: InternalServiceFault, Reason: "Something went wrong"},
	}
	for name, f := range faults {
		b, err := FaultResponse(messageID, ActionTokenResponse, f)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".xml", b)
		got := read(t, b, ActionTokenResponse).Body.Fault
		if got.Code != "s:Receiver" || got.Subcode != string(f.Subcode) || got.Reason != f.Reason ||
			(got.Detail != nil) != (f.TraceID != "") {
			t.Errorf("%s: got %+v", name, got)
		}
		if got.Detail != nil && (got.Detail.ErrorType != string(f.Detail) || got.Detail.Message != f.Reason || got.Detail.TraceId != f.TraceID) {
			t.Errorf("%s: detail %+v", name, got.Detail)
		}
		if strings.Contains(string(b), "ErrorType") != (f.Detail != "") {
			t.Errorf("%s: ErrorType belongs to a Detail", name)
		}
		f.LowerCase = true
		if b, err = FaultResponse(messageID, ActionTokenResponse, f); err != nil {
			t.Fatal(err)
		}
		golden(t, name+"-lowercase.xml", b)
	}
}

func TestFaultResponseRefuses(t *testing.T) {
	for _, f := range []Fault{{}, {Subcode: "s:Else", Reason: "r"}, {Subcode: Authorization}, {Subcode: Authorization, Detail: "Else", Reason: "r"}} {
		if _, err := FaultResponse(messageID, ActionTokenResponse, f); err == nil {
			t.Errorf("%+v: want an error", f)
		}
	}
}

func TestHRESULTs(t *testing.T) {
	for i, s := range []Subcode{MessageFormat, Authentication, Authorization, CertificateRequest, EnrollmentServer, InternalServiceFault, InvalidSecurity} {
		if s.HRESULT() != 0x80180001+uint32(i) {
			t.Errorf("%s: %x", s, s.HRESULT())
		}
	}
	for i, e := range []ErrorType{DeviceCapReached, DeviceNotSupported, NotSupported, NotEligibleToRenew, InMaintenance, UserLicense, InvalidEnrollmentData} {
		if e.HRESULT() != 0x80180013+uint32(i) {
			t.Errorf("%s: %x", e, e.HRESULT())
		}
	}
}

func TestAnswersWithoutMessageID(t *testing.T) {
	b, err := DiscoverResponse("", discovery())
	if err != nil || strings.Contains(string(b), "RelatesTo") {
		t.Errorf("%v\n%s", err, b)
	}
}

func TestCheckAppRU(t *testing.T) {
	for _, good := range []string{"ms-app://windows.immersivecontrolpanel", "ms-app://S-1-15-2-1430448594-2639229838/", "ms-app://a/b?c=d"} {
		if err := CheckAppRU(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "https://corp.test/", "javascript:alert(1)", "MS-APP://a", " ms-app://a", "ms-app:", "ms-app://", "ms-app:///a",
		"ms-app://a/\nb", "ms-app://a/\u0085", "ms-app://a/ b", "ms-app://a/\u00a0b", "ms-app://u:p@a/", "ms-app://a/%zz", "ms-app://" + strings.Repeat("a", 600)} {
		if CheckAppRU(bad) == nil {
			t.Errorf("%q: want an error", bad)
		}
	}
}

func TestDeepLink(t *testing.T) {
	want := "ms-device-enrollment:?mode=mdm&username=ann%2Bx%20y%40corp.test&servername=https%3A%2F%2Fmdm.corp.test%2FEnrollmentServer%2FDiscovery.svc"
	if got := DeepLink("ann+x y@corp.test", "https://mdm.corp.test/EnrollmentServer/Discovery.svc"); got != want {
		t.Errorf("got %s", got)
	}
}
