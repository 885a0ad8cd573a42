package bench_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	// answer is what the device got for it, and what it must get again.
	answer []byte
	// certificate is the device's for TLS; nil: its signature proves it. A device that proves itself by TLS opens a
	// connection for each message, since that is what a PC does for each session.
	certificate *tls.Certificate
}

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

// replay sends n messages to a server over some connections, each of which belongs to one device.
func replay(server string, messages []message, n, connections int) error {
	var sent atomic.Int64
	return eachOf(connections, func(worker int) error {
		m := messages[worker%len(messages)]
		client := m.client()
		defer client.CloseIdleConnections()
		for sent.Add(1) <= int64(n) {
			if err := m.send(client, server); err != nil {
				return err
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
	if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Equal(answer, m.answer)) {
		err = fmt.Errorf("an idle device got %s: %.2000s", resp.Status, answer)
	}
	return err
}

// recorder keeps the last message of a device to its server, and what was answered.
type recorder struct {
	next http.RoundTripper
	mu   sync.Mutex
	last message
	all  int // how many there were
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
	r.mu.Lock()
	r.last = message{method: req.Method, uri: req.URL.RequestURI(), header: req.Header.Clone(), body: body, answer: answer}
	r.all++
	r.mu.Unlock()
	return resp, err
}

// managing tells what devices say once they are enrolled from how they enrol.
func managing(req *http.Request) bool {
	return req.Header.Get("Mdm-Signature") != "" || req.Header.Get("Content-Type") == syncml.ContentType+"; charset=utf-8"
}
