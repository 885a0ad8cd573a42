package androidmdm_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/web"
)

// whole is the endpoint on the real cores and a real database. The connector works when it is woken, or when the test says.
type whole struct {
	*rig
	db        *store.DB
	connector model.Connector
	user      model.User
	key       profiles.Certificate
	seq       int64
}

func newWhole(t *testing.T) *whole {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "waxseal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &whole{rig: &rig{t: t, ca: testpki.NewCA(t, "device CA"), ticks: make(chan time.Time), now: testpki.Now()}, db: db}
	clock := func() time.Time { return w.now }
	w.svc = identity.New(identity.Config{Store: db, Jobs: db, Users: db, Clock: clock})
	uuids := 0
	core := delivery.New(delivery.Config{Store: db, Clock: clock, CanDecrypt: func([]byte) bool { return true },
		Planners: map[profiles.Platform]delivery.Planner{profiles.Android: android.Plan},
		NewUUID:  func() string { uuids++; return fmt.Sprintf("C%d", uuids) }})
	authority := identity.NewAuthority(func(context.Context) ([]byte, []byte, error) { return w.ca.Cert.Raw, w.ca.Cert.Raw, nil })
	logger := slog.New(slog.DiscardHandler)
	w.router = web.New(web.Config{Logger: logger, Clock: clock, Burst: 100_000})
	w.endpoint = androidmdm.New(androidmdm.Config{Identity: w.svc, Authority: authority, Delivery: &delivery.Android{Service: core}, Users: db, Auditor: db,
		Refusals: web.NewRefusals(db, logger, clock), Clock: clock, Logger: logger, Kick: w.connects,
		Ticks: func() (<-chan time.Time, func()) { return w.ticks, func() {} }})
	w.endpoint.Routes(w.router)
	w.furnish()
	return w
}

func (w *whole) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *whole) audit(action string) model.AuditEntry {
	return model.AuditEntry{At: w.now, Actor: "admin", Action: action, Outcome: "ok"}
}

// furnish registers a connector, a user with one encryption certificate, and profiles for everybody.
func (w *whole) furnish() {
	w.t.Helper()
	ctx := w.t.Context()
	w.ok(w.db.CreateConnectorToken(ctx, "token", w.now.Add(time.Hour), w.audit("connector.token")))
	var err error
	w.connector, err = w.db.RegisterConnector(ctx, "token", model.Connector{ID: "c1", Name: "c1", CredentialHash: "h",
		Member: escrow.Member{ID: "m1", Kind: escrow.MemberConnector, Name: "c1", Suite: escrow.SuiteHybrid, PublicKey: []byte("k")}}, []byte("root"), w.now, w.audit("connector.register"))
	w.ok(err)
	w.apply(profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindUser, Name: "dave@corp.test", Spec: &profiles.User{Addresses: []string{"dave@corp.test"}}},
		profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindTrustedCertificate, Name: "root", Spec: &profiles.TrustedCertificate{Certificate: w.ca.Cert.Raw}},
		profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindPKCSImportedCertificate, Name: "hist",
			Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}},
		assignment("root", "hist"))
	w.user, err = w.db.UserByUPN(ctx, "dave@corp.test")
	w.ok(err)
	mail := w.ca.Issue(w.t, testpki.Options{CN: "Dave", Emails: []string{"dave@corp.test"}})
	c, _, err := model.NewCertificate(mail.Cert.Raw)
	w.ok(err)
	c.Purpose, c.RecordID = profiles.PurposeSMIMEEncryption, "r1"
	c.Kind, c.UserID, c.CreatedAt = model.CertificateImported, w.user.ID, w.now
	w.key = c.Certificate
	_, err = w.db.Import(ctx, model.EscrowRecord{UserID: w.user.ID, Purpose: c.Purpose, Record: escrow.Record{Version: 1, ID: "r1", Owner: link.UserURN(w.user.ID),
		CertSHA256: c.SHA256, Nonce: []byte("n"), Ciphertext: []byte("c"), Wraps: []escrow.Wrap{{Member: "m1", Suite: escrow.SuiteHybrid, Enc: []byte("e"), Ciphertext: []byte("w")}}}},
		c, w.audit("escrow.import"))
	w.ok(err)
}

func assignment(names ...string) profiles.Object {
	return profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindAssignment, Name: "a",
		Spec: &profiles.Assignment{Profiles: names, Include: []profiles.Target{{Everybody: true}}}}
}

func (w *whole) apply(objects ...profiles.Object) {
	w.t.Helper()
	_, err := w.db.Apply(w.t.Context(), objects, false, w.now, w.audit("apply"))
	w.ok(err)
}

// connects lets the connector do all that waits for it.
func (w *whole) connects() {
	w.t.Helper()
	jobs, err := w.db.Claim(w.t.Context(), w.connector.ID, 10, time.Minute, w.now)
	w.ok(err)
	for _, j := range jobs {
		done := connectorapi.Completion{JobID: j.ID, ConnectorID: w.connector.ID, Attempt: j.Attempt, At: w.now, Audit: w.audit("job." + string(j.Kind))}
		switch j.Kind {
		case link.JobIdentity:
			done.Identity = w.certifies(j)
		case link.JobRender:
			done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: j.EnrolmentID, DocumentID: j.DocumentID, Revision: j.Revision,
				Recipient: j.Recipient, Payload: []byte("sealed to " + j.Recipient)}
		}
		w.ok(w.db.Complete(w.t.Context(), done))
	}
}

func (w *whole) certifies(j model.Job) *connectorapi.IdentityEffect {
	w.t.Helper()
	var order link.IdentityJob
	w.ok(json.Unmarshal(j.Payload, &order))
	csr, err := x509.ParseCertificateRequest(order.CSR)
	w.ok(err)
	c, _, err := model.NewCertificate(w.ca.IssueCSR(w.t, csr, testpki.Options{CN: order.EnrolmentID}).Raw)
	w.ok(err)
	return &connectorapi.IdentityEffect{EnrolmentID: order.EnrolmentID, Certificate: c, Chain: [][]byte{w.ca.Cert.Raw}}
}

// enrols brings the installation in with a token and a key.
func (w *whole) enrols(token string, key int) companion.EnrollResponse {
	w.t.Helper()
	q := w.request(token, "install-1", key)
	raw := w.do(http.MethodPost, companion.PathEnroll, "", q)
	answer, err := companion.DecodeEnrollResponse(raw.Body.Bytes())
	if err != nil {
		w.t.Fatalf("%d %s: %v", raw.Code, raw.Body, err)
	}
	return answer
}

func (w *whole) token() string {
	w.t.Helper()
	token, err := w.svc.CreateLink(w.t.Context(), w.user, profiles.Android, 0)
	w.ok(err)
	return token
}

func (w *whole) state(credential string) companion.State {
	w.t.Helper()
	answer := w.do(http.MethodGet, companion.PathState, credential, nil)
	s, err := companion.DecodeState(answer.Body.Bytes())
	if err != nil {
		w.t.Fatalf("%d %s: %v", answer.Code, answer.Body, err)
	}
	return s
}

func find(s companion.State, kind companion.Kind) companion.Item {
	if at := slices.IndexFunc(s.Items, func(i companion.Item) bool { return i.Kind == kind }); at >= 0 {
		return s.Items[at]
	}
	return companion.Item{}
}

func (w *whole) tells(credential string, i companion.Item, state companion.ItemState) {
	w.t.Helper()
	w.seq++
	r := companion.StatusReport{Revision: i.Revision, Seq: w.seq, State: state, At: w.now}
	if answer := w.do(http.MethodPut, companion.PathStatusOf(i.ID), credential, r); answer.Code != 200 {
		w.t.Fatalf("%s %s: %d %s", i.ID, state, answer.Code, answer.Body)
	}
}

func (w *whole) payload(credential string, i companion.Item, wrapKey string) (int, string) {
	w.t.Helper()
	answer := w.do(http.MethodPost, companion.PathPayloadOf(i.ID), credential, companion.PayloadRequest{Revision: i.Revision, WrapKeyID: wrapKey, Nonce: "n"})
	if answer.Code != 200 {
		return answer.Code, code(w.t, answer)
	}
	p, err := companion.DecodePayloadResponse(answer.Body.Bytes())
	w.ok(err)
	return answer.Code, string(p.Envelope)
}

// offered brings a fresh device to where its key waits to be fetched.
func (w *whole) offered(e companion.EnrollResponse) companion.Item {
	w.t.Helper()
	w.tells(e.Credential, find(w.state(e.Credential), companion.KindCACert), companion.StateInstalled)
	w.state(e.Credential)
	w.connects()
	return find(w.state(e.Credential), companion.KindIdentity)
}

func (w *whole) inventory(e companion.EnrollResponse, there bool) {
	w.t.Helper()
	inv := companion.Inventory{Identities: []companion.Held{}, CAs: []string{}, Capabilities: []companion.Capability{}, Apps: []companion.App{}, UserUnlocked: true}
	if there {
		ca, _, err := model.NewCertificate(w.ca.Cert.Raw)
		w.ok(err)
		inv.CAs = append(inv.CAs, ca.SHA256)
		inv.Identities = append(inv.Identities, companion.Held{Alias: "smime-enc-" + w.key.SHA256[:12], CertSHA256: w.key.SHA256, Present: true})
	}
	if answer := w.do(http.MethodPost, companion.PathInventory, e.Credential, inv); answer.Code != 200 {
		w.t.Fatalf("%d %s", answer.Code, answer.Body)
	}
}

func (w *whole) statuses(credential string) string {
	w.t.Helper()
	id, _, _ := strings.Cut(credential, ".")
	docs, err := w.db.DocumentsOfEnrolment(w.t.Context(), id)
	w.ok(err)
	var out []string
	for _, d := range docs {
		out = append(out, string(d.Status))
	}
	return strings.Join(out, " ")
}

func TestWholeLife(t *testing.T) {
	w := newWhole(t)
	e := w.enrols(w.token(), 1)
	key := w.offered(e)
	if status, sealed := w.payload(e.Credential, key, e.WrapKeyID); status != 200 || sealed != "sealed to "+e.WrapKeyID {
		t.Fatalf("%d %s", status, sealed)
	}
	w.tells(e.Credential, key, companion.StateInstalled)
	w.inventory(e, true)
	if got := w.statuses(e.Credential); got != "verified verified" {
		t.Errorf("%s", got)
	}
	known := w.state(e.Credential)
	if answer := w.do(http.MethodGet, companion.PathState+"?generation="+known.Generation, e.Credential, nil); answer.Code != http.StatusNotModified || len(known.Items) != 2 {
		t.Errorf("settled: %d, %d items", answer.Code, len(known.Items))
	}
	w.ok(w.db.SetDeviceState(t.Context(), e.DeviceID, model.DeviceRetiring, w.now, w.audit("device.retire")))
	for _, i := range w.state(e.Credential).Items {
		w.tells(e.Credential, i, companion.StateRemoved)
	}
	w.inventory(e, false)
	if s := w.state(e.Credential); !s.Policy.Unenroll || len(s.Items) != 0 {
		t.Errorf("%+v", s)
	}
	w.do(http.MethodPost, companion.PathUnenroll, e.Credential, companion.Unenroll{Reason: companion.UnenrollPolicy})
	d, err := w.db.DeviceByID(t.Context(), e.DeviceID)
	if err != nil || d.State != model.DeviceLeft || d.Removal != model.RemovalVerified {
		t.Errorf("%+v %v", d, err)
	}
	if got := code(t, w.do(http.MethodGet, companion.PathState, e.Credential, nil)); got != companion.CodeEnded {
		t.Errorf("after the end: %s", got)
	}
}

// TestWholeNewWrapKey: what was sealed to the former key is void, and the former credential is told that it is over.
func TestWholeNewWrapKey(t *testing.T) {
	w := newWhole(t)
	first := w.enrols(w.token(), 1)
	key := w.offered(first)
	second := w.enrols(w.token(), 2)
	if second.DeviceID != first.DeviceID || second.WrapKeyID == first.WrapKeyID {
		t.Fatalf("%+v, then %+v", first, second)
	}
	if _, got := w.payload(first.Credential, key, first.WrapKeyID); got != companion.CodeEnded {
		t.Errorf("by the former credential: %s", got)
	}
	if _, got := w.payload(second.Credential, key, first.WrapKeyID); got != companion.CodeWrapKeyUnknown {
		t.Errorf("the former envelope: %s", got)
	}
	key = w.offered(second)
	if _, got := w.payload(second.Credential, key, second.WrapKeyID); got != "sealed to "+second.WrapKeyID {
		t.Errorf("%s", got)
	}
}

// TestWholeKeyThatIsTakenBack: between the sealing and the fetching the admin changes his mind.
func TestWholeKeyThatIsTakenBack(t *testing.T) {
	w := newWhole(t)
	e := w.enrols(w.token(), 1)
	key := w.offered(e)
	w.apply(assignment("root"))
	if _, got := w.payload(e.Credential, key, e.WrapKeyID); got != companion.CodeItemGone {
		t.Errorf("unassigned: %s", got)
	}
	w.apply(assignment("root", "hist"))
	key = w.offeredAgain(e)
	w.ok(w.db.SetDeviceState(t.Context(), e.DeviceID, model.DeviceRetiring, w.now, w.audit("device.retire")))
	if _, got := w.payload(e.Credential, key, e.WrapKeyID); got != companion.CodeItemGone {
		t.Errorf("retired: %s", got)
	}
	page, err := w.db.Audit(t.Context(), 0, 1000)
	w.ok(err)
	if slices.ContainsFunc(page, func(a model.AuditEntry) bool { return a.Action == "key.fetch" }) {
		t.Error("the audit log says that a key was fetched")
	}
}

func (w *whole) offeredAgain(e companion.EnrollResponse) companion.Item {
	w.t.Helper()
	w.state(e.Credential)
	w.connects()
	key := find(w.state(e.Credential), companion.KindIdentity)
	if key.Op != companion.OpInstall {
		w.t.Fatalf("%+v", key)
	}
	return key
}

// TestWholePollSeesAnAdmin: another process may have written it; the database tells.
func TestWholePollSeesAnAdmin(t *testing.T) {
	w := newWhole(t)
	e := w.enrols(w.token(), 1)
	w.offered(e)
	known := w.state(e.Credential).Generation
	answer := make(chan int)
	go func() {
		answer <- w.do(http.MethodGet, companion.PathState+"?wait=55&generation="+known, e.Credential, nil).Code
	}()
	w.ticks <- w.now // it waits
	w.apply(assignment("root"))
	for { // it looks at one of the next ticks
		select {
		case w.ticks <- w.now:
		case got := <-answer:
			if got != http.StatusOK {
				t.Errorf("%d", got)
			}
			return
		}
	}
}

// TestWholeTokenOnce: whoever left does not come back by the token of then.
func TestWholeTokenOnce(t *testing.T) {
	w := newWhole(t)
	token := w.token()
	e := w.enrols(token, 1)
	if got := code(t, w.do(http.MethodPost, companion.PathEnroll, "", w.request(token, "install-1", 2))); got != companion.CodeTokenInvalid {
		t.Errorf("another key: %s", got)
	}
	w.do(http.MethodPost, companion.PathUnenroll, e.Credential, companion.Unenroll{Reason: companion.UnenrollUser})
	if got := code(t, w.do(http.MethodPost, companion.PathEnroll, "", w.request(token, "install-1", 1))); got != companion.CodeTokenInvalid {
		t.Errorf("the same again after the end: %s", got)
	}
	if devices, err := w.db.Devices(t.Context(), admin.Page{}); err != nil || len(devices) != 1 || devices[0].State != model.DeviceLeft {
		t.Errorf("%+v %v", devices, err)
	}
}
