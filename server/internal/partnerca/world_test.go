package partnerca_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"crypto/rand"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/partnerca"
	"github.com/waxseal/waxseal/server/internal/reconcile"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/web"
)

const secret = "a-secret-that-this-test-knows"

// world is the endpoint on the real router, over a real database with one user, who has a device of each platform.
type world struct {
	*testing.T
	db        *store.DB
	breaks    map[string]bool // calls of the database that fail
	now       time.Time
	core      *delivery.Service
	issuance  *issuance.Service
	router    *web.Router
	url       string
	user      model.User
	partner   model.Partner
	connector model.Connector
	ca        *testpki.CA
	n         int
	enrolled  map[string]string // platform of the matrix → enrolment
}

// faulty is the database on a bad day.
type faulty struct {
	*store.DB
	w *world
}

var errBroken = errors.New("the database is on fire")

func (f faulty) NotePartnerCertificate(ctx context.Context, words model.PartnerCertificate, cert model.Certificate, audit model.AuditEntry) error {
	if f.w.breaks["note"] {
		return errBroken
	}
	return f.DB.NotePartnerCertificate(ctx, words, cert, audit)
}

func (f faulty) SCEPRequest(ctx context.Context, hash string) (model.SCEPRequest, error) {
	if f.w.breaks["request"] {
		return model.SCEPRequest{}, errBroken
	}
	return f.DB.SCEPRequest(ctx, hash)
}

// matrix are the columns of Microsoft's test matrix (CsrValidation/doc/TestMatrix.csv), with the platform of each.
func matrix() map[string]profiles.Platform {
	return map[string]profiles.Platform{"Win10": profiles.Windows, "iOS": profiles.IOS, "OSX": profiles.MacOS, "Android": profiles.Android, "AndroidEnterprise": profiles.Android}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "test.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := &world{T: t, db: db, breaks: map[string]bool{}, now: testpki.Now(), ca: testpki.NewCA(t, "Partner CA"), enrolled: map[string]string{}}
	w.serve()
	w.apply(profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindUser, Name: "alice@corp.test",
		Spec: &profiles.User{DisplayName: "Alice Example", Addresses: []string{"alice@corp.test"}}})
	w.user, err = db.UserByUPN(t.Context(), "alice@corp.test")
	w.ok(err)
	w.partner = w.join("ejbca", "app-ejbca")
	return w
}

func (w *world) serve() {
	w.Helper()
	clock := func() time.Time { return w.now }
	challenger, err := issuance.NewChallenger(testpki.PoolKey(w, 0), rand.Reader, clock)
	w.ok(err)
	w.core = delivery.New(delivery.Config{Store: w.db, Settings: reconcile.Settings{Namespace: "io.waxseal.test", SCEPURL: "https://mdm.example/scep"}, Clock: clock})
	w.issuance = issuance.New(issuance.Config{Store: faulty{w.db, w}, Orders: w.core, Challenger: challenger, Clock: clock})
	tokens, err := partnerca.NewTokens(testpki.PoolKey(w, 0))
	w.ok(err)
	w.router = web.New(web.Config{Clock: clock, Burst: 1_000_000})
	server := httptest.NewServer(w.router)
	w.Cleanup(server.Close)
	w.url = server.URL
	partnerca.New(partnerca.Config{Store: faulty{w.db, w}, Issuance: w.issuance, Tokens: tokens, Refusals: web.NewRefusals(w.db, nil, clock), PublicURL: w.url, Clock: clock}).Routes(w.router)
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) id() string { w.n++; return fmt.Sprintf("id-%06d", w.n) }

func (w *world) sha() string {
	w.n++
	sum := sha256.Sum256(fmt.Append(nil, w.n))
	return hex.EncodeToString(sum[:])
}

func (w *world) audit(action string) model.AuditEntry {
	return model.AuditEntry{At: w.now, Actor: "admin", Action: action, Object: "object", Outcome: "ok"}
}

func (w *world) apply(objects ...profiles.Object) {
	w.Helper()
	_, err := w.db.Apply(w.Context(), objects, false, w.now, w.audit("apply"))
	w.ok(err)
}

// join adds a partner CA.
func (w *world) join(name, app string) model.Partner {
	w.Helper()
	p := model.Partner{Name: name, AppID: app, SecretHash: model.PartnerSecretHash(secret), URL: "https://" + name + ".example/scep", Chain: [][]byte{w.ca.Cert.Raw}, CreatedAt: w.now}
	w.ok(w.db.AddPartner(w.Context(), p, w.audit("partner.add")))
	return p
}

// device enrols one, and gives the enrolment that certificates are delivered by.
func (w *world) device(column string) string {
	w.Helper()
	if id, known := w.enrolled[column]; known {
		return id
	}
	ctx, platform := w.Context(), matrix()[column]
	l := model.Link{ID: w.id(), TokenHash: w.sha(), UserID: w.user.ID, Platform: platform, CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour)}
	w.ok(w.db.CreateLink(ctx, l, w.audit("link.create")))
	ch := model.Challenge{Hash: w.sha(), LinkID: l.ID, UserID: w.user.ID, Platform: platform, EnrolmentID: w.id(), CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour)}
	w.ok(w.db.CreateChallenge(ctx, ch))
	_, err := w.db.Redeem(ctx, ch.Hash, w.sha(), model.Job{Key: "identity:" + ch.EnrolmentID, Kind: link.JobIdentity, Payload: json.RawMessage(`{}`), UserID: w.user.ID,
		EnrolmentID: ch.EnrolmentID, RunAt: w.now, CreatedAt: w.now}, w.now)
	w.ok(err)
	w.identify(ch)
	d := model.Device{ID: w.id(), ExternalID: "serial " + column, Name: column, OSVersion: "18.1", SerialNumber: "SN-" + column, IMEI: "356938035643809", LastSeen: w.now}
	_, err = w.db.Authenticate(ctx, model.Enrolment{ID: ch.EnrolmentID, ExternalID: d.ExternalID}, d, w.audit("device.enrol"))
	w.ok(err)
	w.ok(w.db.TokenUpdate(ctx, ch.EnrolmentID, nil, "", "", false, w.now))
	id := ch.EnrolmentID
	if platform == profiles.MacOS { // a Mac's certificates are its user's
		u, err := w.db.OpenUserChannel(ctx, model.Enrolment{ID: w.id(), HolderID: id, ExternalID: "user"}, w.now, w.audit("device.userChannel"))
		w.ok(err)
		id = u.ID
	}
	w.enrolled[column] = id
	return id
}

// identify plays the connector that certifies a device.
func (w *world) identify(ch model.Challenge) {
	w.Helper()
	ctx, c := w.Context(), w.worker()
	jobs, err := w.db.Claim(ctx, c.ID, 1, time.Minute, w.now)
	w.ok(err)
	if len(jobs) != 1 {
		w.Fatalf("claimed %d jobs", len(jobs))
	}
	sum := w.sha()
	cert := model.Certificate{Certificate: profiles.Certificate{SHA256: sum, SHA1: sum[:40], DER: []byte(sum), NotBefore: w.now, NotAfter: w.now.AddDate(9, 0, 0)}, CreatedAt: w.now}
	w.ok(w.db.Complete(ctx, connectorapi.Completion{JobID: jobs[0].ID, ConnectorID: c.ID, Attempt: jobs[0].Attempt, At: w.now, Audit: w.audit("identity"),
		Identity: &connectorapi.IdentityEffect{EnrolmentID: ch.EnrolmentID, Certificate: cert, Chain: [][]byte{[]byte("ca")}}}))
}

// worker is the one connector.
func (w *world) worker() model.Connector {
	w.Helper()
	if w.connector.ID != "" {
		return w.connector
	}
	ctx, token := w.Context(), w.sha()
	w.ok(w.db.CreateConnectorToken(ctx, token, w.now.Add(time.Hour), w.audit("connector.token")))
	member := escrow.Member{ID: w.id(), Kind: escrow.MemberConnector, Suite: escrow.SuiteHybrid, PublicKey: []byte("k")}
	c, err := w.db.RegisterConnector(ctx, token, model.Connector{ID: w.id(), Name: "m", Member: member, CredentialHash: w.sha()}, []byte("root"), w.now, w.audit("connector.register"))
	w.ok(err)
	w.connector = c
	return c
}

// own gives everybody a certificate of the partner.
func (w *world) own(edit func(r *profiles.CertificateRequest)) {
	w.Helper()
	r := profiles.CertificateRequest{CertificateAuthority: "ejbca", Subject: "CN={{UserName}},E={{EmailAddress}}",
		SubjectAlternativeNames: []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "{{EmailAddress}}"}},
		KeyUsage:                []string{"digitalSignature", "keyEncipherment"}, RevokeOn: []profiles.Event{profiles.EventUnenroll, profiles.EventRetire}}
	if edit != nil {
		edit(&r)
	}
	w.apply(profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindSCEPCertificate, Name: "own", Spec: &profiles.SCEPCertificate{CertificateRequest: r}},
		profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindAssignment, Name: "all",
			Spec: &profiles.Assignment{Profiles: []string{"own"}, Include: []profiles.Target{{Everybody: true}}}})
}

// order is what an enrolment's profile wants now.
func (w *world) order(enrolmentID string) link.CertifyJob {
	w.Helper()
	orders, err := w.core.Orders(w.Context(), enrolmentID)
	w.ok(err)
	if len(orders) != 1 {
		w.Fatalf("%d orders", len(orders))
	}
	return orders[0]
}

// challenge is what the server puts into the device's document.
func (w *world) challenge(enrolmentID string) string {
	w.Helper()
	all, err := w.issuance.Mint(w.Context(), enrolmentID, []string{"own"})
	w.ok(err)
	return all["own"]
}

// certificates are those that the server knows of an enrolment's profile, newest last.
func (w *world) certificates(enrolmentID string) []model.Certificate {
	w.Helper()
	all, err := w.db.Certificates(w.Context(), admin.Page{Limit: 1000})
	w.ok(err)
	var out []model.Certificate
	for _, c := range all {
		if c.EnrolmentID == enrolmentID && c.Profile == "own" {
			out = append(out, c)
		}
	}
	return out
}

// audited are the entries of an action, as "outcome code".
func (w *world) audited(action string) []string {
	w.Helper()
	all, err := w.db.Audit(w.Context(), 0, 1000)
	w.ok(err)
	var out []string
	for _, a := range all {
		if a.Action == action {
			out = append(out, a.Actor+" "+a.Outcome+" "+a.Detail["code"])
		}
	}
	return out
}

// issue signs a request with what it asks for, as partners do.
func (w *world) issue(csr *x509.CertificateRequest, life time.Duration) *x509.Certificate {
	w.Helper()
	w.n++
	template := &x509.Certificate{SerialNumber: bigint(w.n + 1<<40), RawSubject: csr.RawSubject, NotBefore: w.now, NotAfter: w.now.Add(life), ExtraExtensions: csr.Extensions}
	der, err := x509.CreateCertificate(rand.Reader, template, w.ca.Cert, csr.PublicKey, w.ca.RSA())
	w.ok(err)
	cert, err := x509.ParseCertificate(der)
	w.ok(err)
	return cert
}
