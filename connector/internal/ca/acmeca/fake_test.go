package acmeca

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/internal/testpki"
)

// order is an order of the fake's, with one authorisation.
type order struct {
	Status      string           `json:"status"`
	Expires     string           `json:"expires,omitempty"`
	Identifiers []map[string]any `json:"identifiers"`
	NotAfter    string           `json:"notAfter,omitempty"`
	Profile     string           `json:"profile,omitempty"`
	Error       any              `json:"error,omitempty"`
	Authz       []string         `json:"authorizations"`
	Finalize    string           `json:"finalize"`
	Certificate string           `json:"certificate,omitempty"`
	authz       string           // its authorisation's status
	challenge   string           // its challenge's
	cert        []byte
}

// fake is an ACME CA as RFC 8555 has it, which certifies mail addresses.
type fake struct {
	t        *testing.T
	ca       *testpki.CA
	http     *httptest.Server
	mu       sync.Mutex
	key      crypto.PublicKey // the account's; nil: no account
	account  map[string]any   // what it was made with
	orders   []*order
	revoked  map[string]float64
	nonces   int
	meta     map[string]any
	token    string
	kinds    []string                               // of challenges
	valid    bool                                   // authorisations are there already
	hold     bool                                   // finalised orders stay in processing
	fail     map[string]func(w http.ResponseWriter) // by path's first word
	look     func(o *order)                         // when a challenge is accepted
	seen     []string                               // paths asked for
	accepted []string                               // types of challenges
	bound    string                                 // the key id of the External Account Binding
	orderURL string                                 // where orders are made
}

// bindingKey is what the CA gave for External Account Binding.
const bindingKey = "secret secret secret secret secre"

func newFake(t *testing.T) *fake {
	f := &fake{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), revoked: map[string]float64{}, token: "tok-en_1", valid: true,
		kinds: []string{"tls-alpn-01", "http-01"}, fail: map[string]func(http.ResponseWriter){}, meta: map[string]any{}, orderURL: "new-order"}
	f.http = httptest.NewTLSServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.http.Close)
	return f
}

func usual(t testing.TB) Options {
	return Options{AccountKey: string(testpki.SelfSigned(t, testpki.Options{CN: "account", Key: testpki.PoolKey(t, 3)}).KeyPEM())}
}

func encode(t testing.TB, o Options) json.RawMessage {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (f *fake) settings(o Options) ca.Settings {
	f.t.Helper()
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.http.Certificate().Raw})
	return ca.Settings{Name: "corp", Kind: "acme", URL: f.http.URL + "/directory", TLSRoots: string(roots), Issuers: string(f.ca.CertPEM()), Options: encode(f.t, o)}
}

func (f *fake) adapter(o Options) *adapter {
	f.t.Helper()
	up, err := New(f.settings(o), ca.Env{Clock: testpki.Now})
	if err != nil {
		f.t.Fatal(err)
	}
	return up.(*adapter)
}

func problem(status int, kind, detail string, headers ...string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/problem+json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "detail": detail})
	}
}

func body(status int, text string, headers ...string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nonces++
	w.Header().Set("Replay-Nonce", fmt.Sprintf("nonce%d", f.nonces))
	w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	word, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if word != "nonce" {
		f.seen = append(f.seen, word)
	}
	if fail := f.fail[word]; fail != nil {
		fail(w)
		return
	}
	switch word {
	case "directory":
		f.answer(w, 200, map[string]any{"newNonce": f.url("nonce"), "newAccount": f.url("account"), "newOrder": f.url(f.orderURL), "revokeCert": f.url("revoke"), "meta": f.meta})
		return
	case "nonce":
		return
	}
	f.post(w, r, word, rest)
}

// post reads a JWS and gives its content on; the account's signature is looked at by another library.
func (f *fake) post(w http.ResponseWriter, r *http.Request, word, rest string) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	signed, err := jose.ParseSignedJSON(string(raw), []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		f.t.Errorf("%s: %v", word, err)
		return
	}
	key := f.key
	if word == "account" {
		key = signed.Signatures[0].Protected.JSONWebKey.Key
	}
	content, err := signed.Verify(key)
	if err != nil || signed.Signatures[0].Protected.ExtraHeaders["url"] != f.http.URL+r.URL.Path {
		f.t.Errorf("%s: %v, headers %v", word, err, signed.Signatures[0].Protected.ExtraHeaders)
		return
	}
	if word == "account" {
		f.newAccount(w, key, content)
		return
	}
	f.ask(w, word, rest, content)
}

func (f *fake) newAccount(w http.ResponseWriter, key crypto.PublicKey, content []byte) {
	var wish map[string]any
	if err := json.Unmarshal(content, &wish); err != nil {
		f.t.Error(err)
	}
	status := 200
	switch {
	case wish["onlyReturnExisting"] == true && f.key == nil:
		problem(400, "accountDoesNotExist", "no account")(w)
		return
	case f.key == nil:
		f.key, f.account, status = key, wish, 201
		if binding, ok := wish["externalAccountBinding"].(map[string]any); ok {
			f.bound = f.binding(binding)
		}
	}
	w.Header().Set("Location", f.url("accounts/1"))
	f.answer(w, status, map[string]any{"status": "valid", "contact": wish["contact"]})
}

// binding looks at an External Account Binding with the key bindingKey.
func (f *fake) binding(b map[string]any) string {
	raw, _ := json.Marshal(b)
	signed, err := jose.ParseSignedJSON(string(raw), []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		f.t.Error(err)
		return ""
	}
	if _, err := signed.Verify([]byte(bindingKey)); err != nil {
		f.t.Errorf("the External Account Binding: %v", err)
	}
	return signed.Signatures[0].Protected.KeyID
}

func (f *fake) ask(w http.ResponseWriter, word, rest string, content []byte) {
	var wish map[string]any
	if len(content) > 0 {
		if err := json.Unmarshal(content, &wish); err != nil {
			f.t.Error(err)
		}
	}
	switch word {
	case f.orderURL:
		f.newOrder(w, content)
		return
	case "revoke":
		f.revoke(w, wish)
		return
	}
	number, kind, _ := strings.Cut(rest, "/")
	n := 0
	if _, err := fmt.Sscan(number, &n); err != nil || n >= len(f.orders) {
		problem(404, "malformed", "no such order")(w)
		return
	}
	o := f.orders[n]
	switch word {
	case "order":
		f.answer(w, 200, o)
	case "authz":
		f.answer(w, 200, f.authz(n, o))
	case "challenge":
		f.accepted = append(f.accepted, kind)
		if o.challenge = "processing"; f.look != nil {
			f.look(o)
		}
		f.answer(w, 200, map[string]any{"type": kind, "url": f.url(fmt.Sprintf("challenge/%d/%s", n, kind)), "status": o.challenge, "token": f.token})
	case "finalize":
		f.finalize(w, o, fmt.Sprint(wish["csr"]))
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		w.Header().Add("Link", `<`+f.url("alternate/0")+`>;rel="alternate"`)
		_, _ = w.Write(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.cert}), f.ca.CertPEM()...))
	}
}

func (f *fake) newOrder(w http.ResponseWriter, content []byte) {
	n := len(f.orders)
	o := &order{Authz: []string{f.url(fmt.Sprintf("authz/%d", n))}, Finalize: f.url(fmt.Sprintf("finalize/%d", n)), challenge: "pending"}
	if err := json.Unmarshal(content, o); err != nil {
		f.t.Error(err)
	}
	o.Status, o.authz = "pending", "pending"
	if f.valid {
		o.Status, o.authz = "ready", "valid"
	}
	f.orders = append(f.orders, o)
	w.Header().Set("Location", f.url(fmt.Sprintf("order/%d", n)))
	f.answer(w, 201, o)
}

func (f *fake) authz(n int, o *order) map[string]any {
	var challenges []any
	for _, kind := range f.kinds {
		c := map[string]any{"type": kind, "url": f.url(fmt.Sprintf("challenge/%d/%s", n, kind)), "status": o.challenge, "token": f.token}
		if o.authz == "invalid" {
			c["error"] = map[string]any{"type": "urn:ietf:params:acme:error:unauthorized", "detail": "the file is missing", "status": 403}
		}
		challenges = append(challenges, c)
	}
	return map[string]any{"status": o.authz, "identifier": o.Identifiers[0], "challenges": challenges}
}

func (f *fake) finalize(w http.ResponseWriter, o *order, csr string) {
	der, err := base64.RawURLEncoding.DecodeString(csr)
	if err != nil {
		f.t.Error(err)
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		f.t.Error(err)
		return
	}
	var emails []string
	for _, id := range o.Identifiers {
		emails = append(emails, fmt.Sprint(id["value"]))
	}
	if o.cert == nil {
		o.cert = f.ca.IssueCSR(f.t, request, testpki.Options{CN: "Alice Example", Emails: emails}).Raw
	}
	o.Status = "processing"
	if !f.hold {
		f.issue(o)
	}
	f.answer(w, 200, o)
}

func (f *fake) issue(o *order) {
	for n, other := range f.orders {
		if other == o {
			o.Status, o.Certificate = "valid", f.url(fmt.Sprintf("cert/%d", n))
		}
	}
}

func (f *fake) revoke(w http.ResponseWriter, wish map[string]any) {
	certificate := fmt.Sprint(wish["certificate"])
	if _, ok := f.revoked[certificate]; ok {
		problem(400, "alreadyRevoked", "again")(w)
		return
	}
	if wish["reason"] == 9.0 {
		problem(400, "badRevocationReason", "not this one")(w)
		return
	}
	f.revoked[certificate], _ = wish["reason"].(float64)
}

func (f *fake) url(path string) string { return f.http.URL + "/" + path }

func (f *fake) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		f.t.Error(err)
	}
}
