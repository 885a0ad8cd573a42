package journeys

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// commands are the words of the scripts, beside testscript's own. The programs themselves are run by `exec`.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server":    startServer,
	"connector": startConnector,
	"house":     startHouse,
	"start":     start,
	"end":       end,
	"crash":     crash,
	"try":       try,
	"freeze":    freeze,
	"apns":      startAPNs,
	"import":    importPFX,
	"enrol":     enrol,
	"enrolpc":   enrolPC,
	"enrolapp":  enrolApp,
	"enrolmac":  enrolMac,
	"prefers":   prefers,
	"bearer":    bearer,
	"occupy":    occupy,
	"pick":      pick,
	"identity":  writeIdentity,
	"stranger":  writeStranger,
	"sync":      syncDevice,
	"device":    nameDevice,
	"keys":      keys,
	"opens":     opens,
	"explains":  explains,
	"until":     until,
	"capture":   capture,
	"freeport":  freePort,
	"fetch":     fetch,
	"proxy":     startProxy,
	"edit":      edit,
	"join":      join,
	"lose":      lose,
	"partner":   startPartner,
	"revokes":   partnerRevokes,
}

func houseOf(ts *testscript.TestScript) *house { return ts.Value(houseKey{}).(*house) }

// need ends the script when a command is written wrongly.
func need(ts *testscript.TestScript, ok bool, usage string) {
	if !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func positive(ts *testscript.TestScript, neg bool) {
	if neg {
		ts.Fatalf("this command cannot be negated")
	}
}

// outcome checks that a program ended as the script says.
func outcome(ts *testscript.TestScript, neg bool, err error) {
	switch {
	case err != nil && !neg:
		ts.Fatalf("unexpected failure: %v", err)
	case err == nil && neg:
		ts.Fatalf("unexpected success")
	}
}

// server [FLAG…] starts the server in the folder server and points waxctl at it. With ! it must refuse to start.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	h := houseOf(ts)
	args = append([]string{"--data", h.path("server"), "--listen", "127.0.0.1:0"}, args...)
	if h.database != "" {
		args = append(args, "--database-url", h.database)
	}
	if neg {
		stdout, stderr, err := h.run(nil, "waxseal-server", args...)
		_, _ = fmt.Fprint(ts.Stdout(), stdout)
		_, _ = fmt.Fprint(ts.Stderr(), stderr)
		outcome(ts, neg, err)
		return
	}
	ts.Check(h.start("server", "waxseal-server", args...))
	match, err := h.logged("server", regexp.MustCompile(`"msg":"serving","address":"([^"]+)"`))
	ts.Check(err)
	h.connection = []string{"WAXCTL_SERVER=" + match[1], "WAXCTL_CA=" + h.path("server", "ca.pem"), "WAXCTL_TOKEN_FILE=" + h.path("server", "admin-token")}
	for _, setting := range h.connection {
		name, value, _ := strings.Cut(setting, "=")
		ts.Setenv(name, value)
	}
}

// connector NAME [FLAG…] makes a keyring NAME, registers it and runs it; flags are init's. The first one is pinned.
func startConnector(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) > 0, "connector NAME [FLAG…]")
	h, name := houseOf(ts), args[0]
	ts.Check(ts.Exec("waxctl", "connector", "token"))
	token := h.path(name + ".token")
	ts.Check(os.WriteFile(token, []byte(ts.ReadFile("stdout")), 0o600))
	// CA keys of 3072 bits are right and slow to make.
	init := []string{"init", "--keyring", h.path(name), "--server", ts.Getenv("WAXCTL_SERVER"), "--ca", ts.Getenv("WAXCTL_CA"),
		"--token-file", token, "--name", name, "--ca-key-bits", "2048"}
	ts.Check(ts.Exec("waxseal-connector", append(init, args[1:]...)...))
	if ts.Getenv("WAXCTL_ESCROW_ROOT") == "" {
		ts.Setenv("WAXCTL_ESCROW_ROOT", strings.TrimSpace(ts.ReadFile("stdout")))
	}
	ts.Check(h.start(name, "waxseal-connector", "run", "--keyring", h.path(name)))
}

// house [FLAG…] is the usual beginning: server (with flags), connector, sales.yaml and Alice's three encryption certificates.
func startHouse(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	startServer(ts, false, args)
	startConnector(ts, false, []string{"connector"})
	ts.Check(ts.Exec("waxctl", "apply", "-f", houseOf(ts).path("inputs", "examples", "sales.yaml")))
	importPFX(ts, false, []string{"alice@corp.test", "alice-2016", "alice-2019", "alice-2024"})
}

// start NAME PROGRAM ARG… runs one of the programs in the background.
func start(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) > 1, "start NAME PROGRAM ARG…")
	ts.Check(houseOf(ts).start(args[0], args[1], args[2:]...))
}

// end NAME ends a process by SIGTERM, which must succeed.
func end(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "end NAME")
	ts.Check(houseOf(ts).finish(args[0]))
}

// crash NAME ends a process by SIGKILL.
func crash(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "crash NAME")
	ts.Check(houseOf(ts).signal(args[0], syscall.SIGKILL))
}

// freeze NAME stops a process as a stuck disk would; crash ends it.
func freeze(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "freeze NAME")
	ts.Check(houseOf(ts).signal(args[0], syscall.SIGSTOP))
}

// apns starts the stand-in for Apple's push service and sets APNS to its URL; its files are in the folder apns.
func startAPNs(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 0, "apns")
	h := houseOf(ts)
	ts.Check(h.start("apns", "waxseal-agent", "apns", "--listen", "127.0.0.1:0", "--out", h.path("apns")))
	match, err := h.logged("apns", regexp.MustCompile(`(?m)^(https://\S+)$`))
	ts.Check(err)
	ts.Setenv("APNS", match[1])
}

// import USER NAME… imports files of testdata/pfx, each with its password.
func importPFX(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1 && (!neg || len(args) == 2), "import USER NAME…")
	for _, name := range args[1:] {
		file := houseOf(ts).path("inputs", "pfx", name)
		outcome(ts, neg, ts.Exec("waxctl", "import", "pfx", file+".pfx", "--user", args[0], "--password-file", file+".password"))
	}
}

// enrol STATE USER [FLAG…] makes a link, which is in LINK afterwards, and enrols a simulated device by it.
func enrol(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "enrol STATE USER [FLAG…]")
	ts.Check(ts.Exec("waxctl", "enroll", "link", "--user", args[1]))
	link := strings.TrimSpace(ts.ReadFile("stdout"))
	ts.Setenv("LINK", link)
	flags := []string{"enroll", link, "--platform", "ios", "--state", args[0], "--ca", ts.Getenv("WAXCTL_CA")}
	outcome(ts, neg, ts.Exec("waxseal-agent", append(flags, args[2:]...)...))
}

// sync STATE [FLAG…] lets a device poll until there is nothing more.
func syncDevice(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 0, "sync STATE [FLAG…]")
	outcome(ts, neg, ts.Exec("waxseal-agent", append([]string{"sync", "--state", args[0]}, args[1:]...)...))
}

// device VAR STATE puts the server's id of a simulated device into VAR.
func nameDevice(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 2, "device VAR STATE")
	var info struct{ UDID string }
	ts.Check(ts.Exec("waxseal-agent", "info", "--state", args[1]))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &info))
	var devices []struct{ ID, ExternalID string }
	ts.Check(ts.Exec("waxctl", "get", "devices", "-o", "json"))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &devices))
	for _, d := range devices {
		if d.ExternalID == info.UDID {
			ts.Setenv(args[0], d.ID)
			return
		}
	}
	ts.Fatalf("the server does not know the device %s", info.UDID)
}

// keys STATE encryption|signing COUNT [FILE] counts the identities for mail on a device, and writes their fingerprints.
// Those for encryption were imported and are of the Old Corp CA.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) >= 3, "keys STATE encryption|signing COUNT [FILE]")
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(ts.Exec("waxseal-agent", "keychain", "list", "--json", "--state", args[0]))
	var found []string
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var item struct {
			SHA256, Subject string
			Addresses       []string
			HasPrivateKey   bool
		}
		ts.Check(json.Unmarshal([]byte(line), &item))
		imported := strings.Contains(item.Subject, "Old Corp")
		if item.HasPrivateKey && len(item.Addresses) > 0 && imported == (args[1] == "encryption") {
			found = append(found, item.SHA256+"\n")
		}
	}
	slices.Sort(found)
	if len(found) != want {
		ts.Fatalf("%s has %d identities for %s, want %d", args[0], len(found), args[1], want)
	}
	if len(args) > 3 {
		ts.Check(os.WriteFile(ts.MkAbs(args[3]), []byte(strings.Join(found, "")), 0o600))
	}
}

// opens STATE MESSAGE… decrypts messages of testdata/mail on a device, each to exactly what was written.
func opens(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "opens STATE MESSAGE…")
	h := houseOf(ts)
	for _, name := range args[1:] {
		file := h.path("inputs", "mail", name)
		got, stderr, err := h.run([]byte(ts.ReadFile(file+".eml")), "waxseal-agent", "mail", "decrypt", "--state", ts.MkAbs(args[0]))
		if err == nil && body(got) != body(ts.ReadFile(file+".txt")) {
			ts.Fatalf("%s opened to %q", name, got)
		}
		if (err != nil) != neg {
			ts.Fatalf("opening %s: %v %s", name, err, stderr)
		}
	}
}

// body is the text of a message, whatever its line ends.
func body(message string) string {
	message = strings.ReplaceAll(message, "\r\n", "\n")
	if _, text, ok := strings.Cut(message, "\n\n"); ok {
		message = text
	}
	return strings.TrimSpace(message)
}

// explains DEVICE DOCUMENT STATUS [REASON] waits until explain says so; with !, until it does not name the document. A
// document that ends in * stands for all that begin so, and for one at least.
func explains(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg && len(args) == 2 || !neg && len(args) >= 3, "[!] explains DEVICE DOCUMENT [STATUS [REASON]]")
	var last string
	h := houseOf(ts)
	err := eventually(look, func() bool {
		stdout, stderr, err := h.run(nil, "waxctl", "explain", "device", args[0], "-o", "json")
		if last = stdout + stderr; err != nil {
			ts.Fatalf("explain: %v %s", err, last)
		}
		var e struct{ Documents []explained }
		ts.Check(json.Unmarshal([]byte(last), &e))
		found := slices.DeleteFunc(e.Documents, func(d explained) bool { return !d.named(args[1]) })
		if neg || len(found) == 0 {
			return neg && len(found) == 0
		}
		return !slices.ContainsFunc(found, func(d explained) bool { return !d.is(args[2:]) })
	})
	if err != nil {
		ts.Fatalf("explain never said %v: %v\n%s", args, err, last)
	}
}

// explained is a document in the answer of explain.
type explained struct{ ID, Status, Reason string }

func (d explained) named(pattern string) bool {
	prefix, all := strings.CutSuffix(pattern, "*")
	return d.ID == pattern || all && strings.HasPrefix(d.ID, prefix)
}

// is compares with a status and, if there is one, a reason.
func (d explained) is(want []string) bool {
	return d.Status == want[0] && (len(want) == 1 || d.Reason == want[1])
}

// until PATTERN PROGRAM ARG… runs a program again and again until what it prints matches; with !, until it does not.
func until(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "until PATTERN PROGRAM ARG…")
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	h, last := houseOf(ts), ""
	err = eventually(look, func() bool {
		stdout, stderr, err := h.run(nil, args[1], args[2:]...)
		last = stdout + stderr
		return err == nil && pattern.MatchString(stdout) != neg
	})
	if err != nil {
		ts.Fatalf("%v: %s\n%s", args, err, last)
	}
}

// try PROGRAM ARG… runs a program that may fail.
func try(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) > 0, "try PROGRAM ARG…")
	if err := ts.Exec(args[0], args[1:]...); err != nil {
		ts.Logf("%v", err)
	}
}

// capture VAR FILE PATTERN puts the pattern's group into VAR; FILE may be stdout or stderr.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 3, "capture VAR FILE PATTERN")
	pattern, err := regexp.Compile("(?m)" + args[2])
	ts.Check(err)
	match := pattern.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(match) != 2 {
		ts.Fatalf("%s has no match with one group for %s", args[1], args[2])
	}
	ts.Setenv(args[0], match[1])
}

// freeport VAR puts a port that is free now into VAR.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "freeport VAR")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	ts.Check(l.Close())
}

// edit FILE OLD NEW replaces text in files that match; something must be replaced.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 3, "edit FILE OLD NEW")
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	done := false
	for _, file := range files {
		text := ts.ReadFile(file)
		changed := strings.ReplaceAll(text, args[1], args[2])
		done = done || changed != text
		ts.Check(os.WriteFile(file, []byte(changed), 0o600))
	}
	if !done {
		ts.Fatalf("%s: there is no %q", args[0], args[1])
	}
}
