package adcs

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/internal/xmltree"
)

// server is a CEP and a CES as [MS-XCEP] and [MS-WSTEP] describe them.
type server struct {
	t       *testing.T
	ca      *testpki.CA
	http    *httptest.Server
	pending map[string][]byte // CSR by request id
	approve bool
	hold    bool   // take requests under submission
	fault   string // answers of the CES instead of a certificate
	status  int    // HTTP status of everything
	body    string // of everything, with status
	pkcs7   bool   // the chain only
	change  func(o *testpki.Options)
	schema  int
	cesURL  string // what the CEP names instead of its own
	auth    string
	subject string
	asks    []string // bodies that the CES got
	lastCSR *x509.CertificateRequest
}

func newServer(t *testing.T) *server {
	s := &server{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), pending: map[string][]byte{}, schema: 2, auth: authPassword, subject: "1"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	})
	mux.HandleFunc("POST /CEP", s.serve(s.policies))
	mux.HandleFunc("POST /CES", s.serve(s.token))
	s.http = httptest.NewTLSServer(mux)
	t.Cleanup(s.http.Close)
	s.cesURL = s.http.URL + "/CES"
	return s
}

func (s *server) serve(answer func(*xmltree.Node, string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			s.t.Error(err)
		}
		root, err := soap.Parse(raw)
		if err != nil {
			s.t.Errorf("the request does not parse: %v", err)
		}
		w.Header().Set("Content-Type", "application/soap+xml; charset=utf-8")
		switch password := root.Text("Header", "Security", "UsernameToken", "Password"); {
		case s.status != 0:
			w.Header().Set("Location", "https://login.corp.test/")
			w.WriteHeader(s.status)
			_, _ = io.WriteString(w, s.body)
		case s.auth == authPassword && password != "right & <proper>":
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, soapFault("s:Sender", "a:FailedAuthentication", "the user name or password is wrong", ""))
		default:
			text := answer(root.Get("Body").Only(), string(raw))
			if strings.Contains(text, "<s:Fault>") {
				w.WriteHeader(http.StatusInternalServerError)
			}
			_, _ = io.WriteString(w, text)
		}
	}
}

func envelope(body string) string {
	return `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header/><s:Body>` + body + `</s:Body></s:Envelope>`
}

func soapFault(code, subcode, reason, detail string) string {
	return envelope(`<s:Fault><s:Code><s:Value>` + code + `</s:Value><s:Subcode><s:Value xmlns:a="urn:x">` + subcode + `</s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">` +
		reason + `</s:Text></s:Reason><s:Detail>` + detail + `</s:Detail></s:Fault>`)
}

// denied is what CES answers where the CA refuses ([MS-WSTEP] section 3.1.4.1.3.7).
func denied(code int32, invalid bool) string {
	return soapFault("s:Receiver", "a:InternalServiceFault", "The permissions on the certificate template do not allow the current user to enroll.\n",
		fmt.Sprintf(`<CertificateEnrollmentWSDetail xmlns="%s"><BinaryResponse/><ErrorCode>%d</ErrorCode><InvalidRequest>%v</InvalidRequest><RequestID>7</RequestID></CertificateEnrollmentWSDetail>`, nsEnrolment, code, invalid))
}

func (s *server) policies(*xmltree.Node, string) string {
	policy := func(name, reference string, enrol bool) string {
		return fmt.Sprintf(`<policy><policyOIDReference>%s</policyOIDReference><cAs><cAReference>0</cAReference></cAs><attributes><commonName>%s</commonName><policySchema>%d</policySchema>
<permission><enroll>%v</enroll><autoEnroll>false</autoEnroll></permission><privateKeyAttributes><minimalKeyLength>2048</minimalKeyLength></privateKeyAttributes>
<revision><majorRevision>100</majorRevision><minorRevision>4</minorRevision></revision><subjectNameFlags>%s</subjectNameFlags><enrollmentFlags>2</enrollmentFlags>
<rARequirements xsi:nil="true"/></attributes></policy>`, reference, name, s.schema, enrol, s.subject)
	}
	services := fmt.Sprintf(`<cAURI><clientAuthentication>2</clientAuthentication><uri>https://kerberos.corp.test/CES</uri><priority>1</priority><renewalOnly>false</renewalOnly></cAURI>
<cAURI><clientAuthentication>%s</clientAuthentication><uri>%s</uri><priority>2</priority><renewalOnly>false</renewalOnly></cAURI>
<cAURI><clientAuthentication>%s</clientAuthentication><uri>%s/renew</uri><priority>0</priority><renewalOnly>true</renewalOnly></cAURI>`, s.auth, s.cesURL, s.auth, s.cesURL)
	return envelope(`<GetPoliciesResponse xmlns="` + nsPolicy + `" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><response><policyID>{1}</policyID><policies>` +
		policy("WaxsealMail", "10", true) + policy("Forbidden", "11", false) + `</policies></response><cAs><cA><uris>` + services + `</uris><certificate>` +
		base64.StdEncoding.EncodeToString(s.ca.Cert.Raw) + `</certificate><enrollPermission>true</enrollPermission><cAReferenceID>0</cAReferenceID></cA></cAs><oIDs>` +
		`<oID><value>1.3.6.1.4.1.311.21.8.4000000000.1</value><group>9</group><oIDReferenceID>10</oIDReferenceID><defaultName>Waxseal mail</defaultName></oID></oIDs></GetPoliciesResponse>`)
}

func (s *server) token(body *xmltree.Node, raw string) string {
	s.asks = append(s.asks, raw)
	if s.fault != "" {
		return s.fault
	}
	if body.Text("RequestType") == requestQuery {
		id := body.Text("RequestID")
		if !s.approve || s.pending[id] == nil {
			return submitted(id)
		}
		return s.issue(s.pending[id], id)
	}
	der, err := body.Bytes("BinarySecurityToken")
	if err != nil {
		s.t.Error(err)
	}
	id := fmt.Sprint(60 + len(s.asks))
	if s.hold {
		s.pending[id] = der
		return submitted(id)
	}
	return s.issue(der, id)
}

func submitted(id string) string {
	return collection(`<DispositionMessage xml:lang="de-DE" xmlns="` + nsEnrolment + `">Wurde zur Verarbeitung angenommen</DispositionMessage>
<BinarySecurityToken xmlns="` + soap.NSSecurity + `">MAA=</BinarySecurityToken><RequestedSecurityToken><SecurityTokenReference xmlns="` + soap.NSSecurity + `"><Reference URI="https://x/CES"/></SecurityTokenReference></RequestedSecurityToken><RequestID xmlns="` + nsEnrolment + `">` + id + `</RequestID>`)
}

func collection(inner string) string {
	return envelope(`<RequestSecurityTokenResponseCollection xmlns="` + nsTrust + `"><RequestSecurityTokenResponse><TokenType>` + tokenX509 + `</TokenType>` + inner + `</RequestSecurityTokenResponse></RequestSecurityTokenResponseCollection>`)
}

func (s *server) issue(der []byte, id string) string {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		s.t.Errorf("the request is no signed PKCS #10: %v", err)
		return submitted(id)
	}
	s.lastCSR = csr
	o := testpki.Options{CN: csr.Subject.CommonName, Emails: csr.EmailAddresses}
	if s.change != nil {
		s.change(&o)
	}
	var cert *x509.Certificate
	if o.Key != nil {
		cert = s.ca.Issue(s.t, o).Cert
	} else {
		cert = s.ca.IssueCSR(s.t, csr, o)
	}
	bag, err := cms.CertsOnly(s.ca.Cert, cert)
	if err != nil {
		s.t.Error(err)
	}
	text := `<DispositionMessage xml:lang="en-US" xmlns="` + nsEnrolment + `">Issued</DispositionMessage>` + tokenOf(bag)
	if !s.pkcs7 {
		text += `<RequestedSecurityToken>` + tokenOf(cert.Raw) + `</RequestedSecurityToken>`
	}
	return collection(text + `<RequestID xmlns="` + nsEnrolment + `">` + id + `</RequestID>`)
}

func tokenOf(der []byte) string {
	text := base64.StdEncoding.EncodeToString(der)
	return `<BinarySecurityToken xmlns="` + soap.NSSecurity + `" EncodingType="` + encodingB64 + `">` + text[:60] + "&#xD;\n" + text[60:] + `</BinarySecurityToken>`
}

func (s *server) settings(o Options) ca.Settings {
	raw, err := json.Marshal(o)
	if err != nil {
		s.t.Fatal(err)
	}
	text := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return ca.Settings{Name: "corp", Kind: "adcs", URL: s.http.URL + "/CEP", TLSRoots: text(s.http.Certificate()), Issuers: text(s.ca.Cert),
		Templates: []string{"mail"}, Options: raw}
}

func usual() Options {
	return Options{Username: `CORP\waxseal`, Password: "right & <proper>\n", Template: "WaxsealMail", Templates: map[string]string{"mail": "WaxsealMail"}}
}

func (s *server) adapter(o Options) *adapter {
	s.t.Helper()
	up, err := New(s.settings(o), ca.Env{Clock: testpki.Now})
	if err != nil {
		s.t.Fatal(err)
	}
	return up.(*adapter)
}

// note collects what an adapter notes.
type note struct{ handle []byte }

func (n *note) question(in ca.Intent) ledger.Question {
	return ledger.Question{Intent: in, Handle: n.handle, Note: func(h []byte) error { n.handle = h; return nil }}
}
