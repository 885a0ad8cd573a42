package digicert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/internal/xmltree"
	"github.com/waxseal/waxseal/profiles"
)

const profileOID = "2.16.840.1.113733.1.16.1.2.3.1.1.4711"

func answerOf(status int, body []byte) web.Answer { return web.Answer{Status: status, Body: body} }

// platform is the older PKI platform as its WSDLs describe it.
type platform struct {
	t       *testing.T
	ca      *testpki.CA
	http    *httptest.Server
	issued  []*x509.Certificate
	revoked map[string]string // operation and reason by serial
	pairs   []string          // of the last request
	asked   int
	lose    bool
	hold    bool
	fault   string // answer to enrolments
	policy  string // answer of the policy service
	waiting []byte
}

func newPlatform(t *testing.T) *platform {
	p := &platform{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), revoked: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	})
	mux.HandleFunc("POST /pki-ws/enrollmentService", p.serve("enrollment/requestSecurityToken", p.enrol))
	mux.HandleFunc("POST /pki-ws/certificateManagementService", p.serve("management/", p.manage))
	mux.HandleFunc("POST /pki-ws/policyService", p.serve("policy/requestPolicies", p.policies))
	p.http = httptest.NewTLSServer(mux)
	t.Cleanup(p.http.Close)
	return p
}

func (p *platform) serve(action string, answer func(*xmltree.Node) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasPrefix(strings.Trim(r.Header.Get("SOAPAction"), `"`), nsServices+action) {
			p.t.Errorf("%v, %q", err, r.Header.Get("SOAPAction"))
		}
		body, err := soap.Body(raw)
		if err != nil {
			p.t.Errorf("%v: %s", err, raw)
			return
		}
		text := answer(body)
		if strings.Contains(text, "Fault>") {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, text)
	}
}

func envelope(body string) string {
	return `<?xml version="1.0"?><e:Envelope xmlns:e="` + soap.NS11 + `"><e:Body>` + body + `</e:Body></e:Envelope>`
}

func faultOf(code, words string) string {
	return envelope(`<e:Fault><faultcode>e:` + code + `</faultcode><faultstring>` + words + `</faultstring><detail><errorcode>A0E5</errorcode></detail></e:Fault>`)
}

func (p *platform) enrol(body *xmltree.Node) string {
	r := body.Get("requestVSSecurityToken")
	if p.fault != "" {
		return p.fault
	}
	if r.Text("certificateProfileID") != profileOID || r.Text("version") != "2.0" {
		p.t.Errorf("profile %q, version %q", r.Text("certificateProfileID"), r.Text("version"))
	}
	if r.Text("requestType") == requestQuery {
		if p.hold || r.Text("pendingTokenReferenceID") != "ref-9" {
			return response("<pendingTokenReferenceID>ref-9</pendingTokenReferenceID>")
		}
		return p.issue(p.waiting)
	}
	p.asked++
	p.pairs = nil
	for _, n := range r.All("nameValuePair") {
		p.pairs = append(p.pairs, n.Text("name")+"="+n.Text("value"))
	}
	der, err := r.Bytes("binarySecurityToken")
	if err != nil {
		p.t.Error(err)
	}
	if p.hold {
		p.waiting = der
		return response("<pendingTokenReferenceID>ref-9</pendingTokenReferenceID>")
	}
	return p.issue(der)
}

func response(inner string) string {
	return envelope(`<RequestSecurityTokenResponse xmlns="` + nsTrust + `"><RequestVSSecurityTokenResponse xmlns="` + nsEnrolment +
		`"><serverTransactionID>1</serverTransactionID><dispositionMessage>ok</dispositionMessage><requestedVSSecurityToken>` + inner + `</requestedVSSecurityToken><version>2.0</version></RequestVSSecurityTokenResponse></RequestSecurityTokenResponse>`)
}

func (p *platform) issue(der []byte) string {
	cert := issue(p.t, p.ca, der, nil)
	p.issued = append(p.issued, cert)
	if p.lose {
		p.lose = false
		panic(http.ErrAbortHandler)
	}
	bag, err := cms.CertsOnly(p.ca.Cert, cert)
	if err != nil {
		p.t.Error(err)
	}
	return response("<binarySecurityToken>" + base64.StdEncoding.EncodeToString(bag) + "</binarySecurityToken>")
}

func (p *platform) manage(body *xmltree.Node) string {
	if body.Name == "searchCertificateRequest" {
		return p.search(body)
	}
	serial := body.Text("certificateSerialNumber")
	code := "0"
	if p.revoked[serial] != "" || !p.knows(serial) {
		code = "-1"
	} else {
		p.revoked[serial] = body.Text("operationType") + body.Text("revocationReason")
	}
	return envelope(`<updateCertificateStatusResponse xmlns="` + nsManagement + `"><version>1.0</version><successCode>` + code + `</successCode><successMsg>no such certificate</successMsg><revocationCount>1</revocationCount></updateCertificateStatusResponse>`)
}

func (p *platform) knows(serial string) bool {
	for _, c := range p.issued {
		if serialText(c) == serial {
			return true
		}
	}
	return false
}

func (p *platform) search(body *xmltree.Node) string {
	var list strings.Builder
	for _, c := range p.issued {
		if serial := body.Text("serialNumber"); serial != "" && serial != serialText(c) {
			continue
		}
		status := "VALID"
		if p.revoked[serialText(c)] != "" {
			status = "REVOKED"
		}
		list.WriteString("<certificateInformation><certificate>" + base64.StdEncoding.EncodeToString(c.Raw) + "</certificate><status>" + status + "</status></certificateInformation>")
	}
	return envelope(`<searchCertificateResponse xmlns="` + nsManagement + `"><serverTransactionID>1</serverTransactionID><certificateCount>1</certificateCount><certificateList>` + list.String() + `</certificateList><version>1.0</version></searchCertificateResponse>`)
}

func (p *platform) policies(*xmltree.Node) string {
	if p.policy != "" {
		return p.policy
	}
	return envelope(policiesOf("Active", p.ca.Cert))
}

func policiesOf(status string, issuer *x509.Certificate) string {
	return `<getPoliciesResponse xmlns="` + nsPolicy + `"><response><policies><policy><policyOIDReference>3</policyOIDReference><cAs><cAReference>5</cAReference></cAs><attributes><status>` + status +
		`</status></attributes></policy></policies></response><cAs><cA><certificate>` + base64.StdEncoding.EncodeToString(issuer.Raw) + `</certificate><cAReferenceID>5</cAReferenceID></cA></cAs><oIDs><oID><value>` + profileOID +
		`</value><oIDReferenceID>3</oIDReferenceID></oID></oIDs></getPoliciesResponse>`
}

func (p *platform) options() LegacyOptions {
	ra := p.ca.Issue(p.t, testpki.Options{CN: "Registration Authority", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return LegacyOptions{RACertificate: string(ra.CertPEM()), RAKey: string(ra.KeyPEM()), Profile: profileOID, Profiles: map[string]string{"mail": profileOID}}
}

func (p *platform) settings(o LegacyOptions) ca.Settings {
	return settings(p.t, "digicert-legacy", p.http, p.ca.Cert, o)
}

func (p *platform) adapter(change ...func(*LegacyOptions)) ledger.Upstream {
	p.t.Helper()
	o := p.options()
	for _, c := range change {
		c(&o)
	}
	up, err := NewLegacy(p.settings(o), ca.Env{Clock: testpki.Now})
	if err != nil {
		p.t.Fatal(err)
	}
	return up
}

func TestLegacyConformance(t *testing.T) {
	p := newPlatform(t)
	conformance(t, p.settings(p.options()), p.adapter())
}

func attribute(value string, oid ...int) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

func commonName(v string) pkix.AttributeTypeAndValue { return attribute(v, 2, 5, 4, 3) }

func emailAttribute(v string) pkix.AttributeTypeAndValue {
	return attribute(v, 1, 2, 840, 113549, 1, 9, 1)
}

// TestDC01: CN, CN with E, or the address as CN; anything else gets no certificate there, so it is refused here with words.
func TestDC01(t *testing.T) {
	cases := []struct {
		name    string
		subject []pkix.AttributeTypeAndValue
		want    string // pairs; empty: refused
	}{
		{"CN", []pkix.AttributeTypeAndValue{commonName("Alice")}, "common_name=Alice"},
		{"CN with E", []pkix.AttributeTypeAndValue{commonName("Alice"), emailAttribute("Alice.Example@corp.test")}, "common_name=Alice emailAddress=Alice.Example@corp.test"},
		{"the address as CN", []pkix.AttributeTypeAndValue{commonName("Alice.Example@corp.test")}, "common_name=Alice.Example@corp.test"},
		{"with OU", []pkix.AttributeTypeAndValue{commonName("Alice"), attribute("Sales", 2, 5, 4, 11)}, ""},
		{"two CN", []pkix.AttributeTypeAndValue{commonName("Alice"), commonName("Bob")}, ""},
		{"no CN", []pkix.AttributeTypeAndValue{emailAttribute("a@corp.test")}, ""},
	}
	for _, tc := range cases {
		p := newPlatform(t)
		in := intent(t)
		in.Subject = subject(t, tc.subject...)
		var n note
		_, err := p.adapter(func(o *LegacyOptions) { o.Names = map[string]string{"email": "-", "upn": "-"} }).Enroll(t.Context(), n.question(in))
		var refused *ca.RefusedError
		switch {
		case tc.want == "" && (!errors.As(err, &refused) || p.asked > 0):
			t.Errorf("%s: got %v", tc.name, err)
		case tc.want != "" && (err != nil || strings.Join(p.pairs, " ") != "seat_id=Alice.Example@corp.test "+tc.want):
			t.Errorf("%s: %v, asked %q", tc.name, err, p.pairs)
		}
	}
}

// TestDC02: email and UPN, each with the other and the subject to fall back to, as far as nobody gets an address that was
// not asked for; other kinds are refused.
func TestDC02(t *testing.T) {
	email := profiles.SubjectAlternativeName{Type: profiles.SANEmail, Value: "a@corp.test"}
	upn := profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "u@corp.test"}
	cases := []struct {
		name    string
		sans    []profiles.SubjectAlternativeName
		subject []pkix.AttributeTypeAndValue
		want    string
	}{
		{"both", []profiles.SubjectAlternativeName{email, upn}, nil, "mail_email=a@corp.test otherNameUPN=u@corp.test"},
		{"UPN falls back to the address", []profiles.SubjectAlternativeName{email}, nil, "mail_email=a@corp.test otherNameUPN=a@corp.test"},
		{"the address falls back to the subject's", []profiles.SubjectAlternativeName{upn}, []pkix.AttributeTypeAndValue{emailAttribute("s@corp.test")}, "emailAddress=s@corp.test mail_email=s@corp.test otherNameUPN=u@corp.test"},
		{"an address that nobody asked for", []profiles.SubjectAlternativeName{upn}, nil, ""},
		{"two addresses", []profiles.SubjectAlternativeName{email, {Type: profiles.SANEmail, Value: "b@corp.test"}}, nil, ""},
		{"another kind", []profiles.SubjectAlternativeName{email, {Type: profiles.SANDNS, Value: "corp.test"}}, nil, ""},
	}
	for _, tc := range cases {
		p := newPlatform(t)
		in := intent(t)
		in.Subject, in.SANs = subject(t, append([]pkix.AttributeTypeAndValue{commonName("Alice")}, tc.subject...)...), tc.sans
		var n note
		_, err := p.adapter(func(o *LegacyOptions) { o.Seat = seatCommonName }).Enroll(t.Context(), n.question(in))
		var refused *ca.RefusedError
		switch {
		case tc.want == "" && (!errors.As(err, &refused) || p.asked > 0):
			t.Errorf("%s: got %v", tc.name, err)
		case tc.want != "" && (err != nil || strings.Join(p.pairs, " ") != "seat_id=Alice common_name=Alice "+tc.want):
			t.Errorf("%s: %v, asked %q", tc.name, err, p.pairs)
		}
	}
}

// TestDC03: the certificate is like one of every other CA here; what a platform needs beside it is the profile's affair.
func TestDC03(t *testing.T) {
	p := newPlatform(t)
	var n note
	chain, err := p.adapter().Enroll(t.Context(), n.question(intent(t)))
	if err != nil || len(chain) != 2 {
		t.Fatalf("%d certificates, %v", len(chain), err)
	}
	if leaf, err := x509.ParseCertificate(chain[0]); err != nil || leaf.IsCA {
		t.Errorf("the first is no leaf: %v", err)
	}
}

// TestDC04: a wrong host, name or OID is found by the test, and no certificate is asked for.
func TestDC04(t *testing.T) {
	cases := []struct {
		name        string
		set         func(p *platform, o *LegacyOptions)
		check, says string
	}{
		{"right", func(*platform, *LegacyOptions) {}, "", ""},
		{"wrong OID", func(_ *platform, o *LegacyOptions) { o.Profile = profileOID + ".1" }, "profile", "not among"},
		{"inactive", func(p *platform, _ *LegacyOptions) { p.policy = envelope(policiesOf("Inactive", p.ca.Cert)) }, "profile", "activate"},
		{"another CA", func(p *platform, _ *LegacyOptions) {
			p.policy = envelope(policiesOf("Active", testpki.NewCA(t, "Another CA").Cert))
		}, "issuer", "issuersFile"},
		{"RA certificate not accepted", func(p *platform, _ *LegacyOptions) { p.policy = faultOf("Client", "not authorised") }, "credentials", "not authorised"},
		{"service fails", func(p *platform, _ *LegacyOptions) { p.policy = faultOf("Server", "oops") }, "policy", "oops"},
		{"wrong service", func(p *platform, _ *LegacyOptions) { p.policy = envelope("<x/>") }, "policy", "policyPath"},
		{"RA certificate ended", func(p *platform, o *LegacyOptions) {
			ra := p.ca.Issue(t, testpki.Options{CN: "RA", NotAfter: testpki.Now().AddDate(0, -1, 0)})
			o.RACertificate, o.RAKey = string(ra.CertPEM()), string(ra.KeyPEM())
		}, "RA certificate", "ended on"},
	}
	for _, tc := range cases {
		p := newPlatform(t)
		found := tc.check == ""
		findings := p.adapter(func(o *LegacyOptions) { tc.set(p, o) }).Test(t.Context())
		for _, f := range findings {
			if f.OK {
				continue
			}
			if tc.check == "" {
				t.Errorf("%+v", f)
			}
			found = found || f.Check == tc.check && strings.Contains(f.Detail, tc.says)
		}
		if !found || p.asked > 0 {
			t.Errorf("%s: %+v", tc.name, findings)
		}
	}
	p := newPlatform(t)
	p.http.Close() // a wrong host
	if f := p.adapter().Test(t.Context()); len(f) != 1 || f[0].OK || f[0].Check != "url" {
		t.Errorf("%+v", f)
	}
}

func TestLegacyLostAndPending(t *testing.T) {
	p := newPlatform(t)
	p.lose = true
	var n note
	if _, err := p.adapter().Enroll(t.Context(), n.question(intent(t))); err == nil || n.handle == nil {
		t.Fatalf("got %v, noted %s", err, n.handle)
	}
	if _, err := p.adapter().Enroll(t.Context(), n.question(intent(t))); err != nil || p.asked != 1 {
		t.Errorf("asked %d times, %v", p.asked, err)
	}
	p, n = newPlatform(t), note{}
	p.hold = true
	for range 2 {
		if _, err := p.adapter().Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) || !strings.Contains(string(n.handle), "ref-9") {
			t.Fatalf("got %v, noted %s", err, n.handle)
		}
	}
	p.hold = false
	if _, err := p.adapter().Enroll(t.Context(), n.question(intent(t))); err != nil || p.asked != 1 {
		t.Errorf("asked %d times, %v", p.asked, err)
	}
}

func TestLegacyAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		final        bool
		says         string
	}{
		{"declined", faultOf("Client", "no\nsuch profile"), true, "no such profile A0E5"},
		{"fails", faultOf("Server", "out of order"), false, "out of order"},
		{"no response", envelope("<x/>"), false, "enrolmentPath"},
		{"empty", response(""), false, "neither"},
		{"no certificate", response("<binarySecurityToken>AAAA</binarySecurityToken>"), false, "neither a certificate"},
		{"garbage", "<html", false, "XML"},
		{"huge", strings.Repeat(" ", ca.MaxAnswer+1), false, "longer"},
	} {
		p := newPlatform(t)
		p.fault = tc.answer
		var n note
		_, err := p.adapter().Enroll(t.Context(), n.question(intent(t)))
		var refused *ca.RefusedError
		if err == nil || errors.As(err, &refused) != tc.final || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.says)
		}
	}
}

func TestLegacyRevoke(t *testing.T) {
	p := newPlatform(t)
	up := p.adapter()
	var n note
	for reason, want := range map[int]string{1: "RevokeKeyCompromise", 6: "Suspend", 4: "RevokeSuperseded"} {
		n = note{}
		chain, err := up.Enroll(t.Context(), n.question(intent(t)))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := up.Revoke(t.Context(), leaf, reason); err != nil {
				t.Errorf("%d: %v", reason, err)
			}
		}
		if got := p.revoked[serialText(leaf)]; got != want {
			t.Errorf("%d: %q", reason, got)
		}
	}
	if err := up.Revoke(t.Context(), p.ca.Cert, 1); err == nil || !strings.Contains(err.Error(), "no such certificate") {
		t.Errorf("got %v", err)
	}
	if err := up.Revoke(t.Context(), p.ca.Cert, 8); err == nil {
		t.Error("no reason")
	}
}

func TestLegacySettings(t *testing.T) {
	p := newPlatform(t)
	for says, change := range map[string]func(o *LegacyOptions){
		"raCertificateFile": func(o *LegacyOptions) { o.RACertificate, o.RAKey = "", "" },
		"raKeyFile":         func(o *LegacyOptions) { o.RAKey = "x" },
		"no OID":            func(o *LegacyOptions) { o.Profile = "mail" },
		"slash":             func(o *LegacyOptions) { o.ManagementPath = ".example.com/service" },
		"names has":         func(o *LegacyOptions) { o.Names = map[string]string{"otherName": "x"} },
	} {
		o := p.options()
		change(&o)
		if _, err := NewLegacy(p.settings(o), ca.Env{Clock: testpki.Now}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want %q, got %v", says, err)
		}
	}
}

func FuzzLegacyAnswers(f *testing.F) {
	root := testpki.NewCA(f, "Corp CA").Cert
	f.Add([]byte(response("<pendingTokenReferenceID>7</pendingTokenReferenceID>")))
	f.Add([]byte(response("<binarySecurityToken>AAAA</binarySecurityToken>")))
	f.Add([]byte(envelope(policiesOf("Active", root))))
	f.Add([]byte(envelope(`<searchCertificateResponse><certificateList><certificateInformation><certificate>AAAA</certificate></certificateInformation></certificateList></searchCertificateResponse>`)))
	f.Add([]byte(faultOf("Client", "x")))
	f.Fuzz(func(t *testing.T, document []byte) {
		body, err := soap.Body(document)
		if err != nil {
			if words := finalFault(err).Error(); len(words) > 1000 {
				t.Error(fmt.Sprint(len(words), " bytes of words"))
			}
			return
		}
		_, _ = parseToken(body)
		_, _ = parseSearch(body)
		_, _ = parseLegacyPolicies(body)
	})
}
