package bench_test

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

// sheet gathers the figures for the table of docs/benchmarks.md. A benchmark that is run again, for longer, replaces its own.
type sheet struct {
	mu      sync.Mutex
	figures map[place]figure
}

type place struct{ engine, column, what string }

// figure is what something took, and what the bare handler of the same run took.
type figure struct{ u, least usage }

func newSheet() *sheet { return &sheet{figures: map[place]figure{}} }

func (s *sheet) put(engine, column, what string, u, least usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures[place{engine, column, what}] = figure{u, least}
}

// row is one figure of each platform.
type row struct {
	title string
	what  string
	value func(figure) string
}

func rows() []row {
	rate := func(f figure) string { return number(f.u.perSecond()) }
	per1000 := func(f figure) string { return number(f.u.cpuPer1000()) }
	each := func(f figure) string { return number(f.u.cpuPer1000() / 1000) }
	cpuRatio := func(f figure) string { return number(f.u.cpuPer1000() / f.least.cpuPer1000()) }
	rateRatio := func(f figure) string { return fmt.Sprintf("%.2f", f.u.perSecond()/f.least.perSecond()) }
	return []row{
		{"bare, visits/s", "bare", rate},
		{"bare, CPU ms per 1000", "bare", per1000},
		{"**idle visits/s**", "idle", rate},
		{"ratio to bare", "idle", rateRatio},
		{"**idle visits, CPU ms per 1000**", "idle", per1000},
		{"ratio to bare", "idle", cpuRatio},
		{"**enrolments/s**", "enrol", rate},
		{"enrolments, CPU ms each", "enrol", each},
		{"ratio of CPU to bare", "enrol", cpuRatio},
		{"**deliveries/s** (three old keys each)", "deliver", rate},
		{"deliveries, CPU ms each", "deliver", each},
		{"ratio of CPU to bare", "deliver", cpuRatio},
		{"**render jobs/s** (one connector)", "jobs", rate},
		{"render jobs, CPU ms each of the server", "jobs", each},
		{"ratio of CPU to bare", "jobs", cpuRatio},
		{"render jobs, CPU ms each of the connector", "connector", each},
		{"**SCEP issuances/s** (one connector)", "scep", rate},
		{"SCEP issuances, CPU ms per 1000 of the server", "scep", per1000},
		{"ratio of CPU to a raw RSA-2048 signature", "scep", cpuRatio},
		{"SCEP issuances, CPU ms per 1000 of the connector", "scep-connector", per1000},
		{"ratio of CPU to a raw RSA-2048 signature", "scep-connector", cpuRatio},
		{"held polls, CPU ms per 1000 seconds of waiting", "held", per1000},
	}
}

// number has three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// columns are the ways in which devices say that they are idle.
func columns() (out []string) {
	for _, p := range platforms() {
		for _, w := range p.ways {
			out = append(out, w.column)
		}
	}
	return out
}

// print writes the table in Markdown. A cell has a figure for each database.
func (s *sheet) print(w io.Writer) {
	if len(s.figures) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\n| SQLite / PostgreSQL | %s |\n|---|%s\n", strings.Join(columns(), " | "), strings.Repeat("---|", len(columns())))
	for _, r := range rows() {
		cells := []string{}
		for _, c := range columns() {
			cells = append(cells, s.cell(c, r))
		}
		_, _ = fmt.Fprintf(w, "| %s | %s |\n", r.title, strings.Join(cells, " | "))
	}
	_, _ = fmt.Fprintln(w)
}

// cell is empty where nothing was measured.
func (s *sheet) cell(column string, r row) string {
	var values []string
	measured := false
	for _, e := range engines() {
		f, ok := s.figures[place{e.name, column, r.what}]
		if !ok || f.u.n == 0 || f.u.wall == 0 {
			values = append(values, "–")
			continue
		}
		measured = true
		values = append(values, r.value(f))
	}
	if !measured {
		return ""
	}
	return strings.Join(values, " / ")
}
