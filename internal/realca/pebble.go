package realca

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// Pebble is a running Pebble, Let's Encrypt's ACME server for tests, with a CA of its own.
type Pebble struct {
	URL            string
	Roots, Issuers string // PEM: of its TLS certificate, of its certificates
}

// PebbleOptions say how Pebble looks at names.
type PebbleOptions struct {
	// AlwaysValid takes every name for proven.
	AlwaysValid bool
	// Reuse has it confirm a name once, and take it for proven in later orders.
	Reuse bool
	// BindingKeys (key id to base64url) make External Account Binding a must.
	BindingKeys map[string]string
	// HTTPPort is where it looks for http-01 answers; DNS is the address of the name server that it asks.
	HTTPPort int
	DNS      string
}

// StartPebble runs Pebble. It refuses a twentieth of all nonces, as it always does.
func StartPebble(t *testing.T, o PebbleOptions) Pebble {
	t.Helper()
	program := Need(t, "pebble")
	dir, port, management := t.TempDir(), FreePort(t), FreePort(t)
	tlsCA := testpki.NewCA(t, "Corp Web CA")
	server := tlsCA.Issue(t, testpki.Options{CN: "127.0.0.1", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Extensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 6, 0x87, 4, 127, 0, 0, 1}}}}) // iPAddress
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress":           fmt.Sprintf("127.0.0.1:%d", port),
		"managementListenAddress": fmt.Sprintf("127.0.0.1:%d", management),
		"certificate":             write(t, dir, "tls.crt", server.CertPEM()),
		"privateKey":              write(t, dir, "tls.key", server.KeyPEM()),
		"httpPort":                o.HTTPPort,
		"retryAfter":              map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "a season", "validityPeriod": 7776000},
			"short": map[string]any{"description": "six days", "validityPeriod": 518400}},
		"externalAccountBindingRequired": len(o.BindingKeys) > 0,
		"externalAccountMACKeys":         o.BindingKeys,
	}})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-strict", "-config", write(t, dir, "pebble.json", config)}
	if o.DNS != "" {
		args = append(args, "-dnsserver", o.DNS)
	}
	p := Pebble{URL: fmt.Sprintf("https://127.0.0.1:%d/dir", port), Roots: string(tlsCA.CertPEM())}
	start(t, p.URL, o.environment(), program, args...)
	for _, path := range []string{"intermediates/0", "roots/0"} {
		p.Issuers += fetch(t, tlsCA, fmt.Sprintf("https://127.0.0.1:%d/%s", management, path))
	}
	return p
}

func (o PebbleOptions) environment() []string {
	reuse, out := "0", []string{"PEBBLE_VA_NOSLEEP=1"}
	if o.Reuse {
		reuse = "100"
	}
	if o.AlwaysValid {
		out = append(out, "PEBBLE_VA_ALWAYS_VALID=1")
	}
	return append(out, "PEBBLE_AUTHZREUSE="+reuse)
}

// fetch reads what a program shows on its own certificates.
func fetch(t *testing.T, root *testpki.CA, address string) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(root.Cert)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Time: testpki.Now}, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", address, response.StatusCode, err)
	}
	return string(text)
}
