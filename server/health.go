package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// health registers what watches the server: /healthz (the process answers; for load balancers), /readyz (devices can
// enrol and get their certificates) and /metrics.
func (s *server) health() {
	s.router.Handle("/healthz", web.Options{}, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = fmt.Fprintln(w, "ok")
		return nil
	}, http.MethodGet, http.MethodHead)
	s.router.Handle("/readyz", web.Options{}, s.ready, http.MethodGet, http.MethodHead)
	h := promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{})
	s.router.Handle("/metrics", web.Options{}, func(w http.ResponseWriter, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}, http.MethodGet)
}

// check is one line of /readyz; Detail says what to do when it is not OK.
type check struct {
	Name   string           `json:"name"`
	OK     bool             `json:"ok"`
	Detail string           `json:"detail,omitempty"`
	Reason platforms.Reason `json:"reason,omitempty"`
}

type readiness struct {
	Ready  bool    `json:"ready"`
	Checks []check `json:"checks"`
	// Notes limit what works and do not make the server unready.
	Notes []check `json:"notes,omitempty"`
}

func (s *server) ready(w http.ResponseWriter, r *http.Request) error {
	out := readiness{Ready: true, Checks: s.checks(r.Context())}
	for _, c := range out.Checks {
		out.Ready = out.Ready && c.OK
	}
	if s.pushTopic == "" {
		out.Notes = append(out.Notes, check{Name: "push", Reason: platforms.ReasonNoPushCertificate,
			Detail: "set --apns-cert and --apns-key: clients that poll work without, a real device is never woken"})
	}
	if n, err := s.db.MustReenroll(r.Context()); err == nil && n > 0 {
		out.Notes = append(out.Notes, check{Name: "reenroll", Reason: platforms.ReasonMustReenroll,
			Detail: fmt.Sprintf("%d devices enrolled before the push certificate of now was set and are never woken: enrol them again with new links", n)})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !out.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(out) // the connection is gone if this fails
	return nil
}

func (s *server) checks(ctx context.Context) []check {
	if err := s.db.Ping(ctx); err != nil {
		s.Logger.ErrorContext(ctx, "the database does not answer", "error", err.Error())
		return []check{{Name: "database", Detail: "the database does not answer; the log says why"}}
	}
	out := []check{{Name: "database", OK: true}}
	trust, err := s.db.Trust(ctx)
	if err != nil {
		return append(out, check{Name: "keySet", Detail: "it could not be read"})
	}
	out = append(out, verdict("keySet", trust.KeySet != nil, "register a connector: waxctl connector token, waxseal-connector init"))
	seen := s.connectorSeen(ctx)
	out = append(out, verdict("connector", s.Clock().Sub(seen) <= s.Settings.ConnectorSilence, "no connector asks for work: waxseal-connector run"))
	detail := ""
	if err := s.connectors.CheckRA(trust); err != nil {
		detail = err.Error()
	}
	return append(out, verdict("raCertificate", detail == "", detail))
}

func verdict(name string, ok bool, detail string) check {
	if ok {
		return check{Name: name, OK: true}
	}
	return check{Name: name, Detail: detail}
}

func (s *server) connectorSeen(ctx context.Context) time.Time {
	connectors, err := s.connectors.Connectors(ctx)
	if err != nil {
		return time.Time{}
	}
	var seen time.Time
	for _, c := range connectors {
		if c.State == model.ConnectorTrusted && c.LastSeen.After(seen) {
			seen = c.LastSeen
		}
	}
	return seen
}

// metrics have labels from closed sets only: route patterns, methods, status classes, outcomes.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	pushes   *prometheus.CounterVec
	unparsed *prometheus.CounterVec
	expiry   expiryMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxseal_http_requests_total", Help: "Requests answered."}, []string{"route", "method", "class"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "waxseal_http_request_seconds", Help: "Time until a request was answered; long polls included.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 30}}, []string{"route"}),
		pushes:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxseal_pushes_total", Help: "Wake-ups sent, by outcome."}, []string{"outcome"}),
		unparsed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "waxseal_unparsed_messages_total", Help: "Signed messages of devices that could not be parsed; an alarm."}, []string{"kind"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.pushes, m.unparsed)
	m.expiry = newExpiryMetrics(m.registry)
	return m
}

func (m *metrics) observe(pattern, method string, status int, took time.Duration) {
	if pattern == "" {
		pattern = "none"
	}
	m.requests.WithLabelValues(pattern, method, strconv.Itoa(status/100)+"xx").Inc()
	m.seconds.WithLabelValues(pattern).Observe(took.Seconds())
}

func (m *metrics) pushed(outcome string)  { m.pushes.WithLabelValues(outcome).Inc() }
func (m *metrics) unparsable(kind string) { m.unparsed.WithLabelValues(kind).Inc() }
