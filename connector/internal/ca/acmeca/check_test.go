package acmeca

import (
	"strings"
	"testing"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/internal/link"
)

func wantWrong(t *testing.T, findings []link.CAFinding, check string) {
	t.Helper()
	for _, f := range findings {
		if f.Check == check && !f.OK {
			return
		}
	}
	t.Errorf("%s is not found wrong: %+v", check, findings)
}

func TestTestFindsNothingWrong(t *testing.T) {
	f := newFake(t)
	f.meta = map[string]any{"profiles": map[string]string{"smime": "mail"}}
	o := usual(t)
	o.Profile = "smime"
	var checks []string
	for _, finding := range f.adapter(o).Test(t.Context()) {
		checks = append(checks, finding.Check)
		if !finding.OK {
			t.Errorf("%s: %s", finding.Check, finding.Detail)
		}
	}
	if got := strings.Join(checks, " "); got != "url certificate directory credentials profile identifier proof clock" {
		t.Errorf("looked at %s", got)
	}
	for _, path := range f.seen {
		if path == "finalize" || path == "cert" {
			t.Error("a test asked for a certificate")
		}
	}
	f.fail["new-order"] = problem(400, "rejectedIdentifier", "nobody there")
	for _, finding := range f.adapter(o).Test(t.Context()) {
		if !finding.OK {
			t.Errorf("a CA that knows the probe for nobody's: %+v", finding)
		}
	}
}

func TestTestFindsWhatIsWrong(t *testing.T) {
	cases := map[string]struct {
		change func(f *fake, o *Options)
		check  string
	}{
		"down":            {func(f *fake, _ *Options) { f.http.Close() }, "url"},
		"another service": {func(f *fake, _ *Options) { f.fail["directory"] = body(200, "<html>") }, "directory"},
		"no account":      {func(f *fake, _ *Options) { f.fail["account"] = problem(403, "unauthorized", "no") }, "credentials"},
		"terms":           {func(f *fake, _ *Options) { f.meta["termsOfService"] = "https://ca.corp.test/terms" }, "credentials"},
		"no such profile": {func(_ *fake, o *Options) { o.Profile = "smime" }, "profile"},
		"dns names alone": {func(f *fake, _ *Options) { f.fail["new-order"] = problem(400, "unsupportedIdentifier", "dns only") }, "identifier"},
		"asked for those": {func(_ *fake, o *Options) { o.Identifier = "dns" }, "identifier"},
		"orders are down": {func(f *fake, _ *Options) { f.fail["new-order"] = body(503, "") }, "identifier"},
		"another identity": {func(f *fake, o *Options) {
			o.Identifier = "permanent-identifier"
			f.fail["new-order"] = problem(400, "malformed", "type")
		}, "identifier"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			o := usual(t)
			tc.change(f, &o)
			wantWrong(t, f.adapter(o).Test(t.Context()), tc.check)
		})
	}
}

// FuzzProblem: whatever a CA says of an error, what reaches people is short and in one line.
func FuzzProblem(f *testing.F) {
	f.Add("urn:ietf:params:acme:error:badCSR", "no\x00 such\nname", 400, "sub")
	f.Add("urn:ietf:params:acme:error:rateLimited", "", 429, "")
	f.Add("", strings.Repeat("x", 1000), 500, "\xff")
	f.Fuzz(func(t *testing.T, kind, detail string, status int, sub string) {
		p := &acme.Error{StatusCode: status, ProblemType: kind, Detail: detail, Subproblems: []acme.Subproblem{{Detail: sub}}}
		for _, err := range []error{p, &acme.OrderError{Problem: p}, &acme.AuthorizationError{Identifier: detail, Errors: []error{p}}} {
			got := explainProblems(err).Error()
			if len(got) > 1000 || strings.ContainsAny(got, "\n\r\x00") {
				t.Errorf("%q", got)
			}
		}
	})
}
