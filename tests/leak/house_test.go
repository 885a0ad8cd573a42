package leak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/testdata"
)

// patience bounds every wait; a machine under load needs it.
const patience = 90 * time.Second

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

// sources are the folders that the programs are made of.
var sources = []string{"server", "connector", "agent", "waxctl", "internal", "platforms", "profiles", "go.mod"}

// openSources opens every source, so that the cached result of this test does not outlive a change: the go command notes
// which files a test opens, but not what a program that it starts reads.
func openSources() error {
	for _, folder := range sources {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			return f.Close()
		})
		if err != nil {
			return fmt.Errorf("looking at the sources: %w", err)
		}
	}
	return nil
}

// programs builds the four programs once, as `make build` does.
func programs(t testing.TB) string {
	t.Helper()
	binaries.Do(func() {
		if binaries.err = openSources(); binaries.err != nil {
			return
		}
		if binaries.dir, binaries.err = os.MkdirTemp("", "waxseal-leak-"); binaries.err != nil {
			return
		}
		for name, source := range map[string]string{"waxseal-server": "server", "waxseal-connector": "connector", "waxseal-agent": "agent", "waxctl": "waxctl"} {
			cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(binaries.dir, name), "./"+source)
			cmd.Dir = filepath.Join("..", "..")
			if out, err := cmd.CombinedOutput(); err != nil {
				binaries.err = fmt.Errorf("building %s: %w\n%s", name, err, out)
				return
			}
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return binaries.dir
}

// house is a server behind the recorder, with connectors, devices and an admin, each a real program.
type house struct {
	t      *testing.T
	dir    string
	bin    string
	proxy  *recorder
	client *api.Client // speaks to the server directly
	pin    string      // fingerprint of the escrow root
	// passing are secrets that may pass in some places, by name.
	passing map[string]passing
	// processes are those that run, by label.
	processes map[string]int
}

func newHouse(t *testing.T) *house {
	t.Helper()
	if testing.Short() {
		t.Skip("starts the real programs")
	}
	h := &house{t: t, dir: t.TempDir(), bin: programs(t), passing: map[string]passing{}, processes: map[string]int{}}
	for _, dir := range []string{"logs", "inputs", "admin"} {
		if err := os.Mkdir(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(h.path("inputs"), testdata.FS); err != nil {
		t.Fatal(err)
	}
	h.proxy = newRecorder(t, h.dir)
	h.startServer()
	return h
}

func (h *house) path(parts ...string) string {
	return filepath.Join(append([]string{h.dir}, parts...)...)
}

func (h *house) read(parts ...string) string {
	h.t.Helper()
	raw, err := os.ReadFile(h.path(parts...))
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func (h *house) write(name, text string) string {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return h.path(name)
}

// start starts a program that runs until the test ends; what it prints is in logs/LABEL.log.
func (h *house) start(label, program string, args ...string) (stop func()) {
	h.t.Helper()
	out, err := os.Create(h.path("logs", label+".log"))
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(h.bin, program), args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = h.environment()
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	_ = out.Close()
	h.processes[label] = cmd.Process.Pid
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	h.t.Cleanup(stop)
	return stop
}

// environment has no settings of this machine's, nor of this person's.
func (h *house) environment() []string {
	out := []string{"HOME=" + h.dir, "XDG_CONFIG_HOME=" + h.dir}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "WAXSEAL_") && !strings.HasPrefix(v, "WAXCTL_") && !strings.HasPrefix(v, "HOME=") && !strings.HasPrefix(v, "XDG_") {
			out = append(out, v)
		}
	}
	return out
}

// try runs a program to its end. What it prints is kept with the logs: nothing may leak there either.
func (h *house) try(program string, args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, program), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, h.environment()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("%s %v: %v", program, args, err)
	}
	log, err := os.OpenFile(h.path("logs", program+"-calls.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	_, _ = fmt.Fprintf(log, "%s\n%s\n", out.Bytes(), errs.Bytes())
	_ = log.Close()
	return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), cmd.ProcessState.ExitCode()
}

// must runs a program that has to succeed.
func (h *house) must(program string, args ...string) string {
	h.t.Helper()
	stdout, stderr, code := h.try(program, args...)
	if code != 0 {
		h.t.Fatalf("%s %s: %s\n%s", program, strings.Join(args, " "), stderr, h.tail())
	}
	return stdout
}

// tail is the end of the logs, for a failure.
func (h *house) tail() string {
	var b strings.Builder
	for _, label := range []string{"server", "connector", "connector-2"} {
		if raw, err := os.ReadFile(h.path("logs", label+".log")); err == nil {
			fmt.Fprintf(&b, "--- %s\n%s\n", label, raw[max(0, len(raw)-4000):])
		}
	}
	return b.String()
}

func (h *house) waxctl(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.try("waxctl", append(h.connection(), args...)...)
}

func (h *house) mustWaxctl(args ...string) string {
	h.t.Helper()
	return h.must("waxctl", append(h.connection(), args...)...)
}

func (h *house) connection() []string {
	args := []string{"--server", h.proxy.URL, "--ca", h.proxy.CA, "--token-file", h.path("server", "admin-token"), "--state-dir", h.path("admin")}
	if h.pin != "" {
		args = append(args, "--escrow-root", h.pin)
	}
	return args
}

// wait polls until ready says true.
func (h *house) wait(what string, ready func() bool) {
	h.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-deadline:
			h.t.Fatalf("%s did not happen within %s\n%s", what, patience, h.tail())
		case <-tick.C:
		}
	}
}

// startServer starts the push service and the server, and lets the recorder speak to it.
func (h *house) startServer() {
	h.t.Helper()
	h.start("apns", "waxseal-agent", "apns", "--listen", "127.0.0.1:0", "--out", h.path("apns"))
	var push string
	h.wait("the start of the push service", func() bool {
		raw, _ := os.ReadFile(h.path("logs", "apns.log"))
		line, _, ok := strings.Cut(string(raw), "\n")
		push = strings.TrimSpace(line)
		return ok && strings.HasPrefix(push, "https://")
	})
	h.start("server", "waxseal-server", "--data", h.path("server"), "--listen", "127.0.0.1:0", "--public-url", h.proxy.URL,
		"--organization", "Example Corp", "--windows-message-signing", "--apns-url", push, "--apns-cert", h.path("apns", "push.pem"), "--apns-key", h.path("apns", "push.key"), "--apns-ca", h.path("apns", "ca.pem"))
	var bound string
	h.wait("the start of the server", func() bool {
		raw, err := os.ReadFile(h.path("server", "address"))
		if bound = strings.TrimSpace(string(raw)); err != nil || bound == "" {
			return false
		}
		if h.client, err = api.Open(bound, h.path("server", "ca.pem"), h.path("server", "admin-token")); err != nil {
			return false
		}
		_, err = h.client.Users(h.t.Context(), api.PageQuery{})
		return err == nil
	})
	h.proxy.forward(h.t, bound, []byte(h.read("server", "ca.pem")))
}

// register makes a keyring and registers it with the server.
func (h *house) register(keyring string, args ...string) (stdout, stderr string) {
	h.t.Helper()
	secret := h.mustWaxctl("connector", "token")
	h.passes(keyring+": connector token", secret, onRegistration)
	token := h.write(keyring+"-token", secret+"\n")
	stdout, stderr, code := h.try("waxseal-connector", append([]string{"init", "--keyring", h.path(keyring), "--server", h.proxy.URL, "--ca", h.proxy.CA,
		"--token-file", token, "--name", keyring, "--ca-key-bits", "2048"}, args...)...)
	if code != 0 {
		h.t.Fatalf("waxseal-connector init: %s\n%s", stderr, h.tail())
	}
	h.passes(keyring+": credential", h.credential(keyring), ofConnectors)
	return stdout, stderr
}

// firstConnector makes the keys and begins to work.
func (h *house) firstConnector() {
	h.t.Helper()
	h.pin, _ = h.register("connector", "--recovery-out", h.path("recovery.key"))
	h.start("connector", "waxseal-connector", "run", "--keyring", h.path("connector"))
}

// secondConnector is approved beside the first one's keyring, which seals the CA keys to it.
func (h *house) secondConnector() {
	h.t.Helper()
	_, said := h.register("connector-2", "--escrow-root", h.pin)
	_, rest, ok := strings.Cut(said, "approve --keyring DIR ")
	if !ok {
		h.t.Fatalf("init of a further connector said: %s", said)
	}
	h.must("waxseal-connector", "approve", "--keyring", h.path("connector"), strings.Fields(rest)[0])
	h.start("connector-2", "waxseal-connector", "run", "--keyring", h.path("connector-2"))
	h.wait("the CA keys' arrival at the second connector", func() bool {
		_, err := os.Stat(h.path("connector-2", "softca.key"))
		return err == nil
	})
}

func (h *house) importPFX(name, user string) (stdout, stderr string, code int) {
	h.t.Helper()
	return h.waxctl("import", "pfx", h.path("inputs", "pfx", name+".pfx"), "--user", user, "--password-file", h.path("inputs", "pfx", name+".password"))
}

// enrol enrols one of Apple's devices, Alice's, and syncs it.
func (h *house) enrol(device, platform, os, model string) {
	h.t.Helper()
	link := h.mustWaxctl("enroll", "link", "--user", "alice@corp.test", "--platform", platform)
	h.passes(device+": enrolment token", path.Base(link), byAppleLink)
	h.must("waxseal-agent", "enroll", link, "--platform", platform, "--state", h.path(device), "--ca", h.proxy.CA, "--os-version", os, "--model", model)
	h.sync(device)
}

func (h *house) sync(device string) {
	h.t.Helper()
	h.must("waxseal-agent", "sync", "--state", h.path(device), "--wait", "60s")
}
