package syncml

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// maxLocURI is more than any CSP needs.
const maxLocURI = 2048

// Escape writes a name as one segment of a LocURI: all but RFC 3986's unreserved characters become %XX, as Windows wants
// the braces of a GUID and the blanks of a provider's name (windows.md sections 3.5 and 5).
func Escape(segment string) string {
	var b strings.Builder
	for _, c := range []byte(segment) {
		if unreserved(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// unreserved follows RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// Join puts a LocURI together from parts of one; a part that is a foreign name goes through Escape first.
func Join(segments ...string) string { return strings.Join(segments, "/") }

// CheckLocURI refuses what Windows refuses (windows.md section 2.4): a slash at the start, "." after the start, and segments
// that are empty or just "*".
func CheckLocURI(uri string) error {
	switch {
	case uri == "":
		return errors.New("the LocURI is empty")
	case len(uri) > maxLocURI:
		return fmt.Errorf("the LocURI is longer than %d characters", maxLocURI)
	case strings.HasPrefix(uri, "/"):
		return errors.New("the LocURI must not start with /; it starts with . or a name")
	}
	for i, s := range strings.Split(uri, "/") {
		switch name := unescape(s); {
		case name == "":
			return errors.New("the LocURI has an empty segment")
		case name == "." && i > 0:
			return errors.New("the LocURI has . as a segment after the start")
		case name == "*":
			return errors.New("the LocURI has a segment that is just *")
		}
	}
	return nil
}

// Children are the names that a Get of an interior node brought: joined by "/", each escaped (windows.md section 2.4).
func Children(data string) []string {
	var names []string
	for _, s := range strings.Split(strings.TrimSpace(data), "/") {
		if s != "" {
			names = append(names, unescape(s))
		}
	}
	return names
}

// EqualLocURI says whether two LocURIs name one node: Windows ignores case (windows.md section 3), and escapes of a letter
// are the letter.
func EqualLocURI(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	if len(as) != len(bs) {
		return false
	}
	for i := range as {
		if !strings.EqualFold(unescape(as[i]), unescape(bs[i])) {
			return false
		}
	}
	return true
}

// unescape leaves a segment with a broken escape as it is.
func unescape(segment string) string {
	if name, err := url.PathUnescape(segment); err == nil {
		return name
	}
	return segment
}
