package mde

import (
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// Request is one request of a PC: exactly one of Discover, GetPolicies and Token is set.
type Request struct {
	// Action is one of ActionDiscover, ActionGetPolicies and ActionToken.
	Action string
	// MessageID comes back in the answer as RelatesTo, as it is: some builds put a blank after "urn:uuid:".
	MessageID   string
	To          string
	Security    Security
	Discover    *Discover
	GetPolicies *GetPolicies
	Token       *TokenRequest
}

// Discover asks where to enrol ([MS-MDE2] 3.1.4.1). A value that the PC left out is empty.
type Discover struct {
	// EmailAddress may be DOMAIN\user, and is empty if a program enrols.
	EmailAddress string
	// RequestVersion is decimal, "3.0" to "7.0" so far.
	RequestVersion     string
	DeviceType         string
	ApplicationVersion string
	// OSEdition is Windows' product type, decimal.
	OSEdition string
	OSVersion string
	// AuthPolicies are those that the PC can do; the server picks one.
	AuthPolicies []string
}

// GetPolicies asks which key and hash the certificate request shall have ([MS-XCEP] 3.1.4.1.1). Nothing in it matters
// to the answer.
type GetPolicies struct {
	PreferredLanguage                   string
	TPMManufacturer, TPMFirmwareVersion string
}

// Decode reads a request of at most 256 KiB. Body and action must fit, and what may occur once must not occur twice.
// It checks no credential.
func Decode(b []byte) (*Request, error) {
	root, err := xmltree.Read(b, most)
	if err != nil {
		return nil, fmt.Errorf("decode enrollment request: %w", err)
	}
	if root.Name != "Envelope" {
		return nil, errors.New("decode enrollment request: the root element is not a SOAP Envelope")
	}
	r := &reader{}
	request := r.request(root)
	if r.err != nil {
		return nil, fmt.Errorf("decode enrollment request: %w", r.err)
	}
	return request, nil
}

func (r *reader) request(envelope *xmltree.Node) *Request {
	header := r.one(envelope, "Header")
	q := &Request{
		Action:    r.text(header, "Action"),
		MessageID: r.text(header, "MessageID"),
		To:        r.text(header, "To"),
		Security:  r.security(r.one(header, "Security")),
	}
	body := r.one(envelope, "Body")
	only := body.Only()
	if only == nil {
		r.fail("Body must hold exactly one element")
		return q
	}
	r.body(q, only)
	return q
}

func (r *reader) body(q *Request, n *xmltree.Node) {
	want := ""
	switch n.Name {
	case "Discover":
		want, q.Discover = ActionDiscover, r.discover(r.one(n, "request"))
	case "GetPolicies":
		want, q.GetPolicies = ActionGetPolicies, r.getPolicies(r.one(n, "client"))
	case "RequestSecurityToken":
		want, q.Token = ActionToken, r.token(n)
	default:
		r.fail("the element in Body is none of Discover, GetPolicies and RequestSecurityToken")
	}
	if q.Action != want {
		r.fail("Action does not fit to %s in Body", n.Name)
	}
}

func (r *reader) discover(n *xmltree.Node) *Discover {
	if n == nil {
		r.fail("Discover has no request element")
	}
	d := &Discover{
		EmailAddress:       r.text(n, "EmailAddress"),
		RequestVersion:     r.text(n, "RequestVersion"),
		DeviceType:         r.text(n, "DeviceType"),
		ApplicationVersion: r.text(n, "ApplicationVersion"),
		OSEdition:          r.text(n, "OSEdition"),
		OSVersion:          r.text(n, "OSVersion"),
	}
	for _, p := range r.one(n, "AuthPolicies").All("AuthPolicy") {
		d.AuthPolicies = append(d.AuthPolicies, p.Text())
	}
	return d
}

func (r *reader) getPolicies(client *xmltree.Node) *GetPolicies {
	return &GetPolicies{
		PreferredLanguage:  r.text(client, "preferredLanguage"),
		TPMManufacturer:    r.text(client, "TPMManufacturer"),
		TPMFirmwareVersion: r.text(client, "TPMFirmwareVersion"),
	}
}
