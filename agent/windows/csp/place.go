package csp

import (
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// maxSegments is more than any CSP is deep.
const maxSegments = 32

// place is a LocURI that the schema knows.
type place struct {
	scope string // "User", "Device"; empty for the trees that have none
	csp   *provider
	row   row
	names []string // below the provider's root; the schema's spelling where the schema has a name
}

// split reads a LocURI into names.
func split(uri string) ([]string, outcome) {
	if strings.Contains(uri, "?") {
		return nil, fail(syncml.StatusUnsupportedFeature, errPropertyNotSupported)
	}
	parts := strings.Split(strings.TrimPrefix(uri, "./"), "/")
	if syncml.CheckLocURI(uri) != nil || uri == "." || len(parts) > maxSegments {
		return nil, fail(syncml.StatusBadRequest, errForbiddenSegment)
	}
	for n, part := range parts {
		name, err := url.PathUnescape(part)
		if err != nil {
			return nil, fail(syncml.StatusBadRequest, errForbiddenSegment)
		}
		parts[n] = name
	}
	return parts, outcome{}
}

// resolve finds the place that a LocURI names.
func (p *PC) resolve(uri string) (place, outcome) {
	names, out := split(uri)
	if out.failed() {
		return place{}, out
	}
	scope := ""
	if s := names[0]; strings.EqualFold(s, "User") || strings.EqualFold(s, "Device") {
		scope, names = strings.ToUpper(s[:1])+strings.ToLower(s[1:]), names[1:]
	}
	for _, csp := range p.providers {
		scope, below, ok := csp.claims(scope, names)
		if !ok {
			continue
		}
		if l, ok := csp.at(scope, below); ok && (csp.guard == nil || csp.guard(p, l)) {
			return l, outcome{}
		}
	}
	return place{}, fail(syncml.StatusNotFound, errNodeNotFound)
}

// claims reports whether a path is under the provider's root. A path without scope is the device's.
func (c *provider) claims(scope string, names []string) (string, []string, bool) {
	if !hasPrefix(names, c.root) {
		return "", nil, false
	}
	if scope == "" && c.scopes != "" {
		scope = "Device"
	}
	ok := c.scopes == scope || c.scopes != "" && scope != "" && strings.Contains(c.scopes, scope[:1])
	return scope, names[len(c.root):], ok
}

func hasPrefix(names, prefix []string) bool {
	if len(names) < len(prefix) {
		return false
	}
	for n, name := range prefix {
		if !strings.EqualFold(names[n], name) {
			return false
		}
	}
	return true
}

// at finds the row of the names below the provider's root; one with fewer free names wins.
func (c *provider) at(scope string, names []string) (place, bool) {
	best, stars := -1, 0
	for n, r := range c.rows {
		if !r.covers(scope, names) {
			continue
		}
		free := countStars(r.segments[:len(names)])
		exact := len(r.segments) == len(names)
		if best < 0 || free < stars || free == stars && exact && len(c.rows[best].segments) > len(names) {
			best, stars = n, free
		}
	}
	if best < 0 {
		return place{}, false
	}
	r := c.rows[best]
	if len(r.segments) > len(names) { // an interior node that has no row of its own
		r = row{access: "G", format: formatNode, segments: r.segments[:len(names)]}
	}
	return place{scope: scope, csp: c, row: r, names: r.spell(names)}, true
}

func countStars(segments []string) int {
	n := 0
	for _, s := range segments {
		if s == "*" {
			n++
		}
	}
	return n
}

// uri is the canonical LocURI.
func (l place) uri() string {
	var b strings.Builder
	b.WriteString(".")
	if l.scope != "" {
		b.WriteString("/" + l.scope)
	}
	for _, name := range l.csp.root {
		b.WriteString("/" + name)
	}
	for _, name := range l.names {
		b.WriteString("/" + syncml.Escape(name))
	}
	return b.String()
}

// key is how the place is found again: names are case-insensitive. Escaped names are ASCII, so that both have one length.
func (l place) key() string { return strings.ToLower(l.uri()) }

// up is the ancestor with so many names.
func (l place) up(names int) place {
	out, _ := l.csp.at(l.scope, l.names[:names])
	return out
}

// down is a node below.
func (l place) down(names ...string) place {
	out, _ := l.csp.at(l.scope, append(append([]string(nil), l.names...), names...))
	return out
}

// allows reports whether the place takes a command: one of the letters A, D, G, R, X.
func (l place) allows(letter string) bool { return strings.Contains(l.row.access, letter) }

func (l place) interior() bool { return l.row.format == formatNode }
