package acmeca

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/testpki"
)

func thumbprint(t *testing.T) string {
	t.Helper()
	sum, err := acme.JWKThumbprint(testpki.PoolKey(t, 3).Public())
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// TestFile: the file is there while the CA looks, and gone afterwards.
func TestFile(t *testing.T) {
	for name, confirmed := range map[string]bool{"confirmed": true, "not confirmed": false} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.valid = false
			o := usual(t)
			o.Webroot = t.TempDir()
			file := filepath.Join(o.Webroot, wellKnown, f.token)
			f.look = func(o *order) {
				content, err := os.ReadFile(file)
				if err != nil || string(content) != f.token+"."+thumbprint(t) {
					t.Errorf("the file has %q, %v", content, err)
				}
				o.authz, o.Status = "invalid", "invalid"
				if confirmed {
					o.authz, o.Status = "valid", "ready"
				}
			}
			_, err := f.adapter(o).Enroll(t.Context(), (&note{}).question(intent(t)))
			if confirmed && err != nil || !confirmed && (err == nil || !strings.Contains(err.Error(), "the file is missing")) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(file); !os.IsNotExist(err) {
				t.Errorf("the file stayed: %v", err)
			}
			if !slices.Equal(f.accepted, []string{"http-01"}) {
				t.Errorf("accepted %v", f.accepted)
			}
		})
	}
}

// TestCommands: what they are called with, and that a challenge is accepted after they succeeded only.
func TestCommands(t *testing.T) {
	cases := []struct {
		kind string
		set  func(o *Options)
		want []string
	}{
		{"dns-01", func(o *Options) { o.DNSCommand = []string{"/bin/dns", "--zone"} },
			[]string{"present _acme-challenge.Alice.Example@corp.test VALUE", "cleanup _acme-challenge.Alice.Example@corp.test VALUE"}},
		{"email-reply-00", func(o *Options) { o.EmailCommand = []string{"/bin/mail"} },
			[]string{"reply Alice.Example@corp.test tok-en_1 " + thumbprint(t)}},
	}
	for _, tc := range cases {
		t.Run(tc.kind, func(t *testing.T) {
			f := newFake(t)
			f.valid, f.kinds = false, []string{tc.kind}
			f.look = func(o *order) { o.authz, o.Status = "valid", "ready" }
			o := usual(t)
			tc.set(&o)
			a := f.adapter(o)
			value, err := a.newClient().DNS01ChallengeRecord(f.token)
			if err != nil {
				t.Fatal(err)
			}
			var calls []string
			a.run = func(_ context.Context, _ string, _ []string, args ...string) error {
				calls = append(calls, strings.ReplaceAll(strings.Join(args, " "), value, "VALUE"))
				return nil
			}
			mustEnroll(t, a, &note{}, intent(t))
			if !slices.Equal(calls, tc.want) {
				t.Errorf("called with %q", calls)
			}
			a.run = func(context.Context, string, []string, ...string) error { return errors.New("no such zone") }
			f.accepted = nil
			if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); err == nil || !strings.Contains(err.Error(), "no such zone") || f.accepted != nil {
				t.Errorf("the command failed: %v, accepted %v", err, f.accepted)
			}
		})
	}
}

// TestSlowConfirmation: while the CA looks, the answer is shown again and the challenge not accepted again; a mail is not
// sent twice.
func TestSlowConfirmation(t *testing.T) {
	for kind, want := range map[string]int{"dns-01": 4, "email-reply-00": 1} {
		t.Run(kind, func(t *testing.T) {
			f := newFake(t)
			f.valid, f.kinds = false, []string{kind}
			o := usual(t)
			o.DNSCommand, o.EmailCommand = []string{"/bin/dns"}, []string{"/bin/mail"}
			a := f.adapter(o)
			a.waiting = 10 * time.Millisecond
			calls := 0
			a.run = func(context.Context, string, []string, ...string) error { calls++; return nil }
			var n note
			if _, err := a.Enroll(t.Context(), n.question(intent(t))); !errors.Is(err, ca.ErrPending) {
				t.Fatalf("got %v", err)
			}
			a.waiting = time.Minute
			f.fail["authz"] = func(w http.ResponseWriter) { // the CA is done when it is asked the second time
				f.answer(w, 200, f.authz(0, f.orders[0]))
				f.orders[0].authz, f.orders[0].Status = "valid", "ready"
			}
			mustEnroll(t, a, &n, intent(t))
			if calls != want || len(f.accepted) != 1 || len(f.orders) != 1 {
				t.Errorf("called %d times, accepted %v, %d orders", calls, f.accepted, len(f.orders))
			}
		})
	}
}

func TestNoProof(t *testing.T) {
	cases := map[string]struct {
		change func(f *fake, o *Options)
		says   string
	}{
		"no means":         {func(*fake, *Options) {}, "[tls-alpn-01 http-01]"},
		"no webroot there": {func(_ *fake, o *Options) { o.Webroot = filepath.Join(t.TempDir(), "none") }, "opening webroot"},
		"a path for a token": {func(f *fake, o *Options) {
			o.Webroot, f.token = t.TempDir(), "../../etc/cron.d/x"
		}, "not base64url"},
		"deactivated": {func(f *fake, _ *Options) {
			f.fail["authz"] = body(200, `{"status":"deactivated","identifier":{"type":"email","value":"alice.example@corp.test"}}`)
		}, "is deactivated"},
		"another name": {func(f *fake, o *Options) {
			o.Webroot = t.TempDir()
			f.fail["authz"] = body(200, `{"status":"pending","identifier":{"type":"email","value":"ceo@corp.test"},"challenges":[{"type":"http-01","token":"abc"}]}`)
		}, `"ceo@corp.test" proven`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.valid = false
			o := usual(t)
			tc.change(f, &o)
			_, err := f.adapter(o).Enroll(t.Context(), (&note{}).question(intent(t)))
			var refused *ca.RefusedError
			if err == nil || errors.As(err, &refused) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %q", err, tc.says)
			}
			if len(f.accepted) != 0 {
				t.Errorf("accepted %v", f.accepted)
			}
		})
	}
}

// TestUnconfirmedAndOpen: a CA that looks at once and lets one try again says what is missing in its answer.
func TestUnconfirmedAndOpen(t *testing.T) {
	f := newFake(t)
	f.valid = false
	o := usual(t)
	o.Webroot = t.TempDir()
	f.fail["challenge"] = body(200, `{"type":"http-01","status":"pending","token":"tok-en_1","error":{"type":"urn:ietf:params:acme:error:connection","detail":"nobody answers at port 80"}}`)
	a, n := f.adapter(o), &note{}
	if _, err := a.Enroll(t.Context(), n.question(intent(t))); err == nil || errors.Is(err, ca.ErrPending) || !strings.Contains(err.Error(), "nobody answers at port 80") {
		t.Fatalf("got %v", err)
	}
	delete(f.fail, "challenge")
	f.look = func(o *order) { o.authz, o.Status = "valid", "ready" }
	mustEnroll(t, a, n, intent(t))
	if len(f.orders) != 1 {
		t.Errorf("%d orders", len(f.orders))
	}
}

func TestRunCommand(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "hook")
	text := "#!/bin/sh\n[ \"$3\" = '$(id)' ] || exit 3\n[ -z \"$SECRET\" ] || exit 4\necho out; head -c 100000 /dev/zero | tr '\\0' x >&2\nexit ${1#code}\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET", "hunter2")
	if err := runCommand(t.Context(), "dnsCommand", []string{script, "code0"}, "present", "$(id)"); err != nil {
		t.Error(err)
	}
	err := runCommand(t.Context(), "dnsCommand", []string{script, "code7"}, "present", "$(id)")
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || len(err.Error()) > 400 {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runCommand(ctx, "dnsCommand", []string{script, "code0"}, "present", "$(id)"); err == nil {
		t.Error("ran after its time")
	}
}

func FuzzToken(f *testing.F) {
	for _, seed := range []string{"tok-en_1", "", "../x", "a/b", "a\x00", "%2e%2e", "a\n", strings.Repeat("a", 300)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if isToken(text) && (filepath.Base(text) != text || text == "." || text == ".." || strings.ContainsAny(text, "\x00\n ")) {
			t.Errorf("%q", text)
		}
	})
}
