package bench_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/profiles"
)

const (
	// history is the profile that brings old keys, and oldKeys how many there are.
	history = "mail-history"
	oldKeys = 3
	// quiet is how long no answer of the connector comes when it has answered all.
	quiet = time.Second
)

// fleet are devices of one platform.
type fleet struct {
	*house
	platform platform
	members  []*member
	// jobs is how many render jobs each device needs for its old keys; it is counted at the first delivery.
	jobs int
}

// fleet enrols and settles some.
func (h *house) fleet(b *testing.B, p platform, n int) *fleet {
	b.Helper()
	f := &fleet{house: h, platform: p, members: make([]*member, n)}
	err := eachOf(n, func(i int) (err error) {
		if f.members[i], err = h.enrol(b.Context(), p); err != nil {
			return err
		}
		return f.members[i].settle(b.Context())
	})
	if err != nil {
		b.Fatalf("%s: %v", p.name, err)
	}
	return f
}

func (f *fleet) close(b *testing.B) {
	b.Helper()
	for _, m := range f.members {
		if err := m.Close(); err != nil {
			b.Error(err)
		}
	}
}

// visits are what the devices say when they have nothing to say.
func (f *fleet) visits(b *testing.B, w way) (out []visit) {
	b.Helper()
	for _, m := range f.members {
		out = append(out, w.idle(b, m))
	}
	return out
}

// each does something with all devices side by side.
func (f *fleet) each(b *testing.B, do func(*member) error) {
	b.Helper()
	if err := eachOf(len(f.members), func(i int) error { return do(f.members[i]) }); err != nil {
		b.Fatalf("%s: %v", f.platform.name, err)
	}
}

// deliveries has b.N times the old keys taken from every device and given again. Only the conversations that bring them are
// measured; the connector has rendered the documents before.
func (f *fleet) deliveries(b *testing.B, least usage) {
	var sum usage
	messages := 0
	for range b.N {
		full := f.members[0].keys()
		f.assignHistory(false)
		f.each(b, func(m *member) error { return m.settle(b.Context()) })
		f.assignHistory(true)
		f.waitForDocuments(b)
		messages -= f.sent()
		sum = sum.add(measure(b, f.server.Process.Pid, len(f.members), func() error {
			return eachOf(len(f.members), func(i int) error { return f.members[i].fetch(b, full) })
		}))
		messages += f.sent()
	}
	report(b, "deliveries", sum, least)
	b.ReportMetric(sum.perSecond()*oldKeys, "keys/s")
	b.ReportMetric(float64(messages)/float64(sum.n), "messages/delivery")
	table.put(f.engine, f.platform.name, "deliver", sum, least)
}

// waitForDocuments has every device notice that something is wanted, and waits until the connector has answered all jobs
// that come of it.
func (f *fleet) waitForDocuments(b *testing.B) {
	b.Helper()
	before := f.answered(b)
	f.each(b, func(m *member) error { return replay(f.url, []visit{f.platform.ways[0].idle(b, m).unanswered()}, 1, 1) })
	if f.jobs == 0 {
		f.jobs = f.countJobs(b, before)
	}
	f.waitForAnswers(b, before+f.jobs*len(f.members))
}

// countJobs waits until nothing more is answered.
func (f *fleet) countJobs(b *testing.B, before int) int {
	b.Helper()
	pause := time.NewTicker(quiet)
	defer pause.Stop()
	for last := before; ; {
		<-pause.C
		now := f.answered(b)
		if now == last && now > before {
			if (now-before)%len(f.members) != 0 {
				b.Fatalf("%s: %d devices need %d jobs", f.platform.name, len(f.members), now-before)
			}
			return (now - before) / len(f.members)
		}
		last = now
	}
}

// fetch polls until the device has its keys again.
func (m *member) fetch(b *testing.B, full int) error {
	for polls := 1; ; polls++ {
		_, failures, err := m.poll(b.Context())
		switch got := m.keys(); {
		case err != nil:
			return err
		case len(failures) > 0:
			return fmt.Errorf("failures: %s", strings.Join(failures, "; "))
		case got == full:
			return nil
		case polls == 10:
			return fmt.Errorf("a device has %d keys after %d polls, want %d", got, polls, full)
		}
	}
}

// sent is how many messages the devices have sent.
func (f *fleet) sent() (n int) {
	for _, m := range f.members {
		n += m.sent.all
	}
	return n
}

// assignHistory assigns the profile of old keys to the devices' user, or takes it away.
func (f *fleet) assignHistory(wanted bool) {
	f.b.Helper()
	for _, o := range f.objects {
		if a, ok := o.Spec.(*profiles.Assignment); ok {
			a.Profiles = slices.DeleteFunc(a.Profiles, func(name string) bool { return name == history })
			if wanted {
				a.Profiles = append(a.Profiles, history)
			}
		}
	}
	f.apply()
}
