package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// root is the module's folder.
	root = "../.."
	// patience bounds every wait; a machine under load needs it.
	patience = 90 * time.Second
	// goodbye is how long a process may take to end when it is asked to.
	goodbye = 15 * time.Second
)

var binaries struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if binaries.dir != "" {
		_ = os.RemoveAll(binaries.dir)
	}
	os.Exit(code)
}

// programs builds the four programs once.
func programs(t testing.TB) string {
	t.Helper()
	binaries.Do(func() {
		if binaries.err = openSources(); binaries.err == nil {
			binaries.dir, binaries.err = build()
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "waxseal-interop-")
	if err != nil {
		return "", err
	}
	for _, source := range []string{"server", "connector", "agent", "waxctl"} {
		name := "waxseal-" + source
		if source == "waxctl" {
			name = source
		}
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, name), "./"+source)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
}

// openSources opens what the programs are built from: go's test cache knows what a test opens, not what `go build` reads.
func openSources() error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
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
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return f.Close()
	})
}

// need finds a program that others wrote, in PATH or where `go install` puts it. One that is missing skips the test, unless
// the run is strict.
func need(t *testing.T, name string) string {
	t.Helper()
	places := []string{name, filepath.Join("/usr/sbin", name)}
	if out, err := exec.Command("go", "env", "GOBIN", "GOPATH").Output(); err == nil {
		gobin, gopath, _ := strings.Cut(string(out), "\n")
		places = append(places, filepath.Join(gobin, name), filepath.Join(strings.TrimSpace(gopath), "bin", name))
	}
	for _, place := range places {
		if path, err := exec.LookPath(place); err == nil {
			return path
		}
	}
	if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
		t.Fatalf("%s is missing; .ci/run says where it comes from", name)
	}
	t.Skipf("%s is missing", name)
	return ""
}

// folder is a test's folder with the programs that run in it.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the real programs")
	}
	f := &folder{t: t, dir: t.TempDir()}
	if err := os.Mkdir(f.path("logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

func (f *folder) read(parts ...string) []byte {
	f.t.Helper()
	raw, err := os.ReadFile(f.path(parts...))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

// write writes a file and gives its path.
func (f *folder) write(name string, data []byte) string {
	f.t.Helper()
	path := f.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// environment has no settings of this machine's, nor of this person's.
func (f *folder) environment() []string {
	out := []string{"HOME=" + f.dir, "XDG_CONFIG_HOME=" + f.dir, "GNUPGHOME=" + f.path("gnupg")}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if name != "HOME" && name != "GNUPGHOME" && !strings.HasPrefix(name, "WAX") && !strings.HasPrefix(name, "XDG_") {
			out = append(out, v)
		}
	}
	return out
}

// start starts a program that runs until the test ends; what it prints is in logs/LABEL.log. It gives a way to ask whether
// the program has ended.
func (f *folder) start(label, program string, args ...string) (ended func() bool) {
	f.t.Helper()
	log, err := os.Create(f.path("logs", label+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the process has its own handle
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = log, log, f.environment(), f.dir
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	f.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(goodbye):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	return func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// try runs a program to its end in the folder.
func (f *folder) try(stdin []byte, program string, args ...string) (stdout, stderr []byte, ok bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = bytes.NewReader(stdin), &out, &errs, f.environment(), f.dir
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		f.t.Fatalf("%s %v: %v", program, args, err)
	}
	return out.Bytes(), errs.Bytes(), err == nil
}

// must runs a program that has to succeed, and gives what it printed.
func (f *folder) must(stdin []byte, program string, args ...string) []byte {
	f.t.Helper()
	stdout, stderr, ok := f.try(stdin, program, args...)
	if !ok {
		f.t.Fatalf("%s %s:\n%s%s\n%s", filepath.Base(program), strings.Join(args, " "), stdout, stderr, f.tail())
	}
	return stdout
}

// peer runs a program that others wrote, which has to succeed.
func (f *folder) peer(stdin []byte, name string, args ...string) []byte {
	f.t.Helper()
	return f.must(stdin, need(f.t, name), args...)
}

// with is the same folder for a subtest.
func (f *folder) with(t *testing.T) *folder { return &folder{t: t, dir: f.dir} }

// tail is the end of the logs, for a failure.
func (f *folder) tail() string {
	var b strings.Builder
	logs, _ := filepath.Glob(f.path("logs", "*.log")) // the pattern is well-formed
	for _, log := range logs {
		if raw, err := os.ReadFile(log); err == nil {
			fmt.Fprintf(&b, "--- %s\n%s\n", filepath.Base(log), raw[max(0, len(raw)-3000):])
		}
	}
	return b.String()
}

// wait polls until ready says true.
func (f *folder) wait(what string, ready func() bool) {
	f.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-deadline:
			f.t.Fatalf("%s did not happen within %s\n%s", what, patience, f.tail())
		case <-tick.C:
		}
	}
}

// freeAddress is for programs that cannot say which port they took.
func (f *folder) freeAddress() string {
	f.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it has served its purpose
	return l.Addr().String()
}

// listens tells whether somebody answers at an address.
func listens(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
