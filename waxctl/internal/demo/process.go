package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience bounds every wait for a process.
const patience = 40 * time.Second

// processes starts the real programs and ends each of them, whatever happens.
type processes struct {
	bin     string // folder of the four programs
	logs    string
	mu      sync.Mutex
	running []*exec.Cmd
}

// program is the path of one of the four programs.
func (p *processes) program(name string) string { return filepath.Join(p.bin, name) }

// start runs a program in the background until stop; its output goes to logs/LABEL.log.
func (p *processes) start(name, label string, args ...string) error {
	cmd, err := p.spawn(name, label, args...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = append(p.running, cmd)
	return nil
}

// during runs a program in the background while f works, and ends it.
func (p *processes) during(name, label string, args []string, f func() error) error {
	cmd, err := p.spawn(name, label, args...)
	if err != nil {
		return err
	}
	defer end(cmd)
	return f()
}

func (p *processes) spawn(name, label string, args ...string) (*exec.Cmd, error) {
	log, err := os.Create(filepath.Join(p.logs, label+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(p.program(name), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	return cmd, log.Close()
}

// stop asks every process to end, and makes it.
func (p *processes) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.running) - 1; i >= 0; i-- {
		end(p.running[i])
	}
	p.running = nil
}

// end asks a process to end, and makes it after five seconds.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-done
	}
}

// output is what a finished program printed.
type output struct {
	Stdout, Stderr string
	Code           int
}

// run runs a program to its end. An exit code other than 0 is no error here.
func (p *processes) run(ctx context.Context, stdin io.Reader, name string, args ...string) (output, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program(name), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	out := output{Stdout: stdout.String(), Stderr: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return out, fmt.Errorf("run %s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, nil
}

// waitFor polls until ready says true.
func waitFor(ctx context.Context, what string, ready func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not happen within %s", what, patience)
		case <-tick.C:
		}
	}
	return nil
}
