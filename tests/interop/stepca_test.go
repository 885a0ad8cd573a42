package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/realca"
)

// ofStepCA has the connector make one key, and the device another; step-ca certifies both.
const ofStepCA = `apiVersion: waxseal/v1
kind: TrustedCertificate
name: corp-root
spec: {certificateAuthority: corp}
---
apiVersion: waxseal/v1
kind: PKCSCertificate
name: made-for-it
spec:
  certificateAuthority: corp
  template: mail
  subject: "CN={{UserName}},OU=connector"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
---
apiVersion: waxseal/v1
kind: SCEPCertificate
name: made-by-it
spec:
  certificateAuthority: corp
  template: mail
  subject: "CN={{UserName}},OU=device"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
---
apiVersion: waxseal/v1
kind: Assignment
name: sales-mail
spec:
  profiles: [corp-root, made-for-it, made-by-it]
  include: [{everybody: true}]
`

// mailTemplate has step-ca certify keys for mail.
const mailTemplate = `{
  "subject": {{ if .Insecure.CR.Subject.CommonName }}{{ toJson .Insecure.CR.Subject }}{{ else }}{{ toJson .Subject }}{{ end }},
  "sans": {{ toJson .SANs }},
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["emailProtection"]
}`

const stepCASettings = `name: corp
kind: stepca
url: URL
tlsRootsFile: corp-root.pem
issuersFile: corp-issuers.pem
templates: [mail]
options:
  provisioner: waxseal
  keyFile: corp.jwk
`

// provisioner is a key by which the connector asks, in both halves.
func provisioner(t *testing.T) (public, private []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	jwk := map[string]string{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "waxseal-1", "x": text(point[1:33]), "y": text(point[33:])}
	if public, err = json.Marshal(jwk); err != nil {
		t.Fatal(err)
	}
	jwk["d"] = text(scalar)
	if private, err = json.Marshal(jwk); err != nil {
		t.Fatal(err)
	}
	return public, private
}

// TestStepCA: devices get certificates of a CA of somebody else, step-ca, for keys that the connector made and for their own;
// OpenSSL believes the mail that they sign, under that CA's root alone.
func TestStepCA(t *testing.T) {
	need(t, "openssl")
	public, private := provisioner(t)
	real := realca.StartStepCA(t, map[string]any{"type": "JWK", "name": "waxseal", "key": json.RawMessage(public),
		"claims":  map[string]any{"maxTLSCertDuration": "9600h"},
		"options": map[string]any{"x509": map[string]any{"template": mailTemplate}}})
	h := newHouse(t) // the connector is at work when it gets the settings
	h.write("corp-root.pem", []byte(real.Roots))
	h.write("corp-issuers.pem", []byte(real.Issuers))
	h.write("corp.jwk", private)
	settings := h.write("corp.yaml", []byte(strings.Replace(stepCASettings, "URL", real.URL, 1)))
	h.must(nil, h.program("waxseal-connector"), "ca", "set", "--keyring", h.path("connector"), "-f", settings)
	if err := os.Remove(h.path("corp.jwk")); err != nil {
		t.Fatal(err)
	}
	if said := h.waxctl("ca", "test", "corp"); !strings.Contains(said, "ok\tcredentials") || strings.Contains(said, "wrong\t") {
		t.Errorf("waxctl ca test says:\n%s", said)
	}
	h.waxctl("apply", "-f", h.write("of-step-ca.yaml", []byte(ofStepCA)))
	h.agent("phone", nil, "enroll", h.link(), "--platform", "ios", "--ca", h.proxy.CA, "--os-version", "18.1")
	h.agent("phone", nil, "sync")
	h.ofStepCA(real.Root.Cert.Subject.CommonName)
	h.waxctl("device", "retire", deviceID(t, h.waxctl("get", "devices", "-o", "json")))
	h.agent("phone", nil, "sync")
	h.wait("both certificates to be revoked at step-ca", func() bool {
		return strings.Count(h.waxctl("get", "certificates"), "revoked") == 2
	})
}

// deviceID is the first one's of a list.
func deviceID(t *testing.T, list string) string {
	t.Helper()
	_, id, _ := strings.Cut(list, `"id": "`)
	id, _, ok := strings.Cut(id, `"`)
	if !ok {
		t.Fatalf("no device: %s", list)
	}
	return id
}

// ofStepCA looks at both certificates, and at mail that is signed with one.
func (h *house) ofStepCA(root string) {
	h.t.Helper()
	list := string(h.agent("phone", nil, "keychain", "export", "--out", h.path("exported")))
	files, err := os.ReadDir(h.path("exported"))
	if err != nil {
		h.t.Fatalf("%v\n%s", err, list)
	}
	found := map[string]bool{}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".pem") {
			continue
		}
		path := h.path("exported", file.Name())
		say := string(h.peer(nil, "openssl", "x509", "-in", path, "-noout", "-subject", "-issuer", "-nameopt", "RFC2253"))
		for _, unit := range []string{"OU=connector", "OU=device"} {
			if strings.Contains(say, unit) && strings.Contains(say, "issuer=CN=Corp Issuing CA") {
				found[unit] = true
				h.peer(nil, "openssl", "verify", "-x509_strict", "-purpose", "smimesign", "-verify_email", "alice@corp.test",
					"-CAfile", h.path("corp-root.pem"), "-untrusted", h.path("corp-issuers.pem"), path)
				h.peer(nil, "openssl", "x509", "-in", path, "-noout", "-checkend", fmt.Sprint(300*24*3600)) // a year is what profiles mean by default
			}
		}
	}
	if len(found) != 2 {
		h.t.Errorf("the phone has %v of %s", found, root)
	}
}
