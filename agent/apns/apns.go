// Package apns is a stand-in for Apple's push service, for devices and servers on one machine: it takes the pushes that
// an MDM server sends (HTTP/2, client certificate, apple.md of the design's reference, section 7.6) and hands them to
// simulated devices that wait for a poke.
//
//	POST /3/device/TOKEN   the server's side; strict about what Apple is strict about
//	GET  /poke/TOKEN       the device's side: waits for the next push to that token and answers with it
//
// Pushes coalesce: a device that was away gets the last one.
package apns

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/agent/device"
)

// Push is a push that was accepted.
type Push struct {
	Time  time.Time `json:"time"`
	Token string    `json:"token"` // lower-case hex
	Topic string    `json:"topic"`
	Magic string    `json:"magic"`
}

// Service is the push service. Its zero value does not work; use New.
type Service struct {
	clock  device.Clock
	record func(Push) // called for each accepted push, one at a time

	mu      sync.Mutex
	pending map[string]Push          // by token, not fetched yet
	waiting map[string]chan struct{} // closed when a push arrives
	refused map[string]string        // token: reason
	pushes  []Push
}

// New makes a push service. The record function, if there is one, sees every accepted push.
func New(clock device.Clock, record func(Push)) *Service {
	return &Service{clock: clock, record: record, pending: map[string]Push{}, waiting: map[string]chan struct{}{}, refused: map[string]string{}}
}

// Reasons with which a token can be refused.
const (
	ReasonUnregistered = "Unregistered"   // 410: the device is gone
	ReasonBadToken     = "BadDeviceToken" // 400
	ReasonExpired      = "ExpiredToken"   // 410
)

// Refuse makes pushes to a token fail with a reason; an empty one makes them work again.
func (s *Service) Refuse(token, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[strings.ToLower(token)] = reason
}

// Pushes are all pushes so far.
func (s *Service) Pushes() []Push {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Push(nil), s.pushes...)
}

// Handler serves both sides.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /3/device/{token}", s.push)
	mux.HandleFunc("GET /poke/{token}", s.poke)
	return mux
}

// rejection is Apple's error body.
type rejection struct {
	Reason    string `json:"reason"`
	Timestamp int64  `json:"timestamp,omitempty"`
	status    int
}

// push takes a push as Apple does.
func (s *Service) push(w http.ResponseWriter, r *http.Request) {
	push, bad := s.check(r)
	if bad != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(bad.status)
		_ = json.NewEncoder(w).Encode(bad)
		return
	}
	s.accept(push)
	w.Header().Set("apns-id", r.Header.Get("apns-id"))
	w.WriteHeader(http.StatusOK)
}

func (s *Service) check(r *http.Request) (Push, *rejection) {
	push := Push{Time: s.clock.Now(), Token: strings.ToLower(r.PathValue("token")), Topic: r.Header.Get("apns-topic")}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return push, &rejection{Reason: "MissingProviderToken", status: http.StatusForbidden}
	}
	own := Topic(r.TLS.PeerCertificates[0])
	if push.Topic == "" {
		push.Topic = own
	}
	switch {
	case r.ProtoMajor != 2:
		return push, &rejection{Reason: "HTTP/2Required", status: http.StatusHTTPVersionNotSupported}
	case own == "" || push.Topic != own:
		return push, &rejection{Reason: "BadTopic", status: http.StatusBadRequest}
	case r.Header.Get("apns-push-type") != "" && r.Header.Get("apns-push-type") != "mdm":
		return push, &rejection{Reason: "InvalidPushType", status: http.StatusBadRequest}
	}
	if raw, err := hex.DecodeString(push.Token); err != nil || len(raw) < 16 {
		return push, &rejection{Reason: ReasonBadToken, status: http.StatusBadRequest}
	}
	if bad := s.refusal(push.Token); bad != nil {
		return push, bad
	}
	var bad *rejection
	push.Magic, bad = readBody(r.Body)
	return push, bad
}

func (s *Service) refusal(token string) *rejection {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch reason := s.refused[token]; reason {
	case "":
		return nil
	case ReasonUnregistered, ReasonExpired:
		return &rejection{Reason: reason, Timestamp: s.clock.Now().UnixMilli(), status: http.StatusGone}
	default:
		return &rejection{Reason: reason, status: http.StatusBadRequest}
	}
}

// readBody wants exactly {"mdm": magic}, without aps.
func readBody(body io.Reader) (string, *rejection) {
	raw, err := io.ReadAll(io.LimitReader(body, 4097))
	switch {
	case err != nil || len(raw) == 0:
		return "", &rejection{Reason: "PayloadEmpty", status: http.StatusBadRequest}
	case len(raw) > 4096:
		return "", &rejection{Reason: "PayloadTooLarge", status: http.StatusRequestEntityTooLarge}
	}
	var payload map[string]string
	if err := json.Unmarshal(raw, &payload); err != nil || len(payload) != 1 || payload["mdm"] == "" {
		return "", &rejection{Reason: "BadMessage", status: http.StatusBadRequest}
	}
	return payload["mdm"], nil
}

// accept hands a push to the device that waits, or keeps it for when it asks.
func (s *Service) accept(push Push) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes = append(s.pushes, push)
	s.pending[push.Token] = push
	if wait, there := s.waiting[push.Token]; there {
		close(wait)
		delete(s.waiting, push.Token)
	}
	if s.record != nil {
		s.record(push)
	}
}

// poke waits for a push until the client goes away, or for a minute (204).
func (s *Service) poke(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	push, err := s.next(ctx, strings.ToLower(r.PathValue("token")))
	if err != nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"mdm": push.Magic})
}

func (s *Service) next(ctx context.Context, token string) (Push, error) {
	for {
		push, wait, there := s.take(token)
		if there {
			return push, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return Push{}, ctx.Err()
		}
	}
}

func (s *Service) take(token string) (Push, <-chan struct{}, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if push, there := s.pending[token]; there {
		delete(s.pending, token)
		return push, nil, true
	}
	wait, there := s.waiting[token]
	if !there {
		wait = make(chan struct{})
		s.waiting[token] = wait
	}
	return Push{}, wait, false
}

// Topic is the UID attribute in the subject of a push certificate, which Apple takes for the topic.
func Topic(cert *x509.Certificate) string {
	uid := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	for _, name := range cert.Subject.Names {
		if name.Type.Equal(uid) {
			return fmt.Sprint(name.Value)
		}
	}
	return ""
}
