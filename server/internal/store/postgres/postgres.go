// Package postgres opens the store in a PostgreSQL database, which several server nodes may share.
package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/waxseal/waxseal/server/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Keys of advisory locks ("waxseal" in ASCII, and one more).
const (
	migrateLock = 0x7761787365616c
	claimLock   = migrateLock + 1
	connections = 16
)

// Open connects and brings the database up to date; nodes that start together wait for each other. The URL may name a
// schema with search_path. It is never part of an error: it may hold a password.
func Open(ctx context.Context, url string) (*store.DB, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("opening the database: its URL is not valid; write postgres://USER:PASSWORD@HOST/DATABASE")
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if err := migrate(ctx, db); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("bringing database %s on %s up to date: %w", config.Database, config.Host, err)
	}
	return store.New(db, db, dialect()), nil
}

func dialect() store.Dialect {
	return store.Dialect{
		Name:       "postgres",
		ForUpdate:  " FOR UPDATE",
		SkipLocked: " FOR UPDATE SKIP LOCKED",
		ClaimLock:  fmt.Sprintf("SELECT pg_advisory_xact_lock(%d)", claimLock),
		Snapshot:   &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		Retryable:  retryable,
	}
}

// retryable: serialization failure, deadlock, and two writers that inserted the same key at once, of whom the second
// finds the row when it looks again (PostgreSQL manual, appendix A).
func retryable(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && slices.Contains([]string{"40001", "40P01", "23505"}, e.Code)
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, fmt.Sprintf("SELECT pg_advisory_lock(%d)", migrateLock)); err != nil {
		return err
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf("SELECT pg_advisory_unlock(%d)", migrateLock))
	}()
	_, err = provider.Up(ctx)
	return err
}
