// Package linktest is a small server of the link for the connector's tests. It keeps everything it is sent, so that a
// test can look for secrets, and it can be told to behave badly.
package linktest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
)

// PKIURL is what the server answers to publish.
const PKIURL = "http://pki.corp.test"

// Server is the fake server. Its fields may be changed between requests, under Lock.
type Server struct {
	sync.Mutex
	URL        string
	Token      string
	KeySet     *escrow.SignedKeySet
	Connectors map[string]*Connector // by id
	DeviceCA   []byte
	RA         []byte
	Jobs       []link.Job
	Results    map[string]link.Result
	// Files are what a status message held last.
	Files map[string][]byte
	// Seen is every request body.
	Seen bytes.Buffer
	// Fail, if set, may answer a request by itself, before or after it had its effect.
	Fail func(path string) (status int, after bool)

	racsr []byte
}

// Connector is a registered connector.
type Connector struct {
	ID, Credential string
	Pending        bool
	Request        link.RegisterRequest
	SealedCAs      []byte
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Token: "token-1", Connectors: map[string]*Connector{}, Results: map[string]link.Result{}, Files: map[string][]byte{}, racsr: csr}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connector/v1/register", s.register)
	mux.HandleFunc("POST /connector/v1/publish", s.publish)
	mux.HandleFunc("POST /connector/v1/claim", s.claim)
	mux.HandleFunc("POST /connector/v1/jobs/{id}/result", s.result)
	mux.HandleFunc("POST /connector/v1/status", s.status)
	mux.HandleFunc("GET /connector/v1/keyset", s.keySet)
	mux.HandleFunc("GET /connector/v1/pending", s.pending)
	http := httptest.NewServer(s.record(mux))
	t.Cleanup(http.Close)
	s.URL = http.URL
	return s
}

// record keeps the body, takes the lock and lets Fail have its way.
func (s *Server) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.Lock()
		defer s.Unlock()
		s.Seen.Write(body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if s.Fail != nil {
			if status, after := s.Fail(r.URL.Path); status != 0 {
				if after {
					next.ServeHTTP(httptest.NewRecorder(), r)
				}
				http.Error(w, "{}", status)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var in link.RegisterRequest
	if json.NewDecoder(r.Body).Decode(&in) != nil || in.Token != s.Token {
		http.Error(w, `{"detail":"unknown token"}`, http.StatusForbidden)
		return
	}
	for _, c := range s.Connectors {
		if c.Request.Member.ID == in.Member.ID {
			reply(w, link.RegisterResponse{ConnectorID: c.ID, Credential: c.Credential, Pending: c.Pending})
			return
		}
	}
	n := len(s.Connectors) + 1
	c := &Connector{ID: fmt.Sprintf("c%d", n), Credential: fmt.Sprintf("credential-%d", n), Pending: n > 1, Request: in}
	s.Connectors[c.ID] = c
	reply(w, link.RegisterResponse{ConnectorID: c.ID, Credential: c.Credential, Pending: c.Pending})
}

// caller finds the connector of the Authorization header.
func (s *Server) caller(w http.ResponseWriter, r *http.Request) *Connector {
	id, credential, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	c := s.Connectors[id]
	if c == nil || c.Credential != credential {
		http.Error(w, `{}`, http.StatusUnauthorized)
		return nil
	}
	return c
}

func (s *Server) publish(w http.ResponseWriter, r *http.Request) {
	c := s.caller(w, r)
	if c == nil {
		return
	}
	var in link.PublishRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, `{}`, http.StatusBadRequest)
		return
	}
	for id, sealed := range in.SealedCAs {
		s.Connectors[id].SealedCAs, s.Connectors[id].Pending = sealed, false
	}
	if c.Pending {
		http.Error(w, `{"detail":"not approved"}`, http.StatusForbidden)
		return
	}
	if in.KeySet != nil {
		s.KeySet = in.KeySet
	}
	if in.DeviceCA != nil {
		s.DeviceCA = in.DeviceCA
	}
	if in.RACertificate != nil {
		s.RA = in.RACertificate
	}
	out := link.PublishResponse{SealedCAs: c.SealedCAs, PKIURL: PKIURL}
	if s.RA == nil && in.DeviceCA != nil {
		out.RACSR = s.racsr
	}
	reply(w, out)
}

func (s *Server) claim(w http.ResponseWriter, r *http.Request) {
	if s.caller(w, r) == nil {
		return
	}
	var in link.ClaimRequest
	_ = json.NewDecoder(r.Body).Decode(&in)
	n := min(in.Max, len(s.Jobs))
	jobs := s.Jobs[:n]
	s.Jobs = s.Jobs[n:]
	reply(w, link.ClaimResponse{Jobs: jobs})
}

func (s *Server) result(w http.ResponseWriter, r *http.Request) {
	if s.caller(w, r) == nil {
		return
	}
	var in link.Result
	_ = json.NewDecoder(r.Body).Decode(&in)
	if _, done := s.Results[r.PathValue("id")]; done {
		http.Error(w, `{}`, http.StatusConflict)
		return
	}
	s.Results[r.PathValue("id")] = in
	w.WriteHeader(http.StatusNoContent)
}

// status takes everything, keeps files and CA keys for other connectors, and has nothing to tell but the number of the lists.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	if s.caller(w, r) == nil {
		return
	}
	var in link.StatusRequest
	_ = json.NewDecoder(r.Body).Decode(&in)
	out := link.StatusResponse{Cursor: in.Cursor}
	for _, c := range s.Connectors {
		if sealed, ok := in.Shared[c.Request.Member.ID]; ok {
			c.SealedCAs = sealed
		}
	}
	for _, f := range in.Files {
		s.Files[f.Name] = f.Content
	}
	for _, f := range s.Files {
		if list, err := x509.ParseRevocationList(f); err == nil {
			out.CRLNumber = max(out.CRLNumber, list.Number.Int64())
		}
	}
	reply(w, out)
}

func (s *Server) keySet(w http.ResponseWriter, r *http.Request) {
	if s.caller(w, r) == nil {
		return
	}
	if s.KeySet == nil {
		http.Error(w, `{}`, http.StatusNotFound)
		return
	}
	reply(w, s.KeySet)
}

func (s *Server) pending(w http.ResponseWriter, r *http.Request) {
	if s.caller(w, r) == nil {
		return
	}
	out := link.PendingResponse{}
	for _, c := range s.Connectors {
		if c.Pending {
			out.Pending = append(out.Pending, link.Pending{ConnectorID: c.ID, Name: c.Request.Name, Member: c.Request.Member})
		}
	}
	reply(w, out)
}

// Put queues a job.
func (s *Server) Put(t testing.TB, id, key string, kind link.JobKind, payload any) {
	t.Helper()
	raw, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	s.Lock()
	defer s.Unlock()
	s.Jobs = append(s.Jobs, link.Job{ID: id, Key: key, Kind: kind, Attempt: 1, Payload: raw})
}

// Answer gives the result of a job, decoded into answer unless it failed.
func (s *Server) Answer(t testing.TB, id string, answer any) *link.JobError {
	t.Helper()
	s.Lock()
	defer s.Unlock()
	r, ok := s.Results[id]
	if !ok {
		t.Fatalf("job %s was not answered", id)
	}
	if r.Error == nil && answer != nil {
		if err := json.Unmarshal(r.Answer, answer); err != nil {
			t.Fatal(err)
		}
	}
	return r.Error
}
