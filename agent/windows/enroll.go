package windows

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// What the PC says of itself at enrolment.
const (
	requestVersion = "5.0"
	deviceType     = "CIMClient_Windows"
	osEdition      = "48" // Professional
)

// enrolling is an enrolment under way.
type enrolling struct {
	device   *Device
	client   *http.Client
	user     string
	deviceID string
	services services
	security string // the header of the later steps, XML
	key      *rsa.PrivateKey
}

// Enroll makes a PC in Config.State, or takes the one that is there, and enrols it with the server that Config.Source
// names. The device is open afterwards and must be closed.
func Enroll(ctx context.Context, cfg Config) (*Device, error) {
	d, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := d.Enroll(ctx, cfg.Source); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// Enroll enrols the PC. Nothing of a failed enrolment stays behind.
func (d *Device) Enroll(ctx context.Context, source string) error {
	if d.Enrolled() {
		return fmt.Errorf("the device is enrolled already, with %s; unenroll it first", d.state.MDM.Name)
	}
	from, err := readSource(source, d.cfg.User)
	if err != nil {
		return err
	}
	e := &enrolling{device: d, client: d.newClient(nil), user: from.user}
	defer e.client.CloseIdleConnections()
	if e.deviceID, err = d.guid(); err != nil {
		return err
	}
	if e.services, err = e.discover(ctx, from.discovery); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	if err := e.authenticate(ctx); err != nil {
		return fmt.Errorf("signing in: %w", err)
	}
	bits, err := e.policies(ctx)
	if err != nil {
		return fmt.Errorf("GetPolicies: %w", err)
	}
	if e.key, err = d.cfg.NewKey(bits); err != nil {
		return fmt.Errorf("making the key of the device: %w", err)
	}
	document, err := e.token(ctx)
	if err != nil {
		return fmt.Errorf("RequestSecurityToken: %w", err)
	}
	return e.install(document, bits)
}

// authenticate makes the security header (windows.md section 1.3).
func (e *enrolling) authenticate(ctx context.Context) error {
	if e.services.authPolicy == OnPremise {
		if e.user == "" {
			return errors.New("no user name given, which OnPremise needs")
		}
		e.security = usernameToken(e.user, e.device.cfg.Secret)
		return nil
	}
	token, err := e.signIn(ctx, e.services.signIn)
	if err != nil {
		return err
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(token))
	if e.device.cfg.TokenTwice {
		encoded = base64.StdEncoding.EncodeToString([]byte(encoded))
	}
	e.security = binaryToken(tokenUser, encoded)
	return nil
}

func usernameToken(user, password string) string {
	return `<wsse:UsernameToken u:Id="uuid-cc1ccc1f-2fba-4bcf-b063-ffc0cac77917-4"><wsse:Username>` + escape(user) + `</wsse:Username>` +
		`<wsse:Password wsse:Type="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText">` +
		escape(password) + `</wsse:Password></wsse:UsernameToken>`
}

func binaryToken(valueType, text string) string {
	return `<wsse:BinarySecurityToken ValueType="` + valueType + `" EncodingType="` + nsSecext + `#base64binary">` + text + `</wsse:BinarySecurityToken>`
}

// policies asks for the certificate policy and returns the size of the key to make. Without a policy service Windows
// takes 2048 bits.
func (e *enrolling) policies(ctx context.Context) (int, error) {
	const usual = 2048
	if e.services.policy == "" {
		return usual, nil
	}
	got, err := e.device.do(ctx, e.client, call{
		action: actionPolicies, answer: actionPolicy, to: e.services.policy, security: e.security,
		body: `<GetPolicies xmlns="` + nsPolicy + `" xmlns:i="` + nsInstance + `"><client><lastUpdate i:nil="true"/><preferredLanguage i:nil="true"/></client>` +
			`<requestFilter i:nil="true"/></GetPolicies>`,
		space: nsPolicy, name: "GetPoliciesResponse",
	})
	if err != nil {
		return 0, err
	}
	return readPolicy(got, usual)
}

// readPolicy looks at what matters to Windows: the length of the key, and the hash (windows.md section 1.5). A server
// that has no policy leaves everything nil.
func readPolicy(got *element, usual int) (int, error) {
	attributes := got.at("response", "policies", "policy", "attributes")
	if attributes == nil {
		return usual, nil
	}
	bits, err := strconv.Atoi(attributes.at("privateKeyAttributes", "minimalKeyLength").value())
	if err != nil || bits < 1024 || bits > 8192 {
		return 0, fmt.Errorf("minimalKeyLength is %q; 1024 to 8192 are possible", attributes.at("privateKeyAttributes", "minimalKeyLength").value())
	}
	hash := attributes.at("hashAlgorithmOIDReference")
	if hash == nil || hash.attrs["nil"] == "true" {
		return max(bits, usual), nil
	}
	for _, oid := range got.at("oIDs").all() {
		if oid.at("oIDReferenceID").value() == hash.value() {
			return max(bits, usual), checkHash(oid.at("value").value())
		}
	}
	return 0, fmt.Errorf("hashAlgorithmOIDReference is %q, which no oID has as its oIDReferenceID", hash.value())
}

// checkHash takes what public servers answer: SHA-1, alone or with RSA, and the SHA-2 family.
func checkHash(oid string) error {
	switch oid {
	case "1.3.14.3.2.26", "1.3.14.3.2.29", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.2", "2.16.840.1.101.3.4.2.3":
		return nil
	}
	return fmt.Errorf("the hash algorithm of the policy is %q; 2.16.840.1.101.3.4.2.1 (SHA-256) is right", oid)
}

// token sends the certificate request and returns the provisioning document.
func (e *enrolling) token(ctx context.Context) ([]byte, error) {
	csr, err := e.device.newRequest(e.key, e.deviceID)
	if err != nil {
		return nil, err
	}
	got, err := e.device.do(ctx, e.client, call{
		action: actionRequest, answer: actionAnswer, to: e.services.enroll, security: e.security,
		body:  requestBody("Issue", nsEnroll+"#PKCS10", csr, e.device.contextItems(e.deviceID, e.device.cfg.EnrollmentType)),
		space: nsTrust, name: "RequestSecurityTokenResponseCollection",
	})
	if err != nil {
		return nil, err
	}
	return readToken(got)
}

// newRequest makes a PKCS#10 for a key of the device.
func (d *Device) newRequest(key *rsa.PrivateKey, deviceID string) ([]byte, error) {
	digits, err := d.random(16)
	if err != nil {
		return nil, err
	}
	return newCSR(d.cfg.Rand, key, deviceID, strings.ToUpper(hex.EncodeToString(digits)), d.cfg.CSRString)
}

// requestBody is a RequestSecurityToken. Windows breaks the lines of the base64.
func requestBody(kind, valueType string, der []byte, items [][2]string) string {
	var b strings.Builder
	b.WriteString("<wst:RequestSecurityToken><wst:TokenType>" + tokenDevice + "</wst:TokenType>")
	b.WriteString("<wst:RequestType>" + nsTrust + "/" + kind + "</wst:RequestType>")
	b.WriteString(binaryToken(valueType, inLines(base64.StdEncoding.EncodeToString(der))))
	b.WriteString(`<ac:AdditionalContext>`)
	for _, item := range items {
		b.WriteString(`<ac:ContextItem Name="` + item[0] + `"><ac:Value>` + escape(item[1]) + `</ac:Value></ac:ContextItem>`)
	}
	b.WriteString("</ac:AdditionalContext></wst:RequestSecurityToken>")
	return b.String()
}

func inLines(text string) string {
	var b strings.Builder
	for len(text) > 64 {
		b.WriteString(text[:64] + "\r\n")
		text = text[64:]
	}
	return b.String() + text
}

// contextItems are what Windows says of itself with a request; MAC repeats (windows.md section 1.6).
func (d *Device) contextItems(deviceID, enrollmentType string) [][2]string {
	info := d.state.Info
	items := [][2]string{{"UXInitiated", "true"}, {"HWDevID", info.UDID}, {"Locale", "en-US"}, {"TargetedUserLoggedIn", strconv.FormatBool(d.folder.Logon() == "user")}}
	for _, mac := range d.state.MACs {
		items = append(items, [2]string{"MAC", mac})
	}
	return append(items, [][2]string{
		{"OSEdition", " " + osEdition}, {"OSVersion", info.OSVersion}, {"DeviceName", info.DeviceName}, {"DeviceID", deviceID},
		{"EnrollmentType", enrollmentType}, {"DeviceType", deviceType}, {"ApplicationVersion", info.OSVersion},
		{"RequestVersion", requestVersion}, {"NotInOobe", "true"}, {"Manufacturer", manufacturer}, {"DeviceModel", info.Model},
		{"SerialNumber", info.SerialNumber},
	}...)
}

// readToken takes the provisioning document out of an answer.
func readToken(got *element) ([]byte, error) {
	response := got.at("RequestSecurityTokenResponse")
	token := response.at("RequestedSecurityToken", "BinarySecurityToken")
	switch {
	case token == nil:
		return nil, errors.New("the answer has no BinarySecurityToken")
	case response.at("TokenType").value() != tokenDevice:
		return nil, fmt.Errorf("the TokenType of the answer is %q; %q is right", response.at("TokenType").value(), tokenDevice)
	case token.space != nsSecext:
		return nil, fmt.Errorf("the BinarySecurityToken of the answer is in the namespace %q; %q is right", token.space, nsSecext)
	case token.attrs["ValueType"] != tokenDocument:
		return nil, fmt.Errorf("the BinarySecurityToken of the answer has the ValueType %q; %q is right", token.attrs["ValueType"], tokenDocument)
	}
	document, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(token.text), ""))
	if err != nil {
		return nil, errors.New("the BinarySecurityToken of the answer is not base64")
	}
	return document, nil
}

// install carries the provisioning document out.
func (e *enrolling) install(document []byte, bits int) error {
	d := e.device
	p, err := readProvisioning(document, e.key, systemStore(d.cfg.EnrollmentType), e.services.authPolicy)
	if err != nil {
		return fmt.Errorf("the provisioning document: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(e.key)
	if err != nil {
		return fmt.Errorf("keeping the key of the device: %w", err)
	}
	d.state.MDM = &enrollment{
		DeviceID: e.deviceID, User: e.user, Type: d.cfg.EnrollmentType, ProviderID: p.providerID, Name: p.name, Address: p.address,
		EnrollURL: e.services.enroll, Certificate: p.client.Raw, Key: key, KeyBits: bits, Renew: p.renew,
	}
	d.state.Gone = ""
	d.configure()
	d.plant(p)
	return d.save()
}
