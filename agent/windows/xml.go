package windows

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of the XML that a server may send at enrolment.
const (
	maxXMLDepth    = 32
	maxXMLElements = 5000
)

// element is one XML element. Elements are told apart by local name, as public servers and samples disagree on
// prefixes, and on the envelope's namespace (windows.md section 1.1).
type element struct {
	space, name string
	attrs       map[string]string // by local name
	text        string
	children    []*element
}

// reading is a document half read.
type reading struct {
	root  *element
	open  []*element
	count int
}

// parseXML reads a document: no DTD, no entities but the five, no prefix that is not declared, bounded in depth and
// number of elements.
func parseXML(raw []byte) (*element, error) {
	dec := xml.NewDecoder(bytes.NewReader(raw))
	r := &reading{}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) && r.root != nil {
			return r.root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the answer is not well-formed XML: %w", withoutText(err))
		}
		if err := r.take(token); err != nil {
			return nil, err
		}
	}
}

func (r *reading) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.Directive:
		return errors.New("the answer has a DTD, which no message of the protocol has")
	case xml.StartElement:
		return r.start(t)
	case xml.EndElement:
		r.open = r.open[:len(r.open)-1]
	case xml.CharData:
		if len(r.open) > 0 {
			r.open[len(r.open)-1].text += string(t)
		}
	}
	return nil
}

func (r *reading) start(t xml.StartElement) error {
	if r.count++; r.count > maxXMLElements || len(r.open) == maxXMLDepth {
		return fmt.Errorf("the answer has more than %d elements or is nested deeper than %d", maxXMLElements, maxXMLDepth)
	}
	e, err := newElement(t)
	if err != nil {
		return err
	}
	switch {
	case len(r.open) > 0:
		parent := r.open[len(r.open)-1]
		parent.children = append(parent.children, e)
	case r.root != nil:
		return errors.New("the answer has more than one root element")
	default:
		r.root = e
	}
	r.open = append(r.open, e)
	return nil
}

// withoutText keeps what was read out of an error: it may be a secret.
func withoutText(err error) error {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("line %d", syntax.Line)
	}
	return err
}

func newElement(t xml.StartElement) (*element, error) {
	e := &element{space: t.Name.Space, name: t.Name.Local, attrs: make(map[string]string, len(t.Attr))}
	if !declared(e.space) {
		return nil, fmt.Errorf("the answer uses the prefix of <%s:%s> without declaring it", e.space, e.name)
	}
	for _, a := range t.Attr {
		if a.Name.Space == "xmlns" || a.Name.Local == "xmlns" {
			continue
		}
		if a.Name.Space != "xml" && !declared(a.Name.Space) {
			return nil, fmt.Errorf("the answer uses the prefix of the attribute %s:%s without declaring it", a.Name.Space, a.Name.Local)
		}
		e.attrs[a.Name.Local] = a.Value
	}
	return e, nil
}

// declared tells the namespaces of the protocol, which all are URIs, from a prefix that the decoder found no namespace
// for.
func declared(space string) bool { return space == "" || strings.ContainsAny(space, ":/") }

// value is the text of an element without surrounding whitespace.
func (e *element) value() string {
	if e == nil {
		return ""
	}
	return strings.TrimSpace(e.text)
}

// at follows a path of local names, nil if it leads nowhere.
func (e *element) at(path ...string) *element {
	for _, name := range path {
		e = e.first(func(c *element) bool { return c.name == name })
	}
	return e
}

// fold is at without regard to case: documentation prints the elements of faults in lower case (windows.md section 1.9).
func (e *element) fold(path ...string) *element {
	for _, name := range path {
		e = e.first(func(c *element) bool { return strings.EqualFold(c.name, name) })
	}
	return e
}

// all are the children; none of an element that is not there.
func (e *element) all() []*element {
	if e == nil {
		return nil
	}
	return e.children
}

func (e *element) first(fits func(*element) bool) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if fits(c) {
			return c
		}
	}
	return nil
}

// escape makes a text fit for XML, in elements and in attributes.
func escape(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) //nolint:errcheck // a Builder takes everything
	return out.String()
}
