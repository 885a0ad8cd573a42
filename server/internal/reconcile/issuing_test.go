package reconcile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// A CA that is slower than the device's check-ins: approval by a person, or a queue.

// queue are the open issue jobs, oldest first; every one has been taken by a connector.
func (w *world) queue() []string {
	var keys []string
	for key, j := range w.jobs {
		if j.Kind == link.JobIssue && j.State == model.JobOpen {
			j.Attempt = 1
			w.jobs[key] = j
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b string) int {
		if c := w.jobs[a].RunAt.Compare(w.jobs[b].RunAt); c != 0 {
			return c
		}
		return slices.Compare([]byte(a), []byte(b))
	})
	return keys
}

// answerIssue gives the certificate of one job, and the device comes by.
func (w *world) answerIssue(key string) {
	j := w.jobs[key]
	j.State = model.JobDone
	w.jobs[key] = j
	w.issue(j)
	w.s.Issued[len(w.s.Issued)-1].CreatedAt = w.now
	w.s.Enrolment.Dirty = true
	w.now = w.now.Add(time.Second)
	w.s.ConnectorSeen = w.now
	w.session()
}

// render does the open render jobs, and the device comes by.
func (w *world) renderAll() {
	for range 3 {
		for key, j := range w.jobs {
			if j.Kind == link.JobRender && j.State == model.JobOpen {
				j.State = model.JobDone
				w.jobs[key] = j
				w.render(j)
			}
		}
		w.s.Enrolment.Dirty = true
		w.session()
	}
}

// TestASlowCAIsAskedOnceForEachRequest: the profile changes while the CA takes its time. Each request is answered once, in
// whatever order, and what nobody wants any more is superseded.
func TestASlowCAIsAskedOnceForEachRequest(t *testing.T) {
	for _, lateFirst := range []bool{true, false} {
		t.Run(fmt.Sprint("the former request first: ", lateFirst), func(t *testing.T) {
			w := newWorld(t)
			w.session()
			former := w.queue()
			w.now = w.now.Add(time.Second)
			w.subject("sign", "CN={{UserName}},OU=Mail")
			w.session()
			both := w.queue()
			if len(former) != 1 || len(both) != 2 {
				t.Fatalf("orders %q, then %q", former, both)
			}
			if !lateFirst {
				slices.Reverse(both)
			}
			for _, key := range both {
				w.answerIssue(key)
				w.renderAll()
			}
			if more := w.queue(); len(more) != 0 || len(w.s.Issued) != 2 {
				t.Errorf("%d certificates, and ordered again: %q", len(w.s.Issued), more)
			}
			wanted := "s1"
			if !lateFirst {
				wanted = "s0"
			}
			if got := w.doc("mail.m").InstalledCredentials; !slices.Contains(got, wanted) || len(w.status) != 1 {
				t.Errorf("the account carries %v, want %s; changes %v", got, wanted, w.status)
			}
			for sha, c := range w.status {
				if sha == wanted || c.Status != model.CertificateSuperseded || !c.DropKey {
					t.Errorf("%s: %+v", sha, c)
				}
			}
		})
	}
}

// TestAnIssueJobThatNobodyWantsAndNobodyBeganIsTakenBack: of the profile as it was, and of one that is not assigned any more.
func TestAnIssueJobThatNobodyWantsAndNobodyBeganIsTakenBack(t *testing.T) {
	for _, begun := range []int{0, 1} {
		w := newWorld(t)
		w.session()
		for key, j := range w.jobs {
			j.Attempt = begun
			w.jobs[key] = j
		}
		w.subject("sign", "CN={{UserName}},OU=Mail")
		w.session()
		if n := w.asked(link.JobIssue); n != 1+begun {
			t.Errorf("begun %d: %d issue jobs", begun, n)
		}
		w.assign("hist")
		w.session()
		if n := w.asked(link.JobIssue); n != begun {
			t.Errorf("begun %d, not assigned: %d issue jobs", begun, n)
		}
	}
}

// TestAnEditTakenBackWaitsForTheFirstOrder: the same request again is the same order.
func TestAnEditTakenBackWaitsForTheFirstOrder(t *testing.T) {
	w := newWorld(t)
	w.session()
	first := w.queue()
	w.subject("sign", "CN={{UserName}},OU=Mail")
	w.session()
	w.subject("sign", "CN={{UserName}}")
	w.session()
	w.answerIssue(first[0])
	w.renderAll()
	second := slices.DeleteFunc(w.queue(), func(key string) bool { return key == first[0] })
	if got := w.doc("mail.m").InstalledCredentials; !slices.Contains(got, "s0") || len(second) != 0 {
		t.Errorf("the account carries %v; ordered %q", got, second)
	}
}

// TestASlowCAAndAKeyOfTheDevice: of a SCEPCertificate each request is asked for once, too.
func TestASlowCAAndAKeyOfTheDevice(t *testing.T) {
	w := newOwn(t)
	order := func() string { return reconcile.Orders(w.s, reconcile.Settings{}, w.now)[0].RequestID }
	former := order()
	w.subject("own", "CN={{UserName}},OU=Mail")
	wanted := order()
	w.certify("own", former)
	if got := order(); former == wanted || got != wanted {
		t.Errorf("ordered %s, then %s, and %s when the former has come", former, wanted, got)
	}
	w.now = w.now.Add(time.Second)
	w.certify("own", wanted)
	if got := order(); got != wanted {
		t.Errorf("ordered %s although %s has come", got, wanted)
	}
	w.now = w.now.Add(43 * week)
	if got := order(); got == wanted || got == former {
		t.Error("what is due is ordered under an id that was answered")
	}
}

// TestWhatWasIssuedIsNeverOrderedUnderItsID, whatever became of it.
func TestWhatWasIssuedIsNeverOrderedUnderItsID(t *testing.T) {
	for _, gone := range []model.CertificateStatus{model.CertificateSuperseded, model.CertificateRemoved, model.CertificateRevoking, model.CertificateRevoked} {
		w := newWorld(t)
		w.settle()
		w.s.Issued[0].Status, w.s.Enrolment.Dirty = gone, true
		w.session()
		for _, key := range w.queue() {
			var r link.IssueJob
			if err := json.Unmarshal(w.jobs[key].Payload, &r); err != nil || r.IntentID == w.s.Issued[0].RecordID {
				t.Errorf("%s: ordered again as %s (%v)", gone, r.IntentID, err)
			}
		}
		if n := len(w.queue()); n != 1 {
			t.Errorf("%s: %d orders", gone, n)
		}
	}
}
