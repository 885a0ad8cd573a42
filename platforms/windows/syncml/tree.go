package syncml

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// MaxMessage is the size of the largest message that is read or written, in bytes. Messages to Windows should
// stay below half of it (windows.md section 2.5): whoever makes them splits batches of commands long before.
const MaxMessage = 1 << 20

const (
	maxDepth = 32
	// maxElements is what a message of MaxMessage can honestly hold: <CmdID>1</CmdID> alone has 16 bytes.
	maxElements = MaxMessage / 16
)

// SyntaxError says why bytes are not a message. It never quotes Data, which may be a secret.
type SyntaxError struct {
	// Line counts from 1.
	Line   int
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// element is one XML element by its local name: public clients and servers disagree about prefixes and namespaces.
type element struct {
	name          string
	line          int
	originalError string
	children      []*element
	text          []byte // what stands directly inside
	from          int64  // where the content begins
	raw           []byte // the content as it was sent
}

// value is the text inside, or the markup as it was sent where elements stand inside.
func (e *element) value() string {
	if e == nil {
		return ""
	}
	if len(e.children) > 0 {
		return string(e.raw)
	}
	return string(e.text)
}

type parser struct {
	message  []byte
	dec      *xml.Decoder
	open     []*element // the document itself, the root element and so on
	elements int
}

// parse reads a message into a tree whose root is SyncML.
func parse(message []byte) (*element, error) {
	message = bytes.TrimPrefix(message, []byte("\ufeff"))
	if len(message) > MaxMessage {
		return nil, &SyntaxError{1, fmt.Sprintf("the message is larger than %d KiB", MaxMessage>>10)}
	}
	if !carriable(message) {
		return nil, &SyntaxError{1, "the message is not UTF-8 text"}
	}
	document := &element{line: 1}
	p := &parser{message: message, dec: xml.NewDecoder(bytes.NewReader(message)), open: []*element{document}}
	for {
		before := p.dec.InputOffset()
		token, err := p.dec.Token()
		if err == io.EOF {
			return document.root()
		}
		if err != nil { // the library's words quote the text, which may be a secret
			return nil, p.errorf("not well-formed XML, or an unknown entity or encoding")
		}
		if err := p.take(token, before); err != nil {
			return nil, err
		}
	}
}

// root is the only element of a document.
func (e *element) root() (*element, error) {
	if len(e.children) != 1 || e.children[0].name != "SyncML" || len(bytes.TrimSpace(e.text)) > 0 {
		return nil, &SyntaxError{1, "the message must be one SyncML element and nothing else"}
	}
	return e.children[0], nil
}

func (p *parser) errorf(format string, args ...any) error {
	line, _ := p.dec.InputPos()
	return &SyntaxError{line, fmt.Sprintf(format, args...)}
}

// take adds one token, which begins at the given place, to the tree.
func (p *parser) take(token xml.Token, begins int64) error {
	top := p.open[len(p.open)-1]
	switch t := token.(type) {
	case xml.StartElement:
		return p.start(top, t)
	case xml.EndElement:
		top.raw = p.message[top.from:begins]
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		top.text = append(top.text, t...)
	case xml.Directive: // a document type is where entities would be declared
		return p.errorf("document type declarations are refused")
	}
	return nil
}

func (p *parser) start(parent *element, t xml.StartElement) error {
	if p.elements++; p.elements > maxElements {
		return p.errorf("more than %d elements", maxElements)
	}
	if len(p.open) > maxDepth {
		return p.errorf("elements are nested more than %d deep", maxDepth)
	}
	line, _ := p.dec.InputPos()
	e := &element{name: t.Name.Local, line: line, from: p.dec.InputOffset()}
	for _, a := range t.Attr {
		if a.Name.Local == "originalerror" { // under any prefix
			e.originalError = strings.TrimSpace(a.Value)
		}
	}
	parent.children = append(parent.children, e)
	p.open = append(p.open, e)
	return nil
}

// carriable says whether XML 1.0 can carry the text (Extensible Markup Language 1.0, section 2.2).
func carriable(text []byte) bool {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1, r == 0xFFFE, r == 0xFFFF:
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r':
			return false
		}
		text = text[n:]
	}
	return true
}
