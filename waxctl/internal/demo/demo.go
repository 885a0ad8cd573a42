// Package demo plays the whole story of the product on one machine: the real server, connector and simulated devices, real
// PFX files and real encrypted mail. Every step is verified; a step that cannot be verified fails the demo.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/testdata"
)

// Config is what Play needs.
type Config struct {
	// Bin is the folder of the four programs.
	Bin string
	// Dir is where everything happens; it must be empty or new.
	Dir string
	Out io.Writer
	// Waxctl runs a waxctl command in this process and gives what it printed.
	Waxctl func(ctx context.Context, args ...string) (stdout, stderr string, code int)
	Clock  func() time.Time
}

// story is one run of the demo.
type story struct {
	Config
	proc   *processes
	server string
	push   string // URL of the simulated push service
	client *api.Client
	steps  []result
	keys   map[string][]keychainItem // last look at each device
}

// result is one line of the closing table.
type result struct {
	what  string
	proof string
	took  time.Duration
}

// step is one thing that the story promises; proof says how it was verified.
type step struct {
	what string
	do   func(ctx context.Context) (proof string, err error)
}

// Play runs the story. It ends every process that it started.
func Play(ctx context.Context, c Config) error {
	s := &story{Config: c, proc: &processes{bin: c.Bin, logs: filepath.Join(c.Dir, "logs")}, keys: map[string][]keychainItem{}}
	defer s.proc.stop()
	if err := s.prepare(); err != nil {
		return err
	}
	for i, st := range s.script() {
		s.say("%2d. %s", i+1, st.what)
		began := s.Clock()
		proof, err := st.do(ctx)
		if err != nil {
			return fmt.Errorf("step %d (%s): %w", i+1, st.what, err)
		}
		s.say("    %s", proof)
		s.steps = append(s.steps, result{st.what, proof, s.Clock().Sub(began)})
	}
	s.table()
	return nil
}

func (s *story) say(format string, args ...any) { _, _ = fmt.Fprintf(s.Out, format+"\n", args...) }

func (s *story) path(parts ...string) string {
	return filepath.Join(append([]string{s.Dir}, parts...)...)
}

// prepare makes the folder and lays the real inputs into it.
func (s *story) prepare() error {
	for _, name := range []string{"waxseal-server", "waxseal-connector", "waxseal-agent"} {
		if _, err := os.Stat(s.proc.program(name)); err != nil {
			return fmt.Errorf("%s is not beside waxctl in %s: run `make build`", name, s.Bin)
		}
	}
	if err := os.MkdirAll(s.proc.logs, 0o700); err != nil {
		return err
	}
	return os.CopyFS(s.path("inputs"), testdata.FS)
}

func (s *story) table() {
	width := 0
	for _, r := range s.steps {
		width = max(width, utf8.RuneCountInString(r.what))
	}
	s.say("")
	s.say("%-*s  %7s  %s", width, "WHAT WAS PROMISED", "SECONDS", "VERIFIED BY")
	for _, r := range s.steps {
		s.say("%-*s  %7.1f  %s", width, r.what, r.took.Seconds(), r.proof)
	}
	s.say("")
	s.say("all %d steps were verified.", len(s.steps))
}

// waxctl runs a command that must succeed, and gives its value.
func (s *story) waxctl(ctx context.Context, args ...string) (string, error) {
	stdout, stderr, code := s.Waxctl(ctx, append(s.connection(), args...)...)
	if code != 0 {
		return "", fmt.Errorf("waxctl %s: %s", strings.Join(args, " "), strings.TrimSpace(stderr))
	}
	return strings.TrimSpace(stdout), nil
}

func (s *story) connection() []string {
	return []string{"--server", s.server, "--ca", s.path("server", "ca.pem"), "--token-file", s.path("server", "admin-token"),
		"--state-dir", s.path("admin"), "--escrow-root", s.escrowRoot()}
}

// escrowRoot is the pin: what the connector's init printed, read from its keyring, not from the server.
func (s *story) escrowRoot() string {
	raw, err := os.ReadFile(s.path("connector", "escrow-root"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// agent runs a command of the simulated device that must succeed.
func (s *story) agent(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	out, err := s.proc.run(ctx, stdin, "waxseal-agent", args...)
	if err != nil {
		return "", err
	}
	if out.Code != 0 {
		return "", fmt.Errorf("waxseal-agent %s: %s", strings.Join(args, " "), strings.TrimSpace(out.Stderr))
	}
	return out.Stdout, nil
}

func (s *story) input(parts ...string) string {
	return s.path(append([]string{"inputs"}, parts...)...)
}

func must(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
