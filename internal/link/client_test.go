package link

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &Client{BaseURL: s.URL + "/", ConnectorID: "c1", Credential: "secret"}
}

func TestClientSendsWhatTheWireSays(t *testing.T) {
	var seen []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		if strings.HasSuffix(r.URL.Path, "/claim") {
			var in ClaimRequest
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Max != 3 {
				t.Errorf("claim: %+v, %v", in, err)
			}
			_, _ = io.WriteString(w, `{"jobs":[{"id":"j/1","key":"k","kind":"render","payload":{"a":1}}]}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	jobs, err := c.Claim(t.Context(), ClaimRequest{Max: 3})
	if err != nil || len(jobs) != 1 || jobs[0].Kind != JobRender {
		t.Fatalf("got %v, %v", jobs, err)
	}
	if err := c.Result(t.Context(), jobs[0].ID, Result{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /connector/v1/claim Bearer c1.secret", "POST /connector/v1/jobs/j/1/result Bearer c1.secret"}
	if strings.Join(seen, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", seen)
	}
}

func TestClientErrors(t *testing.T) {
	cases := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"problem", 403, `{"title":"Forbidden","detail":"this connector is not approved yet"}`, "answered 403: this connector is not approved yet"},
		{"title", 400, `{"title":"Bad token"}`, "answered 400: Bad token"},
		{"no problem+json", 502, `<html>secret=1</html>`, "answered 502: Bad Gateway"},
		{"not JSON", 200, `<html>`, "reading the answer"},
		{"too long", 200, `"` + strings.Repeat("a", MaxBody) + `"`, "longer than"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := c.Claim(t.Context(), ClaimRequest{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAnsweredByAnotherIsNoError(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	if err := c.Result(t.Context(), "j", Result{}); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestNoKeySetYet(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	if _, found, err := c.KeySet(t.Context()); found || err != nil {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestTransportTrustsThePinnedCAAlone(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer s.Close()
	right := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	transport, err := NewTransport(right)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{BaseURL: s.URL, HTTP: &http.Client{Transport: transport}}
	if _, err := c.Pending(t.Context()); err != nil {
		t.Errorf("with the right CA: %v", err)
	}
	system, err := NewTransport(nil)
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP = &http.Client{Transport: system}
	var status *StatusError
	if _, err := c.Pending(t.Context()); err == nil || errors.As(err, &status) {
		t.Errorf("with the system's CAs: %v", err)
	}
	if _, err := NewTransport([]byte("no PEM")); err == nil {
		t.Error("a file without certificates was accepted")
	}
}

// TestRedirectionIsNotFollowed: 307 would carry the token along, and a host below the same domain would get the credential.
func TestRedirectionIsNotFollowed(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		reached := false
		elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
		c := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) })
		_, err := c.Register(t.Context(), RegisterRequest{Token: "one-time"})
		if _, getErr := c.Pending(t.Context()); !IsStatus(err, status) || !IsStatus(getErr, status) || reached {
			t.Errorf("%d: got %v, %v, followed: %v", status, err, getErr, reached)
		}
		elsewhere.Close()
	}
}
