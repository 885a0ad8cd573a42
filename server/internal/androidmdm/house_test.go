package androidmdm_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	phone "github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/androidmdm"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/web"
)

// house is the endpoint on the real core and a real database, with a connector that answers at once, and the simulated
// app. All of it lives in one clock, whose sleeps take no time.
type house struct {
	*testing.T
	now       time.Time
	path      string
	db        *store.DB
	svc       *identity.Service
	router    *web.Router
	http      *httptest.Server
	calls     []string          // method and path of each request
	states    []companion.State // each that the app was told
	lose      func(*http.Request) bool
	deviceCA  *testpki.CA
	mailCA    *testpki.CA
	keys      map[string]android.Key
	connector model.Connector
	user      model.User
	keySet    *escrow.SignedKeySet
	silent    bool   // the connector does nothing
	refuses   string // why the CA issues nothing
	made      int    // keys that phones made for themselves
	wait      time.Duration
}

func (h *house) Now() time.Time { return h.now }

func (h *house) Sleep(ctx context.Context, d time.Duration) error {
	h.now = h.now.Add(d)
	return ctx.Err()
}

func (h *house) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// newHouse has a user with three encryption certificates, and profiles for CA, history and Outlook.
func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{T: t, now: testpki.Now(), path: filepath.Join(t.TempDir(), "waxseal.db"), keys: map[string]android.Key{},
		deviceCA: testpki.NewCA(t, "device CA"), mailCA: testpki.NewCA(t, "mail CA")}
	h.http = httptest.NewUnstartedServer(http.HandlerFunc(h.serve))
	h.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	h.http.StartTLS()
	t.Cleanup(h.http.Close)
	h.open()
	t.Cleanup(func() { _ = h.db.Close() })
	h.trust()
	h.apply(profiles.Object{Kind: profiles.KindUser, Name: "alice@corp.test", Spec: &profiles.User{Addresses: []string{"alice@corp.test"}}},
		profiles.Object{Kind: profiles.KindTrustedCertificate, Name: "root", Spec: &profiles.TrustedCertificate{Certificate: h.mailCA.Cert.Raw}},
		profiles.Object{Kind: profiles.KindPKCSImportedCertificate, Name: "history", Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}},
		profiles.Object{Kind: profiles.KindEmail, Name: "mail", Spec: &profiles.Email{AddressSource: profiles.SourcePrimaryAddress, SMIME: &profiles.SMIME{}}},
		profiles.Object{Kind: profiles.KindAssignment, Name: "all", Spec: &profiles.Assignment{Profiles: []string{"root", "history", "mail"},
			Include: []profiles.Target{{Everybody: true}}}})
	var err error
	h.user, err = h.db.UserByUPN(t.Context(), "alice@corp.test")
	h.ok(err)
	for years := range 3 {
		h.imported(testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, NotBefore: h.now.AddDate(-years-1, 0, 0), NotAfter: h.now.AddDate(5-years, 0, 0)})
	}
	return h
}

// open starts the server on the database of path.
func (h *house) open() {
	h.Helper()
	db, err := sqlite.Open(h.Context(), h.path)
	h.ok(err)
	h.db = db
	h.svc = identity.New(identity.Config{Store: db, Jobs: db, Users: db, Clock: h.Now})
	core := delivery.New(delivery.Config{Store: db, Planners: map[profiles.Platform]delivery.Planner{profiles.Android: android.Plan},
		CanDecrypt: func([]byte) bool { return true }, Clock: h.Now, NewUUID: uuid.NewString, Kick: h.connect})
	h.router = web.New(web.Config{Clock: h.Now, Burst: 100_000})
	certifier := issuance.New(issuance.Config{Store: db, Orders: core, Kick: h.connect, Clock: h.Now, Tick: time.Millisecond})
	androidmdm.New(androidmdm.Config{Identity: h.svc, Authority: identity.NewAuthority(db.DeviceAuthority), Delivery: &delivery.Android{Service: core},
		Issuance: certifier, Wait: h.wait, Users: db, Refusals: web.NewRefusals(db, nil, h.Now), Auditor: db, Kick: h.connect, Clock: h.Now}).Routes(h.router)
}

// serve counts requests, and loses the answer of those that lose picks, after the server has done its work.
func (h *house) serve(w http.ResponseWriter, r *http.Request) {
	h.calls = append(h.calls, r.Method+" "+r.URL.Path)
	if h.lose != nil && h.lose(r) {
		h.router.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	}
	if r.URL.Path != companion.PathState {
		h.router.ServeHTTP(w, r)
		return
	}
	h.state(w, r)
}

// state keeps what the app is told.
func (h *house) state(w http.ResponseWriter, r *http.Request) {
	got := httptest.NewRecorder()
	h.router.ServeHTTP(got, r)
	if s, err := companion.DecodeState(got.Body.Bytes()); err == nil {
		h.states = append(h.states, s)
	}
	maps.Copy(w.Header(), got.Header())
	w.WriteHeader(got.Code)
	_, _ = w.Write(got.Body.Bytes())
}

func (h *house) entry() model.AuditEntry {
	return model.AuditEntry{At: h.now, Actor: "admin", Action: "test", Object: "object", Outcome: "ok"}
}

func (h *house) apply(objects ...profiles.Object) {
	h.Helper()
	for i := range objects {
		objects[i].APIVersion = profiles.APIVersion
	}
	_, err := h.db.Apply(h.Context(), objects, false, h.now, h.entry())
	h.ok(err)
}

// trust registers the connector and publishes what it offers.
func (h *house) trust() {
	h.Helper()
	member := escrow.Member{ID: "m1", Kind: escrow.MemberConnector, Name: "m1", Suite: escrow.SuiteHybrid, PublicKey: []byte("m1")}
	h.ok(h.db.CreateConnectorToken(h.Context(), "token", h.now.Add(time.Hour), h.entry()))
	var err error
	h.connector, err = h.db.RegisterConnector(h.Context(), "token", model.Connector{ID: "c1", Name: "c1", Member: member, CredentialHash: "hash"}, []byte("root"), h.now, h.entry())
	h.ok(err)
	set, err := json.Marshal(escrow.KeySet{Serial: 1, Members: []escrow.Member{member}})
	h.ok(err)
	h.keySet = &escrow.SignedKeySet{KeySet: set, Root: []byte("root"), Signature: []byte("signature")}
	h.offer()
}

// offer publishes the connector's CAs.
func (h *house) offer(cas ...link.CA) {
	h.Helper()
	h.ok(h.db.Publish(h.Context(), "c1", link.PublishRequest{DeviceCA: h.deviceCA.Cert.Raw, RACertificate: h.deviceCA.Cert.Raw, CAs: cas, KeySet: h.keySet}, h.now, h.entry()))
}

// imported gives the user one more encryption certificate and returns its SHA-256.
func (h *house) imported(opts testpki.Options) string {
	h.Helper()
	id := h.mailCA.Issue(h, opts)
	cert, _, err := model.NewCertificate(id.Cert.Raw)
	h.ok(err)
	cert.Purpose, cert.CreatedAt = profiles.PurposeSMIMEEncryption, h.now
	key, err := x509.MarshalPKCS8PrivateKey(id.Key)
	h.ok(err)
	h.keys[cert.SHA256] = android.Key{PKCS8: key, Chain: [][]byte{id.Cert.Raw, h.mailCA.Cert.Raw}}
	record := escrow.Record{Version: 1, ID: "record-" + cert.SHA256[:8], Owner: link.UserURN(h.user.ID), CertSHA256: cert.SHA256, Nonce: []byte("nonce"),
		Ciphertext: []byte("sealed"), Wraps: []escrow.Wrap{{Member: "m1", Suite: escrow.SuiteHybrid, Enc: []byte("enc"), Ciphertext: []byte("wrap")}}}
	_, err = h.db.Import(h.Context(), model.EscrowRecord{Record: record, UserID: h.user.ID, Purpose: cert.Purpose}, cert, h.entry())
	h.ok(err)
	return cert.SHA256
}

// connect lets the connector do whatever there is to do.
func (h *house) connect() {
	for !h.silent {
		jobs, err := h.db.Claim(context.WithoutCancel(h.Context()), h.connector.ID, 10, time.Minute, h.now)
		if err != nil || len(jobs) == 0 {
			return
		}
		for _, j := range jobs {
			done := connectorapi.Completion{JobID: j.ID, ConnectorID: j.LeasedBy, Attempt: j.Attempt, At: h.now, Audit: h.entry()}
			if err := h.work(j, &done); err != nil {
				h.Errorf("the connector: %v", err)
				return
			}
			if err := h.db.Complete(context.WithoutCancel(h.Context()), done); err != nil {
				h.Errorf("the connector's answer: %v", err)
				return
			}
		}
	}
}

func (h *house) work(j model.Job, done *connectorapi.Completion) error {
	switch j.Kind {
	case link.JobIdentity:
		return h.certify(j, done)
	case link.JobRender:
		return h.render(j, done)
	case link.JobCertify:
		return h.certifyOwn(j, done)
	}
	return fmt.Errorf("a job of kind %s", j.Kind)
}

func (h *house) certify(j model.Job, done *connectorapi.Completion) error {
	var order link.IdentityJob
	if err := json.Unmarshal(j.Payload, &order); err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(order.CSR)
	if err != nil {
		return err
	}
	cert, _, err := model.NewCertificate(h.deviceCA.IssueCSR(h, csr, testpki.Options{CN: order.EnrolmentID, NotBefore: h.now.Add(-time.Hour), NotAfter: h.now.AddDate(10, 0, 0)}).Raw)
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: order.EnrolmentID, Certificate: cert, Chain: [][]byte{h.deviceCA.Cert.Raw}}
	return err
}

func (h *house) render(j model.Job, done *connectorapi.Completion) error {
	var order link.RenderJob
	if err := json.Unmarshal(j.Payload, &order); err != nil {
		return err
	}
	recipient, err := x509.ParseCertificate(order.Recipient)
	if err != nil {
		return err
	}
	payload, err := android.Render(order.Document, h.keys, func(plain []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, plain, []*x509.Certificate{recipient}, cms.EncryptOptions{})
	})
	done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: j.EnrolmentID, DocumentID: j.DocumentID, Revision: j.Revision, Recipient: j.Recipient, Payload: payload}
	return err
}

func (h *house) link() string {
	h.Helper()
	token, err := h.svc.CreateLink(h.Context(), h.user, profiles.Android, 0)
	h.ok(err)
	return h.http.URL + "/enroll/" + token
}

// device enrols a phone of the user.
func (h *house) device() *phone.Device {
	h.Helper()
	d, err := phone.Enroll(h.Context(), phone.Config{State: h.TempDir(), Source: h.link(), Clock: h,
		CA:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.http.Certificate().Raw}),
		NewKey: h.newKey})
	h.ok(err)
	h.Cleanup(func() { _ = d.Close() })
	return d
}

func (h *house) sync(d *phone.Device, words ...string) {
	h.Helper()
	h.ok(d.Chaos(words...))
	_, err := d.Sync(h.Context(), 0)
	h.ok(err)
}

// copyOf keeps the database as it is now; the server does not run meanwhile.
func (h *house) copyOf() string {
	h.Helper()
	h.ok(h.db.Close())
	raw, err := os.ReadFile(h.path)
	h.ok(err)
	file := filepath.Join(h.TempDir(), "backup.db")
	h.ok(os.WriteFile(file, raw, 0o600))
	h.open()
	return file
}

// documents are the statuses of a device's documents, by id.
func (h *house) documents(d *phone.Device) map[string]model.DocumentState {
	h.Helper()
	out := map[string]model.DocumentState{}
	all, err := h.db.DocumentsOfEnrolment(h.Context(), h.enrolment(d).ID)
	h.ok(err)
	for _, doc := range all {
		out[doc.Document.ID] = doc
	}
	return out
}

// enrolment is the latest of a device.
func (h *house) enrolment(d *phone.Device) model.Enrolment {
	h.Helper()
	all, err := h.db.EnrolmentsOfDevice(h.Context(), d.Facts().DeviceID)
	h.ok(err)
	for _, e := range all {
		if e.State != model.EnrolmentEnded {
			return e
		}
	}
	h.Fatal("no enrolment of the device is open")
	return model.Enrolment{}
}

// verified wants the server to have seen everything, and the phone to hold it.
func (h *house) verified(d *phone.Device, keys int) {
	h.Helper()
	documents := h.documents(d)
	for id, doc := range documents {
		if doc.Status != model.DocumentVerified {
			h.Errorf("%s is %s: %s %s", id, doc.Status, doc.Document.Reason, doc.Detail)
		}
	}
	if n := len(d.Phone().Work.Keys); n != keys || len(documents) != 2*keys+2 {
		h.Errorf("%d keys on the phone and %d documents, want %d and %d", n, len(documents), keys, 2*keys+2)
	}
}
