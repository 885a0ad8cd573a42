package soap

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
)

// The bounds of an answer. A policy answer with 300 templates has about 20,000 elements and a depth of 12.
const (
	maxDepth    = 32
	maxElements = 100_000
)

// Node is an element of an answer. The methods take a nil Node for an element without anything in it.
type Node struct {
	Name  string
	attrs []xml.Attr
	text  []byte
	inner []*Node
}

// Parse reads a whole document into a tree. Document types, and with them entities, are refused.
func Parse(b []byte) (*Node, error) {
	if len(b) > ca.MaxAnswer {
		return nil, fmt.Errorf("the answer is longer than %d bytes", ca.MaxAnswer)
	}
	p := parser{decoder: xml.NewDecoder(bytes.NewReader(b))}
	for {
		token, err := p.decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil { // the library's words quote the document
			line, _ := p.decoder.InputPos()
			return nil, fmt.Errorf("the answer is not well-formed XML in UTF-8, line %d", line)
		}
		if err := p.take(token); err != nil {
			return nil, err
		}
	}
	if p.root == nil {
		return nil, errors.New("the answer has no root element")
	}
	return p.root, nil
}

type parser struct {
	decoder  *xml.Decoder
	root     *Node
	open     []*Node
	elements int
}

func (p *parser) take(token xml.Token) error {
	switch t := token.(type) {
	case xml.StartElement:
		return p.start(t)
	case xml.EndElement:
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		if len(p.open) > 0 {
			n := p.open[len(p.open)-1]
			n.text = append(n.text, t...)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return errors.New("the answer has text outside of the root element")
		}
	case xml.Directive:
		return errors.New("the answer has a document type, which is not taken")
	}
	return nil
}

func (p *parser) start(t xml.StartElement) error {
	p.elements++
	n := &Node{Name: t.Name.Local, attrs: append([]xml.Attr(nil), t.Attr...)}
	switch {
	case p.elements > maxElements:
		return fmt.Errorf("the answer has more than %d elements", maxElements)
	case len(p.open) == maxDepth:
		return fmt.Errorf("the answer is nested deeper than %d", maxDepth)
	case len(p.open) > 0:
		parent := p.open[len(p.open)-1]
		parent.inner = append(parent.inner, n)
	case p.root != nil:
		return errors.New("the answer has a second root element")
	default:
		p.root = n
	}
	p.open = append(p.open, n)
	return nil
}

// Get goes down by names, the first of each; nil if one is missing.
func (n *Node) Get(path ...string) *Node {
	for _, name := range path {
		if found := n.All(name); len(found) > 0 {
			n = found[0]
		} else {
			return nil
		}
	}
	return n
}

// All gives the children of that name.
func (n *Node) All(name string) []*Node {
	var found []*Node
	if n == nil {
		return nil
	}
	for _, child := range n.inner {
		if child.Name == name {
			found = append(found, child)
		}
	}
	return found
}

// Only gives the one child, nil if there is none or there are more.
func (n *Node) Only() *Node {
	if n == nil || len(n.inner) != 1 {
		return nil
	}
	return n.inner[0]
}

// Text is the text at the path without the white space around it; empty for a missing element.
func (n *Node) Text(path ...string) string {
	if n = n.Get(path...); n == nil {
		return ""
	}
	return strings.TrimSpace(string(n.text))
}

// Attr gives an attribute by its local name.
func (n *Node) Attr(name string) string {
	if n == nil {
		return ""
	}
	for _, a := range n.attrs {
		if a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// Bytes decodes the base64 at the path, whatever white space and padding it has.
func (n *Node) Bytes(path ...string) ([]byte, error) {
	text := strings.Join(strings.Fields(n.Text(path...)), "")
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, errors.New("the answer has a value that is no base64")
	}
	return der, nil
}
