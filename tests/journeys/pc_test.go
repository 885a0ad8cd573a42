package journeys

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// enrolpc STATE USER [FLAG…] makes a link and a secret, which are in LINK and SECRET afterwards (the secret in the file
// STATE.secret, too), and enrols a simulated PC by them.
func enrolPC(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) > 1, "enrolpc STATE USER [FLAG…]")
	ts.Check(ts.Exec("waxctl", "enroll", "link", "--user", args[1], "--platform", "windows"))
	link, secret, ok := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	if !ok {
		ts.Fatalf("waxctl enroll link printed no secret below the link")
	}
	ts.Setenv("LINK", link)
	ts.Setenv("SECRET", secret)
	file := ts.MkAbs(args[0] + ".secret")
	ts.Check(os.WriteFile(file, []byte(secret+"\n"), 0o600))
	flags := []string{"enroll", link, "--platform", "windows", "--secret-file", file, "--state", args[0], "--ca", trusted(ts)}
	outcome(ts, neg, ts.Exec("waxseal-agent", append(flags, args[2:]...)...))
}

// trusted is what devices trust for TLS: the proxy, if there is one, or else the server's CA.
func trusted(ts *testscript.TestScript) string {
	if ts.Getenv("PROXY") != "" {
		return houseOf(ts).path("proxy.pem")
	}
	return ts.Getenv("WAXCTL_CA")
}

// identity STATE FILE writes the certificate and key by which a PC speaks to its server, for `fetch -identity`.
func writeIdentity(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 2, "identity STATE FILE")
	var state struct {
		MDM struct{ Certificate, Key []byte }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0]+"/device.json")), &state))
	writePEM(ts, args[1], state.MDM.Certificate, state.MDM.Key)
}

// stranger FILE writes a certificate and key that nobody vouches for, for `fetch -identity`.
func writeStranger(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "stranger FILE")
	cert, err := selfSigned()
	ts.Check(err)
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	ts.Check(err)
	writePEM(ts, args[0], cert.Certificate[0], key)
}

func writePEM(ts *testscript.TestScript, file string, certificate, key []byte) {
	if len(certificate) == 0 || len(key) == 0 {
		ts.Fatalf("there is no certificate with a key for %s", file)
	}
	var out bytes.Buffer
	ts.Check(pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	ts.Check(pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	ts.Check(os.WriteFile(ts.MkAbs(file), out.Bytes(), 0o600))
}
