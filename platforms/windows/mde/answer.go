package mde

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// envelope is a SOAP 1.2 answer; the samples of the last step show SOAP 1.1, which no working server sends
// (windows.md 1.1).
func envelope(action, relatesTo string, security []xmltree.Element, body xmltree.Element) xmltree.Element {
	header := xmltree.Parent("s:Header", xmltree.Text("a:Action", action).With("s:mustUnderstand", "1"))
	if relatesTo != "" {
		header = header.Add(xmltree.Text("a:RelatesTo", relatesTo))
	}
	header = header.Add(security...)
	return xmltree.Parent("s:Envelope", header, xmltree.Parent("s:Body", body)).With("xmlns:s", nsSOAP, "xmlns:a", nsAddressing)
}

// DefaultEnrollmentVersion is what clients from 4.0 to 7.0 take.
const DefaultEnrollmentVersion = "4.0"

// Discovery says where to go on.
type Discovery struct {
	// AuthPolicy is one of those that the PC can do.
	AuthPolicy string
	// EnrollmentVersion is DefaultEnrollmentVersion if empty.
	EnrollmentVersion string
	// PolicyURL and EnrollmentURL must have the same host name.
	PolicyURL, EnrollmentURL string
	// AuthenticationURL is the sign-in page; written for AuthFederated only, which needs it.
	AuthenticationURL string
}

// DiscoverResponse answers a Discover with the MessageID relatesTo. Source: windows.md 1.2; [MS-MDE2] 3.1.4.1.
func DiscoverResponse(relatesTo string, d Discovery) ([]byte, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("answer Discover: %w", err)
	}
	if d.EnrollmentVersion == "" {
		d.EnrollmentVersion = DefaultEnrollmentVersion
	}
	result := xmltree.Parent("DiscoverResult", xmltree.Text("AuthPolicy", d.AuthPolicy), xmltree.Text("EnrollmentVersion", d.EnrollmentVersion),
		xmltree.Text("EnrollmentPolicyServiceUrl", d.PolicyURL), xmltree.Text("EnrollmentServiceUrl", d.EnrollmentURL))
	if d.AuthPolicy == AuthFederated {
		result = result.Add(xmltree.Text("AuthenticationServiceUrl", d.AuthenticationURL))
	}
	body := xmltree.Parent("DiscoverResponse", result).With("xmlns", nsDiscovery)
	return envelope(ActionDiscoverResponse, relatesTo, nil, body).Render(), nil
}

func (d Discovery) check() error {
	if !slices.Contains([]string{AuthOnPremise, AuthFederated, AuthCertificate}, d.AuthPolicy) {
		return errors.New("AuthPolicy must be OnPremise, Federated or Certificate")
	}
	policy, err := secureURL("PolicyURL", d.PolicyURL)
	if err != nil {
		return err
	}
	enrollment, err := secureURL("EnrollmentURL", d.EnrollmentURL)
	if err != nil {
		return err
	}
	if policy.Hostname() != enrollment.Hostname() {
		return errors.New("PolicyURL and EnrollmentURL must have the same host name")
	}
	if d.AuthPolicy == AuthFederated {
		_, err = secureURL("AuthenticationURL", d.AuthenticationURL)
	}
	return err
}

// secureURL wants HTTPS: Windows takes plain HTTP only to look for a redirect, and asks its user.
func secureURL(field, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%s must be a URL that begins with https://", field)
	}
	return u, nil
}

// Names of key storage providers for Policy.CryptoProviders.
const (
	ProviderTPM      = "Microsoft Platform Crypto Provider"
	ProviderSoftware = "Microsoft Software Key Storage Provider"
)

// Policy says what the certificate request shall be. The hash is always SHA-256.
type Policy struct {
	// MinimalKeyLength is in bits, 2048 at least.
	MinimalKeyLength int
	// Validity is the life of the certificate, Renewal how long before its end it is renewed.
	Validity, Renewal time.Duration
	// CryptoProviders are in order of preference; without any, Windows takes its default.
	CryptoProviders []string
}

// PoliciesResponse answers GetPolicies. Source: windows.md 1.5; [MS-XCEP] 3.1.4.1.1.2 and the schema's order.
func PoliciesResponse(relatesTo string, p Policy) ([]byte, error) {
	switch {
	case p.MinimalKeyLength < 2048 || p.MinimalKeyLength > 16384:
		return nil, errors.New("answer GetPolicies: MinimalKeyLength must be 2048 to 16384 bits")
	case p.Renewal < time.Second || p.Validity <= p.Renewal:
		return nil, errors.New("answer GetPolicies: Renewal must be a second at least and less than Validity")
	}
	body := xmltree.Parent("GetPoliciesResponse",
		xmltree.Parent("response", xmltree.Text("policyID", ""), nilled("policyFriendlyName"), nilled("nextUpdateHours"),
			nilled("policiesNotChanged"), xmltree.Parent("policies", p.policy())),
		nilled("cAs"),
		xmltree.Parent("oIDs", xmltree.Parent("oID", xmltree.Text("value", "2.16.840.1.101.3.4.2.1"), xmltree.Text("group", "1"), xmltree.Text("oIDReferenceID", "0"),
			xmltree.Text("defaultName", "szOID_NIST_sha256"))),
	).With("xmlns", nsPolicy, "xmlns:xsi", nsInstance)
	return envelope(ActionGetPoliciesResponse, relatesTo, nil, body).Render(), nil
}

// policy holds every element of the schema: those that Windows does not look at must be there too.
func (p Policy) policy() xmltree.Element {
	attributes := xmltree.Parent("attributes",
		xmltree.Text("commonName", "waxseal"), xmltree.Text("policySchema", "3"), // 3 knows hash algorithms
		xmltree.Parent("certificateValidity", xmltree.Text("validityPeriodSeconds", seconds(p.Validity)),
			xmltree.Text("renewalPeriodSeconds", seconds(p.Renewal))),
		xmltree.Parent("permission", xmltree.Text("enroll", "true"), xmltree.Text("autoEnroll", "false")),
		p.privateKey(),
		xmltree.Parent("revision", xmltree.Text("majorRevision", "101"), xmltree.Text("minorRevision", "0")),
		nilled("supersededPolicies"), nilled("privateKeyFlags"), nilled("subjectNameFlags"), nilled("enrollmentFlags"),
		nilled("generalFlags"), xmltree.Text("hashAlgorithmOIDReference", "0"), nilled("rARequirements"),
		nilled("keyArchivalAttributes"), nilled("extensions"))
	return xmltree.Parent("policy", xmltree.Text("policyOIDReference", "0"), nilled("cAs"), attributes)
}

func (p Policy) privateKey() xmltree.Element {
	providers := nilled("cryptoProviders")
	if len(p.CryptoProviders) > 0 {
		providers = xmltree.Parent("cryptoProviders")
	}
	for _, name := range p.CryptoProviders {
		providers = providers.Add(xmltree.Text("provider", name))
	}
	return xmltree.Parent("privateKeyAttributes", xmltree.Text("minimalKeyLength", strconv.Itoa(p.MinimalKeyLength)), nilled("keySpec"),
		nilled("keyUsageProperty"), nilled("permissions"), nilled("algorithmOIDReference"), providers)
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// Clock differences that the timestamp of a TokenResponse allows for, both ways, and its form.
const (
	clockSkew  = 5 * time.Minute
	timeFormat = "2006-01-02T15:04:05.000Z"
)

// TokenResponse answers RequestSecurityToken with a document that Provisioning or RenewalProvisioning made.
// Source: windows.md 1.6; [MS-WSTEP] 3.1.4.1.2.9.
func TokenResponse(relatesTo string, provisioning []byte, now time.Time) ([]byte, error) {
	if len(provisioning) == 0 {
		return nil, errors.New("answer RequestSecurityToken: the provisioning document is empty")
	}
	token := xmltree.Text("BinarySecurityToken", base64.StdEncoding.EncodeToString(provisioning)).
		With("xmlns", nsSecurity, "ValueType", valueTypeProvisioning, "EncodingType", encodingBase64)
	response := xmltree.Parent("RequestSecurityTokenResponse",
		xmltree.Text("TokenType", TokenTypeDevice),
		xmltree.Text("DispositionMessage", "").With("xmlns", nsEnrollment),
		xmltree.Parent("RequestedSecurityToken", token),
		xmltree.Text("RequestID", "0").With("xmlns", nsEnrollment))
	body := xmltree.Parent("RequestSecurityTokenResponseCollection", response).With("xmlns", nsTrust)
	return envelope(ActionTokenResponse, relatesTo, []xmltree.Element{timestamp(now)}, body).Render(), nil
}

func timestamp(now time.Time) xmltree.Element {
	stamp := xmltree.Parent("u:Timestamp", xmltree.Text("u:Created", now.Add(-clockSkew).UTC().Format(timeFormat)),
		xmltree.Text("u:Expires", now.Add(clockSkew).UTC().Format(timeFormat))).With("u:Id", "_0")
	return xmltree.Parent("o:Security", stamp).With("s:mustUnderstand", "1", "xmlns:o", nsSecurity, "xmlns:u", nsUtility)
}
