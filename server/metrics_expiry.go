package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/waxseal/waxseal/server/internal/expiry"
)

// expiryMetrics are set at each look at the board.
type expiryMetrics struct {
	soon *prometheus.GaugeVec
	ends *prometheus.GaugeVec
}

func newExpiryMetrics(r *prometheus.Registry) expiryMetrics {
	m := expiryMetrics{
		soon: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "waxseal_certificates_expiring", Help: "Certificates in use that end within 30 days or have ended, by kind."}, []string{"kind"}),
		ends: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "waxseal_certificate_not_after_seconds", Help: "When the server's own certificates and CAs end, seconds since 1970; the earliest of a name."}, []string{"kind", "name"}),
	}
	r.MustRegister(m.soon, m.ends)
	return m
}

// expiring sets the gauges. Names are those of settings and of CAs, of which there are few.
func (m *metrics) expiring(soon, own []expiry.Item) {
	m.expiry.soon.Reset()
	for _, kind := range []string{"imported", "issued", "deviceIdentity", string(expiry.KindCA), string(expiry.KindServer)} {
		m.expiry.soon.WithLabelValues(kind).Set(0)
	}
	for _, i := range soon {
		m.expiry.soon.WithLabelValues(string(i.Kind)).Inc()
	}
	m.expiry.ends.Reset()
	earliest := map[[2]string]float64{}
	for _, i := range own {
		key := [2]string{string(i.Kind), i.Name}
		if at := float64(i.NotAfter.Unix()); earliest[key] == 0 || at < earliest[key] {
			earliest[key] = at
		}
	}
	for key, at := range earliest {
		m.expiry.ends.WithLabelValues(key[0], key[1]).Set(at)
	}
}
