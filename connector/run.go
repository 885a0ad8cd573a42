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
	cas, closeCAs, err := c.authorities(k)
	if err != nil {
		return err
	}
	defer closeCAs()
	jobs, err := journal.Open(k.Path(keyring.FileJobs))
	if err != nil {
		return err
	}
	defer jobs.Close() //nolint:errcheck // every entry is on the disk already
	w := &worker.Worker{
		Keyring: k, Journal: jobs, CAs: cas, Server: client, Sync: syncer.Sync, Offers: func() string { return authorities.Digest(k) }, Logger: c.Logger, Clock: c.Clock, Rand: c.Rand,
		Sleep: c.Sleep, Concurrency: c.Concurrency, ModernPKCS12: c.ModernPKCS12, Once: c.Once,
	}
	c.Logger.Info("connector at work", "server", client.BaseURL, "connector", client.ConnectorID)
	return c.work(ctx, w, cas.own, client)
}

// work takes jobs, and keeps what the server serves about the built-in CA fresh.
func (c Config) work(ctx context.Context, w *worker.Worker, soft *softca.CA, client *link.Client) error {
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

// shelf has the connector's own CA beside those of others.
type shelf struct {
	own    *softca.CA
	others *authorities.Book
}

// Named finds a CA for the worker.
func (s shelf) Named(name string) (worker.CA, error) {
	if name == softca.Name {
		return s.own, nil
	}
	return s.others.Named(name)
}

// authorities are the connector's own CA and those of others.
func (c Config) authorities(k *keyring.Keyring) (shelf, func(), error) {
	others, err := authorities.Open(k, ca.Env{Clock: c.Clock, Rand: c.Rand, Logger: c.Logger})
	if err != nil {
		return shelf{}, nil, err
	}
	issued, err := journal.Open(k.Path(keyring.FileSoftCA))
	if err != nil {
		others.Close()
		return shelf{}, nil, err
	}
	closeAll := func() { others.Close(); _ = issued.Close() }
	return shelf{own: softca.New(k, issued), others: others}, closeAll, nil
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
