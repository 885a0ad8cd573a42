package expiry

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// store keeps everything in memory.
type store struct {
	certs   []model.Certificate
	notices map[string]model.Notice
	order   []string
	audits  []model.AuditEntry
}

func (s *store) Expiring(_ context.Context, before time.Time, limit int) ([]model.Certificate, error) {
	var out []model.Certificate
	for _, c := range s.certs {
		if c.NotAfter.Before(before) {
			out = append(out, c)
		}
	}
	return out[:min(len(out), limit)], nil
}

func (s *store) Unsaid(_ context.Context, after, until time.Time, days, limit int) ([]model.Certificate, error) {
	var out []model.Certificate
	for _, c := range s.certs {
		_, said := s.notices[Notice{Item: OfCertificate(c), Days: days}.Key()]
		if c.NotAfter.After(after) && !c.NotAfter.After(until) && !said {
			out = append(out, c)
		}
	}
	return out[:min(len(out), limit)], nil
}

func (s *store) Notify(_ context.Context, key string, payload []byte, audit model.AuditEntry) (bool, error) {
	if _, there := s.notices[key]; there {
		return false, nil
	}
	s.notices[key] = model.Notice{Key: key, Payload: payload}
	s.order, s.audits = append(s.order, key), append(s.audits, audit)
	return true, nil
}

func (s *store) Notices(context.Context, int) ([]model.Notice, error) {
	var out []model.Notice
	for _, key := range s.order {
		if n := s.notices[key]; n.TakenAt.IsZero() {
			out = append(out, n)
		}
	}
	return out, nil
}

func (s *store) Taken(_ context.Context, key string, at time.Time) error {
	n := s.notices[key]
	n.TakenAt = at
	s.notices[key] = n
	return nil
}

func (s *store) UserByID(_ context.Context, id string) (model.User, error) {
	return model.User{ID: id, UPN: id + "@corp.test"}, nil
}

func certificate(sha string, kind model.CertificateKind, end time.Time) model.Certificate {
	return model.Certificate{Certificate: profiles.Certificate{SHA256: sha, NotAfter: end}, Kind: kind, UserID: "alice", Status: model.CertificateCurrent}
}

func board(t *testing.T, now *time.Time) (*Board, *store) {
	s := &store{notices: map[string]model.Notice{}}
	ca := testpki.NewCA(t, "mail CA").Cert
	return &Board{Store: s, Clock: func() time.Time { return *now }, Own: func(context.Context) ([]Item, error) {
		return []Item{Of(KindCA, "softca", ca, "ca", "roll it over"), {Kind: KindServer, Name: "apns-cert", SHA256: "apns", NotAfter: now.Add(20 * 24 * time.Hour)}}, nil
	}}, s
}

func TestList(t *testing.T) {
	now := testpki.Now()
	b, s := board(t, &now)
	s.certs = []model.Certificate{certificate("old", model.CertificateImported, now.Add(-time.Hour)), certificate("soon", model.CertificateIssued, now.Add(25*24*time.Hour)),
		certificate("late", model.CertificateIdentity, now.Add(100*24*time.Hour))}
	items, err := b.List(t.Context(), Horizon)
	if err != nil || len(items) != 3 || items[0].SHA256 != "old" || items[1].Name != "apns-cert" || items[2].SHA256 != "soon" {
		t.Fatalf("%+v, %v", items, err)
	}
	if items[0].User != "alice@corp.test" || items[0].Remedy != remedyImported || items[2].Remedy != remedyIssued {
		t.Errorf("%+v", items)
	}
	if all, err := b.List(t.Context(), 20*365*24*time.Hour); err != nil || len(all) != 5 {
		t.Errorf("%d items, %v", len(all), err)
	}
}

// TestEachThresholdOnce: 30, 7 and 1 days before the end and at the end, however often somebody looks; and a server that was
// off for a while says the nearest one only.
func TestEachThresholdOnce(t *testing.T) {
	now := testpki.Now()
	b, s := board(t, &now)
	end := now.Add(40 * 24 * time.Hour)
	s.certs = []model.Certificate{certificate("c", model.CertificateImported, end)}
	b.Own = func(context.Context) ([]Item, error) { return nil, nil }
	var days []int
	for range 50 {
		for range 3 {
			fresh, err := b.Look(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range fresh {
				days = append(days, n.Days)
			}
		}
		now = now.Add(24 * time.Hour)
	}
	if !slices.Equal(days, []int{30, 7, 1, 0}) {
		t.Errorf("said at %v days", days)
	}
	if s.audits[0].Action != "certificate.expiring" || s.audits[3].Action != "certificate.expired" || s.audits[0].Detail["user"] != "alice@corp.test" {
		t.Errorf("audit log %+v", s.audits)
	}
	late, again := board(t, &now)
	again.certs = s.certs
	late.Own = b.Own
	if fresh, err := late.Look(t.Context()); err != nil || len(fresh) != 1 || fresh[0].Days != 0 {
		t.Errorf("%+v, %v", fresh, err)
	}
}

// TestNothingHides: behind many that ended long ago, such as those of devices in drawers.
func TestNothingHides(t *testing.T) {
	now := testpki.Now()
	b, s := board(t, &now)
	for i := range maxItems + 5 {
		s.certs = append(s.certs, certificate(fmt.Sprint("old", i), model.CertificateIssued, now.Add(-time.Hour)))
	}
	s.certs = append(s.certs, certificate("soon", model.CertificateIssued, now.Add(25*24*time.Hour)))
	if _, err := b.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, said := s.notices["soon/alice/30"]; !said {
		t.Error("nothing is said of what ends soon")
	}
	fresh, err := b.Look(t.Context())
	if err != nil || len(fresh) != 5 {
		t.Errorf("%d more, %v", len(fresh), err)
	}
}

// TestWebhook: signed, in order, again until it is taken, never to where a redirection points.
func TestWebhook(t *testing.T) {
	now := testpki.Now()
	b, s := board(t, &now)
	s.certs = []model.Certificate{certificate("a", model.CertificateIssued, now.Add(time.Hour)), certificate("b", model.CertificateIssued, now.Add(2*time.Hour))}
	if _, err := b.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	status, elsewhere := http.StatusInternalServerError, 0
	var got []Notice
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte("secret"))
		mac.Write(body)
		if r.Header.Get("X-Waxseal-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) || r.Header.Get("X-Waxseal-Delivery") == "" {
			t.Errorf("headers %v", r.Header)
		}
		if status == http.StatusFound {
			http.Redirect(w, r, other.URL, status)
			return
		}
		w.WriteHeader(status)
		if status == http.StatusNoContent {
			var n Notice
			if err := json.Unmarshal(body, &n); err != nil {
				t.Error(err)
			}
			got = append(got, n)
		}
	}))
	defer hook.Close()
	h := &Webhook{URL: hook.URL, Secret: []byte("secret"), HTTP: hook.Client(), Store: s, Clock: b.Clock}
	for _, status = range []int{http.StatusInternalServerError, http.StatusFound} {
		if err := h.Deliver(t.Context()); err == nil {
			t.Errorf("%d was taken for a success", status)
		}
	}
	status = http.StatusNoContent
	for range 2 {
		if err := h.Deliver(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(got) != 3 || got[0].SHA256 != "a" || got[0].Days != 1 || elsewhere != 0 {
		t.Errorf("got %+v, elsewhere %d", got, elsewhere)
	}
}

// TestWebhookAddressIsASecret: whoever knows it may tell the company's chat what he likes.
func TestWebhookAddressIsASecret(t *testing.T) {
	s := &store{notices: map[string]model.Notice{"k": {Key: "k"}}, order: []string{"k"}}
	h := &Webhook{URL: "http://127.0.0.1:1/services/hush?token=hush", HTTP: http.DefaultClient, Store: s, Clock: testpki.Now}
	if err := h.Deliver(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v, want an error without the address", err)
	}
}
