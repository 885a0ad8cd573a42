package xmltree

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds are the most that a document may have.
type Bounds struct {
	Size     int // bytes
	Depth    int
	Elements int
}

// Node is an element that was read. The methods take a nil Node for an element without anything in it.
type Node struct {
	Name  string // without prefix
	attrs []xml.Attr
	text  []byte // what stands directly in it
	inner []*Node
}

// Read reads a whole document into a tree. Document types, and with them entities, and processing instructions are refused, as
// SOAP wants it (SOAP 1.2 part 1, section 5). No error quotes the document, which may hold a password.
func Read(document []byte, most Bounds) (*Node, error) {
	if len(document) > most.Size {
		return nil, fmt.Errorf("larger than %d KiB", most.Size>>10)
	}
	p := parser{decoder: xml.NewDecoder(bytes.NewReader(document)), most: most}
	for {
		token, err := p.decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			line, _ := p.decoder.InputPos()
			return nil, fmt.Errorf("not well-formed XML in UTF-8, line %d", line)
		}
		if err := p.take(token); err != nil {
			return nil, err
		}
	}
	if p.root == nil {
		return nil, errors.New("no root element")
	}
	return p.root, nil
}

type parser struct {
	decoder  *xml.Decoder
	most     Bounds
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
		return p.chars(t)
	case xml.Directive:
		return errors.New("document types are not taken")
	case xml.ProcInst:
		if t.Target != "xml" || p.root != nil {
			return errors.New("processing instructions are not taken")
		}
	}
	return nil
}

func (p *parser) start(t xml.StartElement) error {
	p.elements++
	n := &Node{Name: t.Name.Local, attrs: append([]xml.Attr(nil), t.Attr...)}
	switch {
	case p.elements > p.most.Elements:
		return fmt.Errorf("more than %d elements", p.most.Elements)
	case len(p.open) == p.most.Depth:
		return fmt.Errorf("nested deeper than %d", p.most.Depth)
	case len(p.open) > 0:
		parent := p.open[len(p.open)-1]
		parent.inner = append(parent.inner, n)
	case p.root != nil:
		return errors.New("a second root element")
	default:
		p.root = n
	}
	p.open = append(p.open, n)
	return nil
}

func (p *parser) chars(text xml.CharData) error {
	if len(p.open) > 0 {
		n := p.open[len(p.open)-1]
		n.text = append(n.text, text...)
		return nil
	}
	if len(bytes.TrimSpace(text)) > 0 {
		return errors.New("text outside of the root element")
	}
	return nil
}

// Get goes down by names, the first of each; nil if one is missing.
func (n *Node) Get(path ...string) *Node {
	for _, name := range path {
		found := n.All(name)
		if len(found) == 0 {
			return nil
		}
		n = found[0]
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

// Attr gives an attribute by its local name: some programs write a prefix where others have none.
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
		return nil, errors.New("a value that is no base64")
	}
	return der, nil
}
