package adcs

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/internal/xmltree"
)

const (
	nsPolicy          = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	actionGetPolicies = nsPolicy + "/IPolicy/GetPolicies"
)

// Values of clientAuthentication ([MS-XCEP] section 3.1.4.1.3.5).
const (
	authPassword    = "4"
	authCertificate = "8"
)

// Flags of a template ([MS-XCEP] section 3.1.4.1.3.1; [MS-CRTD] sections 2.26 and 2.28). With the first, the CA takes the
// subject and the other names from the request.
const (
	subjectFromRequest = 0x00000001
	pendAll            = 0x00000002
)

// policies is what the policy service says.
type policies struct {
	templates []template
	cas       map[string]authority
}

// template is a CertificateEnrollmentPolicy.
type template struct {
	name         string
	oid          []byte // DER: the arcs may be larger than encoding/asn1 takes
	schema       int    // 1: known by its name; 2 and up: known by its OID
	major, minor int
	mayEnrol     bool
	signatures   int // that a registration authority must add
	minKey       int
	subject      int
	enrolment    int
	cas          []string
}

// authority is a CA with its enrolment services.
type authority struct {
	certificate *x509.Certificate
	mayEnrol    bool
	services    []service
}

type service struct {
	auth, url   string
	priority    int
	renewalOnly bool
}

// getPolicies asks for everything that the account may see ([MS-XCEP] section 3.1.4.1.2.1).
func (a *adapter) getPolicies(ctx context.Context) (policies, error) {
	null := func(name string) xmltree.Element { return xmltree.Text(name, "").With("i:nil", "true") }
	body := xmltree.Parent("GetPolicies",
		xmltree.Parent("client", null("lastUpdate"), null("preferredLanguage")),
		null("requestFilter"),
	).With("xmlns", nsPolicy, "xmlns:i", soap.NSInstance)
	answer, err := a.call(ctx, a.settings.URL, actionGetPolicies, body)
	if err != nil {
		return policies{}, fmt.Errorf("asking the policy service: %w", err)
	}
	return parsePolicies(answer)
}

// parsePolicies reads a GetPoliciesResponse ([MS-XCEP] section 3.1.4.1.2.2). A template that does not parse is left out,
// since the others are of use; a CA without a certificate is none.
func parsePolicies(n *xmltree.Node) (policies, error) {
	if n == nil || n.Name != "GetPoliciesResponse" {
		return policies{}, errors.New("the policy service's answer is no GetPoliciesResponse: url must be the address of the policy service (CEP)")
	}
	oids := map[string][]byte{}
	for _, o := range n.Get("oIDs").All("oID") {
		if oid, err := parseOID(o.Text("value")); err == nil {
			oids[o.Text("oIDReferenceID")] = oid
		}
	}
	out := policies{cas: map[string]authority{}}
	for _, c := range n.Get("cAs").All("cA") {
		if found, err := parseAuthority(c); err == nil {
			out.cas[c.Text("cAReferenceID")] = found
		}
	}
	for _, p := range n.Get("response", "policies").All("policy") {
		t := parseTemplate(p)
		t.oid = oids[p.Text("policyOIDReference")]
		out.templates = append(out.templates, t)
	}
	return out, nil
}

func parseTemplate(p *xmltree.Node) template {
	a := p.Get("attributes")
	t := template{
		name: a.Text("commonName"), schema: number(a.Text("policySchema")),
		major: number(a.Text("revision", "majorRevision")), minor: number(a.Text("revision", "minorRevision")),
		mayEnrol: yes(a.Text("permission", "enroll")), signatures: number(a.Text("rARequirements", "rASignatures")),
		minKey:  number(a.Text("privateKeyAttributes", "minimalKeyLength")),
		subject: number(a.Text("subjectNameFlags")), enrolment: number(a.Text("enrollmentFlags")),
	}
	for _, reference := range p.Get("cAs").All("cAReference") {
		t.cas = append(t.cas, reference.Text())
	}
	return t
}

func parseAuthority(n *xmltree.Node) (authority, error) {
	der, err := n.Bytes("certificate")
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	out := authority{certificate: cert, mayEnrol: yes(n.Text("enrollPermission"))}
	for _, u := range n.Get("uris").All("cAURI") {
		out.services = append(out.services, service{auth: u.Text("clientAuthentication"), url: u.Text("uri"),
			priority: number(u.Text("priority")), renewalOnly: yes(u.Text("renewalOnly"))})
	}
	return out, nil
}

// yes reads an xs:boolean.
func yes(text string) bool { return text == "true" || text == "1" }

// number reads an xs:int or xs:unsignedInt; what is missing or too large is 0.
func number(text string) int {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n != int64(uint32(n)) && n != int64(int32(n)) {
		return 0
	}
	return int(uint32(n))
}

// parseOID gives the DER of a dotted OID.
func parseOID(text string) ([]byte, error) {
	oid, err := x509.ParseOID(text)
	if err != nil {
		return nil, err
	}
	content, err := oid.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagOID, Bytes: content})
}

// template finds one by its name.
func (p policies) template(name string) (template, bool) {
	for _, t := range p.templates {
		if t.name == name {
			return t, true
		}
	}
	return template{}, false
}

// serviceFor finds where to enrol for a template: at a CA that issues it and that the settings name as an issuer, with the
// kind of credentials that the settings have, the best priority first.
func (a *adapter) serviceFor(p policies, t template) (string, error) {
	if a.options.EnrolmentURL != "" {
		return a.options.EnrolmentURL, nil
	}
	auth := authPassword
	if a.own != nil {
		auth = authCertificate
	}
	best, elsewhere := service{}, ""
	for _, reference := range t.cas {
		authority, ok := p.cas[reference]
		if !ok || !authority.mayEnrol || !a.isIssuer(authority.certificate) {
			continue
		}
		for _, s := range authority.services {
			switch {
			case s.auth != auth || s.renewalOnly:
			case !a.mayEnrolAt(s.url):
				elsewhere = s.url
			case best.url == "" || s.priority < best.priority:
				best = s
			}
		}
	}
	if best.url != "" {
		return best.url, nil
	}
	if elsewhere != "" {
		return "", fmt.Errorf("the policy service names the enrolment service %q, which is on another host: if the credentials may go there, set enrolmentURL to it", elsewhere)
	}
	return "", fmt.Errorf("the policy service names no enrolment service that takes the settings' credentials, for template %q and one of the settings' issuers: install one with the same kind of authentication, or set enrolmentURL", t.name)
}

func (a *adapter) isIssuer(cert *x509.Certificate) bool {
	issuers, err := ca.Certificates([]byte(a.settings.Issuers))
	if err != nil {
		return false
	}
	for _, i := range issuers {
		if bytes.Equal(i.Raw, cert.Raw) {
			return true
		}
	}
	return false
}
