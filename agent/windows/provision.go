package windows

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// provisioning is what a provisioning document brings (windows.md section 1.7), checked.
type provisioning struct {
	roots, issuers, personal []*x509.Certificate // personal: the intermediates beside the client certificate
	client                   *x509.Certificate
	providerID, name         string
	address                  string
	renew                    *renewal
	provider                 *characteristic // DMClient/Provider/ID
}

// renewal is CertificateStore/My/WSTEP/Renew.
type renewal struct {
	ROBO   bool `json:"robo"`
	Period int  `json:"period"` // days before the end of the certificate
	Retry  int  `json:"retry"`  // days between two attempts
}

// readProvisioning checks a document as Windows does and a little more strictly, so that a document that passes
// enrols every real PC. Store is User for a full enrolment and System for one of the device.
func readProvisioning(raw []byte, key *rsa.PrivateKey, store, authPolicy string) (*provisioning, error) {
	doc, err := parseWAP(raw)
	if err != nil {
		return nil, err
	}
	p := &provisioning{}
	if err := p.readStores(doc.child("CertificateStore"), &key.PublicKey, store); err != nil {
		return nil, err
	}
	if p.renew, err = readRenewal(doc.at("CertificateStore", "My", "WSTEP", "Renew"), authPolicy); err != nil {
		return nil, err
	}
	if err := p.readApplication(doc, store); err != nil {
		return nil, err
	}
	return p, p.readProvider(doc)
}

// readRenewed checks the document that answers a renewal: the new certificate, and the id of the provider
// (windows.md section 1.8).
func readRenewed(raw []byte, key *rsa.PrivateKey, store, providerID string) (*x509.Certificate, error) {
	doc, err := parseWAP(raw)
	if err != nil {
		return nil, err
	}
	p := &provisioning{}
	if err := p.readStores(doc.child("CertificateStore"), &key.PublicKey, store); err != nil {
		return nil, err
	}
	if id := doc.child("APPLICATION").value("PROVIDER-ID"); id != providerID {
		return nil, fmt.Errorf("PROVIDER-ID under APPLICATION is %q; the PC is managed by %q", id, providerID)
	}
	return p.client, nil
}

// readStores reads the certificates. The intermediate may stand in CA/System, by Microsoft's DDF, or in My/User, by its
// page on enrolment.
func (p *provisioning) readStores(stores *characteristic, key *rsa.PublicKey, store string) error {
	var err error
	if p.roots, err = stores.at("Root", "System").certificates("Root/System"); err != nil {
		return err
	}
	if p.issuers, err = stores.at("CA", "System").certificates("CA/System"); err != nil {
		return err
	}
	other := map[string]string{"User": "System", "System": "User"}[store]
	if stores.at("My", other) != nil {
		return fmt.Errorf("the client certificate stands in CertificateStore/My/%s; the EnrollmentType of the request wants it in My/%s", other, store)
	}
	my := stores.at("My", store)
	personal, err := my.certificates("My/" + store)
	if err != nil {
		return err
	}
	for _, cert := range personal {
		if samePublic(cert.PublicKey, key) {
			p.client = cert
			continue
		}
		p.personal = append(p.personal, cert)
	}
	switch {
	case p.client == nil:
		return fmt.Errorf("no certificate in CertificateStore/My/%s belongs to the key of the request", store)
	case my.child("PrivateKeyContainer") == nil:
		return fmt.Errorf("CertificateStore/My/%s has no PrivateKeyContainer", store)
	case len(p.roots) > 1 || len(p.issuers)+len(p.personal) > 1:
		return errors.New("a provisioning document may bring one root and one intermediate certificate at most")
	}
	return nil
}

func samePublic(a crypto.PublicKey, b *rsa.PublicKey) bool {
	pub, ok := a.(*rsa.PublicKey)
	return ok && pub.Equal(b)
}

// readRenewal checks the renewal settings; without any, the certificate is never renewed.
func readRenewal(c *characteristic, authPolicy string) (*renewal, error) {
	if c == nil {
		return nil, nil
	}
	for _, p := range c.parms {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("CertificateStore/My/WSTEP/Renew: %w", err)
		}
	}
	r := &renewal{ROBO: c.value("ROBOSupport") != "false", Period: 42, Retry: 7} // defaults of the CertificateStore CSP
	for name, into := range map[string]*int{"RenewPeriod": &r.Period, "RetryInterval": &r.Retry} {
		if text, there := c.get(name); there {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || n > 1000 {
				return nil, fmt.Errorf("CertificateStore/My/WSTEP/Renew: %s is %q; 1 to 1000 are possible", name, text)
			}
			*into = n
		}
	}
	switch {
	case r.Retry > r.Period:
		return nil, errors.New("CertificateStore/My/WSTEP/Renew: RetryInterval is longer than RenewPeriod")
	case !r.ROBO && authPolicy == Federated:
		return nil, errors.New("CertificateStore/My/WSTEP/Renew: ROBOSupport must be true after a Federated enrolment (405)")
	}
	return r, nil
}

// readApplication checks the w7 APPLICATION, whose names and types are upper case.
func (p *provisioning) readApplication(doc *characteristic, store string) error {
	app := doc.child("APPLICATION")
	if app == nil {
		return errors.New("there is no characteristic APPLICATION")
	}
	if err := upperCase(app); err != nil {
		return err
	}
	p.providerID, p.name, p.address = app.value("PROVIDER-ID"), app.value("NAME"), app.value("ADDR")
	if app.value("APPID") != "w7" || p.providerID == "" || p.name == "" {
		return errors.New("APPLICATION must have APPID w7, a PROVIDER-ID and a NAME")
	}
	if _, err := httpsURL("ADDR under APPLICATION", p.address); err != nil {
		return err
	}
	if encoding := app.value("DEFAULTENCODING"); encoding != "application/vnd.syncml.dm+xml" {
		return fmt.Errorf("DEFAULTENCODING is %q; only application/vnd.syncml.dm+xml is simulated", encoding)
	}
	if _, there := app.get("INIT"); there {
		return errors.New("INIT under APPLICATION fails for the servers of device management")
	}
	if err := checkAuth(app); err != nil {
		return err
	}
	criteria, there := app.get("SSLCLIENTCERTSEARCHCRITERIA")
	if !there {
		return nil
	}
	return checkCriteria(criteria, p.client, store)
}

// upperCase finds names that Windows, which compares them with case, would overlook.
func upperCase(c *characteristic) error {
	for _, p := range c.parms {
		if p.name != strings.ToUpper(p.name) {
			return fmt.Errorf("parm %s under %s must be upper case, %s", p.name, c.kind, strings.ToUpper(p.name))
		}
	}
	for _, child := range c.children {
		if child.kind != strings.ToUpper(child.kind) {
			return fmt.Errorf("characteristic %s under %s must be upper case", child.kind, c.kind)
		}
		if err := upperCase(child); err != nil {
			return err
		}
	}
	return nil
}

// checkAuth wants both levels: CLIENT with DIGEST, APPSRV with BASIC or DIGEST.
func checkAuth(app *characteristic) error {
	allowed := map[string][]string{"CLIENT": {"DIGEST"}, "APPSRV": {"DIGEST", "BASIC"}}
	for _, c := range app.children {
		if c.kind != "APPAUTH" {
			continue
		}
		level, kind := c.value("AAUTHLEVEL"), c.value("AAUTHTYPE")
		if !slices.Contains(allowed[level], kind) {
			return fmt.Errorf("APPAUTH has AAUTHTYPE %q for AAUTHLEVEL %q; CLIENT needs DIGEST, APPSRV BASIC or DIGEST", kind, level)
		}
		if _, err := base64.StdEncoding.DecodeString(c.value("AAUTHDATA")); err != nil {
			return fmt.Errorf("AAUTHDATA of APPAUTH %s must be the base64 of a nonce", level)
		}
		delete(allowed, level)
	}
	if len(allowed) > 0 {
		return errors.New("APPLICATION must have two APPAUTH, with AAUTHLEVEL CLIENT and APPSRV")
	}
	return nil
}

// checkCriteria checks that the search criteria find the client certificate: values are escaped as in a URL, several of
// them divided by U+F000.
func checkCriteria(criteria string, cert *x509.Certificate, store string) error {
	for _, pair := range strings.Split(criteria, "&") {
		name, value, _ := strings.Cut(pair, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return errors.New("SSLCLIENTCERTSEARCHCRITERIA is not escaped as in a URL")
		}
		values := strings.Split(value, "\uf000")
		switch name {
		case "Subject":
			if !slices.ContainsFunc(values, func(s string) bool { return hasSubject(cert, s) }) {
				return errors.New("the Subject in SSLCLIENTCERTSEARCHCRITERIA does not fit the subject of the client certificate")
			}
		case "Stores":
			if !slices.Contains(values, `My\`+store) {
				return fmt.Errorf(`the Stores in SSLCLIENTCERTSEARCHCRITERIA does not name My\%s, where the client certificate is`, store)
			}
		default:
			return fmt.Errorf("SSLCLIENTCERTSEARCHCRITERIA knows Subject and Stores only, not %q", name)
		}
	}
	return nil
}

// hasSubject reports whether each part of a name such as CN=Tester,O=Microsoft is in the subject. Whether Windows wants
// the whole name is not known.
func hasSubject(cert *x509.Certificate, name string) bool {
	have := map[string][]string{
		"CN": {cert.Subject.CommonName}, "O": cert.Subject.Organization, "OU": cert.Subject.OrganizationalUnit,
		"C": cert.Subject.Country, "L": cert.Subject.Locality, "ST": cert.Subject.Province, "S": cert.Subject.Province,
	}
	for _, part := range strings.Split(name, ",") {
		kind, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !slices.Contains(have[kind], value) {
			return false
		}
	}
	return true
}

// readProvider checks DMClient/Provider, whose name must be PROVIDER-ID.
func (p *provisioning) readProvider(doc *characteristic) error {
	all := doc.at("DMClient", "Provider")
	if all == nil || len(all.children) != 1 || all.children[0].kind != p.providerID {
		return fmt.Errorf("DMClient/Provider must hold one characteristic, named like PROVIDER-ID, %q", p.providerID)
	}
	p.provider = all.children[0]
	for _, c := range append([]*characteristic{p.provider}, p.provider.children...) {
		for _, value := range c.parms {
			if err := value.check(); err != nil {
				return fmt.Errorf("DMClient/Provider: %w", err)
			}
		}
	}
	return nil
}
