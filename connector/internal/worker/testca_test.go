package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
)

// slowCA is one that takes all the time that it is given.
type slowCA struct {
	CA
	given *time.Duration
}

func (c slowCA) Test(ctx context.Context) []link.CAFinding {
	if end, ok := ctx.Deadline(); ok {
		*c.given = time.Until(end)
	}
	return []link.CAFinding{{Check: "url", Detail: "does not answer"}}
}

// TestSlowCAIsFoundOut: what is found must come while the job is leased and somebody waits for it, or it is said that no
// connector answered.
func TestSlowCAIsFoundOut(t *testing.T) {
	h := newHouse(t)
	w, kill := h.worker(t, h.dir)
	defer kill()
	var given time.Duration
	w.CAs = shelf{"slow": slowCA{given: &given}}
	h.server.Put(t, "1", "1", link.JobTestCA, link.TestCAJob{CA: "slow"})
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var answer link.TestCAAnswer
	if jobErr := h.server.Answer(t, "1", &answer); jobErr != nil || len(answer.Findings) != 1 {
		t.Fatalf("%+v, %+v", jobErr, answer)
	}
	if given <= 0 || given > 50*time.Second {
		t.Errorf("it has %s", given)
	}
}

// TestCAThatIsGone: the server may not have heard yet that a CA was removed. What is asked until then is asked again.
func TestCAThatIsGone(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	p.Request.CertificateAuthority = "adcs"
	c := certifyJob(t, "intent-0000000000000002", request(t))
	c.Request.CertificateAuthority = "adcs"
	_, issue := do[link.IssueAnswer](t, h, "1", link.JobIssue, p)
	_, certify := do[link.CertifyAnswer](t, h, "2", link.JobCertify, c)
	_, revoke := do[link.RevokeAnswer](t, h, "3", link.JobRevoke, link.RevokeJob{CA: "adcs"})
	for name, jobErr := range map[string]*link.JobError{"issue": issue, "certify": certify} {
		if jobErr == nil || jobErr.Final || jobErr.Reason != platforms.ReasonCertificateAuthorityUnknown || !strings.Contains(jobErr.Message, "ca set") {
			t.Errorf("%s: %+v", name, jobErr)
		}
	}
	if revoke == nil || !revoke.Final || revoke.Reason != platforms.ReasonCertificateAuthorityUnknown { // the server knows what to do
		t.Errorf("revoke: %+v", revoke)
	}
}

// TestWhatIsOfferedIsTold: a CA that was set while the server was down is told as soon as it answers, not ten minutes later.
func TestWhatIsOfferedIsTold(t *testing.T) {
	h := newHouse(t)
	w, kill := h.worker(t, h.dir)
	defer kill()
	offers, synced := "one", 0
	var down error
	w.Offers = func() string { return offers }
	w.Sync = func(context.Context) error { synced++; return down }
	w.lastSync, w.offered = h.options.Clock(), offers
	for _, step := range []struct {
		offers string
		down   error
		want   int
	}{{"one", nil, 0}, {"two", errors.New("connection refused"), 1}, {"two", nil, 2}, {"two", nil, 2}} {
		offers, down = step.offers, step.down
		if w.syncNowAndThen(t.Context()); synced != step.want {
			t.Errorf("%+v: told %d times", step, synced)
		}
	}
}
