// Package soap writes and reads SOAP messages for the adapters of CAs that speak it: 1.2 with WS-Addressing as Microsoft's
// services do, and 1.1 as the older ones. What is read is found by local names, bounded, and never trusted.
package soap

import (
	"bytes"
	"encoding/xml"
)

// Element is an element to be written. It has text or children.
type Element struct {
	name  string
	attrs []string // name, value, name, value
	text  string
	inner []Element
}

// Text is an element with text.
func Text(name, text string) Element { return Element{name: name, text: text} }

// Parent is an element with children.
func Parent(name string, inner ...Element) Element { return Element{name: name, inner: inner} }

// With adds attributes: name, value, name, value.
func (e Element) With(attrs ...string) Element {
	e.attrs = append(e.attrs[:len(e.attrs):len(e.attrs)], attrs...)
	return e
}

// Render writes the element without white space between the children.
func (e Element) Render() []byte {
	var out bytes.Buffer
	e.write(&out)
	return out.Bytes()
}

// write cannot fail: a bytes.Buffer takes everything, and EscapeText replaces what XML cannot say.
func (e Element) write(out *bytes.Buffer) {
	out.WriteString("<" + e.name)
	for i := 0; i+1 < len(e.attrs); i += 2 {
		out.WriteString(" " + e.attrs[i] + `="`)
		_ = xml.EscapeText(out, []byte(e.attrs[i+1]))
		out.WriteString(`"`)
	}
	if e.text == "" && len(e.inner) == 0 {
		out.WriteString("/>")
		return
	}
	out.WriteString(">")
	_ = xml.EscapeText(out, []byte(e.text))
	for _, child := range e.inner {
		child.write(out)
	}
	out.WriteString("</" + e.name + ">")
}
