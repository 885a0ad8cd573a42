package companion

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants are the values of the package's text constants whose name begins so, by name.
func constants(t testing.TB, file, prefix string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, prefix) || len(spec.Values) == 0 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			out[spec.Names[0].Name], _ = strconv.Unquote(lit.Value)
		}
		return true
	})
	if len(out) == 0 {
		t.Fatalf("no constants %s… in %s", prefix, file)
	}
	return out
}

func TestEachErrorCodeIsExplained(t *testing.T) {
	codes := constants(t, "errors.go", "Err")
	if len(codes) != 23 || len(faults()) != len(codes) {
		t.Errorf("%d codes, %d explained", len(codes), len(faults()))
	}
	for name, code := range codes {
		f, ok := faults()[ErrorCode(code)]
		if !ok || f.retry == "" || len(f.meaning) < 20 || isWord("code", code) != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	for code, want := range map[ErrorCode]Retry{ErrAppNotInstalled: RetryWait, ErrScreenLockRequired: RetryUser, ErrDecryptFailed: RetryRefetch,
		ErrRevisionStale: RetryReread, ErrPKCS12AlgUnsupported: RetryEncode, ErrKeychainRefused: RetryThrice, ErrNetwork: RetryBackoff,
		ErrAliasConflict: RetryNever, ErrCSRRefused: RetryNever, "newer": RetryBackoff} {
		if got := code.Retry(); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
	if got := ErrorCode(strings.Repeat("x", 500)).Meaning(); len(got) > 120 {
		t.Errorf("%q", got)
	}
	if !strings.Contains(ErrAppNotInstalled.Meaning(), "not installed") {
		t.Error(ErrAppNotInstalled.Meaning())
	}
}

func TestEachCodeOfAProblemHasAStatus(t *testing.T) {
	codes := constants(t, "problem.go", "Code")
	if len(codes) != len(statuses()) {
		t.Errorf("%d codes, %d statuses", len(codes), len(statuses()))
	}
	for name, code := range codes {
		if status := statuses()[code]; status < 400 || status > 599 || StatusOf(code) != status {
			t.Errorf("%s: %d", name, status)
		}
	}
	for code, want := range map[string]int{CodeTokenInvalid: 401, CodeCredentialInvalid: 401, CodeBlocked: 403, CodeItemGone: 404,
		CodeInstallIDTaken: 409, CodeRevisionStale: 409, CodeEnvelopeExpired: 410, CodeEnded: 410, CodeWrapKeyUnknown: 422, CodeCSRRefused: 422,
		CodeWaitingForConnector: 423, CodeProtocolTooOld: 426, "newer": 500} {
		if got := StatusOf(code); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

func TestStates(t *testing.T) {
	named := constants(t, "messages.go", "State")
	if len(named) != len(states()) {
		t.Errorf("%d states are named, %d listed", len(named), len(states()))
	}
	for _, s := range named {
		if !slices.Contains(states(), ItemState(s)) {
			t.Errorf("%s is not listed", s)
		}
	}
	var well, terminal, waiting []ItemState
	for _, s := range states() {
		if s.Well() {
			well = append(well, s)
		}
		if s.Terminal() {
			terminal = append(terminal, s)
		}
		if s.Waiting() {
			waiting = append(waiting, s)
		}
	}
	if !slices.Equal(well, []ItemState{StateInstalled, StateGranted, StateVerified, StateRemoved}) {
		t.Errorf("well: %v", well)
	}
	if !slices.Equal(terminal, append(well, StateFailed, StateSuperseded)) {
		t.Errorf("terminal: %v", terminal)
	}
	if !slices.Equal(waiting, []ItemState{StateWaitingDependency, StateWaitingUser, StateWaitingApp}) {
		t.Errorf("waiting: %v", waiting)
	}
}

func TestPaths(t *testing.T) {
	for got, want := range map[string]string{
		PathPayloadOf("identity:smime-enc-0"): "/agent/v1/items/identity:smime-enc-0/payload",
		PathStatusOf("grant:a.b:c"):           "/agent/v1/items/grant:a.b:c/status",
		PathCSROf("identity:smime-sign-0"):    "/agent/v1/items/identity:smime-sign-0/csr",
		PathStatusOf("../x?y"):                "/agent/v1/items/..%2Fx%3Fy/status",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSupported(t *testing.T) {
	if Supported(Protocol-1) || !Supported(Protocol) || !Supported(Protocol+1) {
		t.Error("an app that is newer is served, an older one is not")
	}
}
