package partnerca

import (
	"sync"
	"time"
)

// rate is a token bucket for each partner. Only partners with a valid token get here, so that there are few.
type rate struct {
	perSecond, burst float64

	mu      sync.Mutex
	buckets map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newRate(perSecond float64, burst int) *rate {
	return &rate{perSecond: perSecond, burst: float64(burst), buckets: map[string]bucket{}}
}

// allow takes one token; false when there is none.
func (r *rate) allow(partner string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b, known := r.buckets[partner]
	if !known {
		b = bucket{tokens: r.burst, at: now}
	}
	b.tokens = min(r.burst, b.tokens+now.Sub(b.at).Seconds()*r.perSecond)
	b.at = now
	allowed := b.tokens >= 1
	if allowed {
		b.tokens--
	}
	r.buckets[partner] = b
	return allowed
}
