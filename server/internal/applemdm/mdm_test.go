package applemdm_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// spend lets a device enrol by a link.
func (r *rig) spend(t *testing.T, token string) {
	t.Helper()
	challenge, _, err := r.svc.Profile(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	r.store.Created = func(j model.Job) { r.store.Certify(t, r.ca, j) }
	id := &testpki.Identity{Key: testpki.PoolKey(t, 8)}
	if _, err := r.svc.Redeem(t.Context(), challenge, identitytest.CSR(t, &x509.CertificateRequest{}, id)); err != nil {
		t.Fatal(err)
	}
}

func TestALife(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.enrolled(t, 1)
	e := r.store.Enrolment(enrolment)
	if e.State != model.EnrolmentActive || e.ExternalID != udid || e.PushMagic != "magic" || e.PushTopic != topic || e.MustReenroll {
		t.Fatalf("%+v", e)
	}
	if r.kicks != 1 {
		t.Errorf("%d kicks after TokenUpdate", r.kicks)
	}
	device, err := r.store.DeviceByID(t.Context(), e.DeviceID)
	if err != nil || device.Model != "iPhone15,2" || device.Name != "Alice's iPhone" || device.UserID != "u1" {
		t.Fatalf("%+v, %v", device, err)
	}

	r.delivery.pending = 2
	w := r.command(t, id, idle(t, udid))
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Waxseal-Pending") != "2" {
		t.Fatalf("%d %q %v", w.Code, w.Body, w.Header())
	}
	r.delivery.command = []byte("<plist/>")
	w = r.command(t, id, idle(t, udid))
	if w.Body.String() != "<plist/>" || w.Header().Get("Content-Type") != "application/xml; charset=UTF-8" || w.Header().Get("Waxseal-Pending") != "" {
		t.Fatalf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if len(r.delivery.reports) != 2 || r.delivery.reports[0].Status != mdm.StatusIdle {
		t.Fatalf("reports %+v", r.delivery.reports)
	}

	for range 2 { // the second is a repetition
		if w := r.checkin(t, id, checkOut(udid)); w.Code != 200 {
			t.Fatalf("CheckOut: %d %s", w.Code, w.Body)
		}
	}
	if e := r.store.Enrolment(enrolment); e.State != model.EnrolmentEnded {
		t.Fatalf("%+v", e)
	}
	if len(r.store.Refused()) != 0 {
		t.Errorf("refusals in a life without faults: %+v", r.store.Refused())
	}
}

// TestProofs holds each way to prove who speaks.
func TestProofs(t *testing.T) {
	pemOf := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	tests := []struct {
		name string
		edit func(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request)
		want int
	}{
		{"BER, SHA-1, no attributes", func(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) { return signed(t, id, body) }, 200},
		{"DER, SHA-256, attributes", func(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) {
			return header("Mdm-Signature", base64.StdEncoding.EncodeToString(modernSignature(t, id, body)))
		}, 200},
		{"client certificate", func(_ *testing.T, id *testpki.Identity, _ []byte) func(*http.Request) { return withTLS(id.Cert) }, 200},
		{"proxy, RFC 9440", func(_ *testing.T, id *testpki.Identity, _ []byte) func(*http.Request) {
			return header("X-Client-Cert", ":"+base64.StdEncoding.EncodeToString(id.Cert.Raw)+":")
		}, 200},
		{"proxy, escaped PEM", func(_ *testing.T, id *testpki.Identity, _ []byte) func(*http.Request) {
			return header("X-Client-Cert", url.PathEscape(pemOf(id.Cert)))
		}, 200},
		{"proxy, query-escaped PEM", func(_ *testing.T, id *testpki.Identity, _ []byte) func(*http.Request) {
			return header("X-Client-Cert", strings.ReplaceAll(url.QueryEscape(pemOf(id.Cert)), "+", "%20"))
		}, 200},
		{"nothing", func(*testing.T, *testpki.Identity, []byte) func(*http.Request) { return func(*http.Request) {} }, 400},
		{"signature of another body", func(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) {
			return signed(t, id, append(bytes.Clone(body), '\n'))
		}, 400},
		{"a bad signature beside a good client certificate", func(t *testing.T, id *testpki.Identity, body []byte) func(*http.Request) {
			bad, good := signed(t, id, nil), withTLS(id.Cert)
			return func(r *http.Request) { bad(r); good(r) }
		}, 400},
		{"no base64", func(*testing.T, *testpki.Identity, []byte) func(*http.Request) { return header("Mdm-Signature", "@@") }, 400},
		{"no CMS", func(*testing.T, *testpki.Identity, []byte) func(*http.Request) {
			return header("Mdm-Signature", "AAAA")
		}, 400},
		{"an endless header", func(*testing.T, *testpki.Identity, []byte) func(*http.Request) {
			return header("Mdm-Signature", strings.Repeat("MIAA", 20_000))
		}, 400},
		{"proxy, garbage", func(*testing.T, *testpki.Identity, []byte) func(*http.Request) {
			return header("X-Client-Cert", "nobody")
		}, 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, trust("192.0.2.0/24"))
			id, _ := r.enrolled(t, 1)
			body := idle(t, udid)
			w := r.do(http.MethodPut, "/mdm/apple/command", body, tt.edit(t, id, body))
			if w.Code != tt.want {
				t.Fatalf("%d, want %d: %s", w.Code, tt.want, w.Body)
			}
			if refused := len(r.store.Refused()); (refused == 1) != (tt.want == 400) || (len(r.delivery.reports) == 1) != (tt.want == 200) {
				t.Fatalf("%d refusals, %d reports", refused, len(r.delivery.reports))
			}
		})
	}
}

func TestAStrangersProxyHeaderIsNotLookedAt(t *testing.T) {
	r := newRig(t, trust("10.0.0.0/8"))
	id, _ := r.enrolled(t, 1)
	w := r.do(http.MethodPut, "/mdm/apple/command", idle(t, udid), header("X-Client-Cert", ":"+base64.StdEncoding.EncodeToString(id.Cert.Raw)+":"))
	if w.Code != 400 || len(r.delivery.reports) != 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

// TestForeignCertificates holds signatures that verify, by certificates that are not good enough.
func TestForeignCertificates(t *testing.T) {
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	tests := []struct {
		name string
		make func(t *testing.T, r *rig) *testpki.Identity
		want string
	}{
		{"of another CA of the same name", func(t *testing.T, r *rig) *testpki.Identity {
			other := testpki.NewCA(t, "other CA")
			return other.Issue(t, testpki.Options{CN: "x", ExtKeyUsage: client})
		}, "not a valid device certificate"},
		{"self-signed", func(t *testing.T, r *rig) *testpki.Identity {
			return testpki.SelfSigned(t, testpki.Options{CN: "x", ExtKeyUsage: client})
		}, "not a valid device certificate"},
		{"for mail", func(t *testing.T, r *rig) *testpki.Identity {
			return r.ca.Issue(t, testpki.Options{CN: "x"})
		}, "not a valid device certificate"},
		{"expired", func(t *testing.T, r *rig) *testpki.Identity {
			return r.ca.Issue(t, testpki.Options{CN: "x", ExtKeyUsage: client, NotAfter: r.now.Add(-time.Hour)})
		}, "not a valid device certificate"},
		{"bound to nothing", func(t *testing.T, r *rig) *testpki.Identity {
			return r.ca.Issue(t, testpki.Options{CN: "x", ExtKeyUsage: client})
		}, "bound to no enrolment"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			r.enrolled(t, 1)
			w := r.checkin(t, tt.make(t, r), checkOut(udid))
			refused := r.store.Refused()
			if w.Code != 400 || !strings.Contains(w.Body.String(), tt.want) || len(refused) != 1 {
				t.Fatalf("%d %s, audit %+v", w.Code, w.Body, refused)
			}
		})
	}
}

func TestACertificateOfAnotherDevice(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.enrolled(t, 1)
	messages := []mdm.Message{authenticate("OTHER"), tokenUpdate("OTHER"), checkOut("OTHER")}
	for _, m := range messages {
		if w := r.checkin(t, id, m); w.Code != 400 || !strings.Contains(w.Body.String(), "another device") {
			t.Errorf("%s: %d %s", m.Type(), w.Code, w.Body)
		}
	}
	if w := r.command(t, id, idle(t, "OTHER")); w.Code != 400 || len(r.delivery.reports) != 0 {
		t.Errorf("report: %d %s", w.Code, w.Body)
	}
	if e := r.store.Enrolment(enrolment); e.ExternalID != udid || e.State != model.EnrolmentActive || len(r.store.Refused()) != 4 {
		t.Fatalf("%+v, %d refusals", e, len(r.store.Refused()))
	}
}

func TestMessagesOutOfOrder(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.certify(t, 1)
	if w := r.checkin(t, id, tokenUpdate(udid)); w.Code != 400 || !strings.Contains(w.Body.String(), "Authenticate") {
		t.Errorf("TokenUpdate first: %d %s", w.Code, w.Body)
	}
	if w := r.command(t, id, idle(t, udid)); w.Code != 400 {
		t.Errorf("a report first: %d %s", w.Code, w.Body)
	}
	r.checkin(t, id, authenticate(udid))
	if w := r.command(t, id, idle(t, udid)); w.Code != 400 || !strings.Contains(w.Body.String(), "TokenUpdate") {
		t.Errorf("a report before TokenUpdate: %d %s", w.Code, w.Body)
	}
	for range 2 {
		if w := r.checkin(t, id, authenticate(udid)); w.Code != 200 {
			t.Errorf("Authenticate again: %d %s", w.Code, w.Body)
		}
	}
	if e := r.store.Enrolment(enrolment); e.State != model.EnrolmentAuthenticated {
		t.Errorf("%+v", e)
	}
}

func TestOneAddressForBoth(t *testing.T) {
	r := newRig(t)
	id, _ := r.enrolled(t, 1)
	body := encode(t, tokenUpdate(udid))
	sign := signed(t, id, body)
	for _, path := range []string{"/mdm/apple", "/mdm/apple/command"} {
		w := r.do(http.MethodPost, path, body, sign, header("Content-Type", mdm.ContentTypeCheckin+"; charset=UTF-8"))
		if w.Code != 200 || len(r.delivery.reports) != 0 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	report := idle(t, udid)
	if w := r.do(http.MethodPut, "/mdm/apple", report, signed(t, id, report), header("Content-Type", mdm.ContentTypeReport)); w.Code != 200 || len(r.delivery.reports) != 1 {
		t.Errorf("report: %d %s", w.Code, w.Body)
	}
}

func TestOtherCheckins(t *testing.T) {
	base := mdm.Enrollment{UDID: udid}
	user := mdm.Enrollment{UDID: udid, UserID: "AAAA-BBBB", UserShortName: "alice"}
	tests := []struct {
		name string
		m    mdm.Message
		want int
	}{
		{"GetBootstrapToken", &mdm.GetBootstrapToken{Header: mdm.Header{Enrollment: base}}, 200},
		{"SetBootstrapToken", &mdm.SetBootstrapToken{Header: mdm.Header{Enrollment: base}, BootstrapToken: []byte("x")}, 200},
		{"UserAuthenticate", &mdm.UserAuthenticate{Header: mdm.Header{Enrollment: user}}, 410},
		{"a user's TokenUpdate", &mdm.TokenUpdate{Header: mdm.Header{Enrollment: user, Topic: topic}, Token: []byte{1}, PushMagic: "m"}, 200},
		{"a user's Authenticate", &mdm.Authenticate{Header: mdm.Header{Enrollment: user, Topic: topic}}, 400},
		{"GetToken", &mdm.GetToken{Header: mdm.Header{Enrollment: base}, TokenServiceType: "com.apple.maid"}, 404},
		{"DeclarativeManagement", &mdm.DeclarativeManagement{Header: mdm.Header{Enrollment: base}, Endpoint: "tokens"}, 404},
		{"ReturnToService", &mdm.Unknown{Header: mdm.Header{Enrollment: base, MessageType: "ReturnToService"}}, 404},
	}
	for _, tt := range tests {
		r := newRig(t)
		id, enrolment := r.enrolled(t, 1)
		before := r.store.Enrolment(enrolment)
		w := r.checkin(t, id, tt.m)
		if w.Code != tt.want {
			t.Errorf("%s: %d, want %d: %s", tt.name, w.Code, tt.want, w.Body)
		}
		if after := r.store.Enrolment(enrolment); after.PushMagic != before.PushMagic || after.State != before.State {
			t.Errorf("%s changed the enrolment", tt.name)
		}
	}
}

// TestEndedEnrolments: 403 only for a device that is known to have left.
func TestEndedEnrolments(t *testing.T) {
	tests := []struct {
		name    string
		state   model.DeviceState
		removal model.Removal
		want    int
	}{
		{"retired", model.DeviceLeft, model.RemovalVerified, 403},
		{"checked out", model.DeviceLeft, model.RemovalReported, 403},
		{"given to another user", model.DeviceLeft, model.RemovalUnconfirmed, 400},
		{"enrolled anew", model.DeviceEnrolled, "", 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			id, enrolment := r.enrolled(t, 1)
			e := r.store.Enrolment(enrolment)
			e.State = model.EnrolmentEnded
			r.store.PutEnrolment(e)
			r.store.PutDevice(model.Device{ID: e.DeviceID, State: tt.state, Removal: tt.removal})
			w := r.command(t, id, idle(t, udid))
			if w.Code != tt.want || strings.Contains(w.Body.String(), "com.apple.unrecognized.device") != (tt.want == 403) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w.Header().Get("Content-Type") == "" || len(r.store.Refused()) != 1 {
				t.Errorf("headers %v, refusals %v", w.Header(), r.store.Refused())
			}
			if w := r.checkin(t, id, authenticate(udid)); w.Code != tt.want {
				t.Errorf("Authenticate: %d", w.Code)
			}
		})
	}
}

// TestSignedNonsense: kept, raised and answered 200, or the device would send it for ever.
func TestSignedNonsense(t *testing.T) {
	bodies := map[string]string{"garbage": "\x00\x01garbage", "another property list": "<plist><string>x</string></plist>", "empty": ""}
	for name, text := range bodies {
		for _, path := range []string{"/mdm/apple/checkin", "/mdm/apple/command"} {
			r := newRig(t)
			id, enrolment := r.enrolled(t, 1)
			body := []byte(text)
			w := r.do(http.MethodPut, path, body, signed(t, id, body))
			kind := map[string]string{"/mdm/apple/checkin": "checkin", "/mdm/apple/command": "report"}[path]
			kept, ok := r.kept[enrolment+" "+kind]
			if w.Code != 200 || w.Body.Len() != 0 || !ok || !bytes.Equal(kept, body) || r.raised != 1 {
				t.Errorf("%s at %s: %d %q, kept %v, raised %d", name, path, w.Code, w.Body, ok, r.raised)
			}
			refused := r.store.Refused()
			if len(refused) != 1 || refused[0].Action != "mdm.unparsed" || len(refused[0].Detail["sha256"]) != 64 {
				t.Errorf("%s at %s: audit %+v", name, path, refused)
			}
			if len(text) > 3 && strings.Contains(r.logs.String(), "garbage") {
				t.Errorf("%s at %s: the body is in the log", name, path)
			}
		}
	}
}

func TestATokenUpdateThatCannotWake(t *testing.T) {
	r := newRig(t)
	id, enrolment := r.enrolled(t, 1)
	m := tokenUpdate(udid)
	m.PushMagic = ""
	if w := r.checkin(t, id, m); w.Code != 200 || r.raised != 1 || r.store.Enrolment(enrolment).PushMagic != "magic" {
		t.Fatalf("%d, raised %d, %+v", w.Code, r.raised, r.store.Enrolment(enrolment))
	}
}

func TestUnsignedGarbage(t *testing.T) {
	random := make([]byte, 5000)
	_, _ = rand.Read(random)
	for _, path := range []string{"/mdm/apple", "/mdm/apple/checkin", "/mdm/apple/command"} {
		r := newRig(t)
		for name, body := range map[string][]byte{"empty": nil, "random": random, "nested": bytes.Repeat([]byte("<array>"), 100_000)} {
			if w := r.do(http.MethodPut, path, body); w.Code != 400 {
				t.Errorf("%s at %s: %d", name, path, w.Code)
			}
		}
		if w := r.do(http.MethodPut, path, make([]byte, web.MaxMDM+1)); w.Code != 413 {
			t.Errorf("oversized at %s: %d", path, w.Code)
		}
		if w := r.do(http.MethodDelete, path, nil); w.Code != 405 {
			t.Errorf("DELETE at %s: %d", path, w.Code)
		}
	}
}

// TestOurOwnFaults are 5xx, never 401, and tell nothing.
func TestOurOwnFaults(t *testing.T) {
	r := newRig(t)
	id, _ := r.enrolled(t, 1)
	tests := []struct {
		name string
		set  func()
		want int
	}{
		{"delivery fails", func() { r.delivery.err = errors.New("disk full") }, 500},
		{"delivery is busy", func() { r.delivery.err = model.ErrConflict }, 503},
		{"the database fails", func() { r.store.Err = errors.New("disk full") }, 500},
		{"no connector", func() { r.store.Err, r.noTrust = nil, true }, 503},
	}
	for _, tt := range tests {
		tt.set()
		w := r.command(t, id, idle(t, udid))
		if w.Code != tt.want || strings.Contains(w.Body.String(), "disk full") {
			t.Errorf("%s: %d %s", tt.name, w.Code, w.Body)
		}
	}
}
