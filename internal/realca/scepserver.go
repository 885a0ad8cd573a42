package realca

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SCEPServer is a running micromdm scepserver with a CA of its own, without TLS.
type SCEPServer struct {
	URL     string
	Issuers string // PEM
}

// StartSCEPServer runs scepserver. Its certificates are for signing in whatever is asked for, with every name of the request.
func StartSCEPServer(t *testing.T, challenge string) SCEPServer {
	t.Helper()
	program := Need(t, "scepserver")
	depot := filepath.Join(t.TempDir(), "depot")
	if out, err := exec.Command(program, "ca", "-init", "-depot", depot, "-keySize", "2048", "-organization", "Other Corp").CombinedOutput(); err != nil {
		t.Fatalf("scepserver ca -init: %v\n%s", err, out)
	}
	issuers, err := os.ReadFile(filepath.Join(depot, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	s := SCEPServer{URL: "http://" + address + "/scep", Issuers: string(issuers)}
	start(t, s.URL+"?operation=GetCACaps", nil, program, "-http-addr", address, "-depot", depot, "-challenge", challenge, "-allowrenew", "0")
	return s
}
