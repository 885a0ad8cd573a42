package mde

import (
	"bytes"
	"encoding/xml"
	"strings"
)

// element is an element to be written. It has text or children.
type element struct {
	name  string
	attrs []string // name, value, name, value
	text  string
	inner []element
}

func leaf(name, text string) element { return element{name: name, text: text} }

func parent(name string, inner ...element) element { return element{name: name, inner: inner} }

// nilled says that a value is not there, where the schema wants the element all the same.
func nilled(name string) element { return leaf(name, "").with("xsi:nil", "true") }

// with adds attributes.
func (e element) with(attrs ...string) element {
	e.attrs = append(e.attrs[:len(e.attrs):len(e.attrs)], attrs...)
	return e
}

// render writes without any white space between elements: base64 and Windows' own values must have none around them.
func (e element) render() []byte {
	var out bytes.Buffer
	e.write(&out)
	return out.Bytes()
}

// write cannot fail: a bytes.Buffer takes everything, and EscapeText replaces what XML cannot say.
func (e element) write(out *bytes.Buffer) {
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

// lower gives the element with all names in lower case, namespaces untouched.
func (e element) lower() element {
	e.name = strings.ToLower(e.name)
	e.attrs, e.inner = append([]string(nil), e.attrs...), append([]element(nil), e.inner...)
	for i := 0; i < len(e.attrs); i += 2 {
		e.attrs[i] = strings.ToLower(e.attrs[i])
	}
	for i := range e.inner {
		e.inner[i] = e.inner[i].lower()
	}
	return e
}
