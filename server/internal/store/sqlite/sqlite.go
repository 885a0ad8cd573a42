// Package sqlite opens the store in a SQLite file: the embedded default, pure Go. One connection writes, others read;
// pragmas stand in the DSN, because one that is executed reaches a single connection of the pool only.
package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	driver "modernc.org/sqlite"

	"github.com/waxseal/waxseal/server/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

const (
	readers = 8
	// busy is SQLITE_BUSY: another process holds the lock longer than busy_timeout.
	busy = 5
	// upAttempts: of two processes that start at once on a new file, the second finds the tables made.
	upAttempts = 3
)

// Open opens or makes the database file and brings it up to date. The file is readable by its owner only.
func Open(ctx context.Context, path string) (*store.DB, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	writer, err := pool(path, "_txlock=immediate", 1)
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	if err := migrate(ctx, writer); err != nil {
		_ = writer.Close()
		return nil, fmt.Errorf("bringing database %s up to date: %w", path, err)
	}
	reader, err := pool(path, "_pragma=query_only(1)", readers)
	if err != nil {
		_ = writer.Close()
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	return store.New(writer, reader, dialect()), nil
}

func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

func pool(path, option string, size int) (*sql.DB, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	// synchronous FULL: a transaction is durable when its method returns, a power cut included.
	dsn := url.URL{Scheme: "file", Path: absolute, RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + option}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}

func dialect() store.Dialect {
	return store.Dialect{Name: "sqlite", Prepare: true, Retryable: func(err error) bool {
		var e *driver.Error
		return errors.As(err, &e) && e.Code()&0xff == busy
	}}
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files)
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		if _, err = provider.Up(ctx); err == nil || attempt == upAttempts || ctx.Err() != nil {
			return err
		}
	}
}
