package journeys

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxseal/waxseal/agent/apple"
)

// enrolmac STATE USER [FLAG…] makes a link, which is in LINK afterwards, and enrols a simulated Mac by it.
func enrolMac(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "enrolmac STATE USER [FLAG…]")
	joinByLink(ts, platform{name: "macos", flags: []string{"--os-version", "15.1"}}, neg, args)
}

// preferences are the payloads that point to a certificate, by the words of the scripts.
var preferences = map[string]string{"own": "com.apple.security.identitypreference", "recipient": "com.apple.security.certificatepreference"}

// prefers STATE ADDRESS own|recipient FILE checks that a Mac prefers, for an address, the one certificate in FILE: a PEM
// file, or a fingerprint as keys writes it. With ! it prefers none, and there is no FILE.
func prefers(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, (len(args) == 4 && !neg || len(args) == 3 && neg) && preferences[args[2]] != "", "prefers STATE ADDRESS own|recipient FILE")
	var info struct{ Preferences []apple.Preference }
	ts.Check(ts.Exec("waxseal-agent", "info", "--state", args[0]))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &info))
	found := slices.DeleteFunc(info.Preferences, func(p apple.Preference) bool {
		return p.Kind != preferences[args[2]] || p.Name != args[1]
	})
	switch {
	case neg && len(found) > 0:
		ts.Fatalf("%s prefers %+v", args[0], found)
	case neg:
	case len(found) != 1 || found[0].SHA256 != fingerprintIn(ts, args[3]):
		ts.Fatalf("%s prefers %+v, want the certificate of %s", args[0], found, args[3])
	}
}

func fingerprintIn(ts *testscript.TestScript, file string) string {
	text := ts.ReadFile(file)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return strings.TrimSpace(text)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}
