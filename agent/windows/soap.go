package windows

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Namespaces of the enrolment protocol (windows.md section 1.1).
const (
	nsSOAP       = "http://www.w3.org/2003/05/soap-envelope"
	nsSOAP11     = "http://schemas.xmlsoap.org/soap/envelope/"
	nsAddressing = "http://www.w3.org/2005/08/addressing"
	nsUtility    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	nsSecext     = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	nsTrust      = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	nsContext    = "http://schemas.xmlsoap.org/ws/2006/12/authorization"
	nsDiscover   = "http://schemas.microsoft.com/windows/management/2012/01/enrollment"
	nsPolicy     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	nsEnroll     = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
	nsInstance   = "http://www.w3.org/2001/XMLSchema-instance"

	tokenBase     = "http://schemas.microsoft.com/5.0.0.0/ConfigurationManager/Enrollment/"
	tokenDevice   = tokenBase + "DeviceEnrollmentToken"
	tokenUser     = tokenBase + "DeviceEnrollmentUserToken"
	tokenDocument = tokenBase + "DeviceEnrollmentProvisionDoc"
)

// Actions: of the request, and of the answer to it.
const (
	actionDiscover   = nsDiscover + "/IDiscoveryService/Discover"
	actionDiscovered = actionDiscover + "Response"
	actionPolicies   = nsPolicy + "/IPolicy/GetPolicies"
	actionPolicy     = actionPolicies + "Response"
	actionRequest    = nsEnroll + "/RST/wstep"
	actionAnswer     = nsEnroll + "/RSTRC/wstep"
)

const typeSOAP = "application/soap+xml"

// call is one exchange of the enrolment protocol.
type call struct {
	action, answer string // a:Action of request and answer
	to             string
	security, body string // XML
	space, name    string // what the body of the answer must be
}

// do sends a call and returns the element in the body of the answer. A fault is a *Fault.
func (d *Device) do(ctx context.Context, client *http.Client, c call) (*element, error) {
	id, err := d.guid()
	if err != nil {
		return nil, err
	}
	id = "urn:uuid:" + strings.ToLower(id)
	resp, err := d.post(ctx, client, c.to, typeSOAP+"; charset=utf-8", c.envelope(id), http.Header{"User-Agent": {userAgentEnroll}})
	if err != nil {
		return nil, err
	}
	if resp.status/100 == 3 && c.action == actionDiscover {
		return nil, c.moved(resp)
	}
	return c.read(resp, id)
}

func (c call) moved(resp *answer) error {
	from, err := url.Parse(c.to)
	if err != nil {
		return err
	}
	to, err := resp.location(from)
	if err != nil {
		return err
	}
	return &movedError{to}
}

func (c call) envelope(id string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `<s:Envelope xmlns:s="%s" xmlns:a="%s" xmlns:u="%s" xmlns:wsse="%s" xmlns:wst="%s" xmlns:ac="%s">`,
		nsSOAP, nsAddressing, nsUtility, nsSecext, nsTrust, nsContext)
	fmt.Fprintf(&b, `<s:Header><a:Action s:mustUnderstand="1">%s</a:Action><a:MessageID>%s</a:MessageID>`, c.action, id)
	fmt.Fprintf(&b, `<a:ReplyTo><a:Address>%s/anonymous</a:Address></a:ReplyTo><a:To s:mustUnderstand="1">%s</a:To>`, nsAddressing, escape(c.to))
	if c.security != "" {
		fmt.Fprintf(&b, `<wsse:Security s:mustUnderstand="1">%s</wsse:Security>`, c.security)
	}
	fmt.Fprintf(&b, `</s:Header><s:Body>%s</s:Body></s:Envelope>`, c.body)
	return []byte(b.String())
}

// read checks the answer. The envelope may be SOAP 1.1, in which Microsoft's samples show one of the answers.
func (c call) read(resp *answer, id string) (*element, error) {
	if kind := resp.mediaType(); kind != typeSOAP {
		if resp.status/100 != 2 {
			return nil, resp.refusal()
		}
		return nil, fmt.Errorf("the answer has the content type %q; %s is right", kind, typeSOAP)
	}
	top, err := parseXML(resp.body)
	if err != nil {
		return nil, err
	}
	if fault := readFault(top); fault != nil {
		return nil, fault
	}
	if top.name != "Envelope" || top.space != nsSOAP && top.space != nsSOAP11 {
		return nil, fmt.Errorf("the answer is <%s> of %q and no SOAP envelope", top.name, top.space)
	}
	if resp.status != http.StatusOK {
		return nil, resp.refusal()
	}
	if err := c.checkHeader(top, id); err != nil {
		return nil, err
	}
	body := top.at("Body")
	if body == nil || len(body.children) != 1 {
		return nil, errors.New("the answer's Body must hold exactly one element")
	}
	got := body.children[0]
	if got.name != c.name || strings.TrimSuffix(got.space, "/") != c.space {
		return nil, fmt.Errorf("the answer's Body holds <%s> of %q; <%s> of %q is right", got.name, got.space, c.name, c.space)
	}
	return got, nil
}

func (c call) checkHeader(top *element, id string) error {
	if action := top.at("Header", "Action"); action.value() != c.answer {
		return fmt.Errorf("the answer's Action is %q; %q is right", action.value(), c.answer)
	}
	if relates := strings.ReplaceAll(top.at("Header", "RelatesTo").value(), " ", ""); relates != id {
		return errors.New("the answer's RelatesTo does not name the MessageID of the request")
	}
	return nil
}

// Fault is the refusal of an enrolment service (windows.md section 1.9).
type Fault struct {
	Subcode   string // without prefix: Authentication
	HRESULT   uint32 // what Windows shows; 0 for a subcode that it does not know
	Reason    string
	ErrorType string // detail: DeviceCapReached
	Message   string
	TraceID   string
}

// Error gives subcode, HRESULT and reason.
func (f *Fault) Error() string {
	what := f.Subcode
	if f.ErrorType != "" {
		what += "/" + f.ErrorType
	}
	text := fmt.Sprintf("the server refuses with %s (0x%08x)", what, f.HRESULT)
	if f.Reason != "" {
		text += ": " + f.Reason
	}
	if f.Message != "" && f.Message != f.Reason {
		text += ": " + f.Message
	}
	if f.TraceID != "" {
		text += " (trace " + f.TraceID + ")"
	}
	return text
}

// readFault finds a fault, in any case of letters, since documentation and public servers write it in lower case.
func readFault(top *element) *Fault {
	found := top.fold("Body", "Fault")
	if found == nil || !strings.EqualFold(top.name, "Envelope") {
		return nil
	}
	detail := found.fold("Detail", "DeviceEnrollmentServiceError")
	f := &Fault{
		Reason: found.fold("Reason", "Text").value(), ErrorType: detail.fold("ErrorType").value(),
		Message: detail.fold("Message").value(), TraceID: detail.fold("TraceId").value(),
	}
	f.Subcode = found.fold("Code", "Subcode", "Value").value()
	if _, local, there := strings.Cut(f.Subcode, ":"); there {
		f.Subcode = local
	}
	f.HRESULT = hresult(f.Subcode)
	if code := hresult(f.ErrorType); code != 0 {
		f.HRESULT = code
	}
	return f
}

// hresult is the number of a subcode or of an ErrorType in windows.md section 1.9.
func hresult(word string) uint32 {
	switch strings.ToLower(word) {
	case "messageformat":
		return 0x80180001
	case "authentication":
		return 0x80180002
	case "authorization":
		return 0x80180003
	case "certificaterequest":
		return 0x80180004
	case "enrollmentserver":
		return 0x80180005
	case "internalservicefault":
		return 0x80180006
	case "invalidsecurity":
		return 0x80180007
	case "devicecapreached":
		return 0x80180013
	case "devicenotsupported":
		return 0x80180014
	case "notsupported":
		return 0x80180015
	case "noteligibletorenew":
		return 0x80180016
	case "inmaintenance":
		return 0x80180017
	case "userlicense":
		return 0x80180018
	case "invalidenrollmentdata":
		return 0x80180019
	}
	return 0
}
