package web

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"
)

// event collects what the one log line of a request says.
type event struct {
	id        string
	remote    netip.Addr
	pattern   string
	enrolment string
	device    string
	text      bool
	err       *Error
}

type eventKey struct{}

// eventOf returns the request's event; outside a Router, one that nobody reads.
func eventOf(ctx context.Context) *event {
	if ev, ok := ctx.Value(eventKey{}).(*event); ok {
		return ev
	}
	return &event{}
}

// Annotate adds the enrolment and device that a request turned out to come from to its log event.
func Annotate(ctx context.Context, enrolmentID, deviceID string) {
	ev := eventOf(ctx)
	ev.enrolment, ev.device = enrolmentID, deviceID
}

// RequestID names the request in logs and audit entries.
func RequestID(ctx context.Context) string { return eventOf(ctx).id }

// Remote is the client's address, taken from a trusted proxy's word where there is one.
func Remote(ctx context.Context) netip.Addr { return eventOf(ctx).remote }

func (r *Router) requestID() string {
	var b [8]byte
	if _, err := io.ReadFull(r.cfg.Rand, b[:]); err != nil {
		return "unknown"
	}
	return hex.EncodeToString(b[:])
}

func (r *Router) recovered(rec *recorder, ev *event, p any) {
	if p == http.ErrAbortHandler { // net/http's own way to drop a connection
		panic(p)
	}
	ev.err = Hide(http.StatusInternalServerError, "the server failed; its log says why under the request id",
		fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	if rec.status == 0 {
		Render(rec, ev.err, ev.text)
	}
}

func (r *Router) finish(req *http.Request, rec *recorder, ev *event, took time.Duration) {
	status := rec.status
	if status == 0 {
		status = http.StatusOK
	}
	attrs := []slog.Attr{
		slog.String("route", ev.pattern), slog.String("method", method(req)), slog.Int("status", status),
		slog.Int64("bytes", rec.bytes), slog.Duration("took", took), slog.String("remote", ev.remote.String()),
		slog.String("request", ev.id),
	}
	if ev.enrolment != "" {
		attrs = append(attrs, slog.String("enrolment", ev.enrolment))
	}
	if ev.device != "" {
		attrs = append(attrs, slog.String("device", ev.device))
	}
	level := slog.LevelInfo
	if ev.err != nil {
		attrs = append(attrs, slog.String("error", ev.err.Error()))
		if status >= 500 {
			level = slog.LevelError
		}
	}
	r.cfg.Logger.LogAttrs(req.Context(), level, "request", attrs...)
	if r.cfg.Observe != nil {
		r.cfg.Observe(ev.pattern, method(req), status, took)
	}
}

// method keeps invented methods out of logs and metric labels.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// remoteAddr is the peer, or, when the peer is a trusted proxy, the last address in X-Forwarded-For that is not.
func remoteAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := Peer(r)
	if !Contains(trusted, peer) {
		return peer
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			return peer
		}
		if addr = addr.Unmap(); !Contains(trusted, addr) {
			return addr
		}
	}
	return peer
}

// Peer is the address at the other end of the connection.
func Peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// Contains reports whether one of the networks holds the address.
func Contains(networks []netip.Prefix, addr netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
