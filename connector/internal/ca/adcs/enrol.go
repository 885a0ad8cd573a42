package adcs

import (
	"context"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/soap"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/xmltree"
)

const (
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	nsEnrolment  = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
	actionToken  = nsEnrolment + "/RST/wstep"
	requestIssue = nsTrust + "/Issue"
	requestQuery = nsEnrolment + "/QueryTokenStatus"
	tokenX509    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
	valuePKCS10  = nsEnrolment + "#PKCS10"
	encodingB64  = soap.NSSecurity + "#base64binary"
	maxRequestID = 64
)

// handle is by what a request that waits for approval is found again.
type handle struct {
	Service   string `json:"service"`
	RequestID string `json:"requestId"`
}

// Enroll asks for a certificate, or for what came of an earlier request.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	if q.Handle != nil {
		return a.query(ctx, q)
	}
	body, address, err := a.request(ctx, q.Intent)
	if err != nil {
		return nil, err
	}
	answer, err := a.call(ctx, address, actionToken, body)
	if err != nil {
		return nil, final(err)
	}
	return a.take(q, address, answer)
}

// query asks what came of a request ([MS-WSTEP] section 3.1.4.2.1.2).
func (a *adapter) query(ctx context.Context, q ledger.Question) ([][]byte, error) {
	var h handle
	if err := json.Unmarshal(q.Handle, &h); err != nil {
		return nil, fmt.Errorf("the note of the earlier request is damaged: %w", err)
	}
	if !a.mayEnrolAt(h.Service) {
		return nil, fmt.Errorf("request %s waits at %q, which the settings do not allow any more: set enrolmentURL to it", h.RequestID, h.Service)
	}
	body := xmltree.Parent("RequestSecurityToken",
		xmltree.Text("TokenType", tokenX509), xmltree.Text("RequestType", requestQuery),
		xmltree.Text("RequestID", h.RequestID).With("xmlns", nsEnrolment)).With("xmlns", nsTrust)
	answer, err := a.call(ctx, h.Service, actionToken, body)
	if err != nil {
		return nil, final(err)
	}
	return a.take(q, h.Service, answer)
}

// request makes the message ([MS-WSTEP] section 3.1.4.1.3.3) and says where to send it. The template stands in the request
// as an extension; a device's own request is signed without one, so there it stands beside it as an attribute.
func (a *adapter) request(ctx context.Context, in ca.Intent) (xmltree.Element, string, error) {
	name, err := a.templateName(in.Template)
	if err != nil {
		return xmltree.Element{}, "", err
	}
	known, err := a.getPolicies(ctx)
	if err != nil {
		return xmltree.Element{}, "", err
	}
	t, ok := known.template(name)
	if !ok {
		return xmltree.Element{}, "", fmt.Errorf("the policy service shows the connector's account no template %q: publish it at the CA and give the account Read and Enroll on it", name)
	}
	address, err := a.serviceFor(known, t)
	if err != nil {
		return xmltree.Element{}, "", err
	}
	extensions, err := a.extensions(in, t)
	if err != nil {
		return xmltree.Element{}, "", err
	}
	csr, err := ca.Request(in, "", extensions...)
	if err != nil {
		return xmltree.Element{}, "", err
	}
	body := xmltree.Parent("RequestSecurityToken", requestParts(csr, in.Signer == nil, name)...).With("xmlns", nsTrust, "xmlns:i", soap.NSInstance)
	return body, address, nil
}

func requestParts(csr []byte, byAttribute bool, template string) []xmltree.Element {
	parts := []xmltree.Element{
		xmltree.Text("TokenType", tokenX509), xmltree.Text("RequestType", requestIssue),
		xmltree.Text("BinarySecurityToken", base64.StdEncoding.EncodeToString(csr)).
			With("ValueType", valuePKCS10, "EncodingType", encodingB64, "xmlns", soap.NSSecurity),
	}
	if byAttribute {
		item := xmltree.Parent("ContextItem", xmltree.Text("Value", template)).With("Name", "CertificateTemplate")
		parts = append(parts, xmltree.Parent("AdditionalContext", item).With("xmlns", soap.NSContext))
	}
	return append(parts, xmltree.Text("RequestID", "").With("i:nil", "true", "xmlns", nsEnrolment))
}

// take reads what the enrolment service answered. A request that is taken under submission has a number and no
// certificate; the words beside it are in the CA's language, so they are not looked at.
func (a *adapter) take(q ledger.Question, address string, body *xmltree.Node) ([][]byte, error) {
	r, err := parseResponse(body, q.Intent.PublicKey)
	if err != nil {
		return nil, err
	}
	if r.chain != nil {
		return r.chain, nil
	}
	note, err := json.Marshal(handle{Service: address, RequestID: r.id})
	if err != nil {
		return nil, fmt.Errorf("noting request %s: %w", r.id, err)
	}
	if err := q.Note(note); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w (request %s: %s)", ca.ErrPending, r.id, r.words)
}

// response is a RequestSecurityTokenResponse: a chain, or the number of a request that waits.
type response struct {
	chain     [][]byte
	id, words string
}

// parseResponse reads a RequestSecurityTokenResponseCollection ([MS-WSTEP] sections 3.1.4.1.3.4 and 3.1.4.1.3.5).
func parseResponse(body *xmltree.Node, key crypto.PublicKey) (response, error) {
	r := body.Get("RequestSecurityTokenResponse")
	if body == nil || body.Name != "RequestSecurityTokenResponseCollection" || r == nil {
		return response{}, errors.New("the enrolment service's answer is no RequestSecurityTokenResponseCollection: enrolmentURL must be the address of an enrolment service (CES)")
	}
	out := response{id: web.Words(r.Text("RequestID")), words: web.Words(r.Text("DispositionMessage"))}
	for _, token := range []*xmltree.Node{r.Get("RequestedSecurityToken", "BinarySecurityToken"), r.Get("BinarySecurityToken")} {
		if token.Text() == "" {
			continue
		}
		der, err := token.Bytes()
		if err != nil {
			return response{}, err
		}
		certs, err := soap.Certificates(der)
		if err != nil {
			continue // the full CMC response of a pending request holds no certificate
		}
		out.chain, err = web.Leaf(certs, key)
		return out, err
	}
	if out.id == "" || len(out.id) > maxRequestID {
		return response{}, fmt.Errorf("the enrolment service's answer has neither a certificate nor the number of a request: %s", out.words)
	}
	return out, nil
}

// HRESULTs that are no refusal though the service says so, and refusals though it does not ([MS-ERREF] section 2.1.1).
const (
	serverSuspended = 0x80094006 // CERTSRV_E_SERVER_SUSPENDED
	templateDenied  = 0x80094012 // CERTSRV_E_TEMPLATE_DENIED
	adminDenied     = 0x80094014 // CERTSRV_E_ADMIN_DENIED_REQUEST
	firstTemplate   = 0x80094800 // CERTSRV_E_UNSUPPORTED_CERT_TYPE
	lastTemplate    = 0x8009481F
)

// final turns the fault of a CA that denies the request into a refusal ([MS-WSTEP] section 3.1.4.1.3.7). All else may pass.
func final(err error) error {
	var fault *soap.Fault
	if !errors.As(err, &fault) || errors.Is(err, web.ErrCredentials) {
		return err
	}
	detail := fault.Detail.Get("CertificateEnrollmentWSDetail")
	code := uint32(number(detail.Text("ErrorCode")))
	denied := yes(detail.Text("InvalidRequest")) || code == templateDenied || code == adminDenied || code >= firstTemplate && code <= lastTemplate
	switch {
	case denied && code == 0:
		return ca.Refuse("%s", web.Words(fault.Reason))
	case denied && code != serverSuspended:
		return ca.Refuse("%s (0x%08X)", web.Words(fault.Reason), code)
	case code != 0:
		return fmt.Errorf("%w (0x%08X)", err, code)
	}
	return err
}
