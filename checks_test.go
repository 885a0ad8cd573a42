package waxseal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// checkRanges are the groups of checks and the last number of each: docs/checks.md has a row for every one.
var checkRanges = map[string]int{"PK": 11, "SC": 11, "CN": 14, "PA": 10, "DC": 4, "LC": 7}

var (
	checkID    = regexp.MustCompile(`^(PK|SC|CN|PA|DC|LC)-[0-9]{2}$`)
	checkProof = regexp.MustCompile("`([^`]+)`")
)

// check is a row of docs/checks.md.
type check struct {
	line           int
	id, must, side string
	proofs         []string
}

// checks reads the table: an id, what must hold, and the tests that prove it or why there is none.
func checks(t *testing.T) []check {
	t.Helper()
	data, err := os.ReadFile("docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	var out []check
	for i, line := range strings.Split(string(data), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "|") || !checkID.MatchString(cells[0]) {
			continue
		}
		if len(cells) != 3 {
			t.Fatalf("docs/checks.md:%d: %d cells; a row has the id, what must hold, and its tests", i+1, len(cells))
		}
		c := check{line: i + 1, id: cells[0], must: cells[1], side: cells[2]}
		for _, m := range checkProof.FindAllStringSubmatch(cells[2], -1) {
			c.proofs = append(c.proofs, m[1])
		}
		out = append(out, c)
	}
	return out
}

// TestEachCheckHasARow: no check of the known groups is forgotten, none is there twice.
func TestEachCheckHasARow(t *testing.T) {
	rows := map[string]int{}
	for _, c := range checks(t) {
		rows[c.id]++
		if c.must == "" || len(c.proofs) == 0 && !strings.HasPrefix(c.side, "not applicable: ") {
			t.Errorf("docs/checks.md:%d: %s names neither a test nor why none applies", c.line, c.id)
		}
	}
	for group, last := range checkRanges {
		for n := 1; n <= last; n++ {
			id := fmt.Sprintf("%s-%02d", group, n)
			if rows[id] != 1 {
				t.Errorf("docs/checks.md has %d rows for %s", rows[id], id)
			}
			delete(rows, id)
		}
	}
	for id := range rows {
		t.Errorf("docs/checks.md: %s is no known check", id)
	}
}

// TestEachCheckIsProved: each test that the table names exists, and says which check it is: in its name, in its comment or
// in the name of its subtest.
func TestEachCheckIsProved(t *testing.T) {
	folders := map[string]suite{}
	for _, c := range checks(t) {
		for _, proof := range c.proofs {
			folder, name, ok := cutTest(proof)
			if !ok {
				t.Errorf("docs/checks.md:%d: %q; a test is named as folder.TestName or folder.TestName/subtest", c.line, proof)
				continue
			}
			if _, known := folders[folder]; !known {
				folders[folder] = suiteOf(t, folder)
			}
			if err := folders[folder].proves(c.id, name); err != nil {
				t.Errorf("docs/checks.md:%d: %s, %s: %v", c.line, c.id, proof, err)
			}
		}
	}
}

func cutTest(proof string) (folder, name string, ok bool) {
	i := strings.Index(proof, ".Test")
	if i < 0 {
		return "", "", false
	}
	return proof[:i], proof[i+1:], true
}

// suite is what the tests of a folder say: their names with their comments, and the texts that subtests can be named by.
type suite struct {
	tests map[string]string
	texts map[string]bool
	// scripts are the testscripts, each with its text.
	scripts map[string]string
}

func (s suite) proves(id, name string) error {
	test, sub, isSub := strings.Cut(name, "/")
	comment, ok := s.tests[test]
	switch {
	case !ok:
		return fmt.Errorf("there is no test %s", test)
	case !isSub && !strings.Contains(test, strings.Replace(id, "-", "", 1)) && !strings.Contains(comment, id):
		return fmt.Errorf("%s names %s neither in its name nor in its comment", test, id)
	case !isSub:
		return nil
	}
	if script, ok := s.scripts[sub]; ok {
		if promise, _, _ := strings.Cut(script, "\n"); !strings.Contains(promise, id) {
			return fmt.Errorf("the script's first line does not name %s", id)
		}
		return nil
	}
	if !s.texts[sub] || !strings.Contains(sub, id) {
		return fmt.Errorf("no subtest %q that names %s", sub, id)
	}
	return nil
}

// suiteOf reads the tests of a folder, and the suites of ours that they run (storetest, catest).
func suiteOf(t *testing.T, folder string) suite {
	t.Helper()
	s := suite{tests: map[string]string{}, texts: map[string]bool{}, scripts: map[string]string{}}
	files, err := filepath.Glob(folder + "/*_test.go")
	if err != nil || len(files) == 0 {
		t.Errorf("%s has no tests: is a folder renamed?", folder)
	}
	for _, file := range files {
		for _, of := range s.read(t, file) {
			shared, err := filepath.Glob(of + "/*.go")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range shared {
				s.read(t, file)
			}
		}
	}
	scripts, err := filepath.Glob(folder + "/scripts/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range scripts {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.scripts[strings.TrimSuffix(path.Base(filepath.ToSlash(file)), ".txtar")] = string(data)
	}
	return s
}

// read takes in one file, and gives the folders of the suites that it imports.
func (s suite) read(t *testing.T, file string) (suites []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
			s.tests[fn.Name.Name] = fn.Doc.Text()
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				s.texts[text] = true
			}
		}
		return true
	})
	for _, i := range f.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if own, ok := strings.CutPrefix(name, module+"/"); err == nil && ok && strings.HasSuffix(own, "test") {
			suites = append(suites, own)
		}
	}
	return suites
}

// TestEachSourceIsProved: each row of the README's table "Where certificates come from" names a test, or a script, that exists.
func TestEachSourceIsProved(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(data), "## Where certificates come from\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if !strings.HasPrefix(line, "| ") || cells[0] == "source" {
			continue
		}
		rows++
		proofs := checkProof.FindAllStringSubmatch(cells[len(cells)-1], -1)
		if len(proofs) == 0 {
			t.Errorf("no test of the source %s is named", cells[0])
		}
		for _, m := range proofs {
			if err := exists(t, m[1]); err != nil {
				t.Errorf("%s: %s: %v", cells[0], m[1], err)
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d sources", rows)
	}
}

// exists looks for a test, and for the script that a subtest plays.
func exists(t *testing.T, proof string) error {
	t.Helper()
	folder, name, ok := cutTest(proof)
	if !ok {
		return fmt.Errorf("a test is named as folder.TestName")
	}
	test, sub, isSub := strings.Cut(name, "/")
	if _, ok := suiteOf(t, folder).tests[test]; !ok {
		return fmt.Errorf("there is no such test")
	}
	if scripts, err := filepath.Glob(folder + "/*/" + sub + ".txtar"); err != nil || isSub && len(scripts) == 0 {
		return fmt.Errorf("there is no script %s", sub)
	}
	return nil
}
