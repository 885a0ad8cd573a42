package realca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// ESTServer is a running GlobalSign estserver with an RSA root and intermediate.
type ESTServer struct {
	URL string
	// Roots is what its TLS certificate leads to, Issuers what its certificates lead to (PEM).
	Roots, Issuers string
	Issuer         *testpki.CA
}

// StartESTServer runs estserver, which believes client certificates that lead to clients. It takes any user name and
// password, and its certificates are not for mail.
func StartESTServer(t *testing.T, clients *testpki.CA) ESTServer {
	t.Helper()
	program := Need(t, "estserver")
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", FreePort(t))
	root := testpki.NewCA(t, "Corp Root CA")
	between := root.Intermediate(t, "Corp Issuing CA")
	host := root.Issue(t, testpki.Options{CN: "EST server", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, Extensions: []pkix.Extension{loopback()}})
	issuers := string(between.CertPEM()) + string(root.CertPEM())
	config, err := json.Marshal(map[string]any{
		"mock_ca": map[string]any{"certificates": write(t, dir, "ca.pem", []byte(issuers)), "private_key": write(t, dir, "ca.key", between.KeyPEM())},
		"tls": map[string]any{"listen_address": address, "certificates": write(t, dir, "tls.pem", host.CertPEM()), "private_key": write(t, dir, "tls.key", host.KeyPEM()),
			"client_cas": []string{write(t, dir, "clients.pem", clients.CertPEM())}},
		"timeout": 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := ESTServer{URL: "https://" + address, Roots: string(root.CertPEM()), Issuers: issuers, Issuer: between}
	start(t, s.URL+"/.well-known/est/cacerts", nil, program, "-config", write(t, dir, "est.json", config))
	return s
}

// loopback is the name 127.0.0.1 (RFC 5280 section 4.2.1.6, iPAddress).
func loopback() pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: []byte{0x30, 6, 0x87, 4, 127, 0, 0, 1}}
}
