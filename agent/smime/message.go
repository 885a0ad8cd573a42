// Package smime signs, encrypts, decrypts and verifies mail messages (RFC 8551) with certificates and keys that it is
// given. Which ones to take, and whom to trust, is the caller's question (package mail).
//
// Messages are bytes as they travel: header fields, an empty line, a body. Reading is bounded in size and nesting.
// What comes out has CRLF line ends, except where it is binary, and what was signed or encrypted comes out as it was.
package smime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"slices"
	"strings"
)

// Limits of what is read.
const (
	MaxSize       = 64 << 20
	maxHeader     = 256 << 10
	maxFields     = 1000
	maxParts      = 1000
	maxLineFolded = 64 << 10
)

// ErrMessage says that the bytes are not a mail message that can be worked with.
var ErrMessage = errors.New("not a usable mail message")

// field is one header field as it stands, with its line ends.
type field struct {
	name string // lower case
	raw  []byte
}

// value is the field's content, unfolded.
func (f field) value() string {
	_, text, _ := bytes.Cut(f.raw, []byte(":"))
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r"), nil), []byte("\n"), nil)
	return strings.TrimSpace(string(text))
}

// Entity is a message or a part of one.
type Entity struct {
	fields []field
	Body   []byte
}

// Parse splits a message into header fields and body.
func Parse(message []byte) (*Entity, error) {
	if len(message) > MaxSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMessage, MaxSize)
	}
	e := &Entity{}
	rest := message
	for {
		line, after := cutLine(rest)
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			e.Body = after
			return e, e.check()
		}
		if err := e.line(line, len(message)-len(after)); err != nil {
			return nil, err
		}
		rest = after
	}
}

// line takes one line of the header.
func (e *Entity) line(line []byte, read int) error {
	if read > maxHeader || len(e.fields) >= maxFields {
		return fmt.Errorf("%w: the header is too long", ErrMessage)
	}
	if !bytes.HasSuffix(line, []byte("\n")) {
		line = append(bytes.Clone(line), "\r\n"...) // a message that ends within its header
	}
	if line[0] == ' ' || line[0] == '\t' {
		if len(e.fields) == 0 {
			return fmt.Errorf("%w: it begins with a continuation line", ErrMessage)
		}
		last := &e.fields[len(e.fields)-1]
		if len(last.raw)+len(line) > maxLineFolded {
			return fmt.Errorf("%w: a header field is too long", ErrMessage)
		}
		last.raw = append(bytes.Clone(last.raw), line...)
		return nil
	}
	name, _, found := bytes.Cut(line, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	if !found || len(name) == 0 || bytes.ContainsAny(name, " \t") {
		if len(e.fields) == 0 && bytes.HasPrefix(line, []byte("From ")) {
			return nil // the envelope line of a mailbox file
		}
		return fmt.Errorf("%w: a header line has no field name", ErrMessage)
	}
	e.fields = append(e.fields, field{name: strings.ToLower(string(name)), raw: line})
	return nil
}

// check refuses what a reader and a verifier could understand differently.
func (e *Entity) check() error {
	for _, name := range []string{"content-type", "content-transfer-encoding", "from", "sender"} {
		n := 0
		for _, f := range e.fields {
			if f.name == name {
				n++
			}
		}
		if n > 1 {
			return fmt.Errorf("%w: it has %d %s fields", ErrMessage, n, name)
		}
	}
	return nil
}

func cutLine(in []byte) (line, rest []byte) {
	if at := bytes.IndexByte(in, '\n'); at >= 0 {
		return in[:at+1], in[at+1:]
	}
	return in, nil
}

// Get is the content of a header field, empty if there is none.
func (e *Entity) Get(name string) string {
	for _, f := range e.fields {
		if f.name == strings.ToLower(name) {
			return f.value()
		}
	}
	return ""
}

// Addresses are the mail addresses of a field such as From or To.
func (e *Entity) Addresses(name string) ([]string, error) {
	text := e.Get(name)
	if text == "" {
		return nil, nil
	}
	// Names may be in any charset; only the addresses count.
	asItIs := func(_ string, name io.Reader) (io.Reader, error) { return name, nil }
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: asItIs}}
	list, err := parser.ParseList(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the field %s holds no mail addresses", ErrMessage, name)
	}
	out := make([]string, 0, len(list))
	for _, address := range list {
		out = append(out, address.Address)
	}
	return out, nil
}

// mediaType is the content type and its parameters; text/plain if none is given (RFC 2045 section 5.2).
func (e *Entity) mediaType() (string, map[string]string, error) {
	text := e.Get("Content-Type")
	if text == "" {
		return "text/plain", nil, nil
	}
	kind, parameters, err := mime.ParseMediaType(text)
	if err != nil {
		return "", nil, fmt.Errorf("%w: malformed Content-Type", ErrMessage)
	}
	return kind, parameters, nil
}

// isContent reports whether a field belongs to the content and goes inside a cryptographic layer.
func isContent(f field) bool { return strings.HasPrefix(f.name, "content-") }

// outer are the fields that stay outside, but for those that the content has itself.
func (e *Entity) outer(content *Entity) []byte {
	var out []byte
	for _, f := range e.fields {
		if !isContent(f) && f.name != "mime-version" && !content.hasField(f.name) {
			out = append(out, f.raw...)
		}
	}
	return canonical(out)
}

// inner is the content as an entity of its own, with CRLF line ends where it has lines.
func (e *Entity) inner() []byte {
	var out []byte
	for _, f := range e.fields {
		if isContent(f) {
			out = append(out, f.raw...)
		}
	}
	if len(out) == 0 {
		out = []byte("Content-Type: text/plain; charset=us-ascii\r\n")
	}
	out = append(out, "\r\n"...)
	return append(canonical(out), e.canonicalBody()...)
}

// encoding is the transfer encoding, in lower case; 7bit if none is given (RFC 2045 section 6.1).
func (e *Entity) encoding() string {
	if encoding := strings.ToLower(e.Get("Content-Transfer-Encoding")); encoding != "" {
		return encoding
	}
	return "7bit"
}

// canonicalBody is the body with CRLF line ends. A binary one has no lines, and each octet counts (RFC 8551 section 3.1.1).
func (e *Entity) canonicalBody() []byte {
	if e.encoding() == "binary" {
		return e.Body
	}
	return canonical(e.Body)
}

func (e *Entity) hasField(name string) bool {
	return slices.ContainsFunc(e.fields, func(f field) bool { return f.name == name })
}

// with puts content under the outer fields. What was signed or encrypted has the last word: its own From and other
// fields, as protected headers have them (RFC 9788), take the place of the outer ones.
func (e *Entity) with(content []byte) []byte {
	inside, err := Parse(content)
	if err != nil {
		inside = &Entity{}
	}
	out := e.outer(inside)
	if !inside.hasField("mime-version") {
		out = append(out, "MIME-Version: 1.0\r\n"...)
	}
	return append(out, content...)
}

// canonical makes every line end CRLF (RFC 8551 section 3.1.1).
func canonical(in []byte) []byte {
	out := make([]byte, 0, len(in)+len(in)/32)
	for n, b := range in {
		if b == '\n' && (n == 0 || in[n-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	return out
}
