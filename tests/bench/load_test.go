package bench_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

const (
	// connections are kept alive, each sending one message after the other.
	connections = 8
	// ticks of /proc/PID/stat are hundredths of a second on every Linux (proc(5), USER_HZ).
	tick = 10 * time.Millisecond
)

// message is a request that a device sent once and that is sent again as it was.
type message struct {
	method string
	uri    string
	header http.Header
	body   []byte
	// status and answer are what the device got for it, and what it must get again; with status 0 it may be anything.
	status int
	answer []byte
	// certificate is the device's for TLS; nil: its signature proves it. A device that proves itself by TLS opens a
	// connection for each message, since that is what a PC does for each session.
	certificate *tls.Certificate
}

// visit is what a device says when it has nothing to say: one message, or one on each of its channels.
type visit []message

// answered is the visit with another answer to each message; unanswered takes any.
func (v visit) answered(status int, answer []byte) visit {
	out := slices.Clone(v)
	for i := range out {
		out[i].status, out[i].answer = status, answer
	}
	return out
}

func (v visit) unanswered() visit { return v.answered(0, nil) }

// usage is what a piece of work took.
type usage struct {
	n    int
	wall time.Duration
	cpu  time.Duration // of the server's process
}

func (u usage) perSecond() float64 { return float64(u.n) / u.wall.Seconds() }

// cpuPer1000 is milliseconds.
func (u usage) cpuPer1000() float64 {
	return u.cpu.Seconds() * 1000 * 1000 / float64(u.n)
}

// measure runs work, which does n things.
func measure(b *testing.B, pid, n int, work func() error) usage {
	b.Helper()
	cpu, began := cpuTime(b, pid), time.Now()
	if err := work(); err != nil {
		b.Fatal(err)
	}
	return usage{n: n, wall: time.Since(began), cpu: cpuTime(b, pid) - cpu}
}

// cpuTime is user and system time of a process until now.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skipf("CPU time is read from /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(raw), ") ") // the name may hold anything
	fields := strings.Fields(rest)
	var sum int
	for _, n := range []int{11, 12} { // utime and stime, counted from the state
		value, err := strconv.Atoi(fields[n])
		if err != nil {
			b.Fatal(err)
		}
		sum += value
	}
	return time.Duration(sum) * tick
}

// replay makes n visits to a server over some connections, each of which belongs to one device.
func replay(server string, visits []visit, n, connections int) error {
	var made atomic.Int64
	return eachOf(connections, func(worker int) error {
		v := visits[worker%len(visits)]
		client := v[0].client()
		defer client.CloseIdleConnections()
		for made.Add(1) <= int64(n) {
			for _, m := range v {
				if err := m.send(client, server); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// eachOf runs f with 0 to n-1 side by side.
func eachOf(n int, f func(i int) error) error {
	faults := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { faults[i] = f(i) })
	}
	wait.Wait()
	return errors.Join(faults...)
}

func (m message) client() *http.Client {
	config := &tls.Config{InsecureSkipVerify: true} // loopback; what it costs is no part of it
	if m.certificate != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.certificate, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: m.certificate != nil, ExpectContinueTimeout: time.Second}
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func (m message) send(client *http.Client, server string) error {
	req, err := http.NewRequest(m.method, server+m.uri, bytes.NewReader(m.body))
	if err != nil {
		return err
	}
	req.Header = m.header
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && m.status != 0 && (resp.StatusCode != m.status || !bytes.Equal(answer, m.answer)) {
		err = fmt.Errorf("an idle device got %s: %.2000s", resp.Status, answer)
	}
	return err
}

// recorder keeps the last message of a device to its server on each channel, and what was answered.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	last map[channel]message
	all  int // how many there were
}

// channel of a device: a Mac has two.
type channel int

const (
	deviceChannel channel = iota
	userChannel
)

// idle is what the device said last on its channels; a settled device spoke last to say that it is idle.
func (r *recorder) idle(channels ...channel) (v visit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range channels {
		v = append(v, r.last[c])
	}
	return v
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if !managing(req) || req.GetBody == nil {
		return r.next.RoundTrip(req)
	}
	copied, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(copied)
	if err != nil {
		return nil, err
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	r.keep(message{method: req.Method, uri: req.URL.RequestURI(), header: req.Header.Clone(), body: body, status: resp.StatusCode, answer: answer})
	return resp, err
}

func (r *recorder) keep(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[channel]message{}
	}
	c := deviceChannel
	if bytes.Contains(m.body, []byte("<key>UserID</key>")) {
		c = userChannel
	}
	r.all++
	if path, _, _ := strings.Cut(m.uri, "?"); !isCompanion(path) || path == companion.PathState {
		r.last[c] = m
	}
}

// managing tells what devices say once they are enrolled from how they enrol.
func managing(req *http.Request) bool {
	return req.Header.Get("Mdm-Signature") != "" || req.Header.Get("Content-Type") == syncml.ContentType+"; charset=utf-8" ||
		isCompanion(req.URL.Path)
}

// isCompanion tells what a companion app says to a server once it is enrolled; only with its polls it says that it is idle.
func isCompanion(path string) bool {
	return strings.HasPrefix(path, "/agent/v1/") && path != companion.PathEnroll
}

// add sums up work that was done in parts.
func (u usage) add(part usage) usage {
	return usage{n: u.n + part.n, wall: u.wall + part.wall, cpu: u.cpu + part.cpu}
}
