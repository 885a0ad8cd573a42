// Package waxseal_test holds the house rules as tests: who may know whom (docs/adr/0002-walls.md), each with its reason.
package waxseal_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/waxseal/waxseal"

// pkg is what `go list -json` says of one package.
type pkg struct {
	ImportPath, Dir, Name, Doc string
	Imports, Deps              []string
	TestImports, XTestImports  []string
	GoFiles                    []string
}

func (p pkg) rel() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

func list(t *testing.T) map[string]pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all[p.rel()] = p
	}
	if len(all) < 20 {
		t.Fatalf("only %d packages: the list is not the whole house", len(all))
	}
	return all
}

func under(p string, roots ...string) bool {
	for _, r := range roots {
		if p == r || strings.HasPrefix(p, r+"/") {
			return true
		}
	}
	return false
}

// wall forbids packages under from to reach (directly, or through anything when deep) packages under to.
type wall struct {
	reason string
	from   []string
	to     []string // ours by folder, others by full import path
	except []string // of from
	deep   bool
}

var processes = []string{"server", "connector", "agent", "waxctl"}

var walls = []wall{
	{"custody: the server never reaches what opens private keys", []string{"server"},
		[]string{"connector", "internal/pfx", "software.sslmate.com/src/go-pkcs12"}, nil, true},
	{"the connector has no database and no inbound port", []string{"connector"},
		[]string{"database/sql", "modernc.org/sqlite", "github.com/jackc/pgx/v5", "github.com/gorilla/mux"}, nil, true},
	{"processes share words only", []string{"server"}, []string{"connector", "agent", "waxctl"}, nil, true},
	{"processes share words only", []string{"connector"}, []string{"server", "agent", "waxctl"}, nil, true},
	{"processes share words only", []string{"agent"}, []string{"server", "connector", "waxctl"}, nil, true},
	{"waxctl demo starts processes and imports none of them", []string{"waxctl"}, []string{"server", "connector", "agent"}, nil, true},
	{"leaves know nothing of ours", []string{"internal/cms"}, []string{module}, nil, false},
	{"profiles say what, not how; standard library only", []string{"profiles"}, []string{module}, nil, false},
	{"a platform is words: it opens no PKCS#12 and reaches no process", []string{"platforms"},
		append([]string{"internal/pfx", "internal/escrow", "internal/link", "internal/api", "net/http", "database/sql", "os"}, processes...), nil, false},
	{"sibling platforms never meet", []string{"platforms/apple"}, []string{"platforms/windows", "platforms/android"}, nil, true},
	{"sibling platforms never meet", []string{"platforms/windows"}, []string{"platforms/apple", "platforms/android"}, nil, true},
	{"sibling platforms never meet", []string{"platforms/android"}, []string{"platforms/apple", "platforms/windows"}, nil, true},
	{"Google's API is in tests only: our own small types are what we write", []string{"."}, []string{"google.golang.org/api"}, nil, false},
	{"one door to pkcs7", []string{"."}, []string{"go.mozilla.org/pkcs7"}, []string{"internal/cms"}, false},
	{"one door to go-pkcs12", []string{"."}, []string{"software.sslmate.com/src/go-pkcs12"}, []string{"internal/pfx"}, false},
	{"PKCS#12 is opened by the worker, by waxctl at import and by the simulated device (docs/adr/0002-walls.md)", []string{"."},
		[]string{"internal/pfx"}, []string{"connector/internal/worker", "waxctl", "agent", "internal/pfx"}, false},
	{"model is nouns", []string{"server/internal/model"}, []string{"server"}, nil, false},
	{"reconcile is pure", []string{"server/internal/reconcile"}, []string{"net/http", "database/sql", "os", "server/internal/store"}, nil, false},
	{"cores know no endpoint and no store", []string{"server/internal/reconcile", "server/internal/delivery", "server/internal/identity", "server/internal/issuance", "server/internal/expiry"},
		append([]string{"server/internal/store"}, endpoints...), nil, true},
	{"only main and the store's own rooms know the store", []string{"server/internal"}, []string{"server/internal/store"},
		[]string{"server/internal/store"}, false},
	{"routes are behind web", []string{"server/internal"}, []string{"github.com/gorilla/mux"}, []string{"server/internal/web", "server/internal/admin"}, false},
}

var endpoints = []string{"server/internal/applemdm", "server/internal/windowsmdm", "server/internal/androidmdm", "server/internal/scep", "server/internal/connectorapi", "server/internal/partnerca", "server/internal/admin", "server/internal/console", "server/internal/status"}

func match(importPath string, targets []string) bool {
	rel := strings.TrimPrefix(importPath, module+"/")
	for _, target := range targets {
		if target == module {
			if rel != importPath {
				return true
			}
			continue
		}
		if under(rel, target) || under(importPath, target) {
			return true
		}
	}
	return false
}

func (w wall) guards(rel string) bool {
	if under(rel, w.except...) {
		return false
	}
	return slices.Contains(w.from, ".") || under(rel, w.from...)
}

func TestWalls(t *testing.T) {
	all := list(t)
	for _, w := range walls {
		guarded := 0
		for rel, p := range all {
			if !w.guards(rel) {
				continue
			}
			guarded++
			imports := p.Imports
			if w.deep {
				imports = p.Deps
			}
			for _, i := range imports {
				if own := strings.TrimPrefix(i, module+"/"); match(i, w.to) && !(len(w.from) == 1 && under(own, w.from...)) {
					t.Errorf("%s imports %s: %s", rel, own, w.reason)
				}
			}
		}
		if guarded == 0 {
			t.Errorf("nothing stands behind the wall %q: is a folder renamed?", w.reason)
		}
	}
}

func TestEndpointsNeverImportEachOther(t *testing.T) {
	for rel, p := range list(t) {
		if !under(rel, endpoints...) {
			continue
		}
		for _, i := range p.Imports {
			if other := strings.TrimPrefix(i, module+"/"); under(other, endpoints...) && path.Dir(other+"/x") != path.Dir(rel+"/x") {
				t.Errorf("%s imports %s: endpoints meet in the cores only", rel, other)
			}
		}
	}
}

func TestTheEscrowKeyIsParsedInTheKeyringOnly(t *testing.T) {
	sources(t, func(rel string, file *ast.File) {
		if under(path.Dir(rel), "connector/internal/keyring", "internal/escrow") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "ParsePrivateKey" {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "escrow" {
					t.Errorf("%s calls escrow.ParsePrivateKey: only the keyring opens the escrow key", rel)
				}
			}
			return true
		})
	})
}

func TestHygiene(t *testing.T) {
	for rel, p := range list(t) {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("%s has no package comment: a newcomer cannot know what the room is for", rel)
		}
		if slices.Contains([]string{"utils", "util", "common", "helpers", "misc"}, p.Name) {
			t.Errorf("%s: a name that says nothing collects everything", rel)
		}
	}
	sources(t, func(rel string, file *ast.File) {
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: what starts by itself cannot be tested alone", rel)
			}
		}
	})
}

// sources calls f for every Go file that is not a test.
func sources(t *testing.T, f func(rel string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(p), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
