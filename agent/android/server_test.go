package android

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// fakeClock is a clock whose sleeps take no time.
type fakeClock struct {
	mu    sync.Mutex
	now   time.Time
	sleep func() // called at each sleep
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.now = c.now.Add(d)
	c.mu.Unlock()
	if c.sleep != nil {
		c.sleep()
	}
	return ctx.Err()
}

const (
	outlook    = profiles.PackageOutlook
	token      = "one-time-token"
	credential = "the-credential"
)

// told is a status report as the server got it.
type told struct {
	item string
	companion.StatusReport
}

// fakeServer is a small server for the companion app.
type fakeServer struct {
	t     testing.TB
	http  *httptest.Server
	clock *fakeClock
	ca    *testpki.CA // of wrap certificates and of mail

	mu          sync.Mutex
	state       companion.State
	generation  int
	secrets     map[string]companion.Secret
	wrap        *x509.Certificate
	installs    []string // install ids, as they enrolled
	told        []told
	inventories []companion.Inventory
	events      []companion.Event
	goodbyes    []string
	calls       []string // method and path
	payloads    int
	csrs        []*x509.CertificateRequest
	issued      map[string][]byte // by the request's key
	// refuse may answer a request itself; it says whether it did.
	refuse func(w http.ResponseWriter, r *http.Request) bool
	always bool // the state is answered even when it is known
}

func newServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, clock: &fakeClock{now: testpki.Now()}, ca: testpki.NewCA(t, "mail CA"), secrets: map[string]companion.Secret{}}
	s.state.Policy.RemoveOnUnenroll = true
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+companion.PathEnroll, s.enroll)
	mux.HandleFunc("GET "+companion.PathState, s.getState)
	mux.HandleFunc("POST "+companion.PathPayload, s.payload)
	mux.HandleFunc("POST "+companion.PathCSR, s.certify)
	mux.HandleFunc("PUT "+companion.PathStatus, s.status)
	mux.HandleFunc("POST "+companion.PathInventory, s.inventory)
	mux.HandleFunc("POST "+companion.PathEvents, s.takeEvents)
	mux.HandleFunc("POST "+companion.PathUnenroll, s.unenroll)
	s.http = httptest.NewUnstartedServer(s.guard(mux))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.StartTLS()
	t.Cleanup(s.http.Close)
	return s
}

// guard counts requests, lets a test refuse some, and wants the credential.
func (s *fakeServer) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls = append(s.calls, r.Method+" "+r.URL.Path)
		switch {
		case s.refuse != nil && s.refuse(w, r):
		case r.URL.Path != companion.PathEnroll && r.Header.Get("Authorization") != "Bearer "+credential:
			problem(w, companion.CodeCredentialInvalid)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func problem(w http.ResponseWriter, code string) {
	w.Header().Set("Content-Type", companion.TypeProblem)
	w.WriteHeader(companion.StatusOf(code))
	_ = json.NewEncoder(w).Encode(companion.Problem{Code: code, Detail: "because of the test", RetryAfterSeconds: 1})
}

func read[M any](s *fakeServer, r *http.Request, decode func([]byte) (M, error)) M {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	m, err := decode(raw)
	if err != nil {
		s.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
	}
	return m
}

func answerWith(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", companion.TypeMessage)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *fakeServer) enroll(w http.ResponseWriter, r *http.Request) {
	m := read(s, r, companion.DecodeEnrollRequest)
	csr, err := x509.ParseCertificateRequest(m.WrapKey.CSR)
	if err != nil || csr.CheckSignature() != nil {
		s.t.Errorf("the request of the wrap key: %v", err)
		problem(w, companion.CodeMalformed)
		return
	}
	if m.EnrollmentToken != token {
		problem(w, companion.CodeTokenInvalid)
		return
	}
	s.installs = append(s.installs, m.Device.InstallID)
	s.wrap = s.ca.IssueCSR(s.t, csr, testpki.Options{CN: "enrolment"})
	sum := sha256.Sum256(s.wrap.Raw)
	answerWith(w, http.StatusCreated, companion.EnrollResponse{DeviceID: "device-1", UserHint: "a***@corp.test", Credential: credential,
		WrapKeyID: hex.EncodeToString(sum[:]), WrapCertificate: s.wrap.Raw, Poll: companion.Poll{IntervalSeconds: 900}, ServerTime: s.clock.Now()})
}

func (s *fakeServer) getState(w http.ResponseWriter, r *http.Request) {
	generation := fmt.Sprint("g", s.generation)
	if r.URL.Query().Get("generation") == generation && !s.always {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	out := s.state
	out.Generation, out.ServerTime = generation, s.clock.Now()
	if out.Items == nil {
		out.Items = []companion.Item{}
	}
	answerWith(w, http.StatusOK, out)
}

func (s *fakeServer) payload(w http.ResponseWriter, r *http.Request) {
	m := read(s, r, companion.DecodePayloadRequest)
	s.payloads++
	secret, there := s.secrets[r.PathValue("item")]
	switch {
	case !there:
		problem(w, companion.CodeItemGone)
		return
	case m.Revision != secret.Revision:
		problem(w, companion.CodeRevisionStale)
		return
	}
	plain, err := json.Marshal(secret)
	if err != nil {
		s.t.Error(err)
	}
	envelope, err := cms.Encrypt(rand.Reader, plain, []*x509.Certificate{s.wrap}, cms.EncryptOptions{})
	if err != nil {
		s.t.Error(err)
	}
	answerWith(w, http.StatusOK, companion.PayloadResponse{Envelope: envelope, Alg: companion.EnvelopeCMS, ExpiresAt: s.clock.Now().Add(time.Hour)})
}

func (s *fakeServer) status(w http.ResponseWriter, r *http.Request) {
	m := read(s, r, companion.DecodeStatusReport)
	s.told = append(s.told, told{r.PathValue("item"), m})
	answerWith(w, http.StatusOK, companion.StatusResponse{AckSeq: m.Seq})
}

func (s *fakeServer) inventory(w http.ResponseWriter, r *http.Request) {
	s.inventories = append(s.inventories, read(s, r, companion.DecodeInventory))
	w.WriteHeader(http.StatusNoContent)
}

func (s *fakeServer) takeEvents(w http.ResponseWriter, r *http.Request) {
	s.events = append(s.events, read(s, r, companion.DecodeEvents)...)
	w.WriteHeader(http.StatusNoContent)
}

func (s *fakeServer) unenroll(w http.ResponseWriter, r *http.Request) {
	s.goodbyes = append(s.goodbyes, read(s, r, companion.DecodeUnenroll).Reason)
	w.WriteHeader(http.StatusNoContent)
}

// change alters what is wanted.
func (s *fakeServer) change(do func(*companion.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do(&s.state)
	s.generation++
}

func (s *fakeServer) want(items ...companion.Item) {
	s.change(func(st *companion.State) { st.Items = items })
}

// reports are the states that an item was told in, oldest first.
func (s *fakeServer) reports(item string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, r := range s.told {
		if r.item == item {
			out = append(out, string(r.State))
		}
	}
	return strings.Join(out, " ")
}

// last is the last inventory.
func (s *fakeServer) last(t *testing.T) companion.Inventory {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.inventories) == 0 {
		t.Fatal("no inventory was told")
	}
	return s.inventories[len(s.inventories)-1]
}

// identity makes an identity item with a key for the server to hand out.
func (s *fakeServer) identity(id *testpki.Identity, alias, revision string) companion.Item {
	s.t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	item := companion.Item{ID: "identity:" + alias, Revision: revision, Kind: companion.KindIdentity, Op: companion.OpInstall,
		Identity: &companion.Identity{Purpose: companion.PurposeEncrypt, Current: true, Alias: alias, CertSHA256: framework.Fingerprint(id.Cert.Raw),
			NotBefore: id.Cert.NotBefore, NotAfter: id.Cert.NotAfter, Payload: companion.PayloadFetch}}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[item.ID] = companion.Secret{Format: companion.SecretFormat, Key: key, Chain: [][]byte{id.Cert.Raw, s.ca.Cert.Raw},
		CertSHA256: item.Identity.CertSHA256, ItemID: item.ID, Revision: revision}
	return item
}

func (s *fakeServer) mailID(address string) *testpki.Identity {
	return s.ca.Issue(s.t, testpki.Options{CN: address, Emails: []string{address}})
}

func caItem(ca *testpki.CA) companion.Item {
	sum := framework.Fingerprint(ca.Cert.Raw)
	return companion.Item{ID: "ca:" + sum, Revision: "r1", Kind: companion.KindCACert, Op: companion.OpInstall, CACert: &companion.CACert{SHA256: sum, DER: ca.Cert.Raw}}
}

func grantItem(pkg, alias string) companion.Item {
	return companion.Item{ID: "grant:" + pkg + ":" + alias, Revision: "r1", Kind: companion.KindGrant, Op: companion.OpInstall,
		DependsOn: []string{"identity:" + alias}, Grant: &companion.Grant{Alias: alias, Package: pkg}}
}

func configItem(pkg string) companion.Item {
	return companion.Item{ID: "mail:" + pkg, Revision: "r1", Kind: companion.KindMailConfig, Op: companion.OpInstall,
		MailConfig: &companion.MailConfig{Package: pkg, Values: map[string]any{"com.microsoft.outlook.Mail.SMIMEEnabled": true}}}
}

// removal turns an item into its removal.
func removal(i companion.Item) companion.Item {
	i.Op, i.Revision, i.DependsOn = companion.OpRemove, companion.RevisionRemoval, nil
	return i
}

// house is the usual set: a CA, an identity, a grant, a configuration, in an order that the app has to put right.
func (s *fakeServer) house() []companion.Item {
	id := s.identity(s.mailID("alice@corp.test"), "smime-enc-1", "r1")
	ca := caItem(s.ca)
	id.DependsOn = []string{ca.ID}
	return []companion.Item{configItem(outlook), grantItem(outlook, "smime-enc-1"), id, ca}
}

func (s *fakeServer) config(t *testing.T) Config {
	return Config{
		State: t.TempDir(), Source: s.http.URL + "/enroll/" + token, Clock: s.clock,
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}),
		NewKey: func(int) (*rsa.PrivateKey, error) { return testpki.PoolKey(t, 3), nil },
	}
}

// device enrols a device.
func (s *fakeServer) device(t *testing.T, change ...func(*Config)) *Device {
	t.Helper()
	cfg := s.config(t)
	for _, c := range change {
		c(&cfg)
	}
	d, err := Enroll(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// again opens the device's folder anew, as after the death of its process.
func again(t *testing.T, d *Device) *Device {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d.cfg.CA = nil
	out, err := Open(d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	return out
}

func mustSync(t *testing.T, d *Device) Report {
	t.Helper()
	r, err := d.Sync(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func contains(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, word := range words {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not say %q", err, word)
		}
	}
}
