package interop

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// request is what an enrolment profile tells a SCEP client.
type request struct{ url, challenge, name, commonName string }

// enrolmentProfile downloads the profile of a link, as a browser on a phone does, and reads its SCEP payload.
func (h *house) enrolmentProfile(link string) request {
	h.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(h.read(filepath.Base(h.proxy.CA)))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(link)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("the enrolment link answers %s, %v", resp.Status, err)
	}
	h.readers("enrol.mobileconfig", raw)
	inner, _ := payload(h.dictionary(raw)["PayloadContent"], "com.apple.security.scep")["PayloadContent"].(dict)
	subject, _ := inner["Subject"].([]any)
	if len(subject) != 1 || inner["Keysize"] != 2048.0 || inner["Key Usage"] != 5.0 {
		h.t.Fatalf("the SCEP payload has Subject %v, Keysize %v, Key Usage %v", subject, inner["Keysize"], inner["Key Usage"])
	}
	pair, _ := subject[0].([]any)[0].([]any)
	return request{url: text(inner, "URL"), challenge: text(inner, "Challenge"), name: text(inner, "Name"), commonName: pair[1].(string)}
}

// TestSCEPClient: the SCEP client that MicroMDM's people wrote enrols with what an enrolment profile names.
func TestSCEPClient(t *testing.T) {
	need(t, "scepclient")
	h := newHouse(t)
	t.Setenv("SSL_CERT_FILE", h.proxy.CA)
	for _, tt := range []struct{ name, flag string }{
		{"encrypts to the RA and the CA", "-log-json"},
		{"encrypts to the RA", "-key-encipherment-selector"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := h.within(t)
			r := h.enrolmentProfile(h.link())
			if said, ok := h.scepclient("alternative", r, "-dnsname", "mail.corp.test"); ok || !strings.Contains(said, "failInfo: badRequest") {
				t.Errorf("a request for a host name ended with: %s", said)
			}
			if said, ok := h.scepclient("first", r, tt.flag); !ok {
				t.Fatalf("%s\n%s", said, h.tail())
			}
			h.deviceCertificate(h.path("first", "client.pem"), h.path("first", "client.key"), r.commonName)
			if said, ok := h.scepclient("thief", r, tt.flag); ok || !strings.Contains(said, "failInfo: badRequest") {
				t.Errorf("a second key with the same challenge ended with: %s", said)
			}
			for _, name := range []string{"first", "thief", "alternative"} {
				h.must(nil, "rm", "-r", name)
			}
		})
	}
}

// scepclient asks for a certificate with a new key, in a folder of its own. The names that it asks for are not those of the
// challenge, which must not matter.
func (h *house) scepclient(name string, r request, args ...string) (said string, ok bool) {
	h.t.Helper()
	h.must(nil, "mkdir", name)
	args = append([]string{"-server-url", r.url, "-challenge", r.challenge, "-private-key", h.path(name, "client.key"),
		"-certificate", h.path(name, "client.pem"), "-cn", "somebody else", "-cacert-message", r.name}, args...) // of a flag given twice the last counts
	out, errs, ok := h.try(nil, need(h.t, "scepclient"), args...)
	return string(out) + string(errs), ok
}

// deviceCertificate checks a device's certificate with OpenSSL alone.
func (h *house) deviceCertificate(cert, key, commonName string) {
	h.t.Helper()
	h.peer(nil, "openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", h.path("connector", "device-ca.pem"), cert)
	public := h.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-pubkey")
	if own := h.peer(nil, "openssl", "pkey", "-in", key, "-pubout"); string(own) != string(public) {
		h.t.Error("the certificate is for another key")
	}
	say := string(h.peer(nil, "openssl", "x509", "-in", cert, "-noout", "-text", "-nameopt", "RFC2253"))
	for _, want := range []string{"Subject: CN=" + commonName, "Digital Signature, Key Encipherment", "TLS Web Client Authentication",
		"URI:urn:waxseal:enrolment:", "URI:urn:waxseal:user:", "2048 bit"} {
		if !strings.Contains(say, want) {
			h.t.Errorf("the certificate does not say %q:\n%s", want, say)
		}
	}
	if strings.Contains(say, "somebody else") {
		h.t.Errorf("the certificate has a name of the request:\n%s", say)
	}
}

// certmongerScript asks a certmonger of its own, on a message bus of its own, which ends with it. Its arguments are the URL, the
// challenge, and a command after which the certificate is due, if it shall be renewed.
const certmongerScript = `
PATH=$PATH:/usr/sbin
mkdir config requests cas local
export CERTMONGER_CONFIG_DIR="$PWD/config" CERTMONGER_REQUESTS_DIR="$PWD/requests" CERTMONGER_CAS_DIR="$PWD/cas" CERTMONGER_LOCAL_CA_DIR="$PWD/local" CERTMONGER_SYSTEM_LOCK_FILE="$PWD/lock"
certmonger -s -n -B & daemon=$!
until getcert list-cas -s >&2; do kill -0 $daemon || exit 1; sleep 0.1; done
getcert add-scep-ca -s -c waxseal -u "$1" &&
getcert request -s -c waxseal -w -k "$PWD/certmonger.key" -f "$PWD/certmonger.pem" -g 2048 -N "CN=somebody else" -L "$2"
getcert list -s -c waxseal
if [ $# -gt 2 ]; then
  shift 2
  cp certmonger.pem first.pem; cp certmonger.key first.key
  "$@" >&2 && getcert rekey -s -w -f "$PWD/certmonger.pem" >&2
  getcert list -s -c waxseal
fi
kill $daemon; wait
`

// TestCertmonger: Red Hat's certmonger enrols the same way. It looks for the RA among the certificates of GetCACert, and asks
// with AES and SHA-256 where GetCACaps allows it.
func TestCertmonger(t *testing.T) {
	need(t, "certmonger")
	h := newHouse(t)
	r := h.enrolmentProfile(h.link())
	// It takes a TLS root for its questions and forgets it for the request (0.79.17), so that it is given no TLS.
	plain := httptest.NewServer(http.HandlerFunc(h.proxy.serve))
	t.Cleanup(plain.Close)
	url := plain.URL + strings.TrimPrefix(r.url, h.proxy.URL)
	said := h.peer(nil, "dbus-run-session", "--", "sh", "-c", certmongerScript, "sh", url, r.challenge)
	if !strings.Contains(string(said), "status: MONITORING") {
		t.Fatalf("certmonger says:\n%s\n%s", said, h.tail())
	}
	h.deviceCertificate(h.path("certmonger.pem"), h.path("certmonger.key"), r.commonName)
}
