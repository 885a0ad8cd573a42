package web

import (
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds the memory of a Limiter whoever knocks.
const maxBuckets = 50_000

// The default rate of an address. It is generous, since a whole company may stand behind one address, and enrolling a
// device takes four requests; it only keeps one stranger from occupying the server with RSA operations.
const (
	DefaultPerSecond = 200
	DefaultBurst     = 2000
)

// Limiter is a token bucket for each address, IPv6 by /64. Within a server node only: it guards a process, not a quota.
type Limiter struct {
	perSecond float64
	burst     float64
	clock     func() time.Time

	mu      sync.Mutex
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// NewLimiter allows perSecond requests of one address and burst at once; zero values mean DefaultPerSecond
// and DefaultBurst.
func NewLimiter(perSecond float64, burst int, clock func() time.Time) *Limiter {
	if perSecond <= 0 {
		perSecond = DefaultPerSecond
	}
	if burst <= 0 {
		burst = DefaultBurst
	}
	return &Limiter{perSecond: perSecond, burst: float64(burst), clock: clock, buckets: map[netip.Prefix]bucket{}}
}

// Allow takes one token of the address; false when there is none.
func (l *Limiter) Allow(addr netip.Addr) bool {
	key := network(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	b, known := l.buckets[key]
	if !known {
		l.makeRoom(now)
		b = bucket{tokens: l.burst, at: now}
	}
	b.tokens = min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.perSecond)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	l.buckets[key] = b
	return allowed
}

// makeRoom forgets the addresses whose bucket is full again; when that is none, all of them.
func (l *Limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxBuckets {
		return
	}
	refill := time.Duration(l.burst / l.perSecond * float64(time.Second))
	for key, b := range l.buckets {
		if now.Sub(b.at) >= refill {
			delete(l.buckets, key)
		}
	}
	if len(l.buckets) >= maxBuckets {
		clear(l.buckets)
	}
}

// network is what counts as one address: a customer of an IPv6 provider has a /64 to himself.
func network(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // fails for the zero address only, whose prefix is then zero too
	return prefix
}
