package journeys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"
)

const (
	// patience bounds every wait for something that a process does.
	patience = 60 * time.Second
	// goodbye is how long a process may take to end when it is asked to.
	goodbye = 20 * time.Second
	// glance is the pause between two looks at a file, look that between two runs of a program.
	glance = 50 * time.Millisecond
	look   = 250 * time.Millisecond
)

// house is what one script has: a folder, programs that run, and stand-ins that listen.
type house struct {
	bin, work string
	database  string // PostgreSQL's URL; empty: SQLite
	// connection is what waxctl needs, as environment.
	connection []string

	mu      sync.Mutex
	running map[string]*process
	closers []io.Closer
}

type houseKey struct{}

func (h *house) logs() string            { return filepath.Join(h.work, "log") }
func (h *house) log(name string) string  { return filepath.Join(h.logs(), name+".log") }
func (h *house) path(p ...string) string { return filepath.Join(append([]string{h.work}, p...)...) }

// program is one of ours, or one of the machine's.
func (h *house) program(name string) string {
	if own := filepath.Join(h.bin, name); fileExists(own) {
		return own
	}
	return name
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// process is a program in the background.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

func (h *house) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.program(program), args...)
	cmd.Dir = h.work
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.work, "TMPDIR=" + os.TempDir()}
	cmd.Env = append(cmd.Env, h.connection...)
	return cmd
}

// start runs a program in the background; what it prints goes to log/NAME.log.
func (h *house) start(name, program string, args ...string) error {
	log, err := os.Create(h.log(name))
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own handle
	cmd := h.command(context.Background(), program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running[name] != nil {
		return fmt.Errorf("%s runs already", name)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	h.running[name] = p
	go func() { p.err = cmd.Wait(); close(p.done) }()
	return nil
}

func (h *house) take(name string) (*process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.running[name]
	if p == nil {
		return nil, fmt.Errorf("%s does not run", name)
	}
	delete(h.running, name)
	return p, nil
}

// finish asks a process to end, as an operator does; it must do so in time and without a fault.
func (h *house) finish(name string) error {
	p, err := h.take(name)
	if err != nil {
		return err
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(goodbye):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", name, goodbye)
	}
	if p.err != nil {
		return fmt.Errorf("%s ended with %w\n%s", name, p.err, h.tail(name))
	}
	return nil
}

// signal sends SIGSTOP or SIGKILL; who is killed is waited for.
func (h *house) signal(name string, s syscall.Signal) error {
	h.mu.Lock()
	p := h.running[name]
	h.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%s does not run", name)
	}
	if err := p.cmd.Process.Signal(s); err != nil || s != syscall.SIGKILL {
		return err
	}
	<-p.done
	_, err := h.take(name)
	return err
}

// ended tells whether a background process has ended.
func (h *house) ended(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.running[name]
	if p == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// close ends everything, whatever happened.
func (h *house) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.running {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	for _, c := range h.closers {
		_ = c.Close()
	}
}

func (h *house) tail(name string) []byte {
	raw, err := os.ReadFile(h.log(name))
	if err != nil {
		return nil
	}
	return raw[max(0, len(raw)-4000):]
}

// logged waits until a background process has printed what a pattern matches, and gives the match.
func (h *house) logged(name string, pattern *regexp.Regexp) (match []string, err error) {
	err = eventually(glance, func() bool {
		raw, _ := os.ReadFile(h.log(name)) // it comes
		match = pattern.FindStringSubmatch(string(raw))
		return match != nil || h.ended(name)
	})
	if err != nil || match == nil {
		return nil, fmt.Errorf("%s never said %s:\n%s", name, pattern, h.tail(name))
	}
	return match, nil
}

// eventually asks again and again until the answer is yes.
func eventually(pause time.Duration, yes func() bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it did not happen within %s", patience)
		}
	}
	return nil
}

// run runs a program to its end.
func (h *house) run(stdin []byte, program string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || (err != nil && !errors.As(err, &exit)) {
		err = fmt.Errorf("%s %v: %w", program, args, errors.Join(ctx.Err(), err))
	}
	return out.String(), errs.String(), err
}
