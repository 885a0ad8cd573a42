package acmeca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/testpki"
)

// canned is a CA without sockets: a directory and an account as they should be, and one answer for a certificate and another for
// everything else.
type canned struct {
	status       int
	answer, cert []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	status, text := c.status, c.answer
	switch r.URL.Path {
	case "/directory":
		status, text = 200, []byte(`{"newNonce":"https://ca/nonce","newAccount":"https://ca/account","newOrder":"https://ca/new-order","revokeCert":"https://ca/revoke"}`)
	case "/account":
		status, text = 200, []byte(`{"status":"valid"}`)
	case "/new-order":
		status = 201
	case "/cert":
		text = c.cert
	}
	header := http.Header{"Replay-Nonce": {"n"}, "Location": {"https://ca/order"}}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(bytes.NewReader(text)), Request: r}, nil
}

// cannedAdapter gives up after a moment: what is fuzzed is what answers are read as.
func cannedAdapter(t testing.TB, c canned) *adapter {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), append(make([]byte, 31), 7))
	if err != nil {
		t.Fatal(err)
	}
	return &adapter{settings: ca.Settings{URL: "https://ca/directory"}, options: Options{Identifier: identifierEmail, Webroot: t.TempDir()}, key: key,
		clock: testpki.Now, waiting: time.Millisecond, run: runCommand, web: &http.Client{Transport: boundedTransport{c}}}
}

// FuzzAnswer: whatever a CA answers, what reaches people is short and in one line, and a chain begins with a certificate.
func FuzzAnswer(f *testing.F) {
	own := testpki.NewCA(f, "Corp CA")
	leaf := own.Issue(f, testpki.Options{CN: "Alice Example", Key: testpki.PoolKey(f, 1)}).CertPEM()
	const valid = `{"status":"valid","certificate":"https://ca/cert"}`
	f.Add(200, []byte(`{"status":"ready","finalize":"https://ca/finalize"}`), []byte{})
	f.Add(200, []byte(valid), leaf)
	f.Add(200, []byte(valid), append(own.CertPEM(), leaf...))
	f.Add(200, []byte(valid), own.CertPEM())
	f.Add(200, []byte(valid), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30, 0x80}}))
	f.Add(200, []byte(`{"status":"pending","authorizations":["https://ca/authz"],"identifier":{"type":"email","value":"Alice.Example@corp.test"},"challenges":[{"type":"http-01","url":"https://ca/c","token":"abc"}]}`), []byte{})
	f.Add(200, []byte(`{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:badCSR","detail":"no\u0000\nname"}}`), []byte{})
	f.Add(200, []byte(`{"status":"processing","authorizations":["","http://ca","%zz"]}`), []byte{})
	f.Add(429, []byte(`{"type":"urn:ietf:params:acme:error:rateLimited","detail":"slowly"}`), []byte{})
	f.Add(307, []byte("<html>"), []byte{})
	in := intent(f)
	f.Fuzz(func(t *testing.T, status int, answer, cert []byte) {
		a := cannedAdapter(t, canned{status, answer, cert})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for _, handle := range [][]byte{nil, []byte("https://ca/order")} {
			chain, err := a.Enroll(ctx, (&note{handle}).question(in))
			wantReadable(t, chain, err)
		}
	})
}

func wantReadable(t *testing.T, chain [][]byte, err error) {
	t.Helper()
	if err == nil {
		if _, err := x509.ParseCertificate(chain[0]); err != nil {
			t.Error(err)
		}
		return
	}
	if text := err.Error(); len(text) > 1000 || !errors.Is(err, ca.ErrPending) && strings.ContainsAny(text, "\n\r\x00") {
		t.Errorf("%q", text)
	}
}
