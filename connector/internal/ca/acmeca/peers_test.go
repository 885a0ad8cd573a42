package acmeca

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/realca"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// dnsNames makes of an intent one that these programs can certify: neither knows mail addresses.
func dnsNames(names ...string) func(in *ca.Intent) {
	return func(in *ca.Intent) {
		in.Subject, in.SANs = []byte{0x30, 0x00}, nil
		for _, name := range names {
			in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: profiles.SANDNS, Value: name})
		}
	}
}

func dnsIntent(t *testing.T, names ...string) ca.Intent {
	in := intent(t)
	dnsNames(names...)(&in)
	return in
}

// real opens an adapter of dns names on a program that others wrote. Such a program looks at the real clock, and may take
// its time on a machine under load.
func real(t *testing.T, s ca.Settings, o Options) *adapter {
	t.Helper()
	if o.Identifier == "" {
		o.Identifier = identifierDNS
	}
	s.Options = encode(t, o)
	up, err := New(s, ca.Env{Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	a := up.(*adapter)
	a.waiting = 2 * time.Minute
	return a
}

// wantWrongAlone: everything but one is right.
func wantWrongAlone(t *testing.T, findings []link.CAFinding, check string) {
	t.Helper()
	for _, f := range findings {
		if f.OK == (f.Check == check) {
			t.Errorf("%s: ok %t, %s", f.Check, f.OK, f.Detail)
		}
	}
	if !slices.ContainsFunc(findings, func(f link.CAFinding) bool { return f.Check == check }) {
		t.Errorf("%s was not looked at: %+v", check, findings)
	}
}

func startPebble(t *testing.T, o realca.PebbleOptions) ca.Settings {
	p := realca.StartPebble(t, o)
	return ca.Settings{Name: "corp", Kind: "acme", URL: p.URL, TLSRoots: p.Roots, Issuers: p.Issuers}
}

// TestRealPebble: an account by External Account Binding, names that are taken for proven, and the whole suite.
func TestRealPebble(t *testing.T) {
	key := base64.RawURLEncoding.EncodeToString([]byte(bindingKey))
	s := startPebble(t, realca.PebbleOptions{AlwaysValid: true, Reuse: true, BindingKeys: map[string]string{"kid-7": key}})
	o := usual(t)
	o.AcceptTerms, o.Webroot, o.Profile, o.RequestValidity = true, t.TempDir(), "short", true
	if _, err := real(t, s, o).Enroll(t.Context(), (&note{}).question(dnsIntent(t, "a.corp.test"))); err == nil || !strings.Contains(err.Error(), "eabKeyID") {
		t.Errorf("without a binding: %v", err)
	}
	o.EABKeyID, o.EABHMAC = "kid-8", key
	if _, err := real(t, s, o).Enroll(t.Context(), (&note{}).question(dnsIntent(t, "a.corp.test"))); !errors.Is(err, web.ErrCredentials) {
		t.Errorf("with another's binding: %v", err)
	}
	o.EABKeyID, o.Contact = "kid-7", []string{"mailto:pki@corp.test"}
	a := real(t, s, o)
	wantWrongAlone(t, a.Test(t.Context()), "identifier")
	t.Run("conformance", func(t *testing.T) {
		later := time.Now().Add(time.Hour) // Pebble's certificates begin when they are issued, which must be past
		conformance(t, s, a, later, catest.Traits{Names: dnsNames("alice.corp.test", "b.corp.test")})
	})
	t.Run("mail addresses", func(t *testing.T) { realMailAddresses(t, s, o) })
	o.RequestValidity = false
	a = real(t, s, o)
	t.Run("again", func(t *testing.T) { realAgain(t, a) })
	t.Run("revoke", func(t *testing.T) {
		leaf := mustEnroll(t, a, &note{}, dnsIntent(t, "c.corp.test"))
		for range 2 {
			if err := a.Revoke(t.Context(), leaf, 4); err != nil {
				t.Error(err)
			}
		}
	})
}

// realMailAddresses: this CA says no for good, and says so in a test before anybody needs a certificate.
func realMailAddresses(t *testing.T, s ca.Settings, o Options) {
	o.Identifier = identifierEmail
	a := real(t, s, o)
	wantWrongAlone(t, a.Test(t.Context()), "identifier")
	var refused *ca.RefusedError
	if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); !errors.As(err, &refused) || !strings.Contains(err.Error(), "email") {
		t.Errorf("got %v", err)
	}
}

// realAgain: after a lost answer, the same order gives the same certificate, of the life that its profile has.
func realAgain(t *testing.T, a *adapter) {
	var n note
	in := dnsIntent(t, "d.corp.test")
	first := mustEnroll(t, a, &n, in)
	if again := mustEnroll(t, a, &n, in); !again.Equal(first) {
		t.Error("the order gave another certificate")
	}
	n.handle = append(n.handle, "-forgotten"...)
	if other := mustEnroll(t, a, &n, in); other.Equal(first) {
		t.Error("another order gave the same certificate")
	}
	if life := first.NotAfter.Sub(first.NotBefore); first.DNSNames[0] != "d.corp.test" || life.Round(time.Hour) != 144*time.Hour {
		t.Errorf("names %q, a life of %s", first.DNSNames, life)
	}
}

// TestRealPebbleLooks: it asks a web server and a name server, and says what it does not find there.
func TestRealPebbleLooks(t *testing.T) {
	root, records := t.TempDir(), t.TempDir()
	s := startPebble(t, realca.PebbleOptions{HTTPPort: webServer(t, "127.0.0.1:0", root), DNS: nameServer(t, records)})
	o := usual(t)
	o.AcceptTerms, o.Webroot = true, root
	t.Run("http-01", func(t *testing.T) {
		mustEnroll(t, real(t, s, o), &note{}, dnsIntent(t, "a.corp.test", "b.corp.test"))
		wantEmpty(t, filepath.Join(root, wellKnown))
	})
	t.Run("http-01 elsewhere", func(t *testing.T) {
		o := o
		o.Webroot = t.TempDir()
		_, err := real(t, s, o).Enroll(t.Context(), (&note{}).question(dnsIntent(t, "c.corp.test")))
		if err == nil || !strings.Contains(err.Error(), `could not confirm "c.corp.test"`) || !strings.Contains(err.Error(), "404") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("dns-01", func(t *testing.T) {
		o := o
		o.Webroot, o.DNSCommand = "", []string{hook(t), records}
		leaf := mustEnroll(t, real(t, s, o), &note{}, dnsIntent(t, "*.corp.test"))
		if leaf.DNSNames[0] != "*.corp.test" {
			t.Errorf("names %q", leaf.DNSNames)
		}
		wantEmpty(t, records)
	})
}

// TestRealStepCA: step-ca as an ACME server. It looks at a challenge while it is being accepted, and keeps it open.
func TestRealStepCA(t *testing.T) {
	const template = `{"subject": {{ toJson .Subject }}, "sans": {{ toJson .SANs }}, "keyUsage": ["digitalSignature", "keyEncipherment"], "extKeyUsage": ["emailProtection"]}`
	server := realca.StartStepCA(t, map[string]any{"type": "ACME", "name": "acme", "options": map[string]any{"x509": map[string]any{"template": template}}},
		map[string]any{"type": "ACME", "name": "devices", "challenges": []string{"device-attest-01"}})
	root := t.TempDir()
	s := ca.Settings{Name: "corp", Kind: "acme", URL: server.URL + "/acme/acme/directory", TLSRoots: server.Roots, Issuers: server.Issuers}
	o := usual(t)
	o.Webroot = root
	a := real(t, s, o)
	wantWrongAlone(t, a.Test(t.Context()), "identifier")
	t.Run("nobody answers", func(t *testing.T) {
		var n note
		_, err := a.Enroll(t.Context(), n.question(dnsIntent(t, "localhost")))
		if err == nil || errors.Is(err, ca.ErrPending) || !strings.Contains(err.Error(), `could not confirm "localhost"`) {
			t.Errorf("got %v", err)
		}
	})
	webServer(t, fmt.Sprintf("127.0.0.1:%d", server.HTTPPort), root)
	t.Run("conformance", func(t *testing.T) {
		conformance(t, s, a, time.Now(), catest.Traits{OwnValidity: true, Names: dnsNames("localhost")})
	})
	t.Run("mail addresses", func(t *testing.T) { realMailAddresses(t, s, o) })
	t.Run("devices", func(t *testing.T) { // the device would have to attest its key
		o.AccountKey = string(testpki.SelfSigned(t, testpki.Options{CN: "account", Key: testpki.PoolKey(t, 4)}).KeyPEM()) // step-ca ties one to one provisioner
		s.URL, o.Identifier = server.URL+"/acme/devices/directory", identifierPermanent
		a := real(t, s, o)
		for _, f := range a.Test(t.Context()) {
			if !f.OK {
				t.Errorf("%s: %s", f.Check, f.Detail)
			}
		}
		if _, err := a.Enroll(t.Context(), (&note{}).question(intent(t))); err == nil || !strings.Contains(err.Error(), "device-attest-01") {
			t.Errorf("got %v", err)
		}
	})
}

// webServer serves a folder until the test ends, and gives its port.
func webServer(t *testing.T, address, root string) int {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.FileServer(http.Dir(root)), ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(server.Close)
	return l.Addr().(*net.TCPAddr).Port
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// hook is a dnsCommand that keeps records as files: FOLDER present|cleanup NAME VALUE.
func hook(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	text := "#!/bin/sh\nset -e\ncase $2 in\npresent) printf %s \"$4\" > \"$1/$3\" ;;\ncleanup) rm \"$1/$3\" ;;\nesac\n"
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// nameServer answers by TCP (RFC 1035 section 4): every name is at 127.0.0.1, and its TXT record is the file of that name.
func nameServer(t *testing.T, records string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answerOne(conn, records)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// answerOne answers one question, which has its length before it.
func answerOne(conn net.Conn, records string) {
	defer conn.Close()
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return
	}
	question := make([]byte, int(length[0])<<8|int(length[1]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return
	}
	if answer := answerDNS(question, records); answer != nil {
		_, _ = conn.Write(append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...))
	}
}

const (
	typeA   = 1
	typeTXT = 16
)

func answerDNS(question []byte, records string) []byte {
	var labels []string
	at := 12
	for at < len(question) && question[at] != 0 {
		end := min(at+1+int(question[at]), len(question))
		labels, at = append(labels, string(question[at+1:end])), end
	}
	if at+5 > len(question) {
		return nil
	}
	kind, data := question[at+2], []byte(nil)
	switch kind {
	case typeA:
		data = []byte{127, 0, 0, 1}
	case typeTXT:
		if text, err := os.ReadFile(filepath.Join(records, filepath.Base(strings.Join(labels, ".")))); err == nil {
			data = append([]byte{byte(len(text))}, text...)
		}
	}
	out := append([]byte{question[0], question[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, question[12:at+5]...)
	if data == nil {
		return out
	}
	out[7] = 1
	return append(append(out, 0xC0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, byte(len(data))), data...)
}
