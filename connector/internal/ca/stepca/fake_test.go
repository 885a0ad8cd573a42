package stepca

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/testpki"
)

var web403 = web.ErrCredentials

func crypto256() crypto.Hash { return crypto.SHA256 }

// fake is step-ca as its API is described.
type fake struct {
	t        *testing.T
	ca       *testpki.CA
	http     *httptest.Server
	keys     map[string]*material
	used     map[string]bool
	claims   []map[string]any
	requests [][]byte
	notAfter string
	revoked  map[string]int
	answer   func(w http.ResponseWriter) // instead of its own
	health   string
	old      bool // it does not tell its intermediates
}

func newFake(t *testing.T) *fake {
	f := &fake{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), keys: map[string]*material{"waxseal": newMaterial(t)},
		used: map[string]bool{}, revoked: map[string]int{}, health: `{"status":"ok"}`}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
		_, _ = w.Write([]byte(f.health))
	})
	mux.HandleFunc("GET /roots", f.certificates)
	mux.HandleFunc("GET /intermediates", f.certificates)
	mux.HandleFunc("GET /provisioners", f.provisioners)
	mux.HandleFunc("POST /1.0/sign", f.sign)
	mux.HandleFunc("POST /1.0/revoke", f.revoke)
	f.http = httptest.NewTLSServer(mux)
	t.Cleanup(f.http.Close)
	return f
}

func (f *fake) usual() Options {
	m := f.keys["waxseal"]
	return Options{Provisioner: Provisioner{Name: "waxseal", Key: m.encrypted, Password: "secret"}, RootFingerprint: fingerprint(f.ca.Cert)}
}

func (f *fake) settings(o Options) ca.Settings {
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.http.Certificate().Raw})
	return ca.Settings{Name: "corp", Kind: "stepca", URL: f.http.URL, TLSRoots: string(roots), Issuers: string(f.ca.CertPEM()), Options: encode(f.t, o)}
}

func (f *fake) adapter(o Options) enroller {
	f.t.Helper()
	up, err := New(f.settings(o), ca.Env{Clock: testpki.Now, Rand: rand()})
	if err != nil {
		f.t.Fatal(err)
	}
	return up
}

func status(code int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Location", "https://login.corp.test/")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
	}
}

func (f *fake) fail(w http.ResponseWriter, code int, format string, args ...any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"status": code, "message": fmt.Sprintf(format, args...)})
}

// authorize looks at a token as step-ca does.
func (f *fake) authorize(token, path string) (map[string]any, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	var unsafe jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unsafe); err != nil {
		return nil, err
	}
	m := f.keys[unsafe.Issuer]
	if m == nil {
		return nil, fmt.Errorf("provisioner not found")
	}
	var standard jwt.Claims
	all := map[string]any{}
	if err := parsed.Claims(&m.key.PublicKey, &standard, &all); err != nil {
		return nil, err
	}
	if err := standard.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{f.http.URL + path}, Time: testpki.Now()}, time.Minute); err != nil {
		return nil, err
	}
	if f.used[standard.ID] {
		return nil, fmt.Errorf("token already used")
	}
	f.used[standard.ID] = true
	f.claims = append(f.claims, all)
	return all, nil
}

func (f *fake) sign(w http.ResponseWriter, r *http.Request) {
	if f.answer != nil {
		f.answer(w)
		return
	}
	var body struct {
		CSR, OTT, NotAfter string
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Error(err)
	}
	token, err := f.authorize(body.OTT, "/1.0/sign")
	if err != nil {
		f.fail(w, http.StatusUnauthorized, "%v", err)
		return
	}
	block, _ := pem.Decode([]byte(body.CSR))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.requests, f.notAfter = append(f.requests, csr.Raw), body.NotAfter
	o := testpki.Options{CN: fmt.Sprint(token["sub"])}
	for _, san := range token["sans"].([]any) {
		o.Emails = append(o.Emails, fmt.Sprint(san))
	}
	if body.NotAfter != "" {
		if o.NotAfter, err = time.Parse(time.RFC3339, body.NotAfter); err != nil {
			f.t.Error(err)
		}
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.ca.IssueCSR(f.t, csr, o).Raw})
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(map[string]any{"crt": string(leaf), "ca": string(f.ca.CertPEM()), "certChain": []string{string(leaf), string(f.ca.CertPEM())}})
}

func (f *fake) revoke(w http.ResponseWriter, r *http.Request) {
	if f.answer != nil {
		f.answer(w)
		return
	}
	var body struct {
		Serial, OTT string
		ReasonCode  int
		Passive     bool
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.t.Error(err)
	}
	token, err := f.authorize(body.OTT, "/1.0/revoke")
	_, known := f.revoked[body.Serial]
	switch {
	case err != nil:
		f.fail(w, http.StatusUnauthorized, "%v", err)
	case !body.Passive:
		f.fail(w, http.StatusNotImplemented, "non-passive revocation not implemented")
	case token["sub"] != body.Serial:
		f.fail(w, http.StatusForbidden, "request serial number %q and token subject %q do not match", body.Serial, token["sub"])
	case known:
		f.fail(w, http.StatusBadRequest, "certificate with serial number '%s' is already revoked", body.Serial)
	default:
		f.revoked[body.Serial] = body.ReasonCode
		_, _ = w.Write([]byte(`{"status":"ok"}`))
	}
}

func (f *fake) certificates(w http.ResponseWriter, r *http.Request) {
	if f.old && r.URL.Path == "/intermediates" {
		f.fail(w, http.StatusNotFound, "not found")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"crts": []string{string(f.ca.CertPEM())}})
}

// provisioners answers one on each page.
func (f *fake) provisioners(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("cursor") == "" {
		_, _ = w.Write([]byte(`{"provisioners":[{"type":"ACME","name":"acme"}],"nextCursor":"1"}`))
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"provisioners": []any{map[string]any{"type": "JWK", "name": "waxseal", "key": json.RawMessage(f.keys["waxseal"].public)}}})
}
