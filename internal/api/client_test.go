package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/profiles"
)

func testClient(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c, err := NewClient(server.URL+"/", "secret-token", server.Client())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientSendsTokenAndEscapesPath(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer secret-token" {
			t.Errorf("authorization %q", got)
		}
		if got := r.URL.EscapedPath(); got != "/api/v1/users/a%2Fb%20c@corp.test" {
			t.Errorf("path %q", got)
		}
		_ = json.NewEncoder(w).Encode(User{UPN: "a/b c@corp.test"})
	})
	u, err := c.User(context.Background(), "a/b c@corp.test")
	if err != nil || u.UPN != "a/b c@corp.test" {
		t.Fatalf("got %+v, %v", u, err)
	}
}

func TestAllReadsEveryPage(t *testing.T) {
	pages := map[string]Page[Group]{
		"":  {Items: []Group{{Name: "a"}}, Next: "a"},
		"a": {Items: []Group{{Name: "b"}}, Next: "b"},
		"b": {Items: []Group{{Name: "c"}}},
	}
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(pages[r.URL.Query().Get("after")])
	})
	groups, err := All(context.Background(), c.Groups)
	if err != nil || len(groups) != 3 || groups[2].Name != "c" {
		t.Fatalf("got %v, %v", groups, err)
	}
}

func TestAllStopsAtAListThatDoesNotAdvance(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(Page[Job]{Next: "same"})
	})
	if _, err := All(context.Background(), c.Jobs); err == nil {
		t.Fatal("no error")
	}
}

func TestProblems(t *testing.T) {
	cases := []struct {
		name, body string
		status     int
		want       []string
	}{
		{"problem", `{"title":"Unprocessable Entity","detail":"2 faults","errors":[{"location":"Email x: spec","message":"is missing"}]}`, 422,
			[]string{"2 faults", "Email x: spec: is missing"}},
		{"proxy", `<html>bad gateway</html>`, 502, []string{"502"}},
		{"empty", ``, 500, []string{"500"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := testClient(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = w.Write([]byte(tc.body))
			})
			_, err := c.ConnectorToken(context.Background())
			var p *Problem
			if !errors.As(err, &p) || p.Status != tc.status {
				t.Fatalf("got %v", err)
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
		})
	}
}

func TestApplySendsObjects(t *testing.T) {
	c := testClient(t, func(w http.ResponseWriter, r *http.Request) {
		var req ApplyRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || !req.DryRun {
			t.Errorf("got %+v, %v", req, err)
		}
		objects, faults := profiles.DecodeObjects(req.Objects)
		if len(faults) > 0 || len(objects) != 1 || objects[0].Name != "alice@corp.test" {
			t.Errorf("got %v, %v", objects, faults)
		}
		_ = json.NewEncoder(w).Encode(ApplyResponse{Changes: []Change{{Action: "created"}}})
	})
	o := profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindUser, Name: "alice@corp.test",
		Spec: &profiles.User{DisplayName: "Alice", Addresses: []string{"alice@corp.test"}}}
	out, err := c.Apply(context.Background(), []profiles.Object{o}, true)
	if err != nil || len(out.Changes) != 1 {
		t.Fatalf("got %+v, %v", out, err)
	}
}

func TestNewClientRefusesWhatIsNoURL(t *testing.T) {
	for _, s := range []string{"", "mdm.example.com", "ftp://x", "https://"} {
		if _, err := NewClient(s, "t", nil); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
}
