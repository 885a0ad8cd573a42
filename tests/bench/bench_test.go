// Package bench_test measures the real programs over loopback TLS, on both databases (docs/benchmarks.md). Devices are
// simulated in this process; the CPU time is that of the server's process alone. Each figure stands beside the same
// figure of a bare handler that verifies the sender and does nothing else, measured in the same run.
package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/internal/testpg"
	"github.com/waxseal/waxseal/profiles"
)

const (
	// population is how many devices are idle, and for how many a changed profile is rendered at once.
	population = 16
	// enrolling is how many devices enrol side by side.
	enrolling = 4
	// comparison is how many messages the bare handler verifies when its own benchmark is not run.
	comparison = 2000
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(bareFolder); dir != "" {
		fmt.Fprintln(os.Stderr, bare(dir))
		return
	}
	code := m.Run()
	database.Stop()
	os.Exit(code)
}

// database is started by the first benchmark that needs it.
var database = testpg.Server{Durable: true}

// BenchmarkServer has the figures of the issue for each database:
//
//	bare     the handler that everything is compared with
//	checkin  idle check-ins: Mdm-Signature, RSA-2048, nothing to do
//	enrol    link, profile, SCEP through the connector, Authenticate, TokenUpdate
//	jobs     a profile changes and every device checks in: plan, render job, the connector's answer
func BenchmarkServer(b *testing.B) {
	bin := build(b)
	for _, engine := range engines() {
		b.Run(engine.name, func(b *testing.B) {
			h := open(b, bin, engine.url(b))
			devices := h.devices(population)
			messages := make([]message, len(devices))
			for i, d := range devices {
				messages[i] = d.sent.last // settled devices spoke last to say that they are idle
			}
			least := h.bare(b, messages, comparison)
			b.Run("bare", func(b *testing.B) { least = h.bare(b, messages, b.N) })
			b.Run("checkin", func(b *testing.B) { h.checkins(b, messages, least) })
			b.Run("jobs", func(b *testing.B) { h.rendering(b, messages, least) })
			b.Run("enrol", func(b *testing.B) { h.enrolments(b, least) })
		})
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

func (h *house) bare(b *testing.B, messages []message, n int) usage {
	b.Helper()
	cmd, url := startBare(b)
	messages = slices.Clone(messages)
	for i := range messages {
		messages[i].answer = nil // it says nothing
	}
	b.ResetTimer()
	u := measure(b, cmd.Process.Pid, n, func() error { return replay(url, messages, n, connections) })
	report(b, "messages", u, usage{})
	return u
}

func (h *house) checkins(b *testing.B, messages []message, least usage) {
	u := measure(b, h.server.Process.Pid, b.N, func() error { return replay(h.url, messages, b.N, connections) })
	report(b, "checkins", u, least)
}

func (h *house) enrolments(b *testing.B, least usage) {
	n := 0
	u := measure(b, h.server.Process.Pid, b.N, func() error {
		for n < b.N {
			some := min(enrolling, b.N-n)
			n += some
			err := eachOf(some, func(int) error {
				d, err := h.enrol(b.Context())
				if err != nil {
					return err
				}
				return d.Close()
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	report(b, "enrolments", u, least)
}

// rendering has b.N times a changed profile noticed by every device, and waits until the connector has answered all jobs
// that come of it. What devices do with the documents is not measured: they do not fetch them.
func (h *house) rendering(b *testing.B, messages []message, least usage) {
	connector := cpuTime(b, h.connector.Process.Pid)
	answered := h.answered(b)
	u := measure(b, h.server.Process.Pid, b.N*len(messages), func() error {
		for range b.N {
			h.rename(b)
			if err := eachOf(len(messages), func(i int) error { return replay(h.url, messages[i:i+1], 1, 1) }); err != nil {
				return err
			}
			answered += len(messages)
			h.waitForAnswers(b, answered)
		}
		return nil
	})
	connector = cpuTime(b, h.connector.Process.Pid) - connector
	report(b, "jobs", u, least)
	b.ReportMetric(connector.Seconds()*1000*1000/float64(u.n), "connector-cpu-ms/1000")
}

// rename changes the mail account's name, which every device must get.
func (h *house) rename(b *testing.B) {
	b.Helper()
	for _, o := range h.objects {
		if mail, ok := o.Spec.(*profiles.Email); ok {
			h.made++
			mail.AccountName = fmt.Sprintf("Company mail %d", h.made)
		}
	}
	h.apply()
}
