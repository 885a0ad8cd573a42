// Package realca starts certification authorities that others wrote, for the tests of the adapters and of the whole.
package realca

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// patience bounds every wait; a machine under load needs it.
	patience = 90 * time.Second
	// goodbye is how long a program may take to end when it is asked to.
	goodbye = 15 * time.Second
)

// Need finds a program in PATH or where `go install` puts it. One that is missing skips the test, unless the run is strict.
func Need(t *testing.T, name string) string {
	t.Helper()
	places := []string{name}
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

// FreePort is a port of 127.0.0.1 that nobody has now.
func FreePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// output is what a program says; it is read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// end is the last of it, each line cut: step-ca writes certificates there.
func (o *output) end() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	lines := strings.Split(o.buf.String(), "\n")
	lines = lines[max(0, len(lines)-20):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 600)]
	}
	return strings.Join(lines, "\n")
}

// start runs a program until the test ends, and waits until its address answers.
func start(t *testing.T, address string, environment []string, path string, args ...string) {
	t.Helper()
	var out output
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &out, &out
	cmd.Env = append(os.Environ(), environment...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		stop(cmd.Process, ended)
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(path), out.end())
		}
	})
	if !answers(t, address, ended) {
		t.Fatalf("%s does not answer", filepath.Base(path))
	}
}

func stop(p *os.Process, ended <-chan struct{}) {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(goodbye):
		_ = p.Kill()
		<-ended
	}
}

// answers waits until an address answers. Whom it belongs to, the test looks at itself.
func answers(t *testing.T, address string, ended <-chan struct{}) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := client.Do(request); err == nil {
			_ = response.Body.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
