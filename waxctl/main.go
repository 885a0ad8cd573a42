// Command waxctl is the operator's command line: it applies profiles, imports certificates (sealed before they leave the
// machine), makes enrolment links, explains devices, and plays the whole story as a demo.
//
// Commands that yield a value print exactly that on stdout; everything else goes to stderr.
package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/subcommand"
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
	subcommand.Require(cmd)
	ran, err := cmd.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	report(env.Stderr, err, ran.CommandPath())
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

func report(w io.Writer, err error, command string) {
	if errors.Is(err, errReported) {
		return
	}
	_, _ = fmt.Fprintf(w, "error: %s\n", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "\n  "))
	if hint := hintFor(err, command); hint != "" {
		_, _ = fmt.Fprintf(w, "hint: %s\n", hint)
	}
}

// hintFor says what to do about the errors that a newcomer meets.
func hintFor(err error, command string) string {
	var h *hinted
	var p *api.Problem
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &h):
		return h.hint
	case errors.As(err, &p) && p.Status == http.StatusUnauthorized:
		return "--token-file names the server's DIR/admin-token"
	case errors.As(err, &unknown):
		return "--ca names the CA of the server's certificate; the server's own one is DIR/ca.pem"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: start waxseal-server, or give the address that it wrote to DIR/address as --server"
	case isUsage(err):
		return command + " --help"
	}
	return ""
}

// isUsage tells cobra's own errors, which have no type, by how they begin.
func isUsage(err error) bool {
	for _, begin := range []string{"requires ", "accepts ", "unknown command", "no command given", "unknown flag", "unknown shorthand", "required flag", "flag needs", "invalid argument"} {
		if strings.HasPrefix(err.Error(), begin) {
			return true
		}
	}
	return false
}
