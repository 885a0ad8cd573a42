// Package bench_test measures the real programs over loopback TLS, on both databases (docs/benchmarks.md). Devices are
// simulated in this process; the CPU time is that of the server's process alone. Each figure stands beside the same
// figure of a bare handler that verifies the sender and does nothing else, measured in the same run.
package bench_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpg"
	"github.com/waxseal/waxseal/profiles"
)

const (
	// population is how many devices of each platform are idle, and for how many a changed profile is rendered at once.
	population = 16
	// enrolling is how many devices enrol side by side.
	enrolling = 4
	// comparison is how many visits the bare handler takes when its own benchmark is not run.
	comparison = 500
	// held is how long a companion app's poll waits, and polls how many of each app do.
	held, polls = 10, 2
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(bareFolder); dir != "" {
		fmt.Fprintln(os.Stderr, bare(dir))
		return
	}
	code := m.Run()
	database.Stop()
	table.print(os.Stdout)
	os.Exit(code)
}

// database is started by the first benchmark that needs it; table is printed at the end.
var (
	database = testpg.Server{Durable: true}
	table    = newSheet()
)

// BenchmarkServer has the figures of each platform for each database:
//
//	bare      the handler that the platform's figures are compared with: it verifies the sender, decodes what a PC says, and that is all
//	idle      a settled device says that it has nothing to say: one message, on a Mac one on each channel
//	tls-…     PC: the same with a client certificate, each on a connection of its own, as PCs do
//	deliver   conversations that bring three old keys, rendered before
//	enrol     from the link to the enrolled device, whose certificate comes from the connector
//	jobs      iPhone: a profile changes and every device notices it: plan, render job, the connector's answer
//	held      Android: polls that wait for a change
//
// and last that of scep: certificates for keys that the devices made, beside raw signatures instead of the bare handler.
func BenchmarkServer(b *testing.B) {
	bin := build(b)
	for _, engine := range engines() {
		b.Run(engine.name, func(b *testing.B) {
			h := open(b, bin, engine)
			for _, p := range platforms() {
				b.Run(p.name, func(b *testing.B) { h.platform(b, p) })
			}
			b.Run("scep", h.scep)
		})
	}
}

// platform measures one. Idle devices come first: what follows changes what is assigned.
func (h *house) platform(b *testing.B, p platform) {
	f := h.fleet(b, p, population)
	defer f.close(b)
	var least usage
	for i := range p.ways {
		way := p.ways[len(p.ways)-1-i] // the first last: the rest is compared with it
		visits := f.visits(b, way)
		least = usage{}
		b.Run(way.prefix+"bare", func(b *testing.B) { least = h.bare(b, way.column, visits, b.N) })
		if least.n == 0 {
			least = h.bare(b, way.column, visits, comparison)
		}
		b.Run(way.prefix+"idle", func(b *testing.B) { h.idle(b, way.column, visits, least) })
	}
	if p.link == profiles.Android {
		b.Run("held", func(b *testing.B) { h.held(b, f.visits(b, p.ways[0])) })
	}
	b.Run("enrol", func(b *testing.B) { h.enrolments(b, p, least) })
	b.Run("deliver", func(b *testing.B) { f.deliveries(b, least) })
	if p.link == profiles.IOS {
		b.Run("jobs", func(b *testing.B) { f.rendering(b, least) })
	}
}

// engine is a database to measure with.
type engine struct {
	name string
	url  func(b *testing.B) string
}

func engines() []engine {
	return []engine{
		{"sqlite", func(*testing.B) string { return "" }},
		{"postgres", func(b *testing.B) string { return database.Schema(b) }},
	}
}

// programs is the environment variable of a folder with server, connector and waxctl to measure, such as ones that were
// built for profiling.
const programs = "WAXSEAL_BENCH_PROGRAMS"

// build makes the programs as `make build` does.
func build(b *testing.B) string {
	b.Helper()
	if bin := os.Getenv(programs); bin != "" {
		return bin
	}
	bin := b.TempDir()
	for _, name := range []string{"server", "connector", "waxctl"} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(bin, name), "./"+name)
		cmd.Dir = "../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("building %s: %v\n%s", name, err, out)
		}
	}
	return bin
}

// report gives a rate and the CPU of it, and both as a ratio to the bare handler.
func report(b *testing.B, what string, u, least usage) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the rate says it
	b.ReportMetric(u.perSecond(), what+"/s")
	b.ReportMetric(u.cpuPer1000(), "cpu-ms/1000")
	if least.n > 0 {
		b.ReportMetric(u.cpuPer1000()/least.cpuPer1000(), "x-bare-cpu")
		b.ReportMetric(u.perSecond()/least.perSecond(), "x-bare-rate")
	}
}

func (h *house) bare(b *testing.B, column string, visits []visit, n int) usage {
	b.Helper()
	cmd, url := startBare(b)
	said := make([]visit, len(visits))
	for i, v := range visits {
		said[i] = v.answered(http.StatusOK, nil)
	}
	b.ResetTimer()
	u := measure(b, cmd.Process.Pid, n, func() error { return replay(url, said, n, connections) })
	report(b, "visits", u, usage{})
	table.put(h.engine, column, "bare", u, u)
	return u
}

func (h *house) idle(b *testing.B, column string, visits []visit, least usage) {
	u := measure(b, h.server.Process.Pid, b.N, func() error { return replay(h.url, visits, b.N, connections) })
	report(b, "visits", u, least)
	table.put(h.engine, column, "idle", u, least)
}

// held has b.N times polls of every app wait for nothing. What counts is the second of one poll.
func (h *house) held(b *testing.B, visits []visit) {
	for _, v := range visits {
		v[0].uri = strings.Replace(v[0].uri, "wait=0", fmt.Sprintf("wait=%d", held), 1)
	}
	n := len(visits) * polls
	u := measure(b, h.server.Process.Pid, b.N*n*held, func() error { return replay(h.url, visits, b.N*n, n) })
	report(b, "seconds", u, usage{})
	table.put(h.engine, "Android", "held", u, u)
}

func (h *house) enrolments(b *testing.B, p platform, least usage) {
	n := 0
	u := measure(b, h.server.Process.Pid, b.N, func() error {
		for n < b.N {
			some := min(enrolling, b.N-n)
			n += some
			err := eachOf(some, func(int) error {
				m, err := h.enrol(b.Context(), p)
				if err != nil {
					return err
				}
				return m.Close()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	report(b, "enrolments", u, least)
	table.put(h.engine, p.name, "enrol", u, least)
}

// rendering has b.N times a changed profile noticed by every device, and waits until the connector has answered all jobs
// that come of it. What devices do with the documents is not measured: they do not fetch them.
func (f *fleet) rendering(b *testing.B, least usage) {
	connector := cpuTime(b, f.connector.Process.Pid)
	answered := f.answered(b)
	u := measure(b, f.server.Process.Pid, b.N*len(f.members), func() error {
		for range b.N {
			f.rename(b)
			f.each(b, func(m *member) error { return replay(f.url, []visit{m.sent.idle(deviceChannel).unanswered()}, 1, 1) })
			answered += len(f.members)
			f.waitForAnswers(b, answered)
		}
		return nil
	})
	connector = cpuTime(b, f.connector.Process.Pid) - connector
	report(b, "jobs", u, least)
	b.ReportMetric(connector.Seconds()*1000*1000/float64(u.n), "connector-cpu-ms/1000")
	table.put(f.engine, f.platform.name, "jobs", u, least)
	table.put(f.engine, f.platform.name, "connector", usage{n: u.n, wall: u.wall, cpu: connector}, least)
}

// rename changes the mail account's name, which every device must get.
func (h *house) rename(b *testing.B) {
	b.Helper()
	for _, o := range h.objects {
		if mail, ok := o.Spec.(*profiles.Email); ok {
			mail.AccountName = fmt.Sprintf("Company mail %d", h.next())
		}
	}
	h.apply()
}
