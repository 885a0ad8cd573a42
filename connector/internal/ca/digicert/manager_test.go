package digicert

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/internal/testpki"
)

const profileID = "16f011b7-5fa1-4c6d-83f3-ee59c4d54bb0"

// manager is Trust Lifecycle Manager as its OpenAPI description has it.
type manager struct {
	t       *testing.T
	ca      *testpki.CA
	http    *httptest.Server
	issued  []certificate
	revoked map[string]string // reason by serial
	asked   []map[string]any
	lose    bool   // the next answer to an enrolment
	hold    bool   // answer enrolments without a certificate
	unnamed bool   // and without a serial number
	status  int    // of everything but GET /
	body    string // with it
	change  func(o *testpki.Options)
	profile string // its answer
	bare    bool   // searches leave the certificates out
	ghost   bool   // and find one that is not there
	verdict string // on what is held
}

func newManager(t *testing.T) *manager {
	m := &manager{t: t, ca: testpki.NewCA(t, "Corp Issuing CA"), revoked: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", testpki.Now().Format(http.TimeFormat))
	})
	mux.HandleFunc("POST /mpki/api/v1/certificate", m.guard(m.enrol))
	mux.HandleFunc("GET /mpki/api/v1/certificate/{serial}", m.guard(m.fetch))
	mux.HandleFunc("GET /mpki/api/v1/certificate-search", m.guard(m.search))
	mux.HandleFunc("PUT /mpki/api/v1/certificate/{serial}/revoke", m.guard(m.revoke))
	mux.HandleFunc("GET /mpki/api/v1/profile/{profile}", m.guard(m.showProfile))
	m.http = httptest.NewTLSServer(mux)
	t.Cleanup(m.http.Close)
	return m
}

func (m *manager) guard(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case m.status != 0:
			w.Header().Set("Location", "https://login.corp.test/")
			w.WriteHeader(m.status)
			_, _ = w.Write([]byte(m.body))
		case r.Header.Get("X-API-Key") != "key_7":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"errors":[{"code":"unauthorized","message":"no such key"}]}`))
		default:
			h(w, r)
		}
	}
}

func (m *manager) answer(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		m.t.Error(err)
	}
}

func (m *manager) enrol(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		m.t.Error(err)
	}
	m.asked = append(m.asked, body)
	text, _ := body["csr"].(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		m.t.Error("no PEM request")
		return
	}
	cert := issue(m.t, m.ca, block.Bytes, m.change)
	c := certificate{Serial: serialText(cert), Certificate: base64.StdEncoding.EncodeToString(cert.Raw), Status: "issued"}
	m.issued = append(m.issued, c)
	if m.lose {
		m.lose = false
		panic(http.ErrAbortHandler)
	}
	if m.hold {
		if m.unnamed {
			c.Serial = ""
		}
		m.answer(w, http.StatusAccepted, certificate{Serial: c.Serial, Status: "pending"})
		return
	}
	c.Certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	m.answer(w, http.StatusCreated, c)
}

func issue(t *testing.T, authority *testpki.CA, der []byte, change func(*testpki.Options)) *x509.Certificate {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || csr.CheckSignature() != nil {
		t.Errorf("the request is no signed PKCS #10: %v", err)
	}
	o := testpki.Options{CN: csr.Subject.CommonName, Emails: csr.EmailAddresses}
	if change != nil {
		change(&o)
	}
	if o.Key != nil {
		return authority.Issue(t, o).Cert
	}
	return authority.IssueCSR(t, csr, o)
}

func (m *manager) find(serial string) (certificate, bool) {
	for _, c := range m.issued {
		if c.Serial == serial {
			if m.revoked[serial] != "" {
				c.Status = "revoked"
			}
			return c, true
		}
	}
	return certificate{}, false
}

func (m *manager) fetch(w http.ResponseWriter, r *http.Request) {
	c, ok := m.find(r.PathValue("serial"))
	if !ok {
		m.answer(w, http.StatusNotFound, nil)
		return
	}
	if m.hold {
		c.Certificate, c.Status = "", cmp.Or(m.verdict, "pending")
	}
	m.answer(w, http.StatusOK, c)
}

func (m *manager) search(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("seat_id") == "" || q.Get("profile_id") != profileID {
		m.t.Errorf("searched for %v", q)
	}
	items := []certificate{{Serial: "1", Certificate: "no certificate"}}
	for _, c := range m.issued {
		if m.hold && m.unnamed {
			continue
		}
		if m.bare {
			c.Certificate = ""
		}
		items = append(items, c)
	}
	if m.bare {
		items = items[1:]
	}
	if m.ghost {
		items = append([]certificate{{Serial: "7F"}}, items...)
	}
	m.answer(w, http.StatusOK, map[string]any{"items": items, "total": len(items)})
}

func (m *manager) revoke(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Reason string `json:"revocation_reason"`
	}
	serial := r.PathValue("serial")
	_, ok := m.find(serial)
	switch err := json.NewDecoder(r.Body).Decode(&body); {
	case err != nil || len(r.URL.Query().Get("thumbprint_sha256")) != 64:
		m.t.Errorf("%v, %s", err, r.URL)
	case !ok || m.revoked[serial] != "":
		m.answer(w, http.StatusBadRequest, map[string]any{"errors": []map[string]string{{"code": "invalid", "message": "cannot be revoked"}}})
		return
	}
	m.revoked[serial] = body.Reason
	w.WriteHeader(http.StatusNoContent)
}

func (m *manager) showProfile(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("profile") != profileID {
		m.answer(w, http.StatusForbidden, map[string]any{"error": map[string]string{"code": "no_access", "message": "no such profile"}})
		return
	}
	if m.profile != "" {
		_, _ = w.Write([]byte(m.profile))
		return
	}
	_, _ = fmt.Fprintf(w, `{"id":%q,"name":"Mail","status":"Active","enrollment_method":"rest_api","authentication_method":"third_party_app",
"override_cert_validity_via_api":false,"certificate":{"issuer":{"certificate":%q}}}`, profileID, base64.StdEncoding.EncodeToString(m.ca.Cert.Raw))
}

func certText(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func settings(t testing.TB, kind string, server *httptest.Server, issuer *x509.Certificate, options any) ca.Settings {
	t.Helper()
	raw, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	return ca.Settings{Name: "digicert", Kind: kind, URL: server.URL, TLSRoots: certText(server.Certificate()), Issuers: certText(issuer), Templates: []string{"mail"}, Options: raw}
}

func usual() Options {
	return Options{APIKey: "key_7\n", Profile: profileID, Profiles: map[string]string{"mail": profileID}}
}

func (m *manager) settings(o Options) ca.Settings {
	return settings(m.t, "digicert", m.http, m.ca.Cert, o)
}

func (m *manager) adapter(o Options) ledger.Upstream {
	m.t.Helper()
	up, err := New(m.settings(o), ca.Env{Clock: testpki.Now})
	if err != nil {
		m.t.Fatal(err)
	}
	return up
}
