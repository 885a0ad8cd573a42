package bench_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/agent/windows"
	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/profiles"
)

const (
	// history is the profile that brings old keys, and oldKeys how many there are.
	history = "mail-history"
	oldKeys = 3
	// nodesOfKey are the nodes that are written for one key (platforms/windows, pfxNodes).
	nodesOfKey = 5
)

// BenchmarkWindows has the figures of PCs for each database. An idle session is one message with what Windows says first,
// answered with statuses only.
//
//	bare-signed, bare-tls   the handler that the next two are compared with: it verifies the sender and decodes the message
//	signed                  idle sessions with MDM-Signature (RSA-2048) on connections that are kept
//	tls                     idle sessions with a client certificate, each on a connection of its own, as PCs do
//	deliver                 sessions that install three old keys, rendered before, and read each back: eight messages
func BenchmarkWindows(b *testing.B) {
	bin := build(b)
	for _, engine := range engines() {
		b.Run(engine.name, func(b *testing.B) {
			h := open(b, bin, engine.url(b))
			pcs := h.pcs(population)
			signed, byTLS := make([]message, len(pcs)), make([]message, len(pcs))
			for i, p := range pcs {
				signed[i], byTLS[i] = p.sent.last, p.unsigned(b)
			}
			leastSigned, leastTLS := h.bare(b, signed, comparison), h.bare(b, byTLS, comparison/10) // a handshake each
			b.Run("bare-signed", func(b *testing.B) { leastSigned = h.bare(b, signed, b.N) })
			b.Run("signed", func(b *testing.B) { h.sessions(b, signed, leastSigned) })
			b.Run("bare-tls", func(b *testing.B) { leastTLS = h.bare(b, byTLS, b.N) })
			b.Run("tls", func(b *testing.B) { h.sessions(b, byTLS, leastTLS) })
			b.Run("deliver", func(b *testing.B) { h.deliveries(b, pcs, leastSigned) })
		})
	}
}

func (h *house) sessions(b *testing.B, messages []message, least usage) {
	u := measure(b, h.server.Process.Pid, b.N, func() error { return replay(h.url, messages, b.N, connections) })
	report(b, "sessions", u, least)
}

// deliveries has b.N times the keys taken from every PC and given again. Only the sessions that install them are measured;
// the connector has rendered the documents before.
func (h *house) deliveries(b *testing.B, pcs []*pc, least usage) {
	var sum usage
	messages := 0
	for range b.N {
		h.assignHistory(b, false)
		if err := eachOf(len(pcs), func(i int) error { return pcs[i].settle(b.Context()) }); err != nil {
			b.Fatal(err)
		}
		answered := h.answered(b)
		h.assignHistory(b, true)
		if err := eachOf(len(pcs), func(i int) error { return replay(h.url, []message{pcs[i].sent.last}, 1, 1) }); err != nil {
			b.Fatal(err)
		}
		h.waitForAnswers(b, answered+len(pcs)*oldKeys)
		messages -= sent(pcs)
		sum = sum.add(measure(b, h.server.Process.Pid, len(pcs), func() error {
			return eachOf(len(pcs), func(i int) error { return pcs[i].fetch(b.Context()) })
		}))
		messages += sent(pcs)
	}
	report(b, "sessions", sum, least)
	b.ReportMetric(sum.perSecond()*oldKeys, "keys/s")
	b.ReportMetric(float64(messages)/float64(sum.n), "messages/session")
}

// sent is how many messages the PCs have sent.
func sent(pcs []*pc) int {
	n := 0
	for _, p := range pcs {
		n += p.sent.all
	}
	return n
}

// assignHistory assigns the profile of old keys to the PCs' user, or takes it away.
func (h *house) assignHistory(b *testing.B, wanted bool) {
	b.Helper()
	for _, o := range h.objects {
		if a, ok := o.Spec.(*profiles.Assignment); ok {
			a.Profiles = slices.DeleteFunc(a.Profiles, func(name string) bool { return name == history })
			if wanted {
				a.Profiles = append(a.Profiles, history)
			}
		}
	}
	h.apply()
}

// pc is a simulated PC with its last message.
type pc struct {
	*windows.Device
	sent *recorder
}

// enrolPC makes a PC and enrols it by a secret of its own.
func (h *house) enrolPC(ctx context.Context) (*pc, error) {
	link, err := h.client.EnrollmentLink(ctx, api.LinkRequest{User: user, Platform: profiles.Windows})
	if err != nil {
		return nil, err
	}
	n := h.next()
	last := &recorder{}
	d, err := windows.Enroll(ctx, windows.Config{State: h.path(fmt.Sprintf("pc-%d", n)), Source: link.URL, Secret: link.Secret,
		OSVersion: "10.0.22631.3007", Model: "Bench", CA: h.ca, Sign: true,
		NewKey:    func(int) (*rsa.PrivateKey, error) { return h.keys[n%len(h.keys)], nil },
		Transport: func(next http.RoundTripper) http.RoundTripper { last.next = next; return last }})
	return &pc{d, last}, err
}

// pcs enrols and settles some.
func (h *house) pcs(n int) []*pc {
	h.b.Helper()
	all := make([]*pc, n)
	err := eachOf(n, func(i int) (err error) {
		if all[i], err = h.enrolPC(h.b.Context()); err != nil {
			return err
		}
		return all[i].settle(h.b.Context())
	})
	if err != nil {
		h.b.Fatal(err)
	}
	return all
}

// settle has a PC fetch all that is meant for it.
func (p *pc) settle(ctx context.Context) error {
	return settle(ctx, func(ctx context.Context) (bool, []string, error) {
		r, err := p.Poll(ctx)
		return r.Commands == 0 && r.Pending == 0, r.Failures, err
	})
}

// fetch is one session that installs the old keys.
func (p *pc) fetch(ctx context.Context) error {
	r, err := p.Poll(ctx)
	if err == nil && (r.Changes != oldKeys*nodesOfKey || len(r.Failures) > 0) {
		err = fmt.Errorf("a PC wrote %d nodes, want %d; failures: %v", r.Changes, oldKeys*nodesOfKey, r.Failures)
	}
	return err
}

// unsigned is the last message without its signature; TLS proves the PC instead.
func (p *pc) unsigned(b *testing.B) message {
	b.Helper()
	m := p.sent.last
	m.header = m.header.Clone()
	delete(m.header, "MDM-Signature")
	transport, ok := p.sent.next.(*http.Transport)
	if !ok || transport.TLSClientConfig.GetClientCertificate == nil {
		b.Fatal("the PC shows no certificate")
	}
	var err error
	if m.certificate, err = transport.TLSClientConfig.GetClientCertificate(&tls.CertificateRequestInfo{}); err != nil {
		b.Fatal(err)
	}
	return m
}

// add sums up work that was done in parts.
func (u usage) add(part usage) usage {
	return usage{n: u.n + part.n, wall: u.wall + part.wall, cpu: u.cpu + part.cpu}
}
