package applemdm_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/server/internal/applemdm"
	"github.com/waxseal/waxseal/server/internal/sender"
)

const aspen = "application/x-apple-aspen-config"

func TestAcceptDecidesBetweenPageAndProfile(t *testing.T) {
	tests := []struct {
		accept string
		page   bool
	}{
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true},
		{"application/json, Text/HTML;level=1", true},
		{"text/html;q=0.1", true},
		{"text/html;q=0, */*", false},
		{"*/*", false}, {"", false}, {"text/*", false}, {aspen, false}, {"text/htmlx", false},
	}
	for _, tt := range tests {
		r := newRig(t)
		w := r.do(http.MethodGet, "/enroll/"+r.link(t), nil, header("Accept", tt.accept))
		kind := w.Header().Get("Content-Type")
		if w.Code != http.StatusOK || strings.HasPrefix(kind, "text/html") != tt.page || (kind == aspen) == tt.page {
			t.Errorf("Accept %q: %d %s", tt.accept, w.Code, kind)
		}
		if want := map[bool]int{true: 0, false: 1}[tt.page]; r.store.Challenges() != want {
			t.Errorf("Accept %q: %d challenges were made", tt.accept, r.store.Challenges())
		}
	}
}

func TestThePageLeadsToTheProfile(t *testing.T) {
	r := newRig(t)
	token := r.link(t)
	page := r.do(http.MethodGet, "/enroll/"+token, nil, header("Accept", "text/html"))
	if !strings.Contains(page.Body.String(), `href="`+token+`/enroll.mobileconfig"`) {
		t.Fatalf("no button: %s", page.Body)
	}
	if strings.Contains(page.Body.String(), "<GmbH>") || strings.Contains(page.Body.String(), "NoPushCertificate") {
		t.Error("the page is not escaped, or warns about push")
	}
	if page.Header().Get("Referrer-Policy") != "no-referrer" || page.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", page.Header())
	}
	// A browser's download, which accepts HTML too.
	w := r.do(http.MethodGet, "/enroll/"+token+"/enroll.mobileconfig", nil, header("Accept", "text/html,*/*"))
	if w.Code != 200 || w.Header().Get("Content-Type") != aspen || !strings.Contains(w.Header().Get("Content-Disposition"), "enroll.mobileconfig") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	p, err := apple.ParseProfile(w.Body.Bytes())
	if err != nil || p.Identifier != "io.waxseal.test.enrollment" {
		t.Fatalf("%+v, %v", p, err)
	}
}

func TestEachDownloadHasItsOwnChallenge(t *testing.T) {
	r := newRig(t)
	token := r.link(t)
	a := r.do(http.MethodGet, "/enroll/"+token, nil).Body.Bytes()
	b := r.do(http.MethodGet, "/enroll/"+token, nil).Body.Bytes()
	if bytes.Equal(a, b) || r.store.Challenges() != 2 {
		t.Fatalf("%d challenges for two downloads", r.store.Challenges())
	}
	if w := r.do(http.MethodHead, "/enroll/"+token, nil); w.Code != 200 || r.store.Challenges() != 2 {
		t.Fatalf("HEAD: %d, %d challenges", w.Code, r.store.Challenges())
	}
}

func TestWithoutAPushCertificateThePageSaysSo(t *testing.T) {
	r := newRig(t, func(c *applemdm.Config, _ *sender.Config) { c.PushTopic = "" })
	w := r.do(http.MethodGet, "/enroll/"+r.link(t), nil, header("Accept", "text/html"))
	if !strings.Contains(w.Body.String(), "NoPushCertificate") {
		t.Fatalf("%s", w.Body)
	}
}

func TestDeadLinks(t *testing.T) {
	tests := []struct {
		name   string
		make   func(t *testing.T, r *rig) string
		status int
		want   string
		audits int
	}{
		{"unknown", func(*testing.T, *rig) string { return "AAAA" }, 404, "not known", 0},
		{"expired", func(t *testing.T, r *rig) string {
			token := r.link(t)
			r.now = r.now.Add(73 * time.Hour)
			return token
		}, 410, "expired", 1},
		{"spent", func(t *testing.T, r *rig) string {
			token := r.link(t)
			r.spend(t, token)
			return token
		}, 410, "used by a device already", 1},
	}
	for _, tt := range tests {
		for _, accept := range []string{"text/html", "*/*"} {
			r := newRig(t)
			token := tt.make(t, r)
			before := r.store.Challenges()
			w := r.do(http.MethodGet, "/enroll/"+token, nil, header("Accept", accept))
			if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) || !strings.Contains(w.Body.String(), "ask your administrator") && !strings.Contains(w.Body.String(), "Ask your administrator") {
				t.Errorf("%s, %s: %d %s", tt.name, accept, w.Code, w.Body)
			}
			if got := len(r.store.Refused()); got != tt.audits || r.store.Challenges() != before {
				t.Errorf("%s, %s: %d audit entries", tt.name, accept, got)
			}
			if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") != (accept == "text/html") {
				t.Errorf("%s, %s: %s", tt.name, accept, w.Header().Get("Content-Type"))
			}
		}
	}
}

func TestBeforeTheFirstConnector(t *testing.T) {
	r := newRig(t)
	r.noTrust = true
	token := r.link(t)
	w := r.do(http.MethodGet, "/enroll/"+token, nil)
	if w.Code != 503 || !strings.Contains(w.Body.String(), "waxseal-connector init") || r.store.Challenges() != 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

func TestNoTokenReachesTheLogOrTheAudit(t *testing.T) {
	r := newRig(t)
	live, spent := r.link(t), r.link(t)
	r.spend(t, spent)
	for _, token := range []string{live, spent} {
		for _, accept := range []string{"text/html", "*/*"} {
			r.do(http.MethodGet, "/enroll/"+token, nil, header("Accept", accept))
			r.do(http.MethodGet, "/enroll/"+token+"/enroll.mobileconfig", nil)
			r.do(http.MethodPost, "/enroll/"+token, nil)
			r.do(http.MethodGet, "/enroll/"+token+"/other", nil)
		}
	}
	for _, token := range []string{live, spent} {
		if strings.Contains(r.logs.String(), token) {
			t.Fatal("a token is in the log")
		}
		for _, a := range r.store.Audit() {
			for _, v := range a.Detail {
				if strings.Contains(a.Object+v, token) {
					t.Fatal("a token is in the audit log")
				}
			}
		}
	}
	if !strings.Contains(r.logs.String(), "/enroll/{token}") {
		t.Error("the pattern is not in the log")
	}
}

func TestHelpOnGET(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/mdm/apple", "/mdm/apple/checkin", "/mdm/apple/command"} {
		w := r.do(http.MethodGet, path, nil)
		if w.Code != 200 || !strings.Contains(w.Body.String(), "enrolment link") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
