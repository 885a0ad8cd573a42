package interop

import (
	"encoding/json"
	"strings"
)

// treesToJSON prints XML files as JSON, as python3's expat understands them.
const treesToJSON = `
import json, sys
import xml.etree.ElementTree as tree
def plain(e):
    return {"name": e.tag.rsplit("}", 1)[-1], "text": e.text or "", "attrs": {k.rsplit("}", 1)[-1]: v for k, v in e.attrib.items()}, "children": [plain(c) for c in e]}
json.dump([plain(tree.parse(name).getroot()) for name in sys.argv[1:]], sys.stdout)
`

// element is one of XML, without namespaces.
type element struct {
	Name, Text string
	Attrs      map[string]string
	Children   []element
}

// trees gives XML files to the programs that read them: xmllint has to take each, and python3 says what stands there.
func (f *folder) trees(names []string) (out []element) {
	f.t.Helper()
	f.peer(nil, "xmllint", append([]string{"--noout", "--nonet"}, names...)...)
	if err := json.Unmarshal(f.peer(nil, "python3", append([]string{"-c", treesToJSON}, names...)...), &out); err != nil {
		f.t.Fatal(err)
	}
	return out
}

// at follows names of children, each the first of its kind; the zero element if there is none.
func (e element) at(path ...string) element {
	for _, name := range path {
		found := e.all(name)
		if len(found) == 0 {
			return element{}
		}
		e = found[0]
	}
	return e
}

// all are the children of a name; empty means all.
func (e element) all(name string) (out []element) {
	for _, c := range e.Children {
		if name == "" || c.Name == name {
			out = append(out, c)
		}
	}
	return out
}

// find are the elements of a name at any depth.
func (e element) find(name string) (out []element) {
	for _, c := range e.Children {
		if c.Name == name {
			out = append(out, c)
		}
		out = append(out, c.find(name)...)
	}
	return out
}

func (e element) value() string { return strings.TrimSpace(e.Text) }
