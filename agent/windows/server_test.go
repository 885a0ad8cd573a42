package windows

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// fakeClock is a clock whose sleeps take no time.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return ctx.Err()
}

const (
	ann    = "ann@corp.test"
	secret = "one <time> & secret"
	token  = "the-token <&> of the page"
)

// fakeServer is a small MDM server, written from Microsoft's documents. The requests of the PC go through the reader of
// package mde, which was written by the same documents for a real server.
type fakeServer struct {
	t     *testing.T
	http  *httptest.Server
	ca    *testpki.CA
	clock *fakeClock
	keys  int // how many were made

	mu        sync.Mutex
	user      string              // that Discover names
	policy    string              // AuthPolicy that discovery answers
	change    func(string) string // of each answer of the enrolment protocol
	document  func(string) string // of the provisioning document
	fault     string              // body of every answer to RST
	chunked   bool
	moved     bool // discovery is elsewhere
	notAfter  time.Time
	tokens    []*mde.TokenRequest
	steps     []string
	queue     [][]syncml.Command // one batch for each message
	offered   []syncml.Command   // the batch that was sent last, until it is answered
	got       []*syncml.Message
	headers   []http.Header
	announce  []int // Waxseal-Pending of the next ends of a session
	noFinal   bool  // of the next message
	reply     func(*syncml.Message) *syncml.Message
	status    int // HTTP, other than 200
	answered  map[string][]byte
	twice     int      // messages that came twice
	removed   []string // alerts 1226
	signerKey *x509.Certificate
}

func newServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{
		t: t, ca: testpki.NewCA(t, "device CA"), clock: &fakeClock{now: testpki.Now()}, policy: OnPremise, user: ann,
		answered: map[string][]byte{},
	}
	mux := http.NewServeMux()
	mux.HandleFunc(discoveryPath, s.discovery)
	mux.HandleFunc("/elsewhere", s.discovery)
	mux.HandleFunc("/auth", s.page)
	mux.HandleFunc("/policy", s.policies)
	mux.HandleFunc("/enroll", s.enroll)
	mux.HandleFunc("/manage", s.manage)
	s.http = httptest.NewUnstartedServer(mux)
	s.http.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	return s
}

func (s *fakeServer) config(t *testing.T) Config {
	return Config{
		State: t.TempDir(), Source: s.http.URL, User: ann, Secret: secret, Clock: s.clock,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}),
		NewKey: func(int) (*rsa.PrivateKey, error) {
			s.keys++
			return testpki.PoolKey(t, 2+s.keys), nil
		},
	}
}

// device enrols a PC.
func (s *fakeServer) device(t *testing.T, change ...func(*Config)) *Device {
	t.Helper()
	cfg := s.config(t)
	for _, c := range change {
		c(&cfg)
	}
	d, err := Enroll(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *fakeServer) read(r *http.Request) *mde.Request {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	req, err := mde.Decode(body)
	if err != nil {
		s.t.Errorf("a server cannot read the request: %v\n%s", err, body)
		return &mde.Request{}
	}
	return req
}

// write answers with a length, unless told otherwise.
func (s *fakeServer) write(w http.ResponseWriter, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	if s.chunked {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
	} else {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	_, _ = w.Write(body)
}

func (s *fakeServer) soap(w http.ResponseWriter, relatesTo, action, body string) {
	out := `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing"><s:Header>` +
		`<a:Action s:mustUnderstand="1">` + action + `</a:Action><a:RelatesTo>` + relatesTo + `</a:RelatesTo></s:Header><s:Body>` + body + `</s:Body></s:Envelope>`
	if s.change != nil {
		out = s.change(out)
	}
	s.write(w, "application/soap+xml; charset=utf-8", []byte(out))
}

func (s *fakeServer) discovery(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, r.Method+" "+r.URL.Path)
	if s.moved && r.URL.Path != "/elsewhere" {
		http.Redirect(w, r, s.http.URL+"/elsewhere", http.StatusFound)
		return
	}
	if r.Method == http.MethodGet {
		s.write(w, "text/plain", nil)
		return
	}
	req := s.read(r)
	if req.Discover == nil || req.Discover.DeviceType != "CIMClient_Windows" || req.Discover.EmailAddress != s.user || len(req.Discover.AuthPolicies) == 0 {
		s.t.Errorf("Discover: %+v", req.Discover)
	}
	s.soap(w, req.MessageID, "http://schemas.microsoft.com/windows/management/2012/01/enrollment/IDiscoveryService/DiscoverResponse",
		`<DiscoverResponse xmlns="http://schemas.microsoft.com/windows/management/2012/01/enrollment"><DiscoverResult><AuthPolicy>`+s.policy+`</AuthPolicy>`+
			`<EnrollmentVersion>4.0</EnrollmentVersion><EnrollmentPolicyServiceUrl>`+s.http.URL+`/policy</EnrollmentPolicyServiceUrl>`+
			`<EnrollmentServiceUrl>`+s.http.URL+`/enroll</EnrollmentServiceUrl><AuthenticationServiceUrl>`+s.http.URL+`/auth?x=1</AuthenticationServiceUrl>`+
			`</DiscoverResult></DiscoverResponse>`)
}

// page is a sign-in page in two steps, with a cookie.
func (s *fakeServer) page(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		s.t.Error(err)
	}
	wrong := r.Form.Get("password") != secret || r.Form.Get("user") != ann || r.Form.Get("state") != "a&b" || r.Form.Get("go") != "in" || r.Form.Has("stay")
	if r.Method == http.MethodPost && wrong {
		w.WriteHeader(http.StatusForbidden)
	}
	fmt.Fprint(w, "<!DOCTYPE html><html><head><title>x</title><style>p > b { color: red }</style></head><body><!-- <form action='/evil' method=post> -->") //nolint:errcheck // a test
	switch {
	case r.Method == http.MethodGet:
		if r.Form.Get("appru") != appRU || r.Form.Get("login_hint") != ann || r.Form.Get("x") != "1" {
			s.t.Errorf("sign-in page: %v", r.Form)
		}
		http.SetCookie(w, &http.Cookie{Name: "c", Value: "1", Path: "/"})
		s.form(w, "")
	case wrong:
		s.form(w, "That was wrong.")
	default:
		if c, err := r.Cookie("c"); err != nil || c.Value != "1" {
			fmt.Fprint(w, "no cookie") //nolint:errcheck // a test
		}
		fmt.Fprintf(w, `<form METHOD="post" action='%s'><input type=hidden name=wresult value="the-token &lt;&amp;&gt; of the page"></form><script>if (1 < 2) document.forms[0].submit()</script>`, appRU) //nolint:errcheck // a test
	}
}

func (s *fakeServer) form(w io.Writer, text string) {
	fmt.Fprintf(w, `<p>%s</p><form action="/auth" method=POST><input type="hidden" name="state" value="a&amp;b">`+ //nolint:errcheck // a test
		`<INPUT name='user' value=""/><input type=password name=password><input type=checkbox name=stay>`+
		`<button name=go value=in>Go</button><button name=go value=out>No</button></form></body></html>`, text)
}

func (s *fakeServer) authorised(sec mde.Security) bool {
	if s.policy == OnPremise {
		return sec.Username == ann && sec.Password == secret
	}
	return slices.Contains(sec.Tokens(), token)
}

func (s *fakeServer) policies(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req := s.read(r)
	if req.GetPolicies == nil {
		s.t.Error("no GetPolicies")
	}
	if !s.authorised(req.Security) {
		s.soap(w, req.MessageID, actionPolicy, faultBody("s:Authentication", "unknown user or secret", ""))
		return
	}
	s.soap(w, req.MessageID, "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy/IPolicy/GetPoliciesResponse",
		`<GetPoliciesResponse xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">`+
			`<response><policyID/><policies><policy><policyOIDReference>0</policyOIDReference><cAs xsi:nil="true"/><attributes><policySchema>3</policySchema>`+
			`<privateKeyAttributes><minimalKeyLength>2048</minimalKeyLength></privateKeyAttributes><hashAlgorithmOIDReference>0</hashAlgorithmOIDReference></attributes></policy></policies></response>`+
			`<cAs xsi:nil="true"/><oIDs><oID><value>2.16.840.1.101.3.4.2.1</value><group>1</group><oIDReferenceID>0</oIDReferenceID></oID></oIDs></GetPoliciesResponse>`)
}

func faultBody(subcode, reason, detail string) string {
	out := `<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>` + subcode + `</s:Value></s:Subcode></s:Code>` +
		`<s:Reason><s:Text xml:lang="en-us">` + reason + `</s:Text></s:Reason>`
	if detail != "" {
		out += `<s:Detail><DeviceEnrollmentServiceError xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment"><ErrorType>` + detail +
			`</ErrorType><Message>more</Message><TraceId>T-1</TraceId></DeviceEnrollmentServiceError></s:Detail>`
	}
	return out + `</s:Fault>`
}

func (s *fakeServer) enroll(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req := s.read(r)
	if s.fault != "" {
		s.soap(w, req.MessageID, actionAnswer, s.fault)
		return
	}
	if req.Token == nil {
		s.t.Error("no RequestSecurityToken")
		return
	}
	s.tokens = append(s.tokens, req.Token)
	der := req.Token.CSR
	if req.Token.Renew {
		der = s.renewal(r, req)
	} else if !s.authorised(req.Security) {
		s.t.Error("the request of the certificate is not authorised")
	}
	csr, err := mde.ParseCSR(der)
	if err != nil {
		s.t.Fatalf("the certificate request: %v", err)
	}
	if err := csr.CheckSignature(); err != nil {
		s.t.Error(err)
	}
	cert := s.ca.IssueCSR(s.t, csr, testpki.Options{
		CN: req.Token.DeviceID(), NotBefore: s.clock.Now().Add(-time.Hour), NotAfter: s.notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	doc := s.provisioning(cert, req.Token)
	if s.document != nil {
		doc = s.document(doc)
	}
	s.soap(w, req.MessageID, "http://schemas.microsoft.com/windows/pki/2009/01/enrollment/RSTRC/wstep", tokenAnswer(doc))
}

func tokenAnswer(doc string) string {
	return `<RequestSecurityTokenResponseCollection xmlns="http://docs.oasis-open.org/ws-sx/ws-trust/200512"><RequestSecurityTokenResponse>` +
		`<TokenType>http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/DeviceEnrollmentToken</TokenType>` +
		`<DispositionMessage xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment"/><RequestedSecurityToken>` +
		`<BinarySecurityToken xmlns="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd" ` +
		`ValueType="http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/DeviceEnrollmentProvisionDoc">` +
		base64.StdEncoding.EncodeToString([]byte(doc)) + `</BinarySecurityToken></RequestedSecurityToken>` +
		`<RequestID xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment">0</RequestID></RequestSecurityTokenResponse></RequestSecurityTokenResponseCollection>`
}

// renewal opens the request that the old key signed.
func (s *fakeServer) renewal(r *http.Request, req *mde.Request) []byte {
	signed, err := cms.Verify(req.Token.PKCS7)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(r.TLS.PeerCertificates) != 1 || !r.TLS.PeerCertificates[0].Equal(signed.Signer) {
		s.t.Error("TLS has another certificate than the one that signed the renewal")
	}
	if req.Security.Password != "" {
		s.t.Error("a renewal carries a password")
	}
	s.signerKey = signed.Signer
	return signed.Content
}

func (s *fakeServer) provisioning(cert *x509.Certificate, req *mde.TokenRequest) string {
	store := "User"
	if req.EnrollmentType() == "Device" {
		store = "System"
	}
	return provisioningDoc(s.ca.Cert, cert, store, s.http.URL, req.Renew)
}

// provisioningDoc is the document of windows.md section 1.7, or that of a renewal.
func provisioningDoc(root, cert *x509.Certificate, store, server string, renew bool) string {
	node := func(c *x509.Certificate) string {
		return `<characteristic type="` + thumbprint(c) + `"><parm name="EncodedCertificate" value="` + base64.StdEncoding.EncodeToString(c.Raw) + `"/></characteristic>`
	}
	stores := `<characteristic type="CertificateStore"><characteristic type="Root"><characteristic type="System">` + node(root) + `</characteristic></characteristic>` +
		`<characteristic type="My"><characteristic type="` + store + `">` + node(cert) + `<characteristic type="PrivateKeyContainer"/></characteristic>` +
		`<characteristic type="WSTEP"><characteristic type="Renew"><parm name="ROBOSupport" value="true" datatype="boolean"/>` +
		`<parm name="RenewPeriod" value="60" datatype="integer"/><parm name="RetryInterval" value="4" datatype="integer"/></characteristic></characteristic></characteristic></characteristic>`
	head, tail := `<?xml version="1.0" encoding="UTF-8"?><wap-provisioningdoc version="1.1">`, `</wap-provisioningdoc>`
	if renew {
		return head + stores + `<characteristic type="APPLICATION"><parm name="PROVIDER-ID" value="TestMDM"/></characteristic>` + tail
	}
	return head + stores + `<characteristic type="APPLICATION"><parm name="APPID" value="w7"/><parm name="PROVIDER-ID" value="TestMDM"/><parm name="NAME" value="Test MDM"/>` +
		`<parm name="ADDR" value="` + server + `/manage"/><parm name="CONNRETRYFREQ" value="6"/><parm name="BACKCOMPATRETRYDISABLED"/>` +
		`<parm name="DEFAULTENCODING" value="application/vnd.syncml.dm+xml"/>` +
		`<parm name="SSLCLIENTCERTSEARCHCRITERIA" value="Subject=` + url.PathEscape("CN="+cert.Subject.CommonName) + `&amp;Stores=My%5C` + store + `"/>` +
		`<characteristic type="APPAUTH"><parm name="AAUTHLEVEL" value="CLIENT"/><parm name="AAUTHTYPE" value="DIGEST"/><parm name="AAUTHSECRET" value="x"/><parm name="AAUTHDATA" value="bm9uY2U="/></characteristic>` +
		`<characteristic type="APPAUTH"><parm name="AAUTHLEVEL" value="APPSRV"/><parm name="AAUTHTYPE" value="DIGEST"/><parm name="AAUTHNAME" value="y"/><parm name="AAUTHSECRET" value="x"/><parm name="AAUTHDATA" value="bm9uY2U="/></characteristic>` +
		`</characteristic><characteristic type="DMClient"><characteristic type="Provider"><characteristic type="TestMDM">` +
		`<parm name="UPN" value="ann@corp.test" datatype="string"/><parm name="EntDMID" value="E-1" datatype="string"/><characteristic type="Poll">` +
		`<parm name="NumberOfFirstRetries" value="8" datatype="integer"/><parm name="PollOnLogin" value="true" datatype="boolean"/></characteristic>` +
		`</characteristic></characteristic></characteristic>` + tail
}

// manage is the management service: the same message again gets the same answer.
func (s *fakeServer) manage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	if s.status != 0 {
		http.Error(w, "not now", s.status)
		return
	}
	in, err := syncml.Decode(body)
	if err != nil {
		s.t.Fatalf("a server cannot read the message: %v\n%s", err, body)
	}
	s.checkMessage(r, in, body)
	key := in.SessionID + "/" + strconv.Itoa(in.MsgID)
	out, twice := s.answered[key]
	if twice {
		s.twice++
	} else {
		s.headers = append(s.headers, r.Header.Clone())
		out = s.answer(w, in)
		s.answered[key] = out
	}
	s.write(w, syncml.ContentType, out)
}

func (s *fakeServer) checkMessage(r *http.Request, in *syncml.Message, body []byte) {
	if r.URL.RawQuery != "mode=Maintenance&Platform=WoA" || len(r.TLS.PeerCertificates) != 1 || r.TLS.PeerCertificates[0].Subject.CommonName != in.Source {
		s.t.Errorf("a message by %s: %s", in.Source, r.URL)
	}
	if text := r.Header.Get("MDM-Signature"); text != "" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			s.t.Error(err)
		}
		signed, err := cms.VerifyDetached(raw, body)
		if err != nil || !signed.Signer.Equal(r.TLS.PeerCertificates[0]) || signed.SigningTime.IsZero() {
			s.t.Errorf("MDM-Signature: %v", err)
		}
	}
}

func (s *fakeServer) answer(w http.ResponseWriter, in *syncml.Message) []byte {
	s.got = append(s.got, in)
	commands := []syncml.Command{{Verb: syncml.Status, MsgRef: strconv.Itoa(in.MsgID), CmdRef: "0", Cmd: "SyncHdr", Data: "200"}}
	for _, c := range in.Commands {
		if c.Verb == syncml.Status || c.Verb == syncml.Results {
			continue
		}
		if c.Data == syncml.AlertGeneric && c.Items[0].Type != syncml.TypeSCEPResult {
			s.removed = append(s.removed, c.Items[0].Type)
		}
		commands = append(commands, syncml.Command{Verb: syncml.Status, MsgRef: strconv.Itoa(in.MsgID), CmdRef: c.ID, Cmd: string(c.Verb), Data: "200"})
	}
	if in.MsgID == 1 && s.offered != nil {
		s.queue = append([][]syncml.Command{s.offered}, s.queue...)
	}
	s.offered = nil
	if len(s.queue) > 0 && len(s.removed) == 0 {
		s.offered = s.queue[0]
		commands = append(commands, s.offered...)
		s.queue = s.queue[1:]
	} else if len(s.announce) > 0 {
		w.Header().Set(PendingHeader, strconv.Itoa(s.announce[0]))
		s.announce = s.announce[1:]
	}
	numbered, _ := syncml.Number(1, commands)
	out := &syncml.Message{SessionID: in.SessionID, MsgID: in.MsgID, Target: in.Source, Source: in.Target, Commands: numbered, Final: !s.noFinal}
	s.noFinal = false
	if s.reply != nil {
		out = s.reply(out)
	}
	raw, err := out.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// send queues commands, each batch for one message.
func (s *fakeServer) send(batches ...[]syncml.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, batches...)
}

func command(verb syncml.Verb, uri, format, data string) syncml.Command {
	return syncml.Command{Verb: verb, Items: []syncml.Item{{Target: uri, Format: format, Data: data}}}
}

// statuses are the codes of the statuses that the PC sent with a message, without that of the header.
func (s *fakeServer) statuses(n int) []string {
	var out []string
	for _, c := range s.got[n].Commands {
		if c.Verb == syncml.Status && c.CmdRef != "0" {
			out = append(out, c.Data)
		}
	}
	return out
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
}

func mustSync(t *testing.T, d *Device) Report {
	t.Helper()
	r, err := d.Sync(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func leaks(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err != nil && bytes.Contains([]byte(err.Error()), []byte(word)) {
			t.Errorf("the error tells a secret: %v", err)
		}
	}
}
