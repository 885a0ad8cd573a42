// Command waxctl is the operator's command line: it applies profiles, imports certificates (sealed before they leave the
// machine), makes enrolment links, explains devices, and plays the whole story as a demo.
//
// Commands that yield a value print exactly that on stdout; everything else goes to stderr.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/waxseal/waxseal/internal/api"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], Env{Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Rand: rand.Reader})
	stop()
	os.Exit(code)
}

// Env is what waxctl takes from its surroundings.
type Env struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Rand           io.Reader
}

// Run is the program: 0 is success, 1 a failure that was explained on Stderr.
func Run(ctx context.Context, args []string, env Env) int {
	cmd := (&program{env: env}).root()
	cmd.SetArgs(args)
	cmd.SetOut(env.Stdout)
	cmd.SetErr(env.Stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	report(env.Stderr, err)
	return 1
}

// hinted is an error with a line that says what to do.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

func withHint(err error, format string, args ...any) error {
	return &hinted{err: err, hint: fmt.Sprintf(format, args...)}
}

// errReported ends a command whose failures were printed one by one.
var errReported = errors.New("reported")

func report(w io.Writer, err error) {
	if errors.Is(err, errReported) {
		return
	}
	_, _ = fmt.Fprintf(w, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	var h *hinted
	var p *api.Problem
	switch {
	case errors.As(err, &h):
		_, _ = fmt.Fprintf(w, "hint: %s\n", h.hint)
	case errors.As(err, &p) && p.Status == 401:
		_, _ = fmt.Fprintln(w, "hint: --token-file names the server's DIR/admin-token")
	}
}
