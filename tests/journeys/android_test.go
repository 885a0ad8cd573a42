package journeys

import (
	"encoding/json"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxseal/waxseal/agent/android"
)

// enrolapp STATE USER [FLAG…] makes a link, which is in LINK afterwards, and enrols a simulated Android device with the
// companion app by it.
func enrolApp(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "enrolapp STATE USER [FLAG…]")
	ts.Check(ts.Exec("waxctl", "enroll", "link", "--user", args[1], "--platform", "android"))
	link := strings.TrimSpace(ts.ReadFile("stdout"))
	ts.Setenv("LINK", link)
	flags := []string{"enroll", link, "--platform", "android", "--state", args[0], "--ca", trusted(ts)}
	outcome(ts, neg, ts.Exec("waxseal-agent", append(flags, args[2:]...)...))
}

// bearer VAR STATE puts the bearer credential of a companion app into VAR, for `fetch -header`.
func bearer(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 2, "bearer VAR STATE")
	var state struct {
		App struct{ Enrolment struct{ Credential string } }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1]+"/device.json")), &state))
	if state.App.Enrolment.Credential == "" {
		ts.Fatalf("%s has no credential: it is not enrolled", args[1])
	}
	ts.Setenv(args[0], state.App.Enrolment.Credential)
}

// occupy STATE ALIAS NAME lets the user of an Android device import a file of testdata/pfx under an alias.
func occupy(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 3, "occupy STATE ALIAS NAME")
	file := houseOf(ts).path("inputs", "pfx", args[2])
	onPhone(ts, neg, args[0], func(d *android.Device) error {
		return d.ImportPKCS12([]byte(ts.ReadFile(file+".pfx")), strings.TrimSpace(ts.ReadFile(file+".password")), args[1])
	})
}

// pick STATE PACKAGE ALIAS lets the user of an Android device pick a key for an app.
func pick(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 3, "pick STATE PACKAGE ALIAS")
	onPhone(ts, neg, args[0], func(d *android.Device) error { return d.Pick(args[1], args[2]) })
}

// onPhone does what the user of a phone can do and the command line of waxseal-agent has no word for.
func onPhone(ts *testscript.TestScript, neg bool, state string, do func(*android.Device) error) {
	d, err := android.Open(android.Config{State: ts.MkAbs(state)})
	ts.Check(err)
	defer d.Close() //nolint:errcheck // what was done is saved
	outcome(ts, neg, do(d))
}
