package journeys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// platform is what differs between platforms in how a device comes in and how it loses something. All else is the
// same words of the same programs; a further platform adds a line to platforms and passes every script of the folder
// conformance.
type platform struct {
	name  string
	flags []string // of waxseal-agent enroll
	join  func(ts *testscript.TestScript, p platform, neg bool, args []string)
	lose  func(ts *testscript.TestScript, state string)
}

func platforms() []platform {
	return []platform{
		{"ios", []string{"--os-version", "18.1"}, joinByLink, loseProfile},
		{"macos", []string{"--os-version", "15.1"}, joinByLink, loseKey},
		{"windows", []string{"--os-version", "10.0.22631"}, joinBySecret, loseKey},
		{"android", []string{"--os-version", "15"}, joinByLink, loseKey},
	}
}

// TestConformance plays every script of the folder conformance on every platform.
func TestConformance(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("conformance", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, p := range platforms() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			play(t, testscript.Params{Dir: "conformance", Setup: func(env *testscript.Env) error {
				env.Values[platformKey{}] = p
				env.Setenv("PLATFORM", p.name)
				return nil
			}}, nil)
		})
	}
}

type platformKey struct{}

func platformOf(ts *testscript.TestScript) platform {
	p, ok := ts.Value(platformKey{}).(platform)
	if !ok {
		ts.Fatalf("this word belongs to the scripts of the folder conformance")
	}
	return p
}

// join STATE USER [FLAG…] enrols a device of the platform.
func join(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "join STATE USER [FLAG…]")
	p := platformOf(ts)
	p.join(ts, p, neg, args)
}

func joinByLink(ts *testscript.TestScript, p platform, neg bool, args []string) {
	ts.Check(ts.Exec("waxctl", "enroll", "link", "--user", args[1], "--platform", p.name))
	link := strings.TrimSpace(ts.ReadFile("stdout"))
	ts.Setenv("LINK", link)
	flags := append([]string{"enroll", link, "--platform", p.name, "--state", args[0], "--ca", ts.Getenv("WAXCTL_CA")}, p.flags...)
	outcome(ts, neg, ts.Exec("waxseal-agent", append(flags, args[2:]...)...))
}

func joinBySecret(ts *testscript.TestScript, p platform, neg bool, args []string) {
	enrolPC(ts, neg, append([]string{args[0], args[1]}, append(p.flags, args[2:]...)...))
}

// lose STATE lets keys of the history vanish from the device.
func lose(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "lose STATE")
	before := encryptionKeys(ts, args[0])
	platformOf(ts).lose(ts, args[0])
	if after := encryptionKeys(ts, args[0]); after >= before {
		ts.Fatalf("%s had %d keys and has %d", args[0], before, after)
	}
}

func encryptionKeys(ts *testscript.TestScript, state string) int {
	ts.Check(ts.Exec("waxseal-agent", "keychain", "list", "--json", "--state", state))
	n := 0
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if strings.Contains(line, "Old Corp") && strings.Contains(line, `"hasPrivateKey":true`) {
			n++
		}
	}
	return n
}

// loseProfile removes the profile with the history. A user cannot do that, so the device is told to let it happen.
func loseProfile(ts *testscript.TestScript, state string) {
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(state), "chaos"), []byte("removable"), 0o600))
	ts.Check(ts.Exec("waxseal-agent", "profiles", "list", "--state", state))
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if identifier, _, _ := strings.Cut(line, "\t"); strings.HasSuffix(identifier, ".history") {
			ts.Check(ts.Exec("waxseal-agent", "profiles", "remove", identifier, "--state", state))
			return
		}
	}
	ts.Fatalf("%s has no profile with the history", state)
}

// loseKey deletes one key.
func loseKey(ts *testscript.TestScript, state string) {
	h := houseOf(ts)
	keys(ts, false, []string{state, "encryption", "3", "held"})
	sha, _, _ := strings.Cut(ts.ReadFile("held"), "\n")
	_, stderr, err := h.run(nil, "waxseal-agent", "keychain", "delete", sha, "--state", ts.MkAbs(state))
	if err != nil {
		ts.Fatalf("deleting %s: %v %s", sha, err, stderr)
	}
}
