package soap

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/xmltree"
)

// Namespaces of the envelopes and of what stands in their headers.
const (
	NS11         = "http://schemas.xmlsoap.org/soap/envelope/"
	NS12         = "http://www.w3.org/2003/05/soap-envelope"
	NSAddressing = "http://www.w3.org/2005/08/addressing"
	NSSecurity   = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	NSUtility    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"
	NSInstance   = "http://www.w3.org/2001/XMLSchema-instance"
	NSContext    = "http://schemas.xmlsoap.org/ws/2006/12/authorization"
)

// Call is a message to a service. MessageID makes it one of SOAP 1.2 with WS-Addressing; without, it is one of SOAP 1.1
// with a SOAPAction.
type Call struct {
	URL, Action, MessageID string
	Header                 []xmltree.Element
	Body                   xmltree.Element
}

// Fault is a service's refusal (SOAP 1.1 section 4.4, SOAP 1.2 part 1 section 5.4).
type Fault struct {
	// Code and Subcode are without their prefixes: Receiver, Server, FailedAuthentication and so on.
	Code, Subcode string
	Reason        string
	Detail        *xmltree.Node
}

func (f *Fault) Error() string {
	return fmt.Sprintf("the CA's service refuses (%s): %s", web.Words(strings.TrimSpace(f.Code+" "+f.Subcode)), web.Words(f.Reason))
}

// Do sends the call and gives what is in the answer's Body.
func Do(ctx context.Context, client *http.Client, c Call) (*xmltree.Node, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(c.render()))
	if err != nil {
		return nil, errors.New("the CA's address does not parse")
	}
	if c.MessageID != "" {
		request.Header.Set("Content-Type", "application/soap+xml; charset=utf-8")
	} else {
		request.Header.Set("Content-Type", "text/xml; charset=utf-8")
		request.Header.Set("SOAPAction", `"`+c.Action+`"`)
	}
	answer, err := web.Do(client, request)
	if err != nil {
		return nil, err
	}
	return read(answer)
}

func (c Call) render() []byte {
	ns, header := NS11, c.Header
	if c.MessageID != "" {
		ns = NS12
		header = append([]xmltree.Element{
			xmltree.Text("a:Action", c.Action).With("s:mustUnderstand", "1"),
			xmltree.Text("a:MessageID", c.MessageID),
			xmltree.Parent("a:ReplyTo", xmltree.Text("a:Address", NSAddressing+"/anonymous")),
			xmltree.Text("a:To", c.URL).With("s:mustUnderstand", "1"),
		}, c.Header...)
	}
	envelope := xmltree.Parent("s:Envelope", xmltree.Parent("s:Header", header...), xmltree.Parent("s:Body", c.Body)).With("xmlns:s", ns)
	if c.MessageID != "" {
		envelope = envelope.With("xmlns:a", NSAddressing)
	}
	return append([]byte(`<?xml version="1.0" encoding="utf-8"?>`), envelope.Render()...)
}

// read takes faults with any status, since services send them with 500 and with 400.
func read(a web.Answer) (*xmltree.Node, error) {
	body, err := Body(a.Body)
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return nil, fault
	case a.Status != http.StatusOK:
		return nil, web.Failed(a, "")
	}
	return body, err
}

// most is what an answer may have. A policy answer with 300 templates has about 20,000 elements and a depth of 12.
var most = xmltree.Bounds{Size: ca.MaxAnswer, Depth: 32, Elements: 100_000}

// Parse reads an answer.
func Parse(document []byte) (*xmltree.Node, error) {
	n, err := xmltree.Read(document, most)
	if err != nil {
		return nil, fmt.Errorf("the CA's answer: %w", err)
	}
	return n, nil
}

// Body gives what is in an envelope's Body; a *Fault is an error.
func Body(document []byte) (*xmltree.Node, error) {
	root, err := Parse(document)
	if err != nil {
		return nil, err
	}
	body := root.Get("Body").Only()
	switch {
	case root.Name != "Envelope" || body == nil:
		return nil, errors.New("the CA's answer is no SOAP envelope with one element in its body")
	case body.Name == "Fault":
		return nil, fault(body)
	}
	return body, nil
}

func fault(n *xmltree.Node) *Fault {
	if n.Get("Code") != nil {
		return &Fault{Code: local(n.Text("Code", "Value")), Subcode: local(n.Text("Code", "Subcode", "Value")),
			Reason: n.Text("Reason", "Text"), Detail: n.Get("Detail")}
	}
	return &Fault{Code: local(n.Text("faultcode")), Reason: n.Text("faultstring"), Detail: n.Get("detail")}
}

func local(qname string) string { return qname[strings.LastIndexByte(qname, ':')+1:] }

// Certificates reads a token: one certificate, or a SignedData with a chain.
func Certificates(der []byte) ([]*x509.Certificate, error) {
	if cert, err := x509.ParseCertificate(der); err == nil {
		return []*x509.Certificate{cert}, nil
	}
	certs, err := cms.ParseCertsOnly(der)
	if err != nil || len(certs) == 0 {
		return nil, errors.New("the CA's answer has a token that is neither a certificate nor a PKCS #7 with certificates")
	}
	return certs, nil
}
