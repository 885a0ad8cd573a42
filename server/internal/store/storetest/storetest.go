// Package storetest is the conformance suite of the store: every database that the server may run on passes the same
// named classes. A class opens databases of its own, so that none sees another's rows.
package storetest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/expiry"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/push"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// Store is every port at once.
type Store interface {
	delivery.Store
	identity.Store
	connectorapi.Store
	admin.Store
	push.Store
	windowsmdm.Sessions
	issuance.Store
	expiry.Store
	Partners
	Statuses
	DeviceAuthority(ctx context.Context) (deviceCA, raCertificate []byte, err error)
	Keeper
}

// Keeper is what the process itself needs of the database.
type Keeper interface {
	// SettleTopic marks the enrolments that the push certificate of this topic can never wake, and gives their number.
	SettleTopic(ctx context.Context, topic string) (int64, error)
	MustReenroll(ctx context.Context) (int64, error)
	// Sweep gives up waiting for silent devices and deletes what nobody will ask for any more.
	Sweep(ctx context.Context, now time.Time, keep store.Retention) error
}

// Open gives a fresh, empty store that is closed when the test ends.
type Open func(t *testing.T) Store

// class is one named part of the suite.
type class struct {
	name string
	test func(t *testing.T, f *fixture)
}

// Run runs the whole suite.
func Run(t *testing.T, open Open) {
	for _, list := range [][]class{adminClasses(), identityClasses(), deliveryClasses(), jobClasses(), trustClasses(), statusClasses(), sweepClasses(), windowsClasses(), channelClasses(), scepClasses(), partnerClasses(), expiryClasses(), androidClasses(), concurrencyClasses()} {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) {
				c.test(t, &fixture{T: t, Store: open(t), ctx: t.Context(), now: start()})
			})
		}
	}
}

func start() time.Time { return time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC) }

// fixture is a store with a clock and the steps that most stories begin with.
type fixture struct {
	*testing.T
	Store
	ctx context.Context
	now time.Time
	n   int
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) is(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("got error %v, want %v", err, want)
	}
}

// get gives what a call returned, or ends the test with its error.
func get[T any](v T, err error) func(f *fixture) T {
	return func(f *fixture) T {
		f.Helper()
		f.ok(err)
		return v
	}
}

func equal[T comparable](f *fixture, what string, got, want T) {
	f.Helper()
	if got != want {
		f.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// same compares by JSON, which is how most of it is stored.
func same(f *fixture, what string, got, want any) {
	f.Helper()
	g, err := json.Marshal(got)
	f.ok(err)
	w, err := json.Marshal(want)
	f.ok(err)
	if string(g) != string(w) {
		f.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

func (f *fixture) id() string { f.n++; return fmt.Sprintf("id-%06d", f.n) }

// sha is a made-up SHA-256 that differs each time.
func (f *fixture) sha() string {
	f.n++
	return hex.EncodeToString([]byte(fmt.Sprintf("%032d", f.n)))
}

func (f *fixture) audit(action string) model.AuditEntry {
	return model.AuditEntry{At: f.now, Actor: "admin", Action: action, Object: "object", Outcome: "ok", Detail: map[string]string{"a": "b"}}
}

// audited counts the entries of an action.
func (f *fixture) audited(action string) int {
	n := 0
	for _, a := range get(f.Audit(f.ctx, 0, 1000))(f) {
		if a.Action == action {
			n++
		}
	}
	return n
}

func userObject(upn string, groups ...string) profiles.Object {
	return profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindUser, Name: upn,
		Spec: &profiles.User{DisplayName: "D " + upn, Addresses: []string{upn}, Groups: groups}}
}

func importedProfile(name string) profiles.Object {
	return profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindPKCSImportedCertificate, Name: name,
		Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}}
}

func assignment(name string, names ...string) profiles.Object {
	return profiles.Object{APIVersion: profiles.APIVersion, Kind: profiles.KindAssignment, Name: name,
		Spec: &profiles.Assignment{Profiles: names, Include: []profiles.Target{{Everybody: true}}}}
}

func (f *fixture) apply(objects ...profiles.Object) []string {
	f.Helper()
	changes := get(f.Apply(f.ctx, objects, false, f.now, f.audit("apply")))(f)
	var actions []string
	for _, c := range changes {
		actions = append(actions, c.Action)
	}
	return actions
}

func (f *fixture) user(upn string) model.User {
	f.Helper()
	f.apply(userObject(upn))
	return get(f.UserByUPN(f.ctx, upn))(f)
}

func member(id string) escrow.Member {
	return escrow.Member{ID: id, Kind: escrow.MemberConnector, Name: id, Suite: escrow.SuiteHybrid, PublicKey: []byte(id)}
}

// connector registers a connector with a member of this id.
func (f *fixture) connector(memberID string) model.Connector {
	f.Helper()
	token := f.sha()
	f.ok(f.CreateConnectorToken(f.ctx, token, f.now.Add(time.Hour), f.audit("connector.token")))
	return get(f.RegisterConnector(f.ctx, token, model.Connector{ID: f.id(), Name: memberID, Member: member(memberID), CredentialHash: f.sha()},
		[]byte("root"), f.now, f.audit("connector.register")))(f)
}

func keySet(serial uint64, members ...escrow.Member) *escrow.SignedKeySet {
	raw, err := json.Marshal(escrow.KeySet{Serial: serial, Members: members})
	if err != nil {
		panic(err) // a key set is plain data
	}
	return &escrow.SignedKeySet{KeySet: raw, Root: []byte("root"), Signature: []byte(fmt.Sprintf("signature %d", serial))}
}

func (f *fixture) publish(c model.Connector, p link.PublishRequest) {
	f.Helper()
	f.ok(f.Publish(f.ctx, c.ID, p, f.now, f.audit("publish")))
}

func record(id, owner, sha string, members ...string) escrow.Record {
	r := escrow.Record{Version: 1, ID: id, Owner: owner, CertSHA256: sha, Nonce: []byte("nonce"), Ciphertext: []byte("ciphertext " + id)}
	for _, m := range members {
		r.Wraps = append(r.Wraps, escrow.Wrap{Member: m, Suite: escrow.SuiteHybrid, Enc: []byte("enc"), Ciphertext: []byte("wrap")})
	}
	return r
}

func (f *fixture) certificate(sha string) model.Certificate {
	return model.Certificate{Certificate: profiles.Certificate{SHA256: sha, SHA1: sha[:40], DER: []byte("der " + sha), Addresses: []string{"a@x.example", "b@x.example"},
		NotBefore: f.now.AddDate(-20, 0, 0), NotAfter: f.now.AddDate(1, 0, 0), Purpose: profiles.PurposeSMIMEEncryption},
		Subject: "CN=a", Issuer: "CN=ca", Serial: "0a", CreatedAt: f.now}
}

// imports seals a made-up certificate for a user and gives its SHA-256.
func (f *fixture) imports(u model.User, members ...string) (sha, recordID string) {
	f.Helper()
	sha, recordID = f.sha(), f.id()
	r := model.EscrowRecord{Record: record(recordID, link.UserURN(u.ID), sha, members...), UserID: u.ID, Purpose: profiles.PurposeSMIMEEncryption}
	isNew, err := f.Import(f.ctx, r, f.certificate(sha), f.audit("escrow.import"))
	f.ok(err)
	equal(f, "created", isNew, true)
	return sha, recordID
}

// challenge makes a link and a challenge of it.
func (f *fixture) challenge(u model.User) (model.Link, model.Challenge) {
	f.Helper()
	l := model.Link{ID: f.id(), TokenHash: f.sha(), UserID: u.ID, Platform: profiles.IOS, CreatedAt: f.now, ExpiresAt: f.now.Add(72 * time.Hour)}
	f.ok(f.CreateLink(f.ctx, l, f.audit("link.create")))
	return l, f.another(l)
}

func (f *fixture) another(l model.Link) model.Challenge {
	f.Helper()
	c := model.Challenge{Hash: f.sha(), LinkID: l.ID, UserID: l.UserID, Platform: l.Platform, EnrolmentID: f.id(),
		CreatedAt: f.now, ExpiresAt: f.now.Add(15 * time.Minute)}
	f.ok(f.CreateChallenge(f.ctx, c))
	return c
}

func (f *fixture) redeem(c model.Challenge, key string) (model.Challenge, error) {
	job := model.Job{ID: f.id(), Key: "identity:" + c.EnrolmentID, Kind: link.JobIdentity, Payload: json.RawMessage(`{"csr":"x"}`),
		UserID: c.UserID, EnrolmentID: c.EnrolmentID, RunAt: f.now, CreatedAt: f.now}
	return f.Redeem(f.ctx, c.Hash, key, job, f.now)
}

// claim leases one job, the next one, for a minute.
func (f *fixture) claim(c model.Connector) model.Job {
	f.Helper()
	jobs, err := f.Claim(f.ctx, c.ID, 1, time.Minute, f.now)
	f.ok(err)
	if len(jobs) != 1 {
		f.Fatalf("claimed %d jobs, want 1", len(jobs))
	}
	return jobs[0]
}

func (f *fixture) completion(j model.Job) connectorapi.Completion {
	return connectorapi.Completion{JobID: j.ID, ConnectorID: j.LeasedBy, Attempt: j.Attempt, At: f.now, Audit: f.audit("job." + string(j.Kind))}
}

// enrol brings a device of the user through link, SCEP and check-in. It needs a connector without other jobs.
func (f *fixture) enrol(u model.User, c model.Connector, udid string) model.Enrolment {
	f.Helper()
	_, ch := f.challenge(u)
	e := f.certify(ch, c)
	return f.checkIn(e, udid)
}

func (f *fixture) certify(ch model.Challenge, c model.Connector) model.Enrolment {
	f.Helper()
	get(f.redeem(ch, f.sha()))(f)
	j := f.claim(c)
	equal(f, "kind", j.Kind, link.JobIdentity)
	done := f.completion(j)
	cert := f.certificate(f.sha())
	done.Identity = &connectorapi.IdentityEffect{EnrolmentID: ch.EnrolmentID, Certificate: cert, Chain: [][]byte{[]byte("ca")}}
	f.ok(f.Complete(f.ctx, done))
	return get(f.EnrolmentByCertificate(f.ctx, cert.SHA256))(f)
}

func (f *fixture) checkIn(e model.Enrolment, udid string) model.Enrolment {
	f.Helper()
	d := model.Device{ID: f.id(), ExternalID: udid, Name: "phone", Model: "iPhone15,2", OSVersion: "18.1", SerialNumber: "S1", LastSeen: f.now}
	_, err := f.Authenticate(f.ctx, model.Enrolment{ID: e.ID, ExternalID: d.ExternalID}, d, f.audit("device.enrol"))
	f.ok(err)
	f.ok(f.TokenUpdate(f.ctx, e.ID, []byte("token"), "magic", "topic", false, f.now))
	return f.snapshot(e.ID).Enrolment
}

func (f *fixture) snapshot(id string) delivery.Snapshot {
	f.Helper()
	return get(f.Snapshot(f.ctx, id))(f)
}

// decide saves a decision on the present state.
func (f *fixture) decide(id string, change func(*delivery.Decision, delivery.Snapshot)) {
	f.Helper()
	s := f.snapshot(id)
	d := delivery.Decision{EnrolmentID: id, Version: s.Enrolment.Version}
	change(&d, s)
	f.ok(f.Save(f.ctx, d))
}

// settle says that nothing is left to do.
func (f *fixture) settle(id string) {
	f.Helper()
	f.decide(id, func(d *delivery.Decision, s delivery.Snapshot) {
		s.Enrolment.Dirty, s.Enrolment.SettledGeneration, s.Enrolment.InventoryAt = false, s.Generation, f.now.Add(1000*time.Hour)
		d.Enrolment = &s.Enrolment
	})
}

func document(id, revision string) model.DocumentState {
	return model.DocumentState{Document: platforms.Document{ID: id, Identifier: "io.waxseal." + id, Revision: revision, Proof: "P-" + revision,
		Body: json.RawMessage(`{"x":1}`)}, Status: model.DocumentWaiting, Reason: platforms.ReasonRenderPending}
}

func (f *fixture) job(id string) model.Job {
	f.Helper()
	return get(f.JobByID(f.ctx, id))(f)
}

// jobsOf lists all jobs of a kind.
func (f *fixture) jobsOf(kind link.JobKind) []model.Job {
	f.Helper()
	var found []model.Job
	for _, j := range get(f.Jobs(f.ctx, admin.Page{}))(f) {
		if j.Kind == kind {
			found = append(found, j)
		}
	}
	return found
}

// certificateBySHA reads one certificate's row.
func (f *fixture) certificateBySHA(sha string) model.Certificate {
	f.Helper()
	for _, c := range get(f.Certificates(f.ctx, admin.Page{}))(f) {
		if c.SHA256 == sha {
			return c
		}
	}
	f.Fatalf("certificate %s is not there", sha)
	return model.Certificate{}
}

// issue makes an issue job for an enrolment and lets the connector answer; it gives the certificate's SHA-256.
func (f *fixture) issue(e model.Enrolment, c model.Connector, revokeOn ...profiles.Event) (sha, intent string) {
	f.Helper()
	intent = f.id()
	j := f.ask(e, c, intent)
	done, sha := f.issued(e, j, intent, revokeOn...)
	f.ok(f.Complete(f.ctx, done))
	return sha, intent
}

// ask makes an issue job and claims it.
func (f *fixture) ask(e model.Enrolment, c model.Connector, intent string) model.Job {
	f.Helper()
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Jobs = []model.Job{{ID: f.id(), Key: "issue:" + intent, Kind: link.JobIssue, Payload: json.RawMessage(`{"intentId":"i"}`),
			UserID: e.UserID, EnrolmentID: e.ID, RunAt: f.now, CreatedAt: f.now}}
	})
	return f.claim(c)
}

func (f *fixture) issued(e model.Enrolment, j model.Job, intent string, revokeOn ...profiles.Event) (connectorapi.Completion, string) {
	sha := f.sha()
	cert := f.certificate(sha)
	cert.UserID, cert.DeviceID, cert.EnrolmentID, cert.Profile, cert.RevokeOn = e.UserID, e.DeviceID, e.ID, "signing", revokeOn
	done := f.completion(j)
	done.Issued = &connectorapi.IssuedEffect{Certificate: cert, CA: "softca",
		Record: record(intent, link.EnrolmentURN(e.ID), sha, "m1")}
	return done, sha
}
