package mde

import (
	"fmt"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// most is what a request may have. Windows' own have about 10 KiB, 60 elements and a depth of 8.
var most = xmltree.Bounds{Size: 256 << 10, Depth: 32, Elements: 2000}

// reader looks for elements that may occur once; err holds the first complaint. Which of two a device meant, nobody can
// know, and another program may take the other one.
type reader struct{ err error }

// one gives the child of that name, nil if there is none.
func (r *reader) one(n *xmltree.Node, name string) *xmltree.Node {
	found := n.All(name)
	if len(found) == 0 {
		return nil
	}
	if len(found) > 1 {
		r.fail("%s occurs more than once in %s", name, n.Name)
	}
	return found[0]
}

func (r *reader) text(n *xmltree.Node, name string) string { return r.one(n, name).Text() }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}
