package androidmdm_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

const waiting = companion.PathState + "?generation=1&wait=55"

// poll asks in the background and tells when the request has looked for the first time.
func (r *rig) poll(credential string) <-chan *httptest.ResponseRecorder {
	r.t.Helper()
	looked, answer := make(chan struct{}), make(chan *httptest.ResponseRecorder, 1)
	r.delivery.onPoll = func(int) { close(looked) }
	go func() { answer <- r.do(http.MethodGet, waiting, credential, nil) }()
	<-looked
	r.delivery.onPoll = nil
	return answer
}

// TestALongPollLooks at everything at each fifth tick, and at once when the version tells that something happened.
func TestALongPollLooks(t *testing.T) {
	for _, tt := range []struct{ ticks, touched, looks int }{{4, 0, 1}, {5, 0, 2}, {4, 1, 2}, {4, 3, 2}, {10, 0, 3}} {
		r := newRig(t)
		credential := r.enrolled(1).Credential
		answer := r.poll(credential)
		id, _, _ := strings.Cut(credential, ".")
		for n := 1; n <= tt.ticks; n++ {
			if e := r.store.Enrolment(id); n == tt.touched {
				e.Version++
				r.store.PutEnrolment(e)
			}
			r.ticks <- r.now
		}
		r.endpoint.Stop()
		if w := <-answer; w.Code != http.StatusNotModified || r.delivery.polls != tt.looks {
			t.Errorf("%+v: %d after %d looks", tt, w.Code, r.delivery.polls)
		}
	}
}

func TestALongPollSeesTheChange(t *testing.T) {
	r := newRig(t)
	answer := r.poll(r.enrolled(1).Credential)
	r.delivery.mu.Lock()
	r.delivery.generation = "2"
	r.delivery.mu.Unlock()
	for range 5 {
		r.ticks <- r.now
	}
	if w := <-answer; w.Code != 200 || w.Header().Get("ETag") != `"2"` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestUnchangedIsToldWithItsGeneration(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	for _, header := range []string{`"1"`, `W/"1"`} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, companion.PathState, nil)
		req.Header.Set("Authorization", "Bearer "+credential)
		req.Header.Set("If-None-Match", header)
		w := httptest.NewRecorder()
		r.router.ServeHTTP(w, req)
		if w.Code != http.StatusNotModified || w.Header().Get("ETag") != `"1"` || w.Body.Len() != 0 {
			t.Errorf("%s: %d %s", header, w.Code, w.Header())
		}
	}
}

// TestANewerPollEndsTheOldest: a device cannot occupy the server by asking again and again.
func TestANewerPollEndsTheOldest(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	first, second := r.poll(credential), r.poll(credential)
	third := r.poll(credential)
	if w := <-first; w.Code != http.StatusNotModified {
		t.Errorf("the oldest: %d", w.Code)
	}
	for name, answer := range map[string]<-chan *httptest.ResponseRecorder{"second": second, "third": third} {
		select {
		case w := <-answer:
			t.Errorf("the %s ended with %d", name, w.Code)
		default:
		}
	}
	r.endpoint.Stop()
	r.endpoint.Stop()
	for _, answer := range []<-chan *httptest.ResponseRecorder{second, third} {
		if w := <-answer; w.Code != http.StatusNotModified {
			t.Errorf("stopped: %d", w.Code)
		}
	}
}

// TestAPollOfWhoMayNotAnyMore: what happened while it waited counts.
func TestAPollOfWhoMayNotAnyMore(t *testing.T) {
	for want, change := range map[string]func(r *rig, e *model.Enrolment){
		companion.CodeEnded:             func(_ *rig, e *model.Enrolment) { e.State = model.EnrolmentEnded },
		companion.CodeCredentialInvalid: func(_ *rig, e *model.Enrolment) { e.CredentialHash = "another" },
		companion.CodeInternal:          func(r *rig, _ *model.Enrolment) { r.store.Err = http.ErrServerClosed },
	} {
		r := newRig(t)
		credential := r.enrolled(1).Credential
		answer := r.poll(credential)
		id, _, _ := strings.Cut(credential, ".")
		e := r.store.Enrolment(id)
		change(r, &e)
		r.store.PutEnrolment(e)
		r.ticks <- r.now
		if got := code(t, <-answer); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestARefusalNamesWhoseRequestItWas(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	id, _, _ := strings.Cut(credential, ".")
	code(t, r.do(http.MethodPost, companion.PathInventory, credential, "["))
	code(t, r.do(http.MethodPost, companion.PathInventory, id+".guess", "["))
	refused := r.store.Refused()
	if len(refused) != 2 || refused[0].Actor != "enrolment "+id || refused[1].Actor != "unknown device" {
		t.Errorf("%+v", refused)
	}
	for _, a := range refused {
		if strings.Contains(a.Detail["reason"], "guess") {
			t.Errorf("the credential is in the audit log: %+v", a)
		}
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t)
	credential := r.enrolled(1).Credential
	before := len(r.store.Audit())
	list := []companion.Event{{Type: companion.EventKeychainChanged, At: r.now}}
	if w := r.do(http.MethodPost, companion.PathEvents, credential, list); w.Code != 200 || len(r.store.Audit()) != before {
		t.Errorf("%d %s, audit %+v", w.Code, w.Body, r.store.Audit()[before:])
	}
	for range 100 {
		list = append(list, companion.Event{Type: companion.EventPackageRemoved, Package: profiles.PackageOutlook, At: r.now})
	}
	w := r.do(http.MethodPost, companion.PathEvents, credential, list)
	audit := r.store.Audit()[before:]
	if w.Code != 200 || len(audit) != 1 || !strings.Contains(audit[0].Detail["packages"], profiles.PackageOutlook) || len(audit[0].Detail["packages"]) > 2000 {
		t.Errorf("%d %s, audit %+v", w.Code, w.Body, audit)
	}
}

// TestAnEnrolmentThatIsOver: its token brings nobody back.
func TestAnEnrolmentThatIsOver(t *testing.T) {
	r := newRig(t)
	token := r.token("u1", profiles.Android)
	q := r.request(token, "install-1", 1)
	answer, err := companion.DecodeEnrollResponse(r.do(http.MethodPost, companion.PathEnroll, "", q).Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	r.do(http.MethodPost, companion.PathUnenroll, answer.Credential, companion.Unenroll{Reason: companion.UnenrollWipe})
	if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", q)); got != companion.CodeTokenInvalid {
		t.Errorf("%s", got)
	}
	if got := code(t, r.do(http.MethodGet, companion.PathState, answer.Credential, nil)); got != companion.CodeEnded {
		t.Errorf("%s", got)
	}
}

// TestWhoseTokenAndKey: a token with its key is bound to the installation that used them, and a user must exist.
func TestWhoseTokenAndKey(t *testing.T) {
	r := newRig(t)
	token := r.token("u1", profiles.Android)
	r.do(http.MethodPost, companion.PathEnroll, "", r.request(token, "install-1", 1))
	if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", r.request(token, "install-2", 1))); got != companion.CodeInstallIDTaken {
		t.Errorf("another installation: %s", got)
	}
	if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", r.request(r.token("u9", profiles.Android), "install-9", 2))); got != companion.CodeBlocked {
		t.Errorf("a user who is gone: %s", got)
	}
	weak := r.request(r.token("u1", profiles.Android), "install-3", 3)
	weak.WrapKey.CSR[len(weak.WrapKey.CSR)-1] ^= 1
	if got := code(t, r.do(http.MethodPost, companion.PathEnroll, "", weak)); got != companion.CodeMalformed {
		t.Errorf("a request that is not signed by its key: %s", got)
	}
}
