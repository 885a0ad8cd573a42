package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waxseal/waxseal/internal/clock"
	"github.com/waxseal/waxseal/internal/filelock"
	"github.com/waxseal/waxseal/server/internal/config"
	"github.com/waxseal/waxseal/server/internal/status"
	"github.com/waxseal/waxseal/server/internal/store"
	"github.com/waxseal/waxseal/server/internal/store/postgres"
	"github.com/waxseal/waxseal/server/internal/store/sqlite"
	"github.com/waxseal/waxseal/server/internal/web"
)

// shutdownGrace is how long requests under way may take to end.
const shutdownGrace = 10 * time.Second

// Config is what Run needs from outside; zero values mean the real thing.
type Config struct {
	Settings config.Settings
	Clock    func() time.Time
	Rand     io.Reader
	Logger   *slog.Logger
	// Listener and DeviceListener replace the addresses of the settings.
	Listener       net.Listener
	DeviceListener net.Listener
	// Terminal gets the admin token when it is made; nil: nobody does.
	Terminal io.Writer
	// Started is told the bound URL once connections are accepted; may be nil.
	Started func(url string)
	Version string
}

// Run is the server until ctx ends. What it needs it makes at the first start; a second start finds it again.
func Run(ctx context.Context, c Config) error {
	c = withDefaults(c)
	if err := c.Settings.Check(); err != nil {
		return err
	}
	if err := makeDataFolder(c.Settings.Data); err != nil {
		return err
	}
	unlock, err := lockDataFolder(c.Settings.Data)
	if err != nil {
		return err
	}
	defer unlock()
	db, err := openStore(ctx, &c.Settings)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	listeners, err := listen(ctx, c)
	if err != nil {
		return err
	}
	defer listeners.close()
	s, err := assemble(ctx, c, db, listeners)
	if err != nil {
		return err
	}
	return s.serve(ctx, listeners)
}

func withDefaults(c Config) Config {
	if c.Clock == nil {
		c.Clock = clock.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Started == nil {
		c.Started = func(string) {}
	}
	return c
}

// makeDataFolder makes the folder for the server alone; keys are in it.
func makeDataFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("closing the data folder to others: %w", err)
	}
	return nil
}

// lockDataFolder keeps a second server off the folder: it would overwrite the address by which the first is known, and with
// SQLite both would do the work that is due. Nodes that share a PostgreSQL database have a folder each.
func lockDataFolder(dir string) (unlock func(), err error) {
	unlock, err = filelock.Lock(filepath.Join(dir, "lock"), false)
	if errors.Is(err, filelock.ErrBusy) {
		return nil, fmt.Errorf("another waxseal-server runs on the data folder %s: stop it, or name another folder with --data", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("locking the data folder: %w", err)
	}
	return unlock, nil
}

func openStore(ctx context.Context, s *config.Settings) (*store.DB, error) {
	if s.DatabaseURL != "" {
		return postgres.Open(ctx, s.DatabaseURL)
	}
	return sqlite.Open(ctx, databaseFile(s.Data))
}

// serve accepts connections until ctx ends, then lets requests under way end.
func (s *server) serve(ctx context.Context, l *listeners) error {
	// Requests outlive ctx: they end by themselves, or with the grace.
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	group, ctx := errgroup.WithContext(ctx)
	servers := []*http.Server{s.httpServer(requests, s.mainTLS())}
	sockets := []net.Listener{l.main}
	if l.device != nil {
		config := s.tls.Clone()
		config.ClientAuth = tls.RequestClientCert // the endpoint verifies it, and says what is wrong with it
		servers, sockets = append(servers, s.httpServer(requests, config)), append(sockets, l.device)
	}
	for i, one := range servers {
		group.Go(func() error { return serveOn(one, sockets[i]) })
	}
	if l.pki != nil {
		plain := s.plainServer(requests)
		servers = append(servers, plain)
		group.Go(func() error { return servePlain(plain, l.pki) })
	}
	group.Go(func() error { return s.push.Run(ctx) })
	group.Go(func() error { return s.sweep(ctx) })
	group.Go(func() error { return s.watchExpiry(ctx) })
	group.Go(func() error {
		<-ctx.Done()
		s.connectors.Stop()
		s.companions.Stop()
		return shutdown(servers, cut)
	})
	s.announce(l.url)
	return group.Wait()
}

func serveOn(server *http.Server, l net.Listener) error {
	if err := server.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	}
	return nil
}

// plainServer answers what anybody may ask about the S/MIME CA, and nothing else: by plain http, so that checking one
// certificate never needs another (RFC 5280 section 8).
func (s *server) plainServer(requests context.Context) *http.Server {
	router := web.New(s.routerConfig())
	router.MountRaw("/", status.MaxBody, s.status())
	h := web.NewServer(router, s.Logger)
	h.BaseContext = func(net.Listener) context.Context { return requests }
	return h
}

func servePlain(server *http.Server, l net.Listener) error {
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	}
	return nil
}

func shutdown(servers []*http.Server, cut context.CancelFunc) error {
	grace, done := context.WithTimeout(context.Background(), shutdownGrace)
	defer done()
	var faults []error
	for _, server := range servers {
		if err := server.Shutdown(grace); err != nil {
			cut()
			faults = append(faults, server.Close())
		}
	}
	return errors.Join(faults...)
}

func (s *server) httpServer(requests context.Context, config *tls.Config) *http.Server {
	h := web.NewServer(s.router, s.Logger)
	h.TLSConfig = config.Clone() // net/http changes its own
	h.BaseContext = func(net.Listener) context.Context { return requests }
	h.ErrorLog = log.New(io.Discard, "", 0) // handshakes of strangers; what matters has its own event
	return h
}
