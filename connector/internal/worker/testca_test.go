package worker

import (
	"context"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
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
	w.CAs["slow"] = slowCA{given: &given}
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
