// Package xmltree writes XML as it is told: names with their prefixes as they stand, no white space of its own, and text
// that cannot break out. Windows, and services of Microsoft's age, want documents byte by byte like that.
package xmltree

import (
	"bytes"
	"encoding/xml"
	"strings"
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

// Add gives the element with further children.
func (e Element) Add(inner ...Element) Element {
	e.inner = append(e.inner[:len(e.inner):len(e.inner)], inner...)
	return e
}

// Render writes the element without white space between the children: base64 and Windows' own values must have none around
// them.
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

// Lower gives the element with all names in lower case, namespaces untouched.
func (e Element) Lower() Element {
	e.name = strings.ToLower(e.name)
	e.attrs, e.inner = append([]string(nil), e.attrs...), append([]Element(nil), e.inner...)
	for i := 0; i < len(e.attrs); i += 2 {
		e.attrs[i] = strings.ToLower(e.attrs[i])
	}
	for i := range e.inner {
		e.inner[i] = e.inner[i].Lower()
	}
	return e
}
