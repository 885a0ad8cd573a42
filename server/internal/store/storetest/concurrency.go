package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

func concurrencyClasses() []class {
	return []class{
		{"concurrency/save", parallelSave}, {"concurrency/claim", parallelClaim}, {"concurrency/push", parallelPush},
		{"concurrency/import", parallelImport}, {"concurrency/redeem", parallelRedeem}, {"concurrency/register", parallelRegister},
		{"concurrency/dirty-is-never-lost", dirtyNeverLost}, {"concurrency/apply", parallelApply},
		{"concurrency/challenge", parallelChallenge}, {"concurrency/certified", parallelCertified}, {"concurrency/partner", parallelPartner},
	}
}

const workers = 8

// together runs n functions at once and gives their errors.
func together(n int, act func(i int) error) []error {
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = act(i) })
	}
	all.Wait()
	return errs
}

// count tells how many succeeded; every other error must be allowed.
func count(f *fixture, errs []error, allowed error) int {
	f.Helper()
	n := 0
	for _, err := range errs {
		switch {
		case err == nil:
			n++
		case allowed == nil || !errors.Is(err, allowed):
			f.Fatal(err)
		}
	}
	return n
}

func parallelSave(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	errs := together(workers, func(i int) error {
		return f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: e.Version, Documents: []model.DocumentState{document(fmt.Sprint(i), "r")}})
	})
	equal(f, "winners", count(f, errs, model.ErrConflict), 1)
	equal(f, "documents", len(f.snapshot(e.ID).Documents), 1)
	// With a new snapshot after each conflict everybody gets through.
	errs = together(workers, func(i int) error {
		for {
			s, err := f.Snapshot(f.ctx, e.ID)
			if err != nil {
				return err
			}
			err = f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: s.Enrolment.Version, Documents: []model.DocumentState{document(fmt.Sprint(100+i), "r")}})
			if !errors.Is(err, model.ErrConflict) {
				return err
			}
		}
	})
	equal(f, "all", count(f, errs, nil), workers)
	equal(f, "documents", len(f.snapshot(e.ID).Documents), 1+workers)
	equal(f, "version", f.snapshot(e.ID).Enrolment.Version, e.Version+1+workers)
}

func parallelClaim(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	const jobs = 40
	for i := range jobs {
		f.want(e, model.Job{Key: fmt.Sprint("k", i), UserID: fmt.Sprint("u", i%3)})
	}
	var mu sync.Mutex
	seen := map[string]int{}
	errs := together(workers, func(int) error {
		for {
			claimed, err := f.Claim(f.ctx, c.ID, 3, time.Minute, f.now)
			if err != nil || len(claimed) == 0 {
				return err
			}
			mu.Lock()
			for _, j := range claimed {
				seen[j.ID]++
			}
			mu.Unlock()
			for _, j := range claimed {
				done := f.completion(j)
				done.Rendered = &connectorapi.RenderedEffect{EnrolmentID: e.ID}
				if err := f.Complete(f.ctx, done); err != nil {
					return err
				}
			}
		}
	})
	count(f, errs, nil)
	equal(f, "claimed", len(seen), jobs)
	for id, n := range seen {
		equal(f, "claims of "+id, n, 1)
		equal(f, "state of "+id, f.job(id).State, model.JobDone)
	}
}

func parallelPush(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	const devices = 6
	for i := range devices {
		f.enrol(u, c, fmt.Sprint("UDID-", i))
	}
	var mu sync.Mutex
	seen := map[string]int{}
	errs := together(workers, func(int) error {
		targets, err := f.DuePushes(f.ctx, f.now, 4, pace())
		mu.Lock()
		defer mu.Unlock()
		for _, p := range targets {
			seen[p.EnrolmentID]++
		}
		return err
	})
	count(f, errs, nil)
	for _, id := range f.due(100) {
		seen[id]++
	}
	equal(f, "pushed", len(seen), devices)
	for id, n := range seen {
		equal(f, "pushes of "+id, n, 1)
	}
}

func parallelImport(_ *testing.T, f *fixture) {
	u := f.user("a@x.example")
	sha := f.sha()
	var mu sync.Mutex
	created := 0
	errs := together(workers, func(i int) error {
		r := model.EscrowRecord{Record: record(fmt.Sprintf("record-%09d", i), "urn:waxseal:user:"+u.ID, sha, "m1"), UserID: u.ID, Purpose: profiles.PurposeSMIMEEncryption}
		isNew, err := f.Import(f.ctx, r, f.certificate(sha), f.audit("escrow.import"))
		mu.Lock()
		defer mu.Unlock()
		if isNew {
			created++
		}
		return err
	})
	count(f, errs, nil)
	equal(f, "created", created, 1)
	equal(f, "records", len(get(f.EscrowRecords(f.ctx, adminPage()))(f)), 1)
}

func parallelRedeem(_ *testing.T, f *fixture) {
	_, ch := f.challenge(f.user("a@x.example"))
	errs := together(workers, func(i int) error {
		_, err := f.Redeem(f.ctx, ch.Hash, fmt.Sprint("key ", i), model.Job{ID: fmt.Sprint("j", i), Key: "identity:" + ch.EnrolmentID,
			Kind: "identity", Payload: []byte(`{}`), RunAt: f.now, CreatedAt: f.now}, f.now)
		return err
	})
	equal(f, "winners", count(f, errs, model.ErrSpent), 1)
	equal(f, "jobs", len(f.jobsOf("identity")), 1)
}

func parallelRegister(_ *testing.T, f *fixture) {
	var hashes []string
	for range workers {
		hashes = append(hashes, f.sha())
		f.ok(f.CreateConnectorToken(f.ctx, hashes[len(hashes)-1], f.now.Add(time.Hour), f.audit("token")))
	}
	errs := together(workers, func(i int) error {
		_, err := f.RegisterConnector(f.ctx, hashes[i], model.Connector{ID: fmt.Sprint("c", i), Member: member(fmt.Sprint("m", i))}, nil, f.now, f.audit("register"))
		return err
	})
	equal(f, "registered", count(f, errs, nil), workers)
	trusted := 0
	for _, c := range get(f.Connectors(f.ctx))(f) {
		if c.State == model.ConnectorTrusted {
			trusted++
		}
	}
	equal(f, "trusted without approval", trusted, 1)
}

// dirtyNeverLost: decisions that settle race with imports that make dirty; the last word is dirty or a decision that
// saw every import.
func dirtyNeverLost(_ *testing.T, f *fixture) {
	u := f.user("a@x.example")
	e := f.enrol(u, f.connector("m1"), "UDID")
	seen := make([]int, workers)
	errs := together(2*workers, func(i int) error {
		if i%2 == 1 {
			sha := fmt.Sprintf("%064d", i)
			r := model.EscrowRecord{Record: record(fmt.Sprintf("record-%09d", i), "urn:waxseal:user:"+u.ID, sha, "m1"), UserID: u.ID}
			_, err := f.Import(f.ctx, r, f.certificate(sha), f.audit("escrow.import"))
			return err
		}
		s, err := f.Snapshot(f.ctx, e.ID)
		if err != nil {
			return err
		}
		s.Enrolment.Dirty = false
		if err = f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: s.Enrolment.Version, Enrolment: &s.Enrolment}); err == nil {
			seen[i/2] = len(s.Imported)
		}
		if errors.Is(err, model.ErrConflict) {
			return nil
		}
		return err
	})
	count(f, errs, nil)
	s := f.snapshot(e.ID)
	equal(f, "imports", len(s.Imported), workers)
	most := 0
	for _, n := range seen {
		most = max(most, n)
	}
	if !s.Enrolment.Dirty && most != workers {
		f.Fatalf("the enrolment is settled, but no decision saw more than %d of %d imports", most, workers)
	}
}

func parallelApply(_ *testing.T, f *fixture) {
	generation := get(f.Generation(f.ctx))(f)
	errs := together(workers, func(i int) error {
		_, err := f.Apply(f.ctx, []profiles.Object{userObject("a@x.example", fmt.Sprint("g", i)), importedProfile(fmt.Sprint("p", i))}, false, f.now, f.audit("apply"))
		return err
	})
	equal(f, "applied", count(f, errs, nil), workers)
	equal(f, "objects", len(get(f.Objects(f.ctx))(f)), workers)
	equal(f, "users", len(get(f.Users(f.ctx, adminPage()))(f)), 1)
	equal(f, "generation", get(f.Generation(f.ctx))(f), generation+workers)
}

// parallelChallenge: a challenge is good for one key, on however many nodes it is shown.
func parallelChallenge(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	errs := together(workers, func(i int) error {
		_, err := f.BeginSCEPRequest(f.ctx, model.SCEPRequest{Hash: "h", EnrolmentID: e.ID, RequestID: "request", KeySHA256: fmt.Sprint(i), CreatedAt: f.now},
			model.Job{Key: "certify:h", Kind: link.JobCertify, Payload: []byte(`{}`), UserID: e.UserID, EnrolmentID: e.ID, RunAt: f.now})
		return err
	})
	equal(f, "winners", count(f, errs, model.ErrSpent), 1)
	equal(f, "jobs", len(f.claimIDs(c, 10)), 1)
}

// parallelCertified: of the certificates of several connectors for one key one counts, and the others are revoked.
func parallelCertified(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	get(f.scepRequest(e, "h", "key"))(f)
	done, _ := f.certified(e, c)
	all := make([]connectorapi.Completion, workers)
	for i := range all {
		effect, sha := *done.Certified, f.sha()
		effect.Certificate.SHA256, effect.Certificate.DER = sha, []byte(sha)
		all[i], all[i].Certified = done, &effect
	}
	errs := together(workers, func(i int) error { return f.Complete(f.ctx, all[i]) })
	equal(f, "accepted", count(f, errs, model.ErrConflict), 1)
	current := 0
	for _, issued := range f.snapshot(e.ID).Issued {
		if issued.Status == model.CertificateCurrent {
			current++
			equal(f, "the request's", string(get(f.SCEPRequest(f.ctx, "h"))(f).Certificate), issued.SHA256)
		}
	}
	equal(f, "current", current, 1)
	equal(f, "revocations", len(f.jobsOf(link.JobRevoke)), workers-1)
}

// parallelPartner: a partner's words come over several nodes, of one request and of several.
func parallelPartner(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e, other := f.enrol(u, c, "A"), f.enrol(u, c, "B")
	f.partner("ejbca")
	f.asksPartner(e, "ejbca", "h1")
	errs := together(workers, func(i int) error { return f.tells(e, "h1", fmt.Sprintf("%040d", i)) })
	equal(f, "one of a request", count(f, errs, model.ErrConflict), 1)
	f.asksPartner(e, "ejbca", "h2")
	f.asksPartner(other, "ejbca", "h3")
	errs = together(2, func(i int) error {
		return f.tells([]model.Enrolment{e, other}[i], []string{"h2", "h3"}[i], fmt.Sprintf("%040d", workers))
	})
	equal(f, "one certificate for one request", count(f, errs, model.ErrConflict), 1)
}
