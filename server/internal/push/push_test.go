package push_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/push"
)

const topic = "com.apple.mgmt.External.11111111-2222-3333-4444-555555555555"

// pushCertificate makes one with the given UID in its subject.
func pushCertificate(t *testing.T, uid string) tls.Certificate {
	t.Helper()
	key := testpki.PoolKey(t, 3)
	name := pkix.Name{CommonName: "APSP", ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, Value: uid}}}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: name, NotBefore: testpki.Now().AddDate(-2, 0, 0),
		NotAfter: testpki.Now().AddDate(10, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// apns answers like Apple, over HTTP/2 with a client certificate.
func apns(t *testing.T, h http.HandlerFunc) (url string, roots *x509.CertPool) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots = x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	return srv.URL, roots
}

func client(t *testing.T, h http.HandlerFunc) *push.Client {
	t.Helper()
	url, roots := apns(t, h)
	c, err := push.NewClient(push.ClientConfig{Certificate: pushCertificate(t, topic), URL: url, Roots: roots, Clock: testpki.Now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPushSpeaksAsAppleWants(t *testing.T) {
	var got *http.Request
	var body []byte
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("apns-id", "x")
	})
	if c.Topic() != topic {
		t.Fatalf("topic %q", c.Topic())
	}
	err := c.Push(t.Context(), push.Target{EnrolmentID: "e", Token: []byte{0xAB, 0x01}, Magic: `m"agic`, Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	if got.ProtoMajor != 2 || got.Method != http.MethodPost || got.URL.Path != "/3/device/ab01" {
		t.Errorf("%s %s %s", got.Proto, got.Method, got.URL.Path)
	}
	if string(body) != `{"mdm":"m\"agic"}` {
		t.Errorf("body %s", body)
	}
	expires := strconv.FormatInt(testpki.Now().Add(7*24*time.Hour).Unix(), 10)
	for name, want := range map[string]string{"apns-topic": topic, "apns-push-type": "mdm", "apns-expiration": expires} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
	if len(got.TLS.PeerCertificates) == 0 {
		t.Error("no client certificate")
	}
}

func TestPushErrors(t *testing.T) {
	tests := []struct {
		status int
		body   string
		gone   bool
	}{
		{410, `{"reason":"Unregistered","timestamp":1700000000}`, true},
		{400, `{"reason":"BadDeviceToken"}`, true},
		{410, `{"reason":"ExpiredToken"}`, true},
		{400, `{"reason":"DeviceTokenNotForTopic"}`, true},
		{403, `{"reason":"BadCertificate"}`, false},
		{429, `{"reason":"TooManyRequests"}`, false},
		{503, `not json`, false},
		{500, strings.Repeat("x", 100_000), false},
	}
	for _, tt := range tests {
		c := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})
		var refused *push.Error
		err := c.Push(t.Context(), push.Target{Token: []byte{1}, Magic: "m", Topic: topic})
		if !errors.As(err, &refused) || refused.Status != tt.status || refused.Gone() != tt.gone || len(refused.Error()) > 120 {
			t.Errorf("%d %.40s: %v", tt.status, tt.body, err)
		}
	}
}

func TestAnUnreachableServiceDoesNotPrintTheToken(t *testing.T) {
	c, err := push.NewClient(push.ClientConfig{Certificate: pushCertificate(t, topic), URL: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Push(t.Context(), push.Target{Token: []byte{0xde, 0xad, 0xbe, 0xef}, Magic: "m"})
	if err == nil || strings.Contains(err.Error(), "deadbeef") {
		t.Fatalf("got %v", err)
	}
}

func TestNewClientRefuses(t *testing.T) {
	if _, err := push.NewClient(push.ClientConfig{Certificate: pushCertificate(t, "someone")}); err == nil || !strings.Contains(err.Error(), "com.apple.mgmt.") {
		t.Errorf("a certificate without a topic: %v", err)
	}
	if _, err := push.NewClient(push.ClientConfig{}); err == nil {
		t.Error("no certificate at all was taken")
	}
	for _, url := range []string{"http://127.0.0.1", "api.push.apple.com", "https://", "%"} {
		if _, err := push.NewClient(push.ClientConfig{Certificate: pushCertificate(t, topic), URL: url}); err == nil {
			t.Errorf("URL %q was taken", url)
		}
	}
}

// fakeStore hands out each batch once and notes what it was asked.
type fakeStore struct {
	mu      sync.Mutex
	batches [][]push.Target
	paces   []push.Pace
	unsent  []string
	failed  []string
	err     error
	asked   chan struct{}
}

func (s *fakeStore) DuePushes(_ context.Context, _ time.Time, limit int, pace push.Pace) ([]push.Target, error) {
	s.mu.Lock()
	s.paces = append(s.paces, pace)
	var out []push.Target
	if len(s.batches) > 0 && s.err == nil {
		out, s.batches = s.batches[0], s.batches[1:]
	}
	err := s.err
	s.mu.Unlock()
	if len(out) < limit {
		defer func() { s.asked <- struct{}{} }()
	}
	return out, err
}

func (s *fakeStore) PushFailed(_ context.Context, id, reason string, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = append(s.failed, id+" "+reason)
	return nil
}

func (s *fakeStore) PushUnsent(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsent = append(s.unsent, id)
	return nil
}

type sender struct {
	mu   sync.Mutex
	sent []string
	errs map[string]error
}

func (s *sender) Push(_ context.Context, t push.Target) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, t.EnrolmentID)
	return s.errs[t.EnrolmentID]
}

type running struct {
	*push.Worker
	ticks chan time.Time
	logs  *bytes.Buffer
	stop  func()
	pause []time.Duration
	later atomic.Int64 // nanoseconds after testpki.Now
}

func (r *running) now() time.Time { return testpki.Now().Add(time.Duration(r.later.Load())) }

func start(t *testing.T, store *fakeStore, s push.Sender) *running {
	t.Helper()
	store.asked = make(chan struct{}, 100)
	r := &running{ticks: make(chan time.Time), logs: &bytes.Buffer{}}
	r.Worker = push.New(push.Config{Store: store, Sender: s, PerSecond: 20, Clock: r.now,
		Logger: slog.New(slog.NewTextHandler(r.logs, nil)),
		Ticks:  func(time.Duration) (<-chan time.Time, func()) { return r.ticks, func() {} },
		Pause:  func(_ context.Context, d time.Duration) error { r.pause = append(r.pause, d); return nil }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("worker: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func many(n int, first string) []push.Target {
	out := make([]push.Target, n)
	for i := range out {
		out[i] = push.Target{EnrolmentID: first + strconv.Itoa(i)}
	}
	return out
}

func TestWorkerEmptiesTheQueuePaced(t *testing.T) {
	store := &fakeStore{batches: [][]push.Target{many(100, "a"), many(3, "b")}}
	s := &sender{}
	r := start(t, store, s)
	r.Kick()
	<-store.asked
	r.stop()
	if len(s.sent) != 103 {
		t.Fatalf("%d wake-ups", len(s.sent))
	}
	if len(r.pause) != 99+2 || r.pause[0] != 50*time.Millisecond {
		t.Fatalf("%d pauses of %v", len(r.pause), r.pause[0])
	}
}

// TestWorkerPace: a kick and each tick look with the same pace; the store knows whose turn it is.
func TestWorkerPace(t *testing.T) {
	store := &fakeStore{}
	r := start(t, store, &sender{})
	r.Kick()
	<-store.asked
	r.ticks <- time.Time{}
	<-store.asked
	r.stop()
	want := push.Pace{MinGap: 2 * time.Second, Repeat: 2 * time.Minute, MaxGap: 24 * time.Hour, NotNowAfter: 2 * time.Minute, NotNowMost: time.Hour}
	if !slices.Equal(store.paces, []push.Pace{want, want}) {
		t.Fatalf("paces %v, want %v twice", store.paces, want)
	}
}

func TestWorkerNotesGoneTokensOnly(t *testing.T) {
	store := &fakeStore{batches: [][]push.Target{{{EnrolmentID: "ok"}, {EnrolmentID: "gone"}, {EnrolmentID: "busy"}, {EnrolmentID: "net"}}}}
	s := &sender{errs: map[string]error{"gone": &push.Error{Status: 410, Reason: "Unregistered"},
		"busy": &push.Error{Status: 429, Reason: "TooManyRequests"}, "net": errors.New("refused")}}
	r := start(t, store, s)
	r.Kick()
	<-store.asked
	r.ticks <- time.Time{} // taken once the first round is over
	<-store.asked
	r.stop()
	if !slices.Equal(store.failed, []string{"gone Unregistered"}) {
		t.Fatalf("failed: %v", store.failed)
	}
	slices.Sort(store.unsent)
	if !slices.Equal(store.unsent, []string{"busy", "net"}) {
		t.Fatalf("to be sent again: %v", store.unsent)
	}
	if len(s.sent) != 4 {
		t.Fatalf("sent: %v", s.sent)
	}
}

func TestWorkerSurvivesTheDatabase(t *testing.T) {
	store := &fakeStore{err: errors.New("disk full")}
	r := start(t, store, &sender{})
	r.Kick()
	<-store.asked
	store.mu.Lock()
	store.err, store.batches = nil, [][]push.Target{many(1, "a")}
	store.mu.Unlock()
	r.ticks <- time.Time{}
	<-store.asked
	r.stop()
	if !strings.Contains(r.logs.String(), "disk full") {
		t.Fatalf("log: %s", r.logs)
	}
}

func TestWithoutACertificateTheWorkerRests(t *testing.T) {
	store := &fakeStore{}
	r := start(t, store, nil)
	r.Kick()
	r.stop()
	if len(store.paces) != 0 {
		t.Fatal("it claimed wake-ups that it cannot send")
	}
}
