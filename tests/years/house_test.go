package years

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// root is the module's folder.
	root = "../.."
	// patience bounds every wait for something that a process does.
	patience = 90 * time.Second
	// glance is the pause between two looks.
	glance = 100 * time.Millisecond
)

// begin is when the story begins, whatever the machine's clock says: the test data's certificates fit it.
var begin = time.Date(2026, time.December, 1, 8, 0, 0, 0, time.UTC)

// house is the company's machines: the four programs, built so that a file moves their time, and what runs of them.
type house struct {
	t         *testing.T
	bin, work string
	env       []string // what waxctl needs
	running   map[string]*process
	offset    atomic.Int64
}

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, bin: t.TempDir(), work: t.TempDir(), running: map[string]*process{}}
	sources(t)
	for name, pkg := range map[string]string{"waxseal-server": "./server", "waxseal-connector": "./connector", "waxseal-agent": "./agent", "waxctl": "./waxctl"} {
		cmd := exec.Command("go", "build", "-tags", "waxseal_testclock", "-buildvcs=false", "-o", filepath.Join(h.bin, name), pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", pkg, err, out)
		}
	}
	t.Cleanup(h.close)
	t.Log("the programs are built")
	h.moveTo(0)
	return h
}

// sources opens what the programs are built from: go's test cache knows what a test opens, not what `go build` does.
func sources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := d.Name()
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(name, ".") || slices.Contains([]string{"bin", "tests", "docs"}, name)):
			return filepath.SkipDir
		case d.IsDir() || strings.HasSuffix(name, "_test.go") || !slices.Contains([]string{".go", ".sql", ".mod", ".sum"}, filepath.Ext(name)):
			return nil
		}
		_, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) path(p ...string) string { return filepath.Join(append([]string{h.work}, p...)...) }

// moveTo puts everybody into the given day of the story; their time goes on from there.
func (h *house) moveTo(days int) {
	h.t.Helper()
	offset := time.Until(begin.AddDate(0, 0, days))
	h.offset.Store(int64(offset))
	h.write("offset.new", offset.String())
	if err := os.Rename(h.path("offset.new"), h.path("offset")); err != nil {
		h.t.Fatal(err)
	}
}

// now is the story's present.
func (h *house) now() time.Time { return time.Now().Add(time.Duration(h.offset.Load())) }

func (h *house) write(name, text string) string {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h.path(name)
}

func (h *house) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, program), args...)
	cmd.Dir = h.work
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.work, "TMPDIR=" + os.TempDir(), "WAXSEAL_TEST_CLOCK=" + h.path("offset")}, h.env...)
	return cmd
}

// start runs a program in the background; what it prints goes to NAME.log.
func (h *house) start(name, program string, args ...string) {
	h.t.Helper()
	log, err := os.OpenFile(h.path(name+".log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the process has its own handle
	cmd := h.command(context.Background(), program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	h.running[name] = p
	go func() { _ = cmd.Wait(); close(p.done) }()
}

// end asks a program to end, as an operator does, and waits for it.
func (h *house) end(name string) {
	h.t.Helper()
	p := h.running[name]
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		h.t.Fatalf("%s did not end within %s", name, patience)
	}
	delete(h.running, name)
	if !p.cmd.ProcessState.Success() {
		h.t.Errorf("%s ended with %s", name, p.cmd.ProcessState)
	}
}

// close ends everything, and shows the logs of a story that failed.
func (h *house) close() {
	for name, p := range h.running {
		_ = p.cmd.Process.Kill()
		<-p.done
		if h.t.Failed() {
			raw, _ := os.ReadFile(h.path(name + ".log"))
			h.t.Logf("the end of %s.log:\n%s", name, raw[max(0, len(raw)-3000):])
		}
	}
}

// logged waits until a background process has printed what a pattern's group matches, and gives it.
func (h *house) logged(name, pattern string) (found string) {
	h.t.Helper()
	expr := regexp.MustCompile(pattern)
	h.until(name+" says "+pattern, func() bool {
		raw, _ := os.ReadFile(h.path(name + ".log")) // it comes
		match := expr.FindSubmatch(raw)
		if match == nil {
			return false
		}
		found = string(match[1])
		return true
	})
	return found
}

// until asks again and again until the answer is yes.
func (h *house) until(what string, yes func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !yes(); time.Sleep(glance) {
		if time.Now().After(end) {
			h.t.Fatalf("it did not come to pass that %s", what)
		}
	}
}

// try runs a program to its end.
func (h *house) try(program string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("%s %v: %w\n%s", program, args, errors.Join(ctx.Err(), err), errs.String())
	}
	return out.String(), errs.String(), err
}

// do is try for what must succeed.
func (h *house) do(program string, args ...string) (stdout, stderr string) {
	h.t.Helper()
	stdout, stderr, err := h.try(program, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return stdout, stderr
}

// ask decodes what waxctl prints as JSON.
func ask[T any](h *house, args ...string) T {
	h.t.Helper()
	var out T
	stdout, _ := h.do("waxctl", append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		h.t.Fatalf("%v: %v\n%s", args, err, stdout)
	}
	return out
}
