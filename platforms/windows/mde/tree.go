package mde

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The bounds of a request. Windows' own have about 10 KiB, 60 elements and a depth of 8.
const (
	maxSize     = 256 << 10
	maxDepth    = 32
	maxElements = 2000
)

// node is an element of a request. Its text is what stands directly in it.
type node struct {
	name  string
	attrs []xml.Attr
	text  []byte
	inner []*node
}

// parse reads a whole document into a tree. Document types, and with them entities, are refused.
func parse(b []byte) (*node, error) {
	if len(b) > maxSize {
		return nil, fmt.Errorf("larger than %d KiB", maxSize>>10)
	}
	p := parser{decoder: xml.NewDecoder(bytes.NewReader(b))}
	for {
		token, err := p.decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil { // the library's words may quote a piece of a password
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
	root     *node
	open     []*node
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
	n := &node{name: t.Name.Local, attrs: append([]xml.Attr(nil), t.Attr...)}
	switch {
	case p.elements > maxElements:
		return fmt.Errorf("more than %d elements", maxElements)
	case len(p.open) == maxDepth:
		return fmt.Errorf("nested deeper than %d", maxDepth)
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

// value is the text without the white space around it; empty for a missing element.
func (n *node) value() string {
	if n == nil {
		return ""
	}
	return strings.TrimSpace(string(n.text))
}

// attr gives an attribute by its local name: Windows writes some with a prefix that others leave out.
func (n *node) attr(name string) string {
	for _, a := range n.attrs {
		if a.Name.Local == name {
			return strings.TrimSpace(a.Value)
		}
	}
	return ""
}

// all gives the children of that name.
func (n *node) all(name string) []*node {
	var found []*node
	if n == nil {
		return nil
	}
	for _, child := range n.inner {
		if child.name == name {
			found = append(found, child)
		}
	}
	return found
}

// reader looks for elements that may occur once; err holds the first complaint. Which of two a device meant, nobody can
// know, and another program may take the other one.
type reader struct{ err error }

// one gives the child of that name, nil if there is none.
func (r *reader) one(n *node, name string) *node {
	found := n.all(name)
	if len(found) == 0 {
		return nil
	}
	if len(found) > 1 {
		r.fail("%s occurs more than once in %s", name, n.name)
	}
	return found[0]
}

func (r *reader) text(n *node, name string) string { return r.one(n, name).value() }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}
