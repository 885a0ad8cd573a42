package androidmdm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// scripted is a Delivery that says what the test wants.
type scripted struct {
	mu         sync.Mutex
	generation string
	err        error
	calls      []string
	polls      int
	onPoll     func(n int)
}

func (s *scripted) State(_ context.Context, enr model.Enrolment, known string) (companion.State, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polls++
	if s.onPoll != nil {
		s.onPoll(s.polls)
	}
	s.calls = append(s.calls, "state "+enr.ID)
	return companion.State{Generation: s.generation, ServerTime: testpki.Now(), Items: []companion.Item{}}, known != s.generation, s.err
}

func (s *scripted) Envelope(_ context.Context, _ model.Enrolment, item string, r companion.PayloadRequest) (companion.PayloadResponse, error) {
	s.calls = append(s.calls, "envelope "+item+" "+r.Revision)
	return companion.PayloadResponse{Envelope: []byte("sealed"), Alg: companion.EnvelopeCMS}, s.err
}

func (s *scripted) Request(_ context.Context, _ model.Enrolment, item, revision string) (string, error) {
	s.calls = append(s.calls, "request "+item+" "+revision)
	return "request-1", s.err
}

func (s *scripted) Asking(_ context.Context, _ model.Enrolment, item, _ string) error {
	s.calls = append(s.calls, "asking "+item)
	return s.err
}

func (s *scripted) Report(_ context.Context, _ model.Enrolment, item string, r companion.StatusReport) error {
	s.calls = append(s.calls, "report "+item+" "+string(r.State))
	return s.err
}

func (s *scripted) Inventory(context.Context, model.Enrolment, companion.Inventory) error {
	s.calls = append(s.calls, "inventory")
	return s.err
}

type rig struct {
	t        *testing.T
	store    *identitytest.Store
	svc      *identity.Service
	ca       *testpki.CA
	delivery *scripted
	issuance *certifier
	router   *web.Router
	endpoint *androidmdm.Endpoint
	ticks    chan time.Time
	now      time.Time
	noTrust  bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: identitytest.New(), ca: testpki.NewCA(t, "device CA"), delivery: &scripted{generation: "1"}, issuance: &certifier{}, ticks: make(chan time.Time), now: testpki.Now()}
	clock := func() time.Time { return r.now }
	logger := slog.New(slog.DiscardHandler)
	users := identitytest.Users{"u1": {ID: "u1", UPN: "dave@corp.test"}, "u2": {ID: "u2", UPN: "eve@corp.test"}}
	r.svc = identity.New(identity.Config{Store: r.store, Jobs: r.store, Users: users, Clock: clock})
	r.store.Created = func(j model.Job) { r.store.Certify(t, r.ca, j) }
	authority := identity.NewAuthority(func(context.Context) ([]byte, []byte, error) {
		if r.noTrust {
			return nil, nil, nil
		}
		return r.ca.Cert.Raw, r.ca.Cert.Raw, nil
	})
	r.router = web.New(web.Config{Logger: logger, Clock: clock, Burst: 100_000})
	r.endpoint = androidmdm.New(androidmdm.Config{Identity: r.svc, Authority: authority, Delivery: r.delivery, Issuance: r.issuance, Users: users, Auditor: r.store,
		Refusals: web.NewRefusals(r.store, logger, clock), Clock: clock, Logger: logger, Wait: time.Nanosecond,
		Ticks: func() (<-chan time.Time, func()) { return r.ticks, func() {} }})
	r.endpoint.Routes(r.router)
	return r
}

func (r *rig) token(user string, platform profiles.Platform) string {
	r.t.Helper()
	token, err := r.svc.CreateLink(r.t.Context(), model.User{ID: user, UPN: user}, platform, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *rig) request(token, install string, key int) companion.EnrollRequest {
	r.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, testpki.PoolKey(r.t, key))
	if err != nil {
		r.t.Fatal(err)
	}
	return companion.EnrollRequest{Protocol: companion.Protocol, EnrollmentToken: token, WrapKey: companion.WrapKey{KeyType: companion.WrapKeyRSA, CSR: csr},
		Device: companion.Device{InstallID: install, SDKInt: 35, Release: "15", Manufacturer: "Google", Model: "Pixel 9", ManagementMode: companion.ModeCompanion},
		Agent:  companion.Agent{Package: "com.waxseal.companion", Version: "1"}, Capabilities: []companion.Capability{companion.CapabilityCertInstall}}
}

func (r *rig) do(method, path, credential string, body any) *httptest.ResponseRecorder {
	r.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, reader)
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	w := httptest.NewRecorder()
	r.router.ServeHTTP(w, req)
	return w
}

func (r *rig) enrolled(key int) companion.EnrollResponse {
	r.t.Helper()
	w := r.do(http.MethodPost, companion.PathEnroll, "", r.request(r.token("u1", profiles.Android), "install-1", key))
	if w.Code != http.StatusCreated {
		r.t.Fatalf("%d %s", w.Code, w.Body)
	}
	answer, err := companion.DecodeEnrollResponse(w.Body.Bytes())
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

func code(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	p, err := companion.DecodeProblem(w.Body.Bytes())
	if err != nil || companion.StatusOf(p.Code) != w.Code || w.Header().Get("Content-Length") == "" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return p.Code
}

func TestEnrolment(t *testing.T) {
	r := newRig(t)
	token := r.token("u1", profiles.Android)
	first := r.do(http.MethodPost, companion.PathEnroll, "", r.request(token, "install-1", 1))
	answer, err := companion.DecodeEnrollResponse(first.Body.Bytes())
	if err != nil || first.Code != 201 || answer.UserHint != "dave@corp.test" || answer.DeviceID == "" {
		t.Fatalf("%d %s %v", first.Code, first.Body, err)
	}
	enr, err := r.svc.Bearer(t.Context(), answer.Credential)
	if err != nil || enr.State != model.EnrolmentActive || enr.CertSHA256 != answer.WrapKeyID || enr.ExternalID != "install-1" {
		t.Fatalf("%+v %v", enr, err)
	}
	again := r.do(http.MethodPost, companion.PathEnroll, "", r.request(token, "install-1", 1))
	second, err := companion.DecodeEnrollResponse(again.Body.Bytes())
	if err != nil || second.DeviceID != answer.DeviceID || second.WrapKeyID != answer.WrapKeyID || second.Credential == answer.Credential {
		t.Errorf("the same again: %d %s %v", again.Code, again.Body, err)
	}
	if w := r.do(http.MethodGet, companion.PathState, answer.Credential, nil); code(t, w) != companion.CodeCredentialInvalid {
		t.Error("the former credential still works")
	}
	if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", r.request(token, "install-1", 2))); got != companion.CodeTokenInvalid {
		t.Errorf("another key with the same token: %s", got)
	}
}

func TestEnrolmentRefused(t *testing.T) {
	tests := []struct {
		name  string
		build func(r *rig) any
		want  string
	}{
		{"unknown token", func(r *rig) any { return r.request("guess", "i", 1) }, companion.CodeTokenInvalid},
		{"a token of an iPhone", func(r *rig) any { return r.request(r.token("u1", profiles.IOS), "i", 1) }, companion.CodeTokenInvalid},
		{"expired", func(r *rig) any {
			token := r.token("u1", profiles.Android)
			r.now = r.now.Add(identity.DefaultLinkLife)
			return r.request(token, "i", 1)
		}, companion.CodeTokenInvalid},
		{"no request", func(r *rig) any {
			q := r.request(r.token("u1", profiles.Android), "i", 1)
			q.WrapKey.CSR = []byte("no request")
			return q
		}, companion.CodeMalformed},
		{"no JSON", func(*rig) any { return "{" }, companion.CodeMalformed},
		{"huge", func(*rig) any { return `{"x":"` + strings.Repeat("x", companion.MaxRequest) + `"}` }, companion.CodeTooLarge},
		{"no connector", func(r *rig) any { r.noTrust = true; return r.request(r.token("u1", profiles.Android), "i", 1) }, companion.CodeUnavailable},
		{"another user's installation", func(r *rig) any {
			r.enrolled(2)
			return r.request(r.token("u2", profiles.Android), "install-1", 1)
		}, companion.CodeInstallIDTaken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.t = t
			body := tt.build(r)
			before := r.store.Challenges()
			if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", body)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if r.store.Challenges() != before {
				t.Error("something was stored")
			}
		})
	}
}

// TestASlowConnector: the token stays usable.
func TestASlowConnector(t *testing.T) {
	r := newRig(t)
	certify := r.store.Created
	var job model.Job
	r.store.Created = func(j model.Job) { job = j }
	q := r.request(r.token("u1", profiles.Android), "install-1", 1)
	if w := r.do(http.MethodPost, companion.PathEnroll, "", q); code(t, w) != companion.CodeUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	certify(job)
	if w := r.do(http.MethodPost, companion.PathEnroll, "", q); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestOnlyTheBearerIsServed(t *testing.T) {
	r := newRig(t)
	answer := r.enrolled(1)
	id, _, _ := strings.Cut(answer.Credential, ".")
	for name, credential := range map[string]string{"none": "", "a guess": id + ".guess", "no secret": id + ".", "nonsense": "x", "of nobody": "nobody.secret",
		"long": strings.Repeat("x", 5000)} {
		if got := code(t, r.do(http.MethodGet, companion.PathState, credential, nil)); got != companion.CodeCredentialInvalid {
			t.Errorf("%s: %s", name, got)
		}
	}
	if len(r.delivery.calls) != 0 {
		t.Errorf("delivery heard %v", r.delivery.calls)
	}
	e := r.store.Enrolment(id)
	e.State = model.EnrolmentEnded
	r.store.PutEnrolment(e)
	if got := code(t, r.do(http.MethodGet, companion.PathState, answer.Credential, nil)); got != companion.CodeEnded {
		t.Errorf("ended: %s", got)
	}
}

func TestState(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	w := r.do(http.MethodGet, companion.PathState, credential, nil)
	if _, err := companion.DecodeState(w.Body.Bytes()); err != nil || w.Code != 200 || w.Header().Get("ETag") != `"1"` {
		t.Errorf("%d %s %v", w.Code, w.Body, err)
	}
	if w := r.do(http.MethodGet, companion.PathState+"?generation=1", credential, nil); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("unchanged: %d %s", w.Code, w.Body)
	}
	for _, bad := range []string{"soon", "-1"} {
		if got := code(t, r.do(http.MethodGet, companion.PathState+"?generation=1&wait="+bad, credential, nil)); got != companion.CodeMalformed {
			t.Errorf("wait=%s: %s", bad, got)
		}
	}
}

func TestItems(t *testing.T) {
	r := newRig(t)
	answer := r.enrolled(1)
	const item = "identity:smime-enc-0123456789ab"
	fetch := companion.PayloadRequest{Revision: "r1", WrapKeyID: answer.WrapKeyID, Nonce: "n"}
	if w := r.do(http.MethodPost, companion.PathPayloadOf(item), answer.Credential, fetch); w.Code != 200 {
		t.Errorf("payload: %d %s", w.Code, w.Body)
	}
	report := companion.StatusReport{Revision: "r1", Seq: 7, State: companion.StateInstalled, At: r.now}
	w := r.do(http.MethodPut, companion.PathStatusOf(item), answer.Credential, report)
	if ack, err := companion.DecodeStatusResponse(w.Body.Bytes()); err != nil || ack.AckSeq != 7 {
		t.Errorf("status: %d %s %v", w.Code, w.Body, err)
	}
	inv := companion.Inventory{Generation: "1", Identities: []companion.Held{}, CAs: []string{}, Capabilities: []companion.Capability{}, Apps: []companion.App{}}
	if w := r.do(http.MethodPost, companion.PathInventory, answer.Credential, inv); w.Code != 200 {
		t.Errorf("inventory: %d %s", w.Code, w.Body)
	}
	if got := strings.Join(r.delivery.calls, ", "); got != "envelope "+item+" r1, report "+item+" installed, inventory" {
		t.Errorf("delivery heard %s", got)
	}
	fetched := false
	for _, a := range r.store.Audit() {
		fetched = fetched || (a.Action == "key.fetch" && a.Object == item && a.Detail["wrapKey"] == answer.WrapKeyID)
	}
	if !fetched {
		t.Errorf("no audit of the envelope: %+v", r.store.Audit())
	}
	for path, method := range map[string]string{companion.PathPayloadOf(item): http.MethodPost, companion.PathStatusOf(item): http.MethodPut,
		companion.PathInventory: http.MethodPost, companion.PathEvents: http.MethodPost, companion.PathUnenroll: http.MethodPost} {
		if got := code(t, r.do(method, path, answer.Credential, "[")); got != companion.CodeMalformed {
			t.Errorf("%s with nonsense: %s", path, got)
		}
	}
}

func TestGoodbye(t *testing.T) {
	r := newRig(t)
	answer := r.enrolled(1)
	if w := r.do(http.MethodPost, companion.PathUnenroll, answer.Credential, companion.Unenroll{Reason: companion.UnenrollUser}); w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	d, err := r.store.DeviceByID(t.Context(), answer.DeviceID)
	if err != nil || d.State != model.DeviceLeft || d.Removal != model.RemovalReported {
		t.Errorf("%+v %v", d, err)
	}
	if got := code(t, r.do(http.MethodPost, companion.PathUnenroll, answer.Credential, companion.Unenroll{Reason: companion.UnenrollUser})); got != companion.CodeEnded {
		t.Errorf("again: %s", got)
	}
}
