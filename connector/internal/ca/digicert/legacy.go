package digicert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/xmltree"
)

// LegacyOptions are the settings' options of kind digicert-legacy. url of the settings is https://pki-ws.symauth.com.
type LegacyOptions struct {
	// RACertificate and RAKey (PEM) are the registration authority's, from "Get an RA certificate" of DigiCert's portal.
	RACertificate string `json:"raCertificate"`
	RAKey         string `json:"raKey"`
	// Profile is the OID of the certificate profile for profiles here that name no template.
	Profile string `json:"profile"`
	// Profiles maps the words that profiles use for template to OIDs.
	Profiles map[string]string `json:"profiles,omitempty"`
	// Seat is what names the seat: email (the default), upn or commonName.
	Seat string `json:"seat,omitempty"`
	// Names are the certificate profile's words for what it takes: commonName, subjectEmail, email and upn. The profile's
	// page in DigiCert's portal shows them; what is here are usual ones. "-" leaves one out.
	Names map[string]string `json:"names,omitempty"`
	// The paths of the services, below url.
	EnrolmentPath  string `json:"enrolmentPath,omitempty"`
	ManagementPath string `json:"managementPath,omitempty"`
	PolicyPath     string `json:"policyPath,omitempty"`
}

// Namespaces, actions and values of the WSDLs VS_WSTEP, CertificateManagementService and CertificateEnrollmentPolicy.
const (
	nsServices   = "http://schemas.verisign.com/pkiservices/2009/07/"
	nsEnrolment  = nsServices + "enrollment"
	nsManagement = nsServices + "management"
	nsPolicy     = nsServices + "policy"
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512/"
	requestIssue = "http://docs.oasis-open.org/ws-sx/ws-trust/200512/Issue"
	requestQuery = nsServices + "QueryTokenStatus"
	tokenPKCS7   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#PKCS7"
	valuePKCS10  = nsServices + "PKCS10"
	version      = "2.0"
	oldVersion   = "1.0"
)

func (o *LegacyOptions) fill() {
	for path, usual := range map[*string]string{
		&o.EnrolmentPath:  "/pki-ws/enrollmentService",
		&o.ManagementPath: "/pki-ws/certificateManagementService",
		&o.PolicyPath:     "/pki-ws/policyService",
	} {
		if *path == "" {
			*path = usual
		}
	}
}

type legacy struct {
	settings ca.Settings
	options  LegacyOptions
	own      *tls.Certificate
	client   *http.Client
	clock    func() time.Time
}

// NewLegacy makes the adapter of kind digicert-legacy.
func NewLegacy(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o LegacyOptions
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	o.fill()
	own, err := web.KeyPair("raCertificate", o.RACertificate, "raKey", o.RAKey)
	switch {
	case err != nil:
		return nil, err
	case own == nil:
		return nil, errors.New("options: raCertificateFile and raKeyFile are missing")
	}
	if err := errors.Join(checkShared(s, o.Profile, o.Profiles, o.Seat), checkPaths(o.EnrolmentPath, o.ManagementPath, o.PolicyPath)); err != nil {
		return nil, err
	}
	for _, profile := range profilesOf(s, o.Profile, o.Profiles) {
		if _, err := x509.ParseOID(profile); err != nil {
			return nil, fmt.Errorf("options: profile %q is no OID: it looks like 2.16.840.1.113733.1.16.1.2.3.1.1.…", profile)
		}
	}
	if o.Names, err = words(o.Names); err != nil {
		return nil, err
	}
	client, err := s.Client(own)
	if err != nil {
		return nil, err
	}
	return &legacy{settings: s, options: o, own: own, client: client, clock: env.Clock}, nil
}

// call sends a message to one of the services, SOAP 1.1 over TLS with the RA certificate.
func (l *legacy) call(ctx context.Context, path, action string, body xmltree.Element) (*xmltree.Node, error) {
	address, err := url.JoinPath(l.settings.URL, path)
	if err != nil {
		return nil, errors.New("url and the paths of the options make no address")
	}
	return soap.Do(ctx, l.client, soap.Call{URL: address, Action: action, Body: body})
}

// legacyHandle is by what an answer is found again: DigiCert's number of a request that waits, or only that it was asked.
type legacyHandle struct {
	Pending string `json:"pending,omitempty"`
}

// Enroll asks for a certificate, for what came of a request that waits, or for the one of a lost answer.
func (l *legacy) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	r, err := l.request(q.Intent)
	if err != nil {
		return nil, err
	}
	if q.Handle != nil {
		var h legacyHandle
		if err := json.Unmarshal(q.Handle, &h); err != nil {
			return nil, fmt.Errorf("the note of the earlier request is damaged: %w", err)
		}
		if h.Pending != "" {
			return l.ask(ctx, q, r.query(h.Pending))
		}
		if chain, err := l.search(ctx, q, r); chain != nil || err != nil {
			return chain, err
		}
	}
	if err := noteHandle(q, legacyHandle{}); err != nil {
		return nil, err
	}
	return l.ask(ctx, q, r.issue())
}

func (l *legacy) ask(ctx context.Context, q ledger.Question, message xmltree.Element) ([][]byte, error) {
	answer, err := l.call(ctx, l.options.EnrolmentPath, nsEnrolment+"/requestSecurityToken", message)
	if err != nil {
		return nil, finalFault(err)
	}
	got, err := parseToken(answer)
	if err != nil {
		return nil, err
	}
	if got.pending != "" {
		if err := noteHandle(q, legacyHandle{Pending: got.pending}); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (request %s: %s)", ca.ErrPending, web.Words(got.pending), got.words)
	}
	return web.Leaf(got.certs, q.Intent.PublicKey)
}

// finalFault: a fault of the client's is one that asking again cannot cure (SOAP 1.1 section 4.4.1).
func finalFault(err error) error {
	var fault *soap.Fault
	if !errors.As(err, &fault) {
		return err
	}
	words := web.Words(strings.Join(strings.Fields(fault.Reason+" "+fault.Detail.Text("message")+" "+fault.Detail.Text("errorcode")), " "))
	if fault.Code == "Client" || strings.HasPrefix(fault.Code, "Client.") {
		return ca.Refuse("%s", words)
	}
	return fmt.Errorf("the CA's service fails (%s): %s", web.Words(fault.Code), words)
}

// request is one certificate as the service takes it.
type request struct {
	profile, seat string
	csr           []byte
	pairs         [][2]string
}

// issue is the message that asks for a certificate (RequestVSSecurityTokenEnrollmentType).
func (r request) issue() xmltree.Element {
	parts := []xmltree.Element{
		xmltree.Text("certificateProfileID", r.profile), xmltree.Text("tokenType", tokenPKCS7), xmltree.Text("requestType", requestIssue),
		xmltree.Text("binarySecurityToken", base64.StdEncoding.EncodeToString(r.csr)).
			With("ValueType", valuePKCS10, "EncodingType", soap.NSSecurity+"#base64binary"),
	}
	for _, p := range append([][2]string{{"seat_id", r.seat}}, r.pairs...) {
		parts = append(parts, xmltree.Parent("nameValuePair", xmltree.Text("name", p[0]), xmltree.Text("value", p[1])))
	}
	return wrap(parts)
}

// query is the message that asks what came of a request that waits.
func (r request) query(pending string) xmltree.Element {
	return wrap([]xmltree.Element{xmltree.Text("certificateProfileID", r.profile), xmltree.Text("tokenType", tokenPKCS7),
		xmltree.Text("requestType", requestQuery), xmltree.Text("pendingTokenReferenceID", pending)})
}

func wrap(parts []xmltree.Element) xmltree.Element {
	inner := xmltree.Parent("requestVSSecurityToken", append(parts, xmltree.Text("version", version))...).
		With("xmlns", nsEnrolment, "preferredLanguage", "en-US")
	return xmltree.Parent("wst:RequestSecurityToken", inner).With("xmlns:wst", nsTrust)
}

// token is what the enrolment service answered.
type token struct {
	certs   []*x509.Certificate
	pending string
	words   string
}

// parseToken reads a RequestSecurityTokenResponse (RequestVSSecurityTokenResponseEnrollmentType).
func parseToken(body *xmltree.Node) (token, error) {
	if body != nil && body.Name == "RequestSecurityTokenResponseCollection" {
		body = body.Get("RequestSecurityTokenResponse")
	}
	r := body.Get("RequestVSSecurityTokenResponse")
	if r == nil {
		return token{}, errors.New("DigiCert's answer is no RequestVSSecurityTokenResponse: enrolmentPath must lead to the enrolment service")
	}
	requested := r.Get("requestedVSSecurityToken")
	got := token{pending: requested.Text("pendingTokenReferenceID"), words: web.Words(r.Text("dispositionMessage"))}
	if got.pending != "" {
		return got, nil
	}
	for _, n := range []*xmltree.Node{requested.Get("binarySecurityToken"), r.Get("binarySecurityToken")} {
		if n.Text() == "" {
			continue
		}
		der, err := n.Bytes()
		if err != nil {
			return token{}, err
		}
		got.certs, err = soap.Certificates(der)
		return got, err
	}
	return token{}, fmt.Errorf("DigiCert's answer has neither a certificate nor the number of a request: %s", got.words)
}
