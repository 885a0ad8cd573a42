package bench_test

import (
	"bufio"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/testdata"
)

const (
	user     = "alice@corp.test"
	patience = time.Minute
)

// house is a server with a connector, the example's profiles, and a user with three old encryption certificates.
type house struct {
	b         *testing.B
	bin, dir  string
	url       string
	ca        []byte
	server    *exec.Cmd
	connector *exec.Cmd
	client    *api.Client
	plain     *http.Client // for the metrics
	objects   []profiles.Object
	engine    string
	keys      []*rsa.PrivateKey // making keys is the device's work and not measured
	mu        sync.Mutex
	made      int
}

// open starts everything on a database.
func open(b *testing.B, bin string, on engine) *house {
	b.Helper()
	h := &house{b: b, bin: bin, dir: b.TempDir(), engine: on.name}
	for i := range 10 {
		h.keys = append(h.keys, testpki.PoolKey(b, i))
	}
	h.startServer(on.url(b))
	h.startConnector()
	objects, faults := manifest.LoadFS(testdata.FS, "examples/sales.yaml")
	if len(faults) > 0 {
		b.Fatal(faults)
	}
	h.objects = objects
	h.apply()
	for _, name := range []string{"alice-2016", "alice-2019", "alice-2024"} {
		h.importPFX(name)
	}
	return h
}

func (h *house) path(parts ...string) string {
	return filepath.Join(append([]string{h.dir}, parts...)...)
}

// start runs a program until the benchmark ends.
func (h *house) start(name string, env []string, args ...string) *exec.Cmd {
	h.b.Helper()
	log, err := os.Create(h.path(name + ".log"))
	if err != nil {
		h.b.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(h.bin, name), args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		h.b.Fatal(err)
	}
	h.b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		_ = log.Close()
		if err != nil {
			h.b.Errorf("%s: %v", name, err)
		}
	})
	return cmd
}

// run runs a program to its end.
func (h *house) run(name string, args ...string) {
	h.b.Helper()
	if out, err := exec.Command(filepath.Join(h.bin, name), args...).CombinedOutput(); err != nil {
		h.b.Fatalf("%s %s: %v\n%s", name, args[0], err, out)
	}
}

// startServer starts the server; an empty database URL means SQLite.
func (h *house) startServer(databaseURL string) {
	h.b.Helper()
	var env []string
	if databaseURL != "" {
		env = append(env, "WAXSEAL_DATABASE_URL="+databaseURL)
	}
	h.server = h.start("server", env, "--data", h.path("data"), "--listen", "127.0.0.1:0", "--organization", "Example Corp")
	h.url = waitForAddress(h.b, h.path("data", "address"))
	var err error
	if h.ca, err = os.ReadFile(h.path("data", "ca.pem")); err != nil {
		h.b.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.ca)
	h.plain = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	if h.client, err = api.Open(h.url, h.path("data", "ca.pem"), h.path("data", "admin-token")); err != nil {
		h.b.Fatal(err)
	}
}

func (h *house) startConnector() {
	h.b.Helper()
	token, err := h.client.ConnectorToken(h.b.Context())
	if err != nil {
		h.b.Fatal(err)
	}
	if err := os.WriteFile(h.path("token"), []byte(token.Token+"\n"), 0o600); err != nil {
		h.b.Fatal(err)
	}
	h.run("connector", "init", "--keyring", h.path("keyring"), "--server", h.url, "--ca", h.path("data", "ca.pem"), "--token-file", h.path("token"))
	h.connector = h.start("connector", nil, "run", "--keyring", h.path("keyring"))
}

func (h *house) apply() {
	h.b.Helper()
	if _, err := h.client.Apply(h.b.Context(), h.objects, false); err != nil {
		h.b.Fatal(err)
	}
}

func (h *house) importPFX(name string) {
	h.b.Helper()
	if err := os.CopyFS(h.path(name), testdata.FS); err != nil {
		h.b.Fatal(err)
	}
	h.run("waxctl", "--server", h.url, "--ca", h.path("data", "ca.pem"), "--token-file", h.path("data", "admin-token"), "--state-dir", h.path("admin"),
		"import", "pfx", h.path(name, "pfx", name+".pfx"), "--user", user, "--password-file", h.path(name, "pfx", name+".password"))
}

// next counts what is made.
func (h *house) next() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made++
	return h.made
}

// answered reads from the server's metrics how many answers to jobs it took.
func (h *house) answered(b *testing.B) int {
	b.Helper()
	resp, err := h.plain.Get(h.url + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	const counter = `waxseal_http_requests_total{class="2xx",method="POST",route="/connector/v1/jobs/{id}/result"} `
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), counter); ok {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			return int(n)
		}
	}
	return 0
}

func (h *house) waitForAnswers(b *testing.B, want int) {
	b.Helper()
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(patience); h.answered(b) < want; <-pause.C {
		if time.Now().After(deadline) {
			b.Fatalf("%d jobs are answered, want %d", h.answered(b), want)
		}
	}
}

// waitForAddress waits until a process has written where it listens.
func waitForAddress(b *testing.B, file string) string {
	b.Helper()
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-pause.C {
		if raw, err := os.ReadFile(file); err == nil && len(raw) > 0 {
			return strings.TrimSpace(string(raw))
		}
	}
	b.Fatalf("nothing listens after %s: %s", patience, file)
	return ""
}
