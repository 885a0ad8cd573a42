package realca

import (
	"encoding/json"
	"fmt"
	"strconv"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// StepCA is a running step-ca with an RSA root and intermediate.
type StepCA struct {
	URL string
	// Roots is what its TLS certificate leads to, Issuers what its certificates lead to (PEM).
	Roots, Issuers string
	Root           *testpki.CA
	// HTTPPort is where it looks for http-01 answers.
	HTTPPort int
}

// StartStepCA runs step-ca with those provisioners, as ca.json has them.
func StartStepCA(t *testing.T, provisioners ...map[string]any) StepCA {
	t.Helper()
	program := Need(t, "step-ca")
	dir, port, httpPort := t.TempDir(), FreePort(t), FreePort(t)
	root := testpki.NewCA(t, "Corp Root CA")
	between := root.Intermediate(t, "Corp Issuing CA")
	config, err := json.Marshal(map[string]any{
		"root":     write(t, dir, "root.crt", root.CertPEM()),
		"crt":      write(t, dir, "ca.crt", between.CertPEM()),
		"key":      write(t, dir, "ca.key", between.KeyPEM()),
		"address":  fmt.Sprintf("127.0.0.1:%d", port),
		"dnsNames": []string{"127.0.0.1"},
		"logger":   map[string]any{"format": "text"},
		"db":       map[string]any{"type": "badgerv2", "dataSource": t.TempDir()},
		"authority": map[string]any{"provisioners": provisioners,
			"claims": map[string]any{"maxTLSCertDuration": "9600h", "defaultTLSCertDuration": "24h"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := StepCA{URL: fmt.Sprintf("https://127.0.0.1:%d", port), Roots: string(root.CertPEM()),
		Issuers: string(between.CertPEM()) + string(root.CertPEM()), Root: root, HTTPPort: httpPort}
	start(t, s.URL+"/health", nil, program, write(t, dir, "ca.json", config), "--insecure", "--acme-http-port", strconv.Itoa(httpPort))
	return s
}
