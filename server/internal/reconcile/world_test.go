package reconcile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// world is a store, a connector and a device in memory, around the pure function.
type world struct {
	t     *testing.T
	now   time.Time
	s     reconcile.Snapshot
	jobs  map[string]model.Job
	uuids int
	// The device.
	docs   map[string]string                               // identifier → proof
	held   map[string][]string                             // identifier → identities
	locked bool                                            // NotNow for install and remove
	refuse map[string]string                               // document id → error
	ca     string                                          // a CA certificate that the trust document carries
	hide   map[string]bool                                 // identities that the certificate list never shows
	maker  func(platforms.Input) []platforms.Document      // of the plan; nil: planner
	edit   func([]platforms.Document) []platforms.Document // of the plan; nil: none
	sent   []string                                        // "install trust", "listDocuments" …
	last   *reconcile.Action                               // unanswered
	audits []model.AuditEntry                              // all
	status map[string]reconcile.CertificateChange
	kept   map[string]model.DocumentState // records, by document
}

const week = 7 * 24 * time.Hour

func newWorld(t *testing.T) *world {
	now := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	w := &world{t: t, now: now, jobs: map[string]model.Job{}, docs: map[string]string{}, held: map[string][]string{},
		refuse: map[string]string{}, hide: map[string]bool{}, status: map[string]reconcile.CertificateChange{}, kept: map[string]model.DocumentState{}}
	w.s = reconcile.Snapshot{
		Device:     model.Device{ID: "d1", UserID: "u1", Platform: profiles.IOS, State: model.DeviceEnrolled, OSVersion: "18.1"},
		Enrolment:  model.Enrolment{ID: "e1", DeviceID: "d1", UserID: "u1", Platform: profiles.IOS, State: model.EnrolmentActive, Certificate: []byte("device"), CertSHA256: "aa", Dirty: true},
		User:       model.User{ID: "u1", UPN: "alice@corp.test", Spec: profiles.User{DisplayName: "Alice", Addresses: []string{"alice@corp.test"}, Groups: []string{"sales"}}},
		Generation: 1, Records: map[string]escrow.Record{}, CAs: []link.CA{{Name: "softca", Certificate: []byte("root")}},
		ConnectorSeen: now, Members: []string{"m1"},
		Objects: []profiles.Object{
			{Kind: profiles.KindPKCSCertificate, Name: "sign", Spec: &profiles.PKCSCertificate{CertificateRequest: profiles.CertificateRequest{
				CertificateAuthority: "softca", Subject: "CN={{UserName}}", RevokeOn: []profiles.Event{profiles.EventRetire}}}},
			{Kind: profiles.KindPKCSImportedCertificate, Name: "hist", Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}},
			{Kind: profiles.KindAssignment, Name: "a", Spec: &profiles.Assignment{Profiles: []string{"sign", "hist"}, Include: []profiles.Target{{Group: "sales"}}}},
		},
	}
	w.importKey("k1", now.Add(-400*week))
	w.importKey("k2", now.Add(-week))
	return w
}

func (w *world) importKey(sha string, notBefore time.Time) {
	c := model.Certificate{Certificate: profiles.Certificate{SHA256: sha, RecordID: "r" + sha, Purpose: profiles.PurposeSMIMEEncryption,
		Addresses: []string{"alice@corp.test"}, NotBefore: notBefore, NotAfter: notBefore.Add(100 * week)}, Kind: model.CertificateImported}
	w.s.Imported = append(w.s.Imported, c)
	w.s.Records["r"+sha] = escrow.Record{ID: "r" + sha, Wraps: []escrow.Wrap{{Member: "m1"}, {Member: "recovery"}}}
	w.s.Enrolment.Dirty = true
}

// plan adds the CA certificate to the trust document.
func (w *world) plan(in platforms.Input) []platforms.Document {
	if w.maker != nil {
		return w.maker(in)
	}
	docs := planner(in)
	for i := range docs {
		if docs[i].ID == "trust" && w.ca != "" {
			docs[i].Certificates = []string{w.ca}
		}
	}
	if w.edit != nil {
		docs = w.edit(docs)
	}
	return docs
}

// planner is a platform of three documents: trust; history; mail with the newest key and the signing certificate.
func planner(in platforms.Input) []platforms.Document {
	if len(in.Profiles) == 0 {
		return nil
	}
	newest := slices.MaxFunc(in.Imported, func(a, b profiles.Certificate) int { return a.NotBefore.Compare(b.NotBefore) })
	trust := platforms.Document{ID: "trust"}
	mail := platforms.Document{ID: "mail.m", DependsOn: []string{"trust"}, Credentials: []profiles.Certificate{newest}, Profiles: []string{"sign", "hist"}}
	if c, ok := in.Issued["sign"]; ok {
		mail.Credentials = append(mail.Credentials, c)
	} else {
		mail.Reason = platforms.ReasonIssuePending
	}
	history := platforms.Document{ID: "history", DependsOn: []string{"trust"}, Profiles: []string{"hist"}}
	for _, c := range in.Imported {
		if c.SHA256 != newest.SHA256 {
			history.Credentials = append(history.Credentials, c)
		}
	}
	if p := in.PreviousCurrent["mail.m"]; p != "" && p != newest.SHA256 {
		mail.DependsOn = append(mail.DependsOn, "history")
	}
	docs := []platforms.Document{trust, history, mail}
	for name, e := range in.SCEP {
		d := platforms.Document{ID: "identity." + name, Challenges: []string{name}, Profiles: []string{name}, Revision: "/" + e.Request}
		if e.Issued.SHA256 != "" {
			d.Certificates = []string{e.Issued.SHA256}
		}
		docs = append(docs, d)
	}
	for i := range docs {
		d := &docs[i]
		d.Identifier, d.Revision = "io.waxseal."+d.ID, d.ID+d.Revision
		for _, c := range d.Credentials {
			d.Revision += fmt.Sprintf("/%s.%d", c.SHA256, in.Redeliver[c.SHA256])
		}
		d.Proof = "P:" + d.Revision
	}
	return docs
}

// step gives the report to Decide, saves the decision in memory and notes the action.
func (w *world) step(r reconcile.Report) reconcile.Result {
	w.s.Jobs = map[string]model.Job{}
	for k, j := range w.jobs {
		if j.State != model.JobDone {
			w.s.Jobs[k] = j
		}
	}
	result := reconcile.Decide(reconcile.Input{Snapshot: w.s, Report: r, Now: w.now, Plan: w.plan, CanDecrypt: true,
		Settings: reconcile.Settings{Namespace: "io.waxseal", InventoryEvery: 24 * time.Hour, ConnectorSilence: 2 * time.Minute, MaxAttempts: 3},
		NewUUID:  func() string { w.uuids++; return fmt.Sprintf("C%d", w.uuids) }})
	w.save(result.Decision)
	if w.last = result.Action; w.last != nil {
		w.sent = append(w.sent, string(w.last.Kind)+" "+w.last.Document.ID+w.last.Identifier)
	}
	return result
}

func (w *world) save(d reconcile.Decision) {
	if d.Version != w.s.Enrolment.Version {
		w.t.Fatalf("decision for version %d, enrolment has %d", d.Version, w.s.Enrolment.Version)
	}
	for _, n := range d.Documents {
		i := slices.IndexFunc(w.s.Documents, func(o model.DocumentState) bool { return o.Document.ID == n.Document.ID })
		if i < 0 {
			w.s.Documents = append(w.s.Documents, n)
		} else {
			w.s.Documents[i] = n
		}
	}
	w.s.Documents = slices.DeleteFunc(w.s.Documents, func(o model.DocumentState) bool { return slices.Contains(d.Forget, o.Document.ID) })
	for _, r := range d.Records {
		w.kept[r.Document.ID] = r
	}
	for _, n := range d.Commands {
		i := slices.IndexFunc(w.s.Commands, func(o model.Command) bool { return o.UUID == n.UUID })
		if i < 0 {
			w.s.Commands = append(w.s.Commands, n)
		} else {
			w.s.Commands[i] = n
		}
	}
	w.s.Commands = slices.DeleteFunc(w.s.Commands, func(c model.Command) bool { return c.State == model.CommandDone || c.State == model.CommandFailed })
	for _, j := range d.Jobs {
		j.State = model.JobOpen
		w.jobs[j.Key] = j
	}
	for _, k := range d.Obsolete {
		delete(w.jobs, k)
	}
	for _, c := range d.Certificates {
		w.status[c.SHA256] = c
		for i := range w.s.Issued {
			if w.s.Issued[i].SHA256 == c.SHA256 {
				w.s.Issued[i].Status = c.Status
			}
		}
	}
	if d.Inventory != nil {
		w.s.Inventory = *d.Inventory
	}
	if d.Device != nil {
		w.s.Device = *d.Device
	}
	if d.Enrolment != nil {
		w.s.Enrolment = *d.Enrolment
	}
	w.s.Enrolment.Version++
	w.audits = append(w.audits, d.Audit...)
}

// connector does all open jobs.
func (w *world) connector() {
	for key, j := range w.jobs {
		if j.State != model.JobOpen {
			continue
		}
		j.State = model.JobDone
		w.jobs[key] = j
		switch j.Kind {
		case link.JobIssue:
			w.issue(j)
		case link.JobRender:
			w.render(j)
		}
		w.s.Enrolment.Dirty = true
	}
}

func (w *world) issue(j model.Job) {
	var r link.IssueJob
	if err := json.Unmarshal(j.Payload, &r); err != nil {
		w.t.Fatal(err)
	}
	sha := fmt.Sprintf("s%d", len(w.s.Issued))
	w.s.Issued = append(w.s.Issued, model.Certificate{Certificate: profiles.Certificate{SHA256: sha, RecordID: r.IntentID, NotBefore: w.now,
		NotAfter: w.now.Add(52 * week), Addresses: []string{"alice@corp.test"}}, Profile: r.Profile, CA: "softca", Status: model.CertificateCurrent, RevokeOn: r.Request.RevokeOn})
	w.s.Records[r.IntentID] = escrow.Record{ID: r.IntentID, Wraps: []escrow.Wrap{{Member: "m1"}}}
}

// certify is the device's own SCEP request, at each installation of a document with a challenge.
func (w *world) certify(profile, request string) string {
	sha := fmt.Sprintf("own%d", len(w.s.Issued))
	w.s.Issued = append(w.s.Issued, model.Certificate{Certificate: profiles.Certificate{SHA256: sha, RecordID: request, NotBefore: w.now,
		NotAfter: w.now.Add(52 * week)}, Profile: profile, CA: "softca", Status: model.CertificateCurrent, CreatedAt: w.now,
		RevokeOn: []profiles.Event{profiles.EventRetire, profiles.EventUnassign}})
	w.s.Enrolment.Dirty = true
	return sha
}

func (w *world) render(j model.Job) {
	for i := range w.s.Documents {
		d := &w.s.Documents[i]
		if d.Document.ID == j.DocumentID && d.Document.Revision == j.Revision {
			d.Payload, d.PayloadRevision, d.PayloadRecipient = []byte("for "+j.Revision), j.Revision, j.Recipient
		}
	}
}

// answer obeys the last action as a device would.
func (w *world) answer() reconcile.Report {
	a := *w.last
	r := reconcile.Report{Outcome: reconcile.OutcomeDone, CommandUUID: a.UUID}
	switch a.Kind {
	case reconcile.ActionInstall, reconcile.ActionRemove:
		if w.locked {
			r.Outcome = reconcile.OutcomeNotNow
			return r
		}
	}
	switch a.Kind {
	case reconcile.ActionInstall:
		if msg := w.refuse[a.Document.ID]; msg != "" {
			r.Outcome, r.Error = reconcile.OutcomeFailed, msg
			return r
		}
		w.docs[a.Document.Identifier], w.held[a.Document.Identifier] = a.Document.Proof, nil
		for _, c := range a.Document.Credentials {
			w.held[a.Document.Identifier] = append(w.held[a.Document.Identifier], c.SHA256)
		}
		for _, name := range a.Document.Challenges {
			w.held[a.Document.Identifier] = append(w.held[a.Document.Identifier], w.certify(name, strings.TrimPrefix(a.Document.Revision, a.Document.ID+"/")))
		}
	case reconcile.ActionRemove:
		_, there := w.docs[a.Identifier]
		if !there {
			r.Outcome, r.Absent = reconcile.OutcomeFailed, true
		}
		delete(w.docs, a.Identifier)
		delete(w.held, a.Identifier)
	case reconcile.ActionListDocuments:
		r.Documents = map[string]string{}
		for k, v := range w.docs {
			r.Documents[k] = v
		}
	case reconcile.ActionListCertificates:
		r.Certificates = map[string]bool{}
		if w.docs["io.waxseal.trust"] != "" && w.ca != "" && !w.hide[w.ca] {
			r.Certificates[w.ca] = false
		}
		for _, ids := range w.held {
			for _, id := range ids {
				r.Certificates[id] = !w.hide[id]
			}
		}
	case reconcile.ActionAskFacts:
		r.Facts = &reconcile.Facts{Name: "Alice's iPhone"}
	}
	return r
}

// session is one connection: Idle, then results, until there is nothing more.
func (w *world) session() reconcile.Result {
	result := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle})
	for range 50 {
		if result.Action == nil {
			return result
		}
		result = w.step(w.answer())
	}
	w.t.Fatal("the session does not end")
	return result
}

// settle lets device and connector work until nothing moves.
func (w *world) settle() {
	for range 10 {
		w.session()
		w.connector()
		w.now = w.now.Add(time.Second)
	}
}

func (w *world) doc(id string) model.DocumentState {
	for _, d := range w.s.Documents {
		if d.Document.ID == id {
			return d
		}
	}
	return model.DocumentState{}
}

func recordFor(members ...string) escrow.Record {
	var r escrow.Record
	for _, m := range members {
		r.Wraps = append(r.Wraps, escrow.Wrap{Member: m})
	}
	return r
}
