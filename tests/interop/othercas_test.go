package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/realca"
	"github.com/waxseal/waxseal/internal/testpki"
)

// Settings of CAs that others wrote, as an admin gives them to a connector. Neither is asked for the validity of the profile.
const (
	estSettings = `name: est
kind: est
url: URL
tlsRootsFile: est-roots.pem
issuersFile: est-issuers.pem
options: {clientCertificateFile: est-client.pem, clientKeyFile: est-client.key}
`
	scepSettings = `name: scep
kind: scep
url: URL
issuersFile: scep-issuers.pem
options: {challengeFile: scep-challenge}
`
	acmeSettings = `name: acme
kind: acme
url: URL
tlsRootsFile: acme-roots.pem
issuersFile: acme-issuers.pem
options: {accountKeyFile: acme.key, acceptTerms: true, identifier: dns, webroot: WEBROOT}
`
)

// ofOthers has each CA certify keys that the connector makes, and the EST server one of the device's, too.
const ofOthers = `apiVersion: waxseal/v1
kind: PKCSCertificate
name: from-est
spec:
  certificateAuthority: est
  subject: "CN={{UserName}},OU=est"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
---
apiVersion: waxseal/v1
kind: SCEPCertificate
name: own-from-est
spec:
  certificateAuthority: est
  subject: "CN={{UserName}},OU=own-est"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
---
apiVersion: waxseal/v1
kind: PKCSCertificate
name: from-scep
spec:
  certificateAuthority: scep
  subject: "CN={{UserName}},OU=scep"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
---
apiVersion: waxseal/v1
kind: PKCSCertificate
name: from-acme
spec:
  certificateAuthority: acme
  subject: "CN=phone.corp.test"
  subjectAlternativeNames: [{type: dns, value: phone.corp.test}]
---
apiVersion: waxseal/v1
kind: Assignment
name: sales-mail
spec:
  profiles: [from-est, own-from-est, from-scep, from-acme]
  include: [{everybody: true}]
`

// TestOtherCAs: an EST server, a SCEP server and an ACME server that others wrote issue through the connector, and the phone has
// certificates of each. What these servers can certify is theirs: estserver and scepserver name no purpose, Pebble knows host
// names alone.
func TestOtherCAs(t *testing.T) {
	need(t, "openssl")
	h := newHouseWith(t, func(h *house) {
		h.offerEST()
		h.offerSCEP()
		h.offerACME()
	})
	for name, wrong := range map[string]int{"est": 0, "scep": 0, "acme": 1} { // host names make no mail certificates, it says
		said, _, _ := h.try(nil, h.program("waxctl"), h.asAdmin("ca", "test", name)...)
		if !strings.Contains(string(said), "ok\t") || strings.Count(string(said), "wrong\t") != wrong {
			t.Errorf("waxctl ca test %s says:\n%s", name, said)
		}
	}
	h.waxctl("apply", "-f", h.write("of-others.yaml", []byte(ofOthers)))
	h.agent("phone", nil, "enroll", h.link(), "--platform", "ios", "--ca", h.proxy.CA, "--os-version", "18.1")
	h.agent("phone", nil, "sync")
	h.agent("phone", nil, "keychain", "export", "--out", h.path("exported"))
	address := []string{"-verify_email", "alice@corp.test"}
	h.verified("CN=Alice Example,OU=est", "est", address...)
	h.verified("CN=Alice Example,OU=own-est", "est", address...)
	h.verified("CN=Alice Example,OU=scep", "scep", address...)
	h.verified("", "acme", "-verify_hostname", "phone.corp.test") // Pebble leaves the subject out
}

// verified wants one exported certificate of a subject, which OpenSSL believes under the issuers of a CA.
func (h *house) verified(subject, authority string, options ...string) {
	h.t.Helper()
	files, err := filepath.Glob(h.path("exported", "*.pem"))
	if err != nil {
		h.t.Fatal(err)
	}
	found, all := 0, ""
	for _, file := range files {
		said := string(h.peer(nil, "openssl", "x509", "-in", file, "-noout", "-subject", "-nameopt", "RFC2253"))
		if all += said; strings.TrimSpace(said) == "subject="+subject {
			found++
			h.peer(nil, "openssl", append(append([]string{"verify"}, options...), "-CAfile", h.path(authority+"-issuers.pem"), file)...)
		}
	}
	if found != 1 {
		h.t.Errorf("%d certificates of %q among\n%s", found, subject, all)
	}
}

// setCA gives the connector settings, whose secrets are then gone from the disk.
func (h *house) setCA(settings string, secrets ...string) {
	h.t.Helper()
	name, _, _ := strings.Cut(settings, "\n")
	file := h.write(strings.TrimPrefix(name, "name: ")+".yaml", []byte(settings))
	h.must(nil, h.program("waxseal-connector"), "ca", "set", "--keyring", h.path("connector"), "-f", file)
	for _, secret := range secrets {
		if err := os.Remove(h.path(secret)); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *house) offerEST() {
	clients := testpki.NewCA(h.t, "Clients CA")
	server := realca.StartESTServer(h.t, clients)
	own := clients.Issue(h.t, testpki.Options{CN: "connector", NotAfter: time.Time{}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	h.write("est-roots.pem", []byte(server.Roots))
	h.write("est-issuers.pem", []byte(server.Issuers))
	h.write("est-client.pem", own.CertPEM())
	h.write("est-client.key", own.KeyPEM())
	h.setCA(strings.Replace(estSettings, "URL", server.URL, 1), "est-client.key")
}

func (h *house) offerSCEP() {
	server := realca.StartSCEPServer(h.t, "s3cret")
	h.write("scep-issuers.pem", []byte(server.Issuers))
	h.write("scep-challenge", []byte("s3cret\n"))
	h.setCA(strings.Replace(scepSettings, "URL", server.URL, 1), "scep-challenge")
}

// offerACME has Pebble take every name for proven; that it looks, where it does, is the adapter's test.
func (h *house) offerACME() {
	server := realca.StartPebble(h.t, realca.PebbleOptions{AlwaysValid: true, Reuse: true})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("acme-roots.pem", []byte(server.Roots))
	h.write("acme-issuers.pem", []byte(server.Issuers))
	h.write("acme.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	h.setCA(strings.NewReplacer("URL", server.URL, "WEBROOT", fmt.Sprintf("%q", h.t.TempDir())).Replace(acmeSettings), "acme.key")
}
