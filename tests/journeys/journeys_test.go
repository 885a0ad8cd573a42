// Package journeys plays what people do with the four real programs, as scripts: one file for each promise, whose first
// line says which. Every script has a house of its own on the loopback interface, and every process ends with it.
package journeys

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxseal/waxseal/internal/testpg"
	"github.com/waxseal/waxseal/testdata"
)

// root is the module's folder.
const root = "../.."

// onBoth are the scripts that run on PostgreSQL too: those that lean on the state most.
var onBoth = []string{"whole-path", "leave", "restart", "connector-killed", "unassign", "windows-reenrol", "windows-renewal", "windows-restart",
	"android-restart", "android-reenrol", "mac-restart", "mac-reenrol", "mac-retire", "revocation", "partner"}

var (
	database testpg.Server
	programs builder
)

func TestMain(m *testing.M) {
	// Scripts wait more than they work: a device is in sync when it was quiet for two seconds.
	_ = flag.Set("test.parallel", "6") // -parallel of the command line still wins
	code := m.Run()
	database.Stop()
	programs.remove()
	os.Exit(code)
}

// builder makes the four programs, once.
type builder struct {
	once sync.Once
	dir  string
	err  error
}

func (b *builder) folder(t *testing.T) string {
	t.Helper()
	sources(t)
	b.once.Do(b.build)
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

func (b *builder) build() {
	if b.dir, b.err = os.MkdirTemp("", "waxseal-journeys-"); b.err != nil {
		return
	}
	for name, pkg := range map[string]string{"waxseal-server": "./server", "waxseal-connector": "./connector", "waxseal-agent": "./agent", "waxctl": "./waxctl"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(b.dir, name), pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("building %s: %w\n%s", pkg, err, out)
			return
		}
	}
}

func (b *builder) remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// sources opens what the programs are built from: go's test cache knows what a test opens, not what `go build` does.
func sources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "tests" || name == "docs") {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, "_test.go") || !slices.Contains([]string{".go", ".sql", ".mod", ".sum"}, filepath.Ext(name)) {
			return nil
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnSQLite(t *testing.T) {
	play(t, testscript.Params{Dir: "scripts"}, nil)
}

func TestOnPostgreSQL(t *testing.T) {
	var files []string
	urls := map[string]string{}
	for _, name := range onBoth {
		files = append(files, filepath.Join("scripts", name+".txtar"))
		urls[name] = database.Schema(t)
	}
	play(t, testscript.Params{Files: files}, urls)
}

// play runs scripts; urls are the databases of those that do not use SQLite.
func play(t *testing.T, p testscript.Params, urls map[string]string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil && os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatal("openssl is needed: install it")
	}
	bin := programs.folder(t)
	p.Cmds = commands
	p.RequireUniqueNames = true
	more := p.Setup
	p.Setup = func(env *testscript.Env) error {
		url := urls[strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")]
		if urls != nil && url == "" {
			return fmt.Errorf("there is no database for %s", env.WorkDir)
		}
		if more != nil {
			if err := more(env); err != nil {
				return err
			}
		}
		return setup(env, bin, url)
	}
	testscript.Run(t, p)
}

// setup lays the inputs into the script's folder and gives it a house.
func setup(env *testscript.Env, bin, databaseURL string) error {
	h := &house{bin: bin, work: env.WorkDir, database: databaseURL, running: map[string]*process{}}
	env.Defer(h.close)
	env.Values[houseKey{}] = h
	env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("WAXCTL_STATE_DIR", filepath.Join(env.WorkDir, "admin"))
	env.Setenv("IN", filepath.Join(env.WorkDir, "inputs"))
	if err := os.MkdirAll(h.logs(), 0o700); err != nil {
		return err
	}
	return os.CopyFS(filepath.Join(env.WorkDir, "inputs"), testdata.FS)
}
