package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/waxseal/waxseal/connector/internal/authorities"
	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/softca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/connector/internal/worker"
	"github.com/waxseal/waxseal/internal/link"
)

// Config is what Run works with. Clock, Rand, Sleep and Transport are there for tests.
type Config struct {
	// Dir is the keyring's folder.
	Dir        string
	Passphrase []byte
	// Once ends Run when the server has no job.
	Once bool
	// ModernPKCS12 sends the newer PKCS#12 to devices that can read it.
	ModernPKCS12 bool
	// Concurrency is how many jobs are worked on at once; 0 means 4.
	Concurrency int
	Logger      *slog.Logger
	Clock       func() time.Time
	Rand        io.Reader
	// Sleep waits or gives the context's error.
	Sleep func(context.Context, time.Duration) error
	// Transport replaces the one that trusts the keyring's server CA.
	Transport http.RoundTripper
}

// Run is the connector at work: it ends when ctx does.
func Run(ctx context.Context, c Config) error {
	k, err := keyring.Open(c.Dir, keyring.Options{Passphrase: c.Passphrase, Rand: c.Rand, Clock: c.Clock})
	if err != nil {
		return err
	}
	if !k.Settings().Complete {
		return errors.New("init did not come to its end on this keyring: run the same waxseal-connector init again")
	}
	unlock, err := k.LockRun()
	if err != nil {
		return err
	}
	defer unlock()
	client, err := setup.Client(k, c.Transport)
	if err != nil {
		return err
	}
	syncer := setup.Syncer{Keyring: k, Client: client}
	if err := c.start(ctx, syncer); err != nil || ctx.Err() != nil {
		return err
	}
	w, done, err := c.worker(k)
	if err != nil {
		return err
	}
	defer done()
	w.Server, w.Sync = client, syncer.Sync
	c.Logger.Info("connector at work", "server", client.BaseURL, "connector", client.ConnectorID)
	return c.work(ctx, w, client)
}

// work takes jobs, and keeps what the server serves about the built-in CA fresh.
func (c Config) work(ctx context.Context, w *worker.Worker, client *link.Client) error {
	soft, ok := w.CAs[softca.Name].(*softca.CA)
	if !ok {
		return errors.New("the built-in CA is missing")
	}
	p := &softca.Publisher{CA: soft, Server: client, Logger: c.Logger, After: time.After}
	if c.Once {
		return errors.Join(w.Run(ctx), p.Round(ctx))
	}
	publishing, stop := context.WithCancel(ctx)
	defer stop()
	var wait sync.WaitGroup
	wait.Go(func() { p.Run(publishing) })
	err := w.Run(ctx)
	stop()
	wait.Wait()
	return err
}

// start syncs until the server can be reached and the connector is approved.
func (c Config) start(ctx context.Context, s setup.Syncer) error {
	const longest = 30 * time.Second
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := s.Sync(ctx)
		if err == nil || c.Once {
			return err
		}
		if !setup.Passing(err) {
			return err
		}
		if errors.Is(err, setup.ErrNotApproved) {
			pause = min(pause, 2*time.Second)
		}
		c.Logger.Warn("not at work yet", "error", err, "member", s.Keyring.Member().ID)
		if c.Sleep(ctx, pause) != nil {
			return nil
		}
	}
}

// worker opens the journals and the CAs.
func (c Config) worker(k *keyring.Keyring) (*worker.Worker, func(), error) {
	jobs, err := journal.Open(k.Path(keyring.FileJobs))
	if err != nil {
		return nil, nil, err
	}
	cas, closeCAs, err := c.authorities(k)
	if err != nil {
		_ = jobs.Close()
		return nil, nil, err
	}
	done := func() { _ = jobs.Close(); closeCAs() }
	return &worker.Worker{
		Keyring: k, Journal: jobs, CAs: cas, Logger: c.Logger, Clock: c.Clock, Rand: c.Rand,
		Sleep: c.Sleep, Concurrency: c.Concurrency, ModernPKCS12: c.ModernPKCS12, Once: c.Once,
	}, done, nil
}

// authorities are the connector's own CA and those of others.
func (c Config) authorities(k *keyring.Keyring) (map[string]worker.CA, func(), error) {
	others, done, err := authorities.Open(k, ca.Env{Clock: c.Clock, Rand: c.Rand, Logger: c.Logger})
	if err != nil {
		return nil, nil, err
	}
	all := map[string]worker.CA{}
	for name, other := range others {
		all[name] = other
	}
	issued, err := journal.Open(k.Path(keyring.FileSoftCA))
	if err != nil {
		done()
		return nil, nil, err
	}
	closeAll := func() { done(); _ = issued.Close() }
	all[softca.Name] = softca.New(k, issued)
	return all, closeAll, nil
}

// sleep waits on the wall clock.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
