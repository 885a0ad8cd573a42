package mde

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// envelope is a SOAP 1.2 answer; the samples of the last step show SOAP 1.1, which no working server sends
// (windows.md 1.1).
func envelope(action, relatesTo string, security []element, body element) element {
	header := parent("s:Header", leaf("a:Action", action).with("s:mustUnderstand", "1"))
	if relatesTo != "" {
		header.inner = append(header.inner, leaf("a:RelatesTo", relatesTo))
	}
	header.inner = append(header.inner, security...)
	return parent("s:Envelope", header, parent("s:Body", body)).with("xmlns:s", nsSOAP, "xmlns:a", nsAddressing)
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
	result := parent("DiscoverResult", leaf("AuthPolicy", d.AuthPolicy), leaf("EnrollmentVersion", d.EnrollmentVersion),
		leaf("EnrollmentPolicyServiceUrl", d.PolicyURL), leaf("EnrollmentServiceUrl", d.EnrollmentURL))
	if d.AuthPolicy == AuthFederated {
		result.inner = append(result.inner, leaf("AuthenticationServiceUrl", d.AuthenticationURL))
	}
	body := parent("DiscoverResponse", result).with("xmlns", nsDiscovery)
	return envelope(ActionDiscoverResponse, relatesTo, nil, body).render(), nil
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
	body := parent("GetPoliciesResponse",
		parent("response", leaf("policyID", ""), nilled("policyFriendlyName"), nilled("nextUpdateHours"),
			nilled("policiesNotChanged"), parent("policies", p.policy())),
		nilled("cAs"),
		parent("oIDs", parent("oID", leaf("value", "2.16.840.1.101.3.4.2.1"), leaf("group", "1"), leaf("oIDReferenceID", "0"),
			leaf("defaultName", "szOID_NIST_sha256"))),
	).with("xmlns", nsPolicy, "xmlns:xsi", nsInstance)
	return envelope(ActionGetPoliciesResponse, relatesTo, nil, body).render(), nil
}

// policy holds every element of the schema: those that Windows does not look at must be there too.
func (p Policy) policy() element {
	attributes := parent("attributes",
		leaf("commonName", "waxseal"), leaf("policySchema", "3"), // 3 knows hash algorithms
		parent("certificateValidity", leaf("validityPeriodSeconds", seconds(p.Validity)),
			leaf("renewalPeriodSeconds", seconds(p.Renewal))),
		parent("permission", leaf("enroll", "true"), leaf("autoEnroll", "false")),
		p.privateKey(),
		parent("revision", leaf("majorRevision", "101"), leaf("minorRevision", "0")),
		nilled("supersededPolicies"), nilled("privateKeyFlags"), nilled("subjectNameFlags"), nilled("enrollmentFlags"),
		nilled("generalFlags"), leaf("hashAlgorithmOIDReference", "0"), nilled("rARequirements"),
		nilled("keyArchivalAttributes"), nilled("extensions"))
	return parent("policy", leaf("policyOIDReference", "0"), nilled("cAs"), attributes)
}

func (p Policy) privateKey() element {
	providers := nilled("cryptoProviders")
	if len(p.CryptoProviders) > 0 {
		providers = parent("cryptoProviders")
	}
	for _, name := range p.CryptoProviders {
		providers.inner = append(providers.inner, leaf("provider", name))
	}
	return parent("privateKeyAttributes", leaf("minimalKeyLength", strconv.Itoa(p.MinimalKeyLength)), nilled("keySpec"),
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
	token := leaf("BinarySecurityToken", base64.StdEncoding.EncodeToString(provisioning)).
		with("xmlns", nsSecurity, "ValueType", valueTypeProvisioning, "EncodingType", encodingBase64)
	response := parent("RequestSecurityTokenResponse",
		leaf("TokenType", TokenTypeDevice),
		leaf("DispositionMessage", "").with("xmlns", nsEnrollment),
		parent("RequestedSecurityToken", token),
		leaf("RequestID", "0").with("xmlns", nsEnrollment))
	body := parent("RequestSecurityTokenResponseCollection", response).with("xmlns", nsTrust)
	return envelope(ActionTokenResponse, relatesTo, []element{timestamp(now)}, body).render(), nil
}

func timestamp(now time.Time) element {
	stamp := parent("u:Timestamp", leaf("u:Created", now.Add(-clockSkew).UTC().Format(timeFormat)),
		leaf("u:Expires", now.Add(clockSkew).UTC().Format(timeFormat))).with("u:Id", "_0")
	return parent("o:Security", stamp).with("s:mustUnderstand", "1", "xmlns:o", nsSecurity, "xmlns:u", nsUtility)
}
