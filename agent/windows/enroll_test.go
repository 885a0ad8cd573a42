package windows

import (
	"bytes"
	"errors"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestEnroll(t *testing.T) {
	tests := map[string]struct {
		policy string
		change func(*Config)
		store  string
	}{
		"on-premise":             {OnPremise, nil, storeUser},
		"federated":              {Federated, nil, storeUser},
		"token in base64 twice":  {Federated, func(c *Config) { c.TokenTwice = true }, storeUser},
		"a name with NUL":        {OnPremise, func(c *Config) { c.CSRString = CSRPrintableNUL }, storeUser},
		"a name in UTF-8":        {OnPremise, func(c *Config) { c.CSRString = CSRUTF8 }, storeUser},
		"enrolment of a device":  {OnPremise, func(c *Config) { c.EnrollmentType = TypeDevice }, storeDevice},
		"by a link":              {OnPremise, func(c *Config) { c.Source, c.User = deepLink(c.Source), "" }, storeUser},
		"only what server wants": {Federated, func(c *Config) { c.AuthPolicies = []string{Federated} }, storeUser},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.policy = tt.policy
			change := tt.change
			if change == nil {
				change = func(*Config) {}
			}
			d := s.device(t, change)
			if !d.Enrolled() || d.state.MDM.ProviderID != "TestMDM" || d.state.MDM.User != ann {
				t.Errorf("%+v", d.state.MDM)
			}
			items := d.Keychain().Identities()
			if len(items) != 1 || items[0].Holders[0].Profile != tt.store {
				t.Errorf("identities: %+v", items)
			}
			if trusted := d.Keychain().Trusted(); len(trusted) != 1 || !trusted[0].Equal(s.ca.Cert) {
				t.Errorf("trusted: %d", len(trusted))
			}
			if value := d.node(d.providerURI() + "/Poll/NumberOfFirstRetries"); value != "8" {
				t.Errorf("Poll is %q", value)
			}
			token := s.tokens[0]
			if token.DeviceID() != d.state.MDM.DeviceID || token.HWDevID() != d.Info().UDID || len(token.All("MAC")) != 2 {
				t.Errorf("%+v", token.Context)
			}
			mustSync(t, d)
		})
	}
}

func deepLink(server string) string {
	return "ms-device-enrollment:?mode=mdm&username=" + url.QueryEscape(ann) + "&servername=" + url.QueryEscape(server)
}

func TestDiscoveryIsRedirected(t *testing.T) {
	s := newServer(t)
	s.moved = true
	s.device(t)
	if want := []string{"GET " + discoveryPath, "GET /elsewhere", "POST /elsewhere"}; !slices.Equal(s.steps, want) {
		t.Errorf("%v", s.steps)
	}
}

// A mail address asks enterpriseenrollment.DOMAIN; here every host is the server of the test.
func TestMailAddress(t *testing.T) {
	s := newServer(t)
	var hosts []string
	target, err := url.Parse(s.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.device(t, func(c *Config) {
		c.Source, c.User = ann, ""
		c.Transport = func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				hosts = append(hosts, r.URL.Host)
				r = r.Clone(r.Context())
				r.URL.Host = target.Host
				return next.RoundTrip(r)
			})
		}
	})
	if hosts[0] != "enterpriseenrollment.corp.test" {
		t.Error(hosts)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSources(t *testing.T) {
	tests := map[string]string{
		"":                                "a PC enrols with",
		"phone.mobileconfig":              "a PC enrols with",
		"http://mdm.corp.test":            "must be an https URL",
		"ms-device-enrollment:?mode=aadj": "only mdm is simulated",
		"ms-device-enrollment:?mode=mdm":  "a PC enrols with",
		"ms-device-enrollment:?mode=%zz":  "malformed",
		"ms-device-enrollment:?mode=mdm&servername=http%3A%2F%2Fx": "must be an https URL",
		"@corp.test": "a PC enrols with",
	}
	for source, want := range tests {
		_, err := readSource(source, "")
		contains(t, err, want)
	}
	got, err := readSource("ms-device-enrollment:?mode=mdm&username="+ann, "")
	if err != nil || got.discovery.String() != "https://enterpriseenrollment.corp.test/EnrollmentServer/Discovery.svc" || got.user != ann {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := readSource("https://mdm.corp.test/own/path", ann); err != nil || got.discovery.Path != "/own/path" {
		t.Errorf("%+v %v", got, err)
	}
}

// Answers that Windows would not take. Nothing of a failed enrolment stays behind.
func TestBadAnswers(t *testing.T) {
	swap := func(old, by string) func(*fakeServer, *Config) {
		return func(s *fakeServer, _ *Config) {
			s.change = func(out string) string { return strings.Replace(out, old, by, 1) }
		}
	}
	tests := map[string]struct {
		do   func(*fakeServer, *Config)
		want []string
	}{
		"chunked":             {func(s *fakeServer, _ *Config) { s.chunked = true }, []string{"chunked"}},
		"foreign auth policy": {func(_ *fakeServer, c *Config) { c.AuthPolicies = []string{Federated} }, []string{`"OnPremise"`, "not offered"}},
		"no version":          {swap("<EnrollmentVersion>4.0", "<EnrollmentVersion>"), []string{"EnrollmentVersion"}},
		"plain http":          {swap("<EnrollmentServiceUrl>https", "<EnrollmentServiceUrl>http"), []string{"EnrollmentServiceUrl", "https"}},
		"two hosts":           {swap("127.0.0.1", "localhost"), []string{"the same host"}},
		"no sign-in page": {func(s *fakeServer, c *Config) {
			s.policy = Federated
			swap("<AuthenticationServiceUrl>https", "<AuthenticationServiceUrl>x")(s, c)
		}, []string{"AuthenticationServiceUrl"}},
		"wrong relation":       {swap("<a:RelatesTo>", "<a:RelatesTo>x"), []string{"RelatesTo"}},
		"wrong action":         {swap("DiscoverResponse</a:Action>", "Discover</a:Action>"), []string{"Action", "DiscoverResponse"}},
		"undeclared prefix":    {swap(`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"`, ""), []string{"without declaring"}},
		"DTD":                  {func(s *fakeServer, _ *Config) { s.change = func(out string) string { return "<!DOCTYPE x>" + out } }, []string{"DTD"}},
		"broken XML":           {swap("</s:Body>", ""), []string{"not well-formed"}},
		"foreign body":         {swap("<DiscoverResult>", "</DiscoverResponse><DiscoverResponse><DiscoverResult>"), []string{"exactly one element"}},
		"short keys":           {swap("<minimalKeyLength>2048", "<minimalKeyLength>512"), []string{"minimalKeyLength"}},
		"hash points nowhere":  {swap("<oIDReferenceID>0", "<oIDReferenceID>1"), []string{"hashAlgorithmOIDReference"}},
		"MD5":                  {swap("2.16.840.1.101.3.4.2.1", "1.2.840.113549.2.5"), []string{"hash algorithm"}},
		"token not base64":     {swap("</BinarySecurityToken>", "*</BinarySecurityToken>"), []string{"not base64"}},
		"token of other type":  {swap("DeviceEnrollmentProvisionDoc", "Other"), []string{"ValueType"}},
		"token in other space": {swap("wssecurity-secext-1.0.xsd\" ValueType", "other-1.0.xsd\" ValueType"), []string{"namespace"}},
		"wrong secret":         {func(_ *fakeServer, c *Config) { c.Secret = "wrong-secret" }, []string{"Authentication", "80180002", "unknown user"}},
		"wrong secret on page": {func(s *fakeServer, c *Config) { s.policy, c.Secret = Federated, "wrong-secret" }, []string{"403", "That was wrong."}},
		"no user":              {func(s *fakeServer, c *Config) { s.user, c.User = "", "" }, []string{"no user name"}},
		"a fault with details": {func(s *fakeServer, _ *Config) { s.fault = faultBody("s:Authorization", "no", "DeviceCapReached") }, []string{"Authorization/DeviceCapReached", "80180013", "no: more", "T-1"}},
		"a fault in lower case": {func(s *fakeServer, _ *Config) {
			s.fault = strings.ToLower(faultBody("s:CertificateRequest", "no", ""))
		}, []string{"certificaterequest", "80180004"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			cfg := s.config(t)
			tt.do(s, &cfg)
			d, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			err = d.Enroll(t.Context(), cfg.Source)
			contains(t, err, tt.want...)
			leaks(t, err, secret, "wrong-secret", token)
			if d.Enrolled() || len(d.Keychain().Items()) > 0 {
				t.Error("something of the failed enrolment stayed")
			}
		})
	}
}

func TestFaultsAreTold(t *testing.T) {
	s := newServer(t)
	s.fault = faultBody("a:InternalServiceFault", "oops", "")
	_, err := Enroll(t.Context(), s.config(t))
	var fault *Fault
	if !errors.As(err, &fault) || fault.HRESULT != 0x80180006 || fault.Reason != "oops" {
		t.Errorf("%v", err)
	}
}

// Provisioning documents that Windows would refuse, or that would enrol a PC which then finds nothing.
func TestBadDocuments(t *testing.T) {
	swap := func(old, by string) func(string) string {
		return func(doc string) string {
			out := strings.Replace(doc, old, by, 1)
			if out == doc {
				panic("nothing to change: " + old)
			}
			return out
		}
	}
	root := testpki.NewCA(t, "device CA").Cert
	other := testpki.NewCA(t, "another CA").Cert
	tests := map[string]struct {
		change func(string) string
		want   string
	}{
		"version":             {swap(`version="1.1"`, `version="1.0"`), "version 1.1"},
		"root element":        {func(string) string { return "<x/>" }, "wap-provisioningdoc"},
		"thumbprint":          {swap(thumbprint(root), thumbprint(other)), "SHA-1"},
		"thumbprint's case":   {swap(thumbprint(root), strings.ToLower(thumbprint(root))), "upper-case"},
		"certificate missing": {swap("EncodedCertificate", "Encoded"), "EncodedCertificate"},
		"certificate broken":  {swap(`name="EncodedCertificate" value="`, `name="EncodedCertificate" value="AAAA`), "no certificate"},
		"line breaks":         {swap(`name="EncodedCertificate" value="`, `name="EncodedCertificate" value="&#10;`), "one line"},
		"key container":       {swap(`<characteristic type="PrivateKeyContainer"/>`, ""), "PrivateKeyContainer"},
		"store":               {swap(`<characteristic type="My"><characteristic type="User">`, `<characteristic type="My"><characteristic type="System">`), "EnrollmentType"},
		"no own certificate":  {swap(`<characteristic type="My">`, `<characteristic type="Mine">`), "belongs to the key"},
		"ROBO":                {swap(`value="true" datatype="boolean"`, `value="yes" datatype="boolean"`), "true and false"},
		"datatype":            {swap(` datatype="integer"`, ""), "datatype"},
		"period":              {swap(`value="60" datatype`, `value="0" datatype`), "1 to 1000"},
		"retry":               {swap(`"RetryInterval" value="4"`, `"RetryInterval" value="61"`), "longer than RenewPeriod"},
		"no application":      {swap(`type="APPLICATION"`, `type="Application"`), "APPLICATION"},
		"lower case":          {swap(`name="ADDR"`, `name="Addr"`), "upper case"},
		"lower case inside":   {swap(`name="AAUTHDATA"`, `name="AAuthData"`), "upper case"},
		"APPID":               {swap(`"w7"`, `"w5"`), "APPID w7"},
		"address":             {swap(`name="ADDR" value="https`, `name="ADDR" value="http`), "https"},
		"WBXML":               {swap("dm+xml", "dm+wbxml"), "DEFAULTENCODING"},
		"INIT":                {swap(`<parm name="BACKCOMPATRETRYDISABLED"/>`, `<parm name="INIT"/>`), "INIT"},
		"one APPAUTH":         {swap("APPSRV", "CLIENT"), "AAUTHLEVEL"},
		"BASIC client":        {swap(`"CLIENT"/><parm name="AAUTHTYPE" value="DIGEST"`, `"CLIENT"/><parm name="AAUTHTYPE" value="BASIC"`), "CLIENT needs DIGEST"},
		"nonce":               {swap("bm9uY2U=", "nonce!"), "nonce"},
		"criteria's subject":  {swap("Subject=CN", "Subject=O"), "does not fit the subject"},
		"criteria's store":    {swap(`Stores=My%5CUser`, `Stores=My%5CSystem`), `My\User`},
		"criteria's escape":   {swap(`Stores=My%5CUser`, `Stores=My%5`), "escaped"},
		"criteria's word":     {swap(`Stores=My`, `Store=My`), "Subject and Stores only"},
		"provider":            {swap(`<characteristic type="TestMDM">`, `<characteristic type="OtherMDM">`), "PROVIDER-ID"},
		"provider's datatype": {swap(`value="true" datatype="boolean"/></characteristic></characteristic>`, `value="true"/></characteristic></characteristic>`), "datatype"},
		"stray element":       {swap(`<characteristic type="My">`, `<x/><characteristic type="My">`), "no place"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.document = tt.change
			d, err := Open(s.config(t))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close() //nolint:errcheck // end of the test
			err = d.Enroll(t.Context(), s.http.URL)
			contains(t, err, "the provisioning document", tt.want)
			if d.Enrolled() {
				t.Error("enrolled")
			}
		})
	}
}

func TestFederatedNeedsROBO(t *testing.T) {
	s := newServer(t)
	s.policy = Federated
	s.document = func(doc string) string {
		return strings.Replace(doc, `"ROBOSupport" value="true"`, `"ROBOSupport" value="false"`, 1)
	}
	_, err := Enroll(t.Context(), s.config(t))
	contains(t, err, "ROBOSupport")
}

func TestConfig(t *testing.T) {
	tests := map[string]Config{
		"authentication policy":      {AuthPolicies: []string{"Certificate"}},
		"enrolment type":             {EnrollmentType: "Half"},
		"form of the request's name": {CSRString: "bmp"},
		"no state folder":            {},
	}
	for want, cfg := range tests {
		_, err := Open(cfg)
		contains(t, err, want)
	}
}

// The state keeps the PC over restarts, readable for its owner alone, and never the secret.
func TestState(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	info, dir := d.Info(), d.Folder().Dir
	if err := d.Enroll(t.Context(), s.http.URL); err == nil {
		t.Error("enrolled twice")
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(d.Folder().Path("device.json"))
	if err != nil || bytes.Contains(raw, []byte("one <time>")) || bytes.Contains(raw, []byte(`one \u003ctime`)) {
		t.Errorf("the secret is in the state: %v", err)
	}
	if stat, err := os.Stat(d.Folder().Path("device.json")); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v", err)
	}
	cfg := s.config(t)
	cfg.State = dir
	again, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close() //nolint:errcheck // end of the test
	if again.Info() != info || !again.Enrolled() {
		t.Errorf("%+v", again.Info())
	}
	mustSync(t, again)
	view, err := View(Config{State: dir})
	if err != nil || len(view.Keychain().Identities()) != 1 {
		t.Errorf("%v", err)
	}
}
