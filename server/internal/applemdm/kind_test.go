package applemdm_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func (r *rig) linkFor(t *testing.T, p profiles.Platform) string {
	t.Helper()
	token, err := r.svc.CreateLink(t.Context(), model.User{ID: "u1", UPN: "alice@example.com"}, p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestThePageNamesTheDevice(t *testing.T) {
	for p, want := range map[profiles.Platform]string{profiles.IOS: "iPhone or iPad", profiles.MacOS: "Mac", profiles.Android: "Android device"} {
		r := newRig(t)
		w := r.do(http.MethodGet, "/enroll/"+r.linkFor(t, p), nil, header("Accept", "text/html"))
		if page := w.Body.String(); !strings.Contains(page, "<h1>Enrol this "+want) || !strings.Contains(page, "works for one "+want) {
			t.Errorf("%s: %s", p, page)
		}
	}
}

// TestABrowserOfTheOtherKindGetsNoProfile: what is certain before anything is spent. An iPad may call itself a Mac.
func TestABrowserOfTheOtherKindGetsNoProfile(t *testing.T) {
	const phone, desktop = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X)", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
	for _, tt := range []struct {
		link  profiles.Platform
		agent string
		want  int
	}{{profiles.MacOS, phone, 403}, {profiles.MacOS, desktop, 200}, {profiles.IOS, phone, 200}, {profiles.IOS, desktop, 200}, {profiles.MacOS, "profiled", 200}} {
		r := newRig(t)
		token := r.linkFor(t, tt.link)
		w := r.do(http.MethodGet, "/enroll/"+token+"/enroll.mobileconfig", nil, header("User-Agent", tt.agent))
		if w.Code != tt.want || r.store.Challenges() != map[int]int{200: 1, 403: 0}[tt.want] {
			t.Errorf("%s link, %s: %d, %d challenges", tt.link, tt.agent, w.Code, r.store.Challenges())
		}
		if refused := r.store.Refused(); tt.want == 403 && (len(refused) != 1 || !strings.Contains(w.Body.String(), "--platform ios")) {
			t.Errorf("%+v: %s", refused, w.Body)
		}
		if w := r.do(http.MethodGet, "/enroll/"+token, nil, header("Accept", "text/html")); w.Code != 200 {
			t.Errorf("the link is no good any more: %d", w.Code)
		}
	}
}

// TestADeviceOfTheOtherKindIsRefused: at Authenticate, which tells what it is, and never by 401.
func TestADeviceOfTheOtherKindIsRefused(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.certify(t, 1)
	m := authenticate(udid)
	m.ProductName, m.Model = "Mac14,2", "Mac14,2"
	for range 2 {
		if w := r.checkin(t, id, m); w.Code != http.StatusBadRequest {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	refused := r.store.Refused()
	if len(refused) == 0 || !strings.Contains(refused[0].Detail["reason"], "waxctl enroll link --platform macos") {
		t.Errorf("audit log %+v", refused)
	}
	if e := r.store.Enrolment(enrolment); e.DeviceID != "" || e.State != model.EnrolmentIssued {
		t.Errorf("%+v", e)
	}
	if w := r.checkin(t, id, authenticate(udid)); w.Code != http.StatusOK {
		t.Errorf("the right kind: %d %s", w.Code, w.Body)
	}
	if w := r.checkin(t, id, m); w.Code != http.StatusOK {
		t.Errorf("one that is bound already goes on: %d %s", w.Code, w.Body)
	}
}
