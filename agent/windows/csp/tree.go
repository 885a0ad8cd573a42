package csp

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// there reports whether a node was made: a default alone does not hinder an Add.
func (p *PC) there(l place) bool {
	switch {
	case l.interior():
		return p.exists(l)
	case l.row.read != nil:
		_, ok := l.row.read(p, l)
		return ok
	}
	_, ok := p.state.nodes[l.key()]
	return ok
}

// exists reports whether a Get would find the node.
func (p *PC) exists(l place) bool {
	if !l.interior() {
		_, ok := p.value(l)
		return ok
	}
	free := slices.Index(reversed(l.row.segments), "*")
	if free < 0 {
		return true
	}
	chosen := l.up(len(l.names) - free)
	name := chosen.names[len(chosen.names)-1]
	if chosen.row.names != nil && slices.ContainsFunc(chosen.row.names(p, chosen), func(n string) bool { return strings.EqualFold(n, name) }) {
		return true
	}
	return p.stored(chosen.key())
}

func reversed(segments []string) []string {
	out := slices.Clone(segments)
	slices.Reverse(out)
	return out
}

// stored reports whether anything was written to a node or below it.
func (p *PC) stored(key string) bool {
	for k := range p.state.nodes {
		if k == key || strings.HasPrefix(k, key+"/") {
			return true
		}
	}
	return false
}

// value is what a leaf holds: the known, the written or the default value.
func (p *PC) value(l place) (string, bool) {
	if l.row.read != nil {
		return l.row.read(p, l)
	}
	if n, ok := p.state.nodes[l.key()]; ok {
		return n.Value, true
	}
	return l.row.initial, l.row.initial != "" && p.exists(l.up(len(l.names)-1))
}

// text is the value, or nothing.
func (p *PC) text(l place) string {
	value, _ := p.value(l)
	return value
}

// shown is what a Get returns: the value, or the names below an interior node, URI-encoded and joined by slashes
// (windows.md section 2.4).
func (p *PC) shown(l place) string {
	if !l.interior() {
		return p.text(l)
	}
	names := p.children(l)
	for n, name := range names {
		names[n] = syncml.Escape(name)
	}
	return strings.Join(names, "/")
}

// children are the names below an interior node, in alphabetical order.
func (p *PC) children(l place) []string {
	found := map[string]string{}
	add := func(name string) {
		if key := strings.ToLower(name); found[key] == "" {
			found[key] = name
		}
	}
	for _, name := range p.known(l) {
		add(name)
	}
	prefix := l.key() + "/"
	for key, n := range p.state.nodes {
		if strings.HasPrefix(key, prefix) {
			escaped, _, _ := strings.Cut(n.Path[len(prefix):], "/")
			if name, err := url.PathUnescape(escaped); err == nil {
				add(name)
			}
		}
	}
	out := make([]string, 0, len(found))
	for _, name := range found {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return out
}

// known are the names below an interior node that the schema has and that exist.
func (p *PC) known(l place) []string {
	var out []string
	depth := len(l.names)
	for _, r := range l.csp.rows {
		if len(r.segments) <= depth || !r.covers(l.scope, l.names) {
			continue
		}
		switch next := r.segments[depth]; {
		case next != "*":
			if p.exists(l.down(next)) {
				out = append(out, next)
			}
		case r.names != nil && len(r.segments) == depth+1:
			out = append(out, r.names(p, place{scope: l.scope, csp: l.csp, row: r, names: l.names})...)
		}
	}
	return out
}

// Node is a node of the tree as `waxseal-agent tree` prints it.
type Node struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Value  string `json:"value,omitempty"`
}

// Tree lists every leaf, and every interior node that a server named. Secrets are masked.
func (p *PC) Tree() []Node {
	var out []Node
	for _, csp := range p.providers {
		for _, scope := range csp.allScopes() {
			if root, ok := csp.at(scope, nil); ok {
				out = p.walk(root, out)
			}
		}
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(strings.ToLower(a.Path), strings.ToLower(b.Path)) })
	return out
}

func (c *provider) allScopes() []string {
	switch c.scopes {
	case "":
		return []string{""}
	case "D":
		return []string{"Device"}
	}
	return []string{"Device", "User"}
}

func (p *PC) walk(l place, out []Node) []Node {
	for _, name := range p.children(l) {
		child := l.down(name)
		if child.csp == nil { // a file of another version holds nodes that this one does not know
			continue
		}
		last := child.row.segments[len(child.row.segments)-1]
		switch {
		case !child.interior():
			out = append(out, Node{Path: child.uri(), Format: child.row.format, Value: p.masked(child)})
			continue
		case last == "*":
			out = append(out, Node{Path: child.uri(), Format: formatNode})
		}
		out = p.walk(child, out)
	}
	return out
}

func (p *PC) masked(l place) string {
	if l.row.secret {
		return "********"
	}
	return p.text(l)
}

// Value reads a leaf as the PC itself does: whoever is logged on, whatever a server may see.
func (p *PC) Value(locURI string) (string, bool) {
	l, out := p.resolve(locURI)
	if out.failed() || l.interior() {
		return "", false
	}
	return p.value(l)
}

// Set writes a leaf as the PC itself does: what the provisioning document brought, what only the PC may write. It has no
// effects.
func (p *PC) Set(locURI, value string) error {
	l, out := p.resolve(locURI)
	switch {
	case out.failed() || l.interior():
		return fmt.Errorf("setting %s: there is no such value in the management tree", locURI)
	case l.row.read != nil || l.row.write != nil || l.row.exec != nil:
		return fmt.Errorf("setting %s: the PC does not store this value", locURI)
	case !l.row.takes(l.row.format, value):
		return fmt.Errorf("setting %s: the value is not a valid %s for this node", locURI, l.row.format)
	}
	p.store(l, value)
	return nil
}
