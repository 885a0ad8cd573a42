package interop

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// ownKey is a SCEPCertificate whose subject micromdm's scepclient can ask for: it always names an organization and a country.
const ownKey = `apiVersion: waxseal/v1
kind: SCEPCertificate
name: own-key
spec:
  certificateAuthority: softca
  subject: "CN={{UserName}},OU=MDM,O=scep-client,C=US"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
  validity: 365d
---
apiVersion: waxseal/v1
kind: Assignment
name: own-key
spec:
  profiles: [own-key]
  include: [{everybody: true}]
`

// deliveredRequest enrols a phone whose own SCEP requests do not get through, and reads what its profile told it.
func (h *house) deliveredRequest(device string) request {
	h.t.Helper()
	h.proxy.block("/scep/softca")
	defer h.proxy.block("")
	h.agent(device, nil, "enroll", h.link(), "--platform", "ios", "--ca", h.proxy.CA, "--os-version", "18.1")
	before := len(h.proxy.told())
	_, _, _ = h.try(nil, h.program("waxseal-agent"), "sync", "--wait", "20s", "--state", h.path(device)) // the installation fails
	for _, body := range h.proxy.told()[before:] {
		if len(body) == 0 {
			continue
		}
		command, _ := h.dictionary(body)["Command"].(dict)
		if text(command, "RequestType") != "InstallProfile" {
			continue
		}
		outer := h.peer(h.data(command, "Payload"), "openssl", "cms", "-verify", "-noverify", "-binary", "-inform", "DER")
		top := h.dictionary(outer)
		if p := payload(top["PayloadContent"], "com.apple.security.scep"); p != nil {
			h.readers(device+".mobileconfig", outer)
			inner, _ := p["PayloadContent"].(dict)
			return request{url: text(inner, "URL"), challenge: text(inner, "Challenge"), name: text(inner, "Name"), commonName: "Alice Example"}
		}
	}
	h.t.Fatalf("no profile with a SCEP payload was delivered\n%s", h.tail())
	return request{}
}

// TestSCEPProfile: clients that others wrote enrol for a mail certificate with what a SCEPCertificate profile tells a phone,
// and renew it; the names are those of the profile.
func TestSCEPProfile(t *testing.T) {
	need(t, "scepclient")
	need(t, "certmonger")
	h := newHouse(t)
	h.write("own.yaml", []byte(ownKey))
	h.waxctl("apply", "-f", h.path("own.yaml"))
	t.Setenv("SSL_CERT_FILE", h.proxy.CA)
	r := h.deliveredRequest("phone")
	if !strings.HasSuffix(r.url, "/scep/softca") || len(r.challenge) > 255 {
		t.Fatalf("%+v", r)
	}
	mine := []string{"-cn", r.commonName}
	if said, ok := h.scepclient("foreign", r, append(mine, "-dnsname", "mail.corp.test")...); ok || !strings.Contains(said, "failInfo: badRequest") {
		t.Errorf("a request for a host name ended with: %s", said)
	}
	if said, ok := h.scepclient("stranger", r, "-cn", "Boss Example"); ok || !strings.Contains(said, "failInfo: badRequest") {
		t.Errorf("a request for another name ended with: %s", said)
	}
	if said, ok := h.scepclient("mail", r, mine...); !ok {
		t.Fatalf("%s\n%s", said, h.tail())
	}
	h.mailCertificate(h.path("mail", "client.pem"), h.path("mail", "client.key"))
	if said, ok := h.scepclient("thief", r, mine...); ok || !strings.Contains(said, "failInfo: badMessageCheck") {
		t.Errorf("a second key with the same challenge ended with: %s", said)
	}
	h.renewal(r)
	h.certmonger(h.deliveredRequest("tablet"))
}

// renewal: scepclient signs its next request with the certificate that it has.
func (h *house) renewal(r request) {
	h.t.Helper()
	again := func() (string, bool) {
		out, errs, ok := h.try(nil, need(h.t, "scepclient"), "-server-url", r.url, "-private-key", h.path("mail", "client.key"),
			"-certificate", h.path("mail", "client.pem"), "-cn", r.commonName, "-cacert-message", r.name)
		return string(out) + string(errs), ok
	}
	before := string(h.read("mail", "client.pem"))
	if said, ok := again(); ok || !strings.Contains(said, "failInfo: badRequest") {
		h.t.Errorf("a renewal that is not due ended with: %s", said)
	}
	h.write("own.yaml", []byte(strings.Replace(ownKey, "365d", "200d", 1)))
	h.waxctl("apply", "-f", h.path("own.yaml"))
	if said, ok := again(); !ok {
		h.t.Fatalf("%s\n%s", said, h.tail())
	}
	if string(h.read("mail", "client.pem")) == before {
		h.t.Error("the renewal gave the same certificate")
	}
	h.mailCertificate(h.path("mail", "client.pem"), h.path("mail", "client.key"))
}

// certmonger enrols and renews the same way.
func (h *house) certmonger(r request) {
	h.t.Helper()
	plain := httptest.NewServer(http.HandlerFunc(h.proxy.serve))
	h.t.Cleanup(plain.Close)
	url := plain.URL + strings.TrimPrefix(r.url, h.proxy.URL)
	script := strings.Replace(certmongerScript, "CN=somebody else", "CN=Alice Example,OU=MDM,O=scep-client,C=US", 1)
	h.write("due.yaml", []byte(strings.Replace(ownKey, "365d", "100d", 1)))
	due := append([]string{h.program("waxctl")}, h.asAdmin("apply", "-f", h.path("due.yaml"))...)
	said := h.peer(nil, "dbus-run-session", append([]string{"--", "sh", "-c", script, "sh", url, r.challenge}, due...)...)
	if strings.Count(string(said), "status: MONITORING") != 2 {
		h.t.Fatalf("certmonger says:\n%s\n%s\n%s", said, h.waxctl("get", "audit", "-o", "json"), h.tail())
	}
	first, next := h.read("first.pem"), h.read("certmonger.pem")
	if bytes.Equal(first, next) {
		h.t.Errorf("the renewal gave the same certificate; certmonger says:\n%s\n%s\n%s", said, h.waxctl("get", "audit", "-o", "json"), h.tail())
	}
	h.mailCertificate(h.path("first.pem"), h.path("first.key"))
	h.mailCertificate(h.path("certmonger.pem"), h.path("certmonger.key"))
}

// mailCertificate checks a mail certificate with OpenSSL alone, up to the root that devices trust.
func (h *house) mailCertificate(cert, key string) {
	h.t.Helper()
	roots, between := h.mailAuthorities()
	args := []string{"verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", roots}
	if between != "" {
		args = append(args, "-untrusted", between)
	}
	h.peer(nil, "openssl", append(args, cert)...)
	public := h.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-pubkey")
	if own := h.peer(nil, "openssl", "pkey", "-in", key, "-pubout"); string(own) != string(public) {
		h.t.Error("the certificate is for another key")
	}
	say := string(h.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-text", "-nameopt", "RFC2253"))
	for _, want := range []string{"CN=Alice Example,OU=MDM,O=scep-client,C=US", "email:alice@corp.test", "E-mail Protection", "Digital Signature", "2048 bit"} {
		if !strings.Contains(say, want) {
			h.t.Errorf("the certificate does not say %q:\n%s", want, say)
		}
	}
}

// mailAuthorities are files with the root and the intermediates of the built-in CA, as GetCACert gives them.
func (h *house) mailAuthorities() (roots, between string) {
	h.t.Helper()
	resp, err := h.proxy.Client().Get(h.proxy.URL + "/scep/softca?operation=GetCACert&message=softca")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	bag, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	text := h.peer(bag, "openssl", "pkcs7", "-inform", "DER", "-print_certs")
	var rootsPEM, betweenPEM []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			h.t.Fatal(err)
		}
		switch {
		case c.IsCA && c.CheckSignatureFrom(c) == nil:
			rootsPEM = append(rootsPEM, pem.EncodeToMemory(block)...)
		case c.IsCA:
			betweenPEM = append(betweenPEM, pem.EncodeToMemory(block)...)
		}
	}
	if len(betweenPEM) > 0 {
		between = h.write("mail-between.pem", betweenPEM)
	}
	return h.write("mail-roots.pem", rootsPEM), between
}
