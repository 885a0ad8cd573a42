// Package web is the one door to HTTP routing: every endpoint registers its routes here, and each request gets a body
// cap, a recover, one log event with the route's pattern, and its errors rendered in one place.
//
// Request paths never reach a log, since some carry tokens; neither do bodies nor headers.
package web

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// The caps on request bodies. Apple's messages stay far below a MiB, SCEP requests below 8 KiB.
const (
	MaxMDM   = 1 << 20
	MaxSCEP  = 64 << 10
	MaxAdmin = 8 << 20
)

// Handler answers a request or returns why not. Once it has written anything it must return nil.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Options are a route's own.
type Options struct {
	// MaxBody caps the request body in bytes; zero means no body at all is read.
	MaxBody int64
	// Text renders errors as a sentence instead of problem+json.
	Text bool
	// Limited routes are open to anybody and count against the address' rate.
	Limited bool
}

// Config is what a router needs from its surroundings.
type Config struct {
	Logger *slog.Logger
	// Clock defaults to time.Now.
	Clock func() time.Time
	// Rand makes request ids; defaults to crypto/rand.
	Rand io.Reader
	// TrustedProxies may name the client in X-Forwarded-For.
	TrustedProxies []netip.Prefix
	// PerSecond and Burst bound each address on limited routes; zero means the defaults of NewLimiter.
	PerSecond float64
	Burst     int
	// Observe is told of each finished request, for metrics; may be nil. The pattern is bounded, the path is not.
	Observe func(pattern, method string, status int, took time.Duration)
}

// Router is the server's HTTP handler.
type Router struct {
	cfg     Config
	mux     *mux.Router
	limiter *Limiter
	raw     map[string]http.Handler // by prefix
}

// New makes a router without routes.
func New(cfg Config) *Router {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Router{cfg: cfg, mux: mux.NewRouter(), limiter: NewLimiter(cfg.PerSecond, cfg.Burst, cfg.Clock), raw: map[string]http.Handler{}}
	r.mux.Use(notePattern)
	r.mux.NotFoundHandler = r.wrap(Options{}, func(http.ResponseWriter, *http.Request) error {
		return Errorf(http.StatusNotFound, "there is nothing at this address")
	})
	r.mux.MethodNotAllowedHandler = r.wrap(Options{}, func(http.ResponseWriter, *http.Request) error {
		return Errorf(http.StatusMethodNotAllowed, "this address does not answer that method")
	})
	return r
}

// Handle adds a route. The pattern is gorilla/mux's: "/enroll/{token}".
func (r *Router) Handle(pattern string, opts Options, h Handler, methods ...string) {
	r.mux.Handle(pattern, r.wrap(opts, h)).Methods(methods...)
}

// Mount hands a whole subtree to another handler, with the body cap; prefix ends in a slash.
func (r *Router) Mount(prefix string, maxBody int64, h http.Handler) {
	r.mux.PathPrefix(prefix).Handler(r.wrap(Options{MaxBody: maxBody}, func(w http.ResponseWriter, req *http.Request) error {
		h.ServeHTTP(w, req)
		return nil
	}))
}

// MountRaw hands a whole subtree to a handler that takes the path apart by itself: mux would clean double slashes away. prefix
// begins and ends in a slash. Register it before the first request.
func (r *Router) MountRaw(prefix string, maxBody int64, h http.Handler) {
	r.raw[prefix] = r.wrap(Options{MaxBody: maxBody}, func(w http.ResponseWriter, req *http.Request) error {
		eventOf(req.Context()).pattern = prefix
		h.ServeHTTP(w, req)
		return nil
	})
}

// handler is who answers a path.
func (r *Router) handler(path string) http.Handler {
	for prefix, h := range r.raw {
		if strings.HasPrefix(path, prefix) {
			return h
		}
	}
	return r.mux
}

// Mux is the router itself, for huma's adapter, which registers its own routes. They get the log event and the recover,
// and the cap of MaxAdmin.
func (r *Router) Mux() *mux.Router {
	return r.mux
}

// Vars are the pattern's variables of a request.
func Vars(r *http.Request) map[string]string { return mux.Vars(r) }

// notePattern runs after the match, so the event learns the pattern and never the path.
func notePattern(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if route := mux.CurrentRoute(r); route != nil {
			if pattern, err := route.GetPathTemplate(); err == nil {
				eventOf(r.Context()).pattern = pattern
			}
		}
		next.ServeHTTP(w, r)
	})
}

// wrap turns a Handler into an http.Handler: rate, body cap, errors.
func (r *Router) wrap(opts Options, h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ev := eventOf(req.Context())
		ev.text = opts.Text
		if opts.Limited && !r.limiter.Allow(ev.remote) {
			w.Header().Set("Retry-After", "10")
			r.fail(w, ev, Errorf(http.StatusTooManyRequests, "too many requests from this address; wait ten seconds and try again"))
			return
		}
		req.Body = http.MaxBytesReader(w, req.Body, opts.MaxBody)
		if err := h(w, req); err != nil {
			r.fail(w, ev, AsError(err))
		}
	})
}

func (r *Router) fail(w http.ResponseWriter, ev *event, err *Error) {
	ev.err = err
	Render(w, err, ev.text)
}

// ServeHTTP answers one request and logs one event for it.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	start := r.cfg.Clock()
	ev := &event{id: r.requestID(), remote: remoteAddr(req, r.cfg.TrustedProxies)}
	rec := &recorder{ResponseWriter: w}
	rec.Header().Set("X-Request-Id", ev.id)
	defer func() {
		if p := recover(); p != nil {
			r.recovered(rec, ev, p)
		}
		r.finish(req, rec, ev, r.cfg.Clock().Sub(start))
	}()
	req.Body = http.MaxBytesReader(rec, req.Body, MaxAdmin)
	r.handler(req.URL.Path).ServeHTTP(rec, req.WithContext(context.WithValue(req.Context(), eventKey{}, ev)))
}

// ReadBody reads a whole request body within the route's cap.
func ReadBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if AsError(err).Status == http.StatusRequestEntityTooLarge {
			return nil, err
		}
		return nil, Hide(http.StatusBadRequest, "the body ended early; send it again", err)
	}
	return body, nil
}
