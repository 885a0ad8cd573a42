package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

type rig struct {
	*web.Router
	logs *bytes.Buffer
	now  time.Time
}

func newRig(cfg web.Config) *rig {
	r := &rig{logs: &bytes.Buffer{}, now: time.Unix(1_700_000_000, 0)}
	cfg.Logger = slog.New(slog.NewJSONHandler(r.logs, nil))
	cfg.Clock = func() time.Time { return r.now }
	r.Router = web.New(cfg)
	return r
}

func (r *rig) do(method, path, body string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for _, e := range edit {
		e(req)
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func (r *rig) event(t *testing.T) map[string]any {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(r.logs.Bytes()), []byte("\n"))
	var ev map[string]any
	if err := json.Unmarshal(lines[len(lines)-1], &ev); err != nil {
		t.Fatalf("last log line: %v", err)
	}
	return ev
}

func TestOneEventPerRequestWithoutThePath(t *testing.T) {
	r := newRig(web.Config{})
	r.Handle("/enroll/{token}", web.Options{}, func(w http.ResponseWriter, req *http.Request) error {
		web.Annotate(req.Context(), "enr-1", "dev-1")
		r.now = r.now.Add(time.Second)
		_, err := io.WriteString(w, web.Vars(req)["token"])
		return err
	}, http.MethodGet)
	w := r.do(http.MethodGet, "/enroll/s3cret?also=s3cret", "")
	if w.Body.String() != "s3cret" || w.Header().Get("X-Request-Id") == "" {
		t.Fatalf("answer %q, headers %v", w.Body, w.Header())
	}
	ev := r.event(t)
	for key, want := range map[string]any{"route": "/enroll/{token}", "method": "GET", "status": 200.0, "bytes": 6.0, "took": 1e9,
		"remote": "192.0.2.1", "enrolment": "enr-1", "device": "dev-1", "request": w.Header().Get("X-Request-Id")} {
		if ev[key] != want {
			t.Errorf("%s: %v, want %v", key, ev[key], want)
		}
	}
	r.do(http.MethodGet, "/nowhere/s3cret", "")
	r.do(http.MethodDelete, "/enroll/s3cret", "")
	if strings.Contains(r.logs.String(), "s3cret") {
		t.Fatalf("the log holds the token: %s", r.logs)
	}
	if n := strings.Count(r.logs.String(), "\n"); n != 3 {
		t.Fatalf("%d events for 3 requests", n)
	}
}

func TestErrorsAreRenderedOnce(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.1: password hunter2")
	tests := []struct {
		name   string
		err    error
		status int
		detail string
	}{
		{"its own", &web.Error{Status: 422, Title: "Unprocessable", Detail: "spec.x: no", Fields: []api.ProblemError{{Location: "spec.x", Message: "no"}}}, 422, "spec.x: no"},
		{"wrapped", fmt.Errorf("doing: %w", web.Errorf(409, "taken")), 409, "taken"},
		{"not found", fmt.Errorf("reading: %w", model.ErrNotFound), 404, "no such thing"},
		{"conflict", model.ErrConflict, 409, "try again"},
		{"unknown", secret, 500, "the server failed"},
		{"hidden", web.Hide(503, "later", secret), 503, "later"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(web.Config{})
			r.Handle("/p", web.Options{}, func(http.ResponseWriter, *http.Request) error { return tt.err }, http.MethodGet)
			r.Handle("/t", web.Options{Text: true}, func(http.ResponseWriter, *http.Request) error { return tt.err }, http.MethodGet)
			w := r.do(http.MethodGet, "/p", "")
			var p api.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.status || p.Status != tt.status || !strings.Contains(p.Detail, tt.detail) || p.Title == "" || w.Header().Get("Content-Type") != api.ProblemType {
				t.Errorf("%d %s %+v", w.Code, w.Header().Get("Content-Type"), p)
			}
			text := r.do(http.MethodGet, "/t", "")
			if text.Code != tt.status || !strings.HasPrefix(text.Header().Get("Content-Type"), "text/plain") || !strings.Contains(text.Body.String(), tt.detail) {
				t.Errorf("text: %d %q", text.Code, text.Body)
			}
			if strings.Contains(w.Body.String()+text.Body.String(), "hunter2") {
				t.Error("the cause is shown")
			}
			if errors.Is(tt.err, secret) && !strings.Contains(r.logs.String(), "10.0.0.1") {
				t.Error("the cause is not logged")
			}
		})
	}
}

func TestAnErrorSaysItsCauseOnce(t *testing.T) {
	cause := errors.New("disk full")
	if got := web.Errorf(500, "saving: %w", cause).Error(); got != "saving: disk full" {
		t.Errorf("shown cause: %q", got)
	}
	if got := web.Hide(500, "sorry", cause).Error(); got != "sorry: disk full" {
		t.Errorf("hidden cause: %q", got)
	}
}

func TestBodyCap(t *testing.T) {
	r := newRig(web.Config{})
	read := func(w http.ResponseWriter, req *http.Request) error {
		body, err := web.ReadBody(req)
		if err == nil {
			fmt.Fprint(w, len(body))
		}
		return err
	}
	r.Handle("/ten", web.Options{MaxBody: 10}, read, http.MethodPut)
	r.Handle("/none", web.Options{}, read, http.MethodPut)
	tests := []struct {
		path, body string
		status     int
	}{
		{"/ten", "0123456789", 200}, {"/ten", "0123456789x", 413}, {"/ten", strings.Repeat("x", 9<<20), 413},
		{"/none", "", 200}, {"/none", "x", 413},
	}
	for _, tt := range tests {
		if w := r.do(http.MethodPut, tt.path, tt.body); w.Code != tt.status {
			t.Errorf("%s with %d bytes: %d, want %d", tt.path, len(tt.body), w.Code, tt.status)
		}
	}
}

func TestAPanicIsA500(t *testing.T) {
	r := newRig(web.Config{})
	r.Handle("/p", web.Options{}, func(http.ResponseWriter, *http.Request) error { panic("boom") }, http.MethodGet)
	w := r.do(http.MethodGet, "/p", "")
	if w.Code != 500 || strings.Contains(w.Body.String(), "boom") || !strings.Contains(r.logs.String(), "boom") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if r.event(t)["level"] != "ERROR" {
		t.Error("it is not logged as an error")
	}
}

func TestRateOfAnAddress(t *testing.T) {
	r := newRig(web.Config{PerSecond: 1, Burst: 3})
	ok := func(http.ResponseWriter, *http.Request) error { return nil }
	r.Handle("/open", web.Options{Limited: true, Text: true}, ok, http.MethodGet)
	r.Handle("/known", web.Options{}, ok, http.MethodGet)
	from := func(addr string) func(*http.Request) { return func(q *http.Request) { q.RemoteAddr = addr } }
	for i := range 3 {
		if w := r.do(http.MethodGet, "/open", ""); w.Code != 200 {
			t.Fatalf("request %d: %d", i, w.Code)
		}
	}
	if w := r.do(http.MethodGet, "/open", ""); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Fatalf("beyond the burst: %d", w.Code)
	}
	if w := r.do(http.MethodGet, "/open", "", from("198.51.100.7:9")); w.Code != 200 {
		t.Fatalf("another address: %d", w.Code)
	}
	if w := r.do(http.MethodGet, "/known", ""); w.Code != 200 {
		t.Fatalf("a route without a limit: %d", w.Code)
	}
	r.now = r.now.Add(time.Second)
	if w := r.do(http.MethodGet, "/open", ""); w.Code != 200 {
		t.Fatalf("a second later: %d", w.Code)
	}
}

func TestLimiterTakesAnIPv6NetworkAsOne(t *testing.T) {
	l := web.NewLimiter(1, 1, func() time.Time { return time.Unix(0, 0) })
	if !l.Allow(netip.MustParseAddr("2001:db8::1")) || l.Allow(netip.MustParseAddr("2001:db8::2")) {
		t.Error("two addresses of a /64 are told apart")
	}
	if !l.Allow(netip.MustParseAddr("2001:db8:0:1::1")) || !l.Allow(netip.Addr{}) {
		t.Error("another network is held back")
	}
}

func TestRemoteBehindAProxy(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	tests := []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "203.0.113.9", "192.0.2.1"}, // not a proxy of ours
		{"10.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:5", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"},
		{"10.0.0.1:5", "garbage", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"10.0.0.1:5", "10.0.0.3", "10.0.0.1"},
	}
	for _, tt := range tests {
		r := newRig(web.Config{TrustedProxies: trusted})
		r.Handle("/", web.Options{}, func(w http.ResponseWriter, q *http.Request) error {
			_, err := io.WriteString(w, web.Remote(q.Context()).String())
			return err
		}, http.MethodGet)
		w := r.do(http.MethodGet, "/", "", func(q *http.Request) {
			q.RemoteAddr = tt.peer
			q.Header.Set("X-Forwarded-For", tt.forwarded)
		})
		if w.Body.String() != tt.want {
			t.Errorf("%s with %q: %s, want %s", tt.peer, tt.forwarded, w.Body, tt.want)
		}
	}
}

type auditor struct{ entries []model.AuditEntry }

func (a *auditor) AppendAudit(_ context.Context, e ...model.AuditEntry) error {
	a.entries = append(a.entries, e...)
	return nil
}

func TestRefusalsAreBounded(t *testing.T) {
	a := &auditor{}
	r := web.NewRefusals(a, nil, func() time.Time { return time.Unix(0, 0) })
	for range 5000 {
		r.Note(t.Context(), "unknown device", "scep.request", "", "no", nil)
	}
	if len(a.entries) != 100 || a.entries[0].Outcome != "refused" || a.entries[0].Detail["reason"] != "no" {
		t.Fatalf("%d entries", len(a.entries))
	}
}

func TestRefusalsAreShort(t *testing.T) {
	a := &auditor{}
	web.NewRefusals(a, nil, func() time.Time { return time.Unix(0, 0) }).Note(t.Context(), "", "", "", strings.Repeat("ü", 40_000), nil)
	if got := []rune(a.entries[0].Detail["reason"]); len(got) != 501 {
		t.Fatalf("%d characters", len(got))
	}
}

func TestMount(t *testing.T) {
	r := newRig(web.Config{})
	r.Mount("/sub/", 4, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if _, err := io.ReadAll(q.Body); err != nil {
			w.WriteHeader(413)
			return
		}
		_, _ = io.WriteString(w, q.URL.Path)
	}))
	if w := r.do(http.MethodPost, "/sub/x", "1234"); w.Body.String() != "/sub/x" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := r.do(http.MethodPost, "/sub/x", "12345"); w.Code != 413 {
		t.Errorf("beyond the cap: %d", w.Code)
	}
}
