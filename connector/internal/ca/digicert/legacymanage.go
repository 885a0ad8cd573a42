package digicert

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/xmltree"
)

// search looks for the certificate of a lost answer (SearchCertificateRequestType).
func (l *legacy) search(ctx context.Context, q ledger.Question, r request) ([][]byte, error) {
	found, err := l.find(ctx, xmltree.Text("seatId", r.seat), xmltree.Text("profileOID", r.profile))
	if err != nil {
		return nil, fmt.Errorf("looking for the certificate of a lost answer: %w", finalSearch(err))
	}
	for _, f := range found {
		if isFor(f.certs, q.Intent.PublicKey) && f.status != "REVOKED" {
			return web.Leaf(f.certs, q.Intent.PublicKey)
		}
	}
	return nil, nil
}

// finalSearch keeps a search that is declined from ending an intent.
func finalSearch(err error) error {
	if err = finalFault(err); errors.As(err, new(*ca.RefusedError)) {
		return errors.New(err.Error())
	}
	return err
}

// found is one certificate that the service knows.
type found struct {
	certs  []*x509.Certificate
	status string
}

func (l *legacy) find(ctx context.Context, by ...xmltree.Element) ([]found, error) {
	message := xmltree.Parent("searchCertificateRequest", append(by, xmltree.Text("version", oldVersion))...).With("xmlns", nsManagement)
	answer, err := l.call(ctx, l.options.ManagementPath, nsManagement+"/searchCertificate", message)
	if err != nil {
		return nil, err
	}
	return parseSearch(answer)
}

func parseSearch(body *xmltree.Node) ([]found, error) {
	if body == nil || body.Name != "searchCertificateResponse" {
		return nil, errors.New("DigiCert's answer is no searchCertificateResponse: managementPath must lead to the certificate management service")
	}
	var out []found
	list := body.Get("certificateList").All("certificateInformation")
	for _, n := range list[:min(len(list), maxFound)] {
		der, err := n.Bytes("certificate")
		if err != nil {
			continue
		}
		if certs, err := soap.Certificates(der); err == nil {
			out = append(out, found{certs, n.Text("status")})
		}
	}
	return out, nil
}

// legacyReasons are RevokeReasonCodeEnum's words for RFC 5280's reason codes; a hold is another operation.
func legacyReasons() map[int]string {
	return map[int]string{0: "Unspecified", 1: "KeyCompromise", 2: "CACompromise", 3: "AffiliationChanged", 4: "Superseded",
		5: "CessationOfOperation", 6: "", 9: "PrivilegeWithdrawn", 10: "AACompromise"}
}

// Revoke revokes, or suspends with reason certificateHold (UpdateCertificateStatusRequestType).
func (l *legacy) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	word, ok := legacyReasons()[reason]
	if !ok {
		return ca.Refuse("reason code %d has no word at DigiCert", reason)
	}
	serial := serialText(leaf)
	parts := []xmltree.Element{xmltree.Text("version", oldVersion)}
	operation := "Suspend"
	if word != "" {
		operation, parts = "Revoke", append(parts, xmltree.Text("revocationReason", word))
	}
	parts = append(parts, xmltree.Text("certificateSerialNumber", serial), xmltree.Text("operationType", operation))
	message := xmltree.Parent("updateCertificateStatusRequest", parts...).With("xmlns", nsManagement)
	answer, err := l.call(ctx, l.options.ManagementPath, nsManagement+"/updateCertificateStatus", message)
	if err == nil && answer.Name == "updateCertificateStatusResponse" && answer.Text("successCode") == "0" {
		return nil
	}
	if l.isRevoked(ctx, serial, leaf) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("DigiCert answers %q %s", web.Words(answer.Text("successCode")), web.Words(answer.Text("successMsg")))
	}
	return fmt.Errorf("revoking certificate %s: %w", serial, finalSearch(err))
}

func (l *legacy) isRevoked(ctx context.Context, serial string, leaf *x509.Certificate) bool {
	known, err := l.find(ctx, xmltree.Text("serialNumber", serial))
	if err != nil {
		return false
	}
	for _, f := range known {
		for _, c := range f.certs {
			if c.Equal(leaf) && f.status == "REVOKED" {
				return true
			}
		}
	}
	return false
}

// Test is the button for a configuration that would silently issue nothing (DC-04): address, certificate, RA certificate,
// each certificate profile, the CAs, clock.
func (l *legacy) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, l.client, l.settings.URL, l.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	out = append(out, web.OwnCertificate("RA certificate", l.own, l.clock()))
	message := xmltree.Parent("getPolicies", xmltree.Text("version", version),
		xmltree.Text("requestFilter", "").With("i:nil", "true")).With("xmlns", nsPolicy, "xmlns:i", soap.NSInstance)
	answer, err := l.call(ctx, l.options.PolicyPath, nsPolicy+"/requestPolicies", message)
	if err != nil {
		return append(append(out, l.policyFinding(err)), reached.Clock...)
	}
	known, err := parseLegacyPolicies(answer)
	if err != nil {
		return append(append(out, web.Wrong("policy", "%s", web.Words(err.Error()))), reached.Clock...)
	}
	out = append(out, web.OK("credentials", "DigiCert accepts the RA certificate and shows %d certificate profiles", len(known.status)))
	for _, profile := range profilesOf(l.settings, l.options.Profile, l.options.Profiles) {
		out = append(out, l.testProfile(profile, known)...)
	}
	return append(out, reached.Clock...)
}

// policyFinding tells a certificate that is not accepted from a service that fails.
func (l *legacy) policyFinding(err error) link.CAFinding {
	var fault *soap.Fault
	if errors.Is(err, web.ErrCredentials) || errors.As(err, &fault) && fault.Code == "Client" {
		return web.Wrong("credentials", "%s. raCertificateFile must be the RA certificate of this account, not expired and not revoked", web.Words(finalFault(err).Error()))
	}
	return web.Wrong("policy", "%s", web.Words(finalFault(err).Error()))
}

// legacyPolicies is what the policy service shows the RA certificate.
type legacyPolicies struct {
	status map[string]string // by OID
	issuer map[string][]*x509.Certificate
}

// parseLegacyPolicies reads a getPoliciesResponse (CertificateEnrollmentPolicy.xsd).
func parseLegacyPolicies(body *xmltree.Node) (legacyPolicies, error) {
	if body == nil || body.Name != "getPoliciesResponse" {
		return legacyPolicies{}, errors.New("DigiCert's answer is no getPoliciesResponse: policyPath must lead to the policy service")
	}
	oids, cas := map[string]string{}, map[string]*x509.Certificate{}
	for _, o := range body.Get("oIDs").All("oID") {
		oids[o.Text("oIDReferenceID")] = o.Text("value")
	}
	for _, c := range body.Get("cAs").All("cA") {
		if der, err := c.Bytes("certificate"); err == nil {
			if certs, err := soap.Certificates(der); err == nil {
				cas[c.Text("cAReferenceID")] = certs[0]
			}
		}
	}
	out := legacyPolicies{map[string]string{}, map[string][]*x509.Certificate{}}
	for _, p := range body.Get("response", "policies").All("policy") {
		oid := oids[p.Text("policyOIDReference")]
		out.status[oid] = p.Text("attributes", "status")
		for _, reference := range p.Get("cAs").All("cAReference") {
			if cert := cas[reference.Text()]; cert != nil {
				out.issuer[oid] = append(out.issuer[oid], cert)
			}
		}
	}
	return out, nil
}

func (l *legacy) testProfile(profile string, known legacyPolicies) []link.CAFinding {
	status, ok := known.status[profile]
	if !ok {
		return []link.CAFinding{web.Wrong("profile", "%s is not among the certificate profiles of this account: the option profile takes the OID that the profile's page shows", profile)}
	}
	finding := web.OK("profile", "%s is known and its status is %q", profile, web.Words(status))
	switch strings.ToLower(status) { // the schema names no values
	case "inactive", "disabled", "suspended", "deleted", "expired":
		finding = web.Wrong("profile", "%s: its status is %q: activate it", profile, web.Words(status))
	}
	out := []link.CAFinding{finding}
	for _, issuer := range known.issuer[profile] {
		out = append(out, web.Issuer(l.settings, issuer))
	}
	return out
}
