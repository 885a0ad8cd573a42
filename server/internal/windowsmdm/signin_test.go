package windowsmdm_test

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// signIn is the form as a person fills it in.
func signIn(user, secret string) url.Values {
	return url.Values{"appru": {windowsmdm.SettingsApp}, "user": {user}, "secret": {secret}}
}

func (r *rig) page(appru, hint string) *httptest.ResponseRecorder {
	return r.do(http.MethodGet, windowsmdm.AuthPath+"?"+url.Values{"appru": {appru}, "login_hint": {hint}}.Encode(), "", nil)
}

// attribute finds a value in a page.
func attribute(body, pattern string) string {
	m := regexp.MustCompile(pattern).FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return html.UnescapeString(m[1])
}

func TestSignInLeadsToACertificate(t *testing.T) {
	r := newRig(t, federated)
	w := r.page(windowsmdm.SettingsApp, `"><script>alert(1)</script>@example.com`)
	body := w.Body.String()
	if w.Code != 200 || strings.Contains(body, "<script>") || strings.Contains(body, "<GmbH>") || attribute(body, `name="appru" value="([^"]*)"`) != windowsmdm.SettingsApp {
		t.Fatalf("%d %s", w.Code, body)
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Set-Cookie": ""} {
		if w.Header().Get(name) != want {
			t.Errorf("%s: %q", name, w.Header().Get(name))
		}
	}
	if r.Challenges() != 0 {
		t.Error("opening the page had an effect")
	}
	w = r.form(signIn("Alice@Example.com", strings.ToLower(r.secret(t))))
	body = w.Body.String()
	nonce := attribute(body, `<script nonce="([^"]*)"`)
	policy := w.Header().Get("Content-Security-Policy")
	if w.Code != 200 || nonce == "" || !strings.Contains(policy, "script-src 'nonce-"+nonce+"'") || !strings.Contains(policy, "form-action ms-app:;") {
		t.Fatalf("%d %s\n%s", w.Code, policy, body)
	}
	if attribute(body, `<form method="post" action="([^"]*)">`) != windowsmdm.SettingsApp {
		t.Fatalf("the form leads elsewhere: %s", body)
	}
	header := bearer(attribute(body, `name="wresult" value="([^"]*)"`), 1)
	r.checkEnrolled(t, certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual()))), "User"))
}

func TestWrongSignIns(t *testing.T) {
	tests := []struct {
		name string
		form func(*testing.T, *rig) url.Values
		want string
	}{
		{"another's name", func(t *testing.T, r *rig) url.Values { return signIn("bob@example.com", r.secret(t)) }, "do not belong together"},
		{"wrong secret", func(t *testing.T, r *rig) url.Values { return signIn(upn, "AAAA") }, "do not belong together"},
		{"nothing", func(*testing.T, *rig) url.Values { return signIn("", "") }, "do not belong together"},
		{"very long", func(*testing.T, *rig) url.Values {
			return signIn(strings.Repeat("a", 2000), strings.Repeat("b", 2000))
		}, "do not belong together"},
		{"spent", func(t *testing.T, r *rig) url.Values { return signIn(upn, r.spent(t)) }, "used by a device already"},
		{"expired", func(t *testing.T, r *rig) url.Values {
			secret := r.secret(t)
			r.now = r.now.Add(73 * time.Hour)
			return signIn(upn, secret)
		}, "has expired"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, federated)
			form := tt.form(t, r)
			before := r.Challenges()
			w := r.form(form)
			body := w.Body.String()
			if w.Code != http.StatusForbidden || !strings.Contains(body, tt.want) || strings.Contains(body, "wresult") {
				t.Errorf("%d %s", w.Code, body)
			}
			if secret := form.Get("secret"); secret != "" && strings.Contains(body, secret) {
				t.Error("the secret is on the page")
			}
			if r.Challenges() != before || len(r.Refused()) != 1 || r.Refused()[0].Action != "mde.signin" {
				t.Errorf("audit %+v", r.Refused())
			}
		})
	}
}

func TestForeignAddresses(t *testing.T) {
	tests := []struct {
		appru  string
		prefix bool
		ok     bool
	}{
		{windowsmdm.SettingsApp, false, true},
		{windowsmdm.SettingsApp + "/", false, false},
		{windowsmdm.SettingsApp + "/", true, true},
		{windowsmdm.SettingsApp + "?a='b'", true, true},
		{windowsmdm.SettingsApp + ".evil", true, false},
		{windowsmdm.SettingsApp + "@evil", true, false},
		{"ms-app://evil", false, false}, {"ms-app://evil", true, false},
		{"https://evil.example.com/", false, false}, {"javascript:alert(1)", true, false}, {"", true, false},
		{windowsmdm.SettingsApp + "\r\nX: y", true, false},
		{windowsmdm.SettingsApp + "/" + strings.Repeat("a", 600), true, false},
	}
	for _, tt := range tests {
		r := newRig(t, federated, func(c *windowsmdm.Config) { c.AppRUPrefix = tt.prefix })
		form := signIn(upn, r.secret(t))
		form.Set("appru", tt.appru)
		get, post := r.page(tt.appru, ""), r.form(form)
		if tt.ok {
			if get.Code != 200 || attribute(post.Body.String(), `<form method="post" action="([^"]*)">`) != tt.appru {
				t.Errorf("%q: %d %s", tt.appru, get.Code, post.Body)
			}
			continue
		}
		for _, w := range []*httptest.ResponseRecorder{get, post} {
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "not a part of Windows") || strings.Contains(w.Body.String(), "evil") {
				t.Errorf("%q: %d %s", tt.appru, w.Code, w.Body)
			}
		}
		if r.Challenges() != 0 || len(r.Refused()) != 2 {
			t.Errorf("%q: audit %+v", tt.appru, r.Refused())
		}
	}
}

func TestFormsThatAreNone(t *testing.T) {
	r := newRig(t, federated)
	const form = "application/x-www-form-urlencoded"
	for _, body := range []string{"appru=%zz", "appru=" + strings.Repeat("a", 20<<10)} {
		if w := r.do(http.MethodPost, windowsmdm.AuthPath, form, []byte(body)); w.Code != 400 {
			t.Errorf("%.20s: %d", body, w.Code)
		}
	}
	// What stands in the address is no form: it would be in histories and logs.
	w := r.do(http.MethodPost, windowsmdm.AuthPath+"?"+signIn(upn, r.secret(t)).Encode(), form, nil)
	if w.Code != 400 || strings.Contains(w.Body.String(), "wresult") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestSignInBeforeTheFirstConnector(t *testing.T) {
	r := newRig(t, federated)
	r.noTrust = true
	w := r.form(signIn(upn, r.secret(t)))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "waxseal-connector init") || r.Challenges() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestEveryAnswerHasALength asks a real server, since net/http may choose to send in chunks.
func TestEveryAnswerHasALength(t *testing.T) {
	r := newRig(t, federated)
	server := httptest.NewServer(r.router)
	defer server.Close()
	header := r.header(t, mde.AuthFederated)
	requests := []struct{ method, path, body string }{
		{"GET", windowsmdm.DiscoveryPath, ""}, {"POST", windowsmdm.DiscoveryPath, discover("Federated")}, {"POST", windowsmdm.DiscoveryPath, "x"},
		{"GET", windowsmdm.AuthPath + "?appru=" + windowsmdm.SettingsApp, ""}, {"GET", windowsmdm.AuthPath, ""},
		{"POST", windowsmdm.PolicyPath, getPolicies(header)}, {"POST", windowsmdm.PolicyPath, getPolicies("")}, {"GET", windowsmdm.PolicyPath, ""},
		{"POST", windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual())}, {"POST", windowsmdm.EnrollmentPath, strings.Repeat("x", 300<<10)},
	}
	for _, q := range requests {
		req, err := http.NewRequestWithContext(t.Context(), q.method, server.URL+q.path, strings.NewReader(q.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.ContentLength < 0 || len(resp.TransferEncoding) != 0 {
			t.Errorf("%s %s: length %d, encoding %v", q.method, q.path, resp.ContentLength, resp.TransferEncoding)
		}
	}
}
