package amapi_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/androidmanagement/v1"

	"github.com/waxseal/waxseal/server/internal/amapi"
)

// google is an API that reads what it gets with Google's own types and refuses fields that it does not know.
type google struct {
	t        *testing.T
	calls    []string
	policy   androidmanagement.Policy
	request  androidmanagement.EnrollmentToken
	status   int
	noAnswer bool
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.calls = append(g.calls, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
	if g.status != 0 {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(g.status)
		_, _ = io.WriteString(w, `{"error": {"code": 403, "message": "The caller does not have permission", "status": "PERMISSION_DENIED"}}`)
		return
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	var err error
	if r.Method == http.MethodPatch {
		err = d.Decode(&g.policy)
	} else {
		err = d.Decode(&g.request)
	}
	if err != nil {
		g.t.Errorf("%s: %v", r.URL.Path, err)
	}
	answer := androidmanagement.EnrollmentToken{Name: "enterprises/LC0/enrollmentTokens/1", Value: "VALUE", QrCode: "{qr}"}
	if g.noAnswer {
		answer.Value = ""
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func client(t *testing.T, g *google, edit ...func(*amapi.Config)) *amapi.Client {
	t.Helper()
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	cfg := amapi.Config{URL: server.URL, Enterprise: "enterprises/LC0", Package: "com.waxseal.companion", ServerURL: "https://mdm.example.com",
		Token: func() (string, error) { return "access", nil }, WorkProfile: true}
	for _, e := range edit {
		e(&cfg)
	}
	c, err := amapi.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPrepare(t *testing.T) {
	g := &google{t: t}
	p, err := client(t, g).Prepare(t.Context(), "waxseal-1", "u1", "one-time", time.Hour)
	if err != nil || p.Value != "VALUE" || p.QRCode != "{qr}" {
		t.Fatalf("%+v %v", p, err)
	}
	want := "PATCH /v1/enterprises/LC0/policies/waxseal-1 Bearer access, POST /v1/enterprises/LC0/enrollmentTokens Bearer access"
	if got := strings.Join(g.calls, ", "); got != want {
		t.Errorf("calls: %s", got)
	}
	app := g.policy.Applications[0]
	if app.PackageName != "com.waxseal.companion" || !strings.Contains(string(app.ManagedConfiguration), "one-time") ||
		!strings.Contains(strings.Join(app.DelegatedScopes, " "), "CERT_INSTALL") || !strings.Contains(strings.Join(app.DelegatedScopes, " "), "CERT_SELECTION") {
		t.Errorf("application: %+v %s", app, app.ManagedConfiguration)
	}
	r := g.request
	if r.PolicyName != "enterprises/LC0/policies/waxseal-1" || r.AdditionalData != "u1" || !r.OneTimeOnly || r.AllowPersonalUsage != "PERSONAL_USAGE_ALLOWED" {
		t.Errorf("request: %+v", r)
	}
}

// TestALongLink: a link may live longer than Google's token does.
func TestALongLink(t *testing.T) {
	g := &google{t: t}
	if _, err := client(t, g).Prepare(t.Context(), "waxseal-1", "u1", "one-time", 90*24*time.Hour); err != nil || g.request.Duration != "2592000s" {
		t.Errorf("%v, %s", err, g.request.Duration)
	}
}

func TestPrepareFails(t *testing.T) {
	for name, tt := range map[string]struct {
		g    *google
		edit func(*amapi.Config)
		says string
	}{
		"refused":         {&google{t: t, status: 403}, func(*amapi.Config) {}, "does not have permission"},
		"no value":        {&google{t: t, noAnswer: true}, func(*amapi.Config) {}, "the answer has none"},
		"no access token": {&google{t: t}, func(c *amapi.Config) { c.Token = func() (string, error) { return "", errors.New("no file") } }, "access token"},
		"empty token":     {&google{t: t}, func(c *amapi.Config) { c.Token = func() (string, error) { return "", nil } }, "empty"},
		"redirect":        {&google{t: t, status: http.StatusTemporaryRedirect}, func(*amapi.Config) {}, "307"},
		"nobody there":    {&google{t: t}, func(c *amapi.Config) { c.URL = "http://127.0.0.1:1" }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.g.t = t
			_, err := client(t, tt.g, tt.edit).Prepare(t.Context(), "p", "u1", "one-time", time.Hour)
			if err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "one-time") || strings.Contains(err.Error(), "Bearer") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	const ours, app = "https://mdm.example.com", "com.waxseal.companion"
	if _, err := amapi.New(amapi.Config{Enterprise: "enterprises/LC0", Package: app, ServerURL: ours}); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []amapi.Config{{}, {Enterprise: "enterprises/LC0", ServerURL: ours}, {Enterprise: "enterprises/LC0", Package: app},
		{Enterprise: "enterprises/LC0", Package: app, ServerURL: ours, SigningCertSHA256: []string{"no hash"}}, {Enterprise: "LC0"}, {Enterprise: "enterprises/LC0/policies/x"}, {Enterprise: "enterprises/LC0", URL: "http://google.example"},
		{Enterprise: "enterprises/LC0", URL: "nonsense"}} {
		if _, err := amapi.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
