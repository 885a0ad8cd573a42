package postgres_test

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/waxseal/waxseal/internal/testpg"
	"github.com/waxseal/waxseal/server/internal/store/postgres"
	"github.com/waxseal/waxseal/server/internal/store/storetest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// server is started by the first test that needs it.
var server testpg.Server

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Store {
		db, err := postgres.Open(t.Context(), server.Schema(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}

// TestOpenTogether: several nodes start at once on an empty database.
func TestOpenTogether(t *testing.T) {
	url := server.Schema(t)
	errs := make([]error, 4)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			db, err := postgres.Open(t.Context(), url)
			if errs[i] = err; err == nil {
				errs[i] = db.Close()
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenHidesThePassword(t *testing.T) {
	for _, url := range []string{"postgres://waxseal:secret@127.0.0.1:1/db?connect_timeout=1", "postgres://waxseal:secret@host:port:no/db", "nonsense secret"} {
		_, err := postgres.Open(t.Context(), url)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Fatalf("got %v, want an error without the password", err)
		}
	}
}
