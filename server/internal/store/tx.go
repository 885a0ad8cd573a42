package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	// maxRetries bounds how often a transaction is tried again after a deadlock or a serialization failure.
	maxRetries = 12
	firstPause = 2 * time.Millisecond
	maxPause   = 200 * time.Millisecond
)

// tx is one transaction, or for look a single statement. It lives no longer than the method that began it, which is why
// it may hold its context.
type tx struct {
	conn
	ctx context.Context
	db  *DB
}

// write runs fn in one transaction and commits it. fn may run several times and must not keep effects outside of it.
func (db *DB) write(ctx context.Context, what string, fn func(*tx) error) error {
	pause := firstPause
	for attempt := 0; ; attempt++ {
		err := db.once(ctx, db.writer, nil, fn)
		if err == nil {
			return nil
		}
		if attempt == maxRetries || !db.dialect.Retryable(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		pause = min(2*pause, maxPause)
	}
}

// read runs fn in one transaction that sees one state of the database.
func (db *DB) read(ctx context.Context, what string, fn func(*tx) error) error {
	if err := db.once(ctx, db.reader, db.dialect.Snapshot, fn); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// look runs fn, which reads by a single statement: that needs no transaction, whose begin and end cost a database on the
// network two journeys more.
func (db *DB) look(ctx context.Context, what string, fn func(*tx) error) error {
	if err := fn(&tx{conn: alone{db.reader}, ctx: ctx, db: db}); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (db *DB) once(ctx context.Context, p *pool, options *sql.TxOptions, fn func(*tx) error) error {
	begun, err := p.BeginTx(ctx, options)
	if err != nil {
		return err
	}
	t := &transaction{Tx: begun, pool: p}
	defer t.end(ctx)
	if err := fn(&tx{conn: t, ctx: ctx, db: db}); err != nil {
		_ = begun.Rollback()
		return err
	}
	return begun.Commit()
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run executes a statement and tells how many rows it changed.
func (t *tx) run(query string, args ...any) (int64, error) {
	result, err := t.ExecContext(t.ctx, query, bind(args)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// do executes a statement whose count does not matter.
func (t *tx) do(query string, args ...any) error {
	_, err := t.ExecContext(t.ctx, query, bind(args)...)
	return err
}

// one reads a single value; model.ErrNotFound without a row.
func one[T any](t *tx, query string, args ...any) (T, error) {
	var v T
	err := t.QueryRowContext(t.ctx, query, bind(args)...).Scan(dest(&v))
	return v, notFound(err)
}

// values reads one column.
func values[T any](t *tx, query string, args ...any) ([]T, error) {
	return collect(t, func(v *T) row { return row{{"", v}} }, query, args...)
}

// find reads the single row of a table that where selects; model.ErrNotFound without one.
func find[T any](t *tx, tab table[T], where string, args ...any) (T, error) {
	var v T
	r := tab.row(&v)
	err := t.QueryRowContext(t.ctx, tab.selects()+" "+where, bind(args)...).Scan(r.dests()...)
	return v, notFound(err)
}

// list reads all rows of a table that rest (WHERE, ORDER BY, LIMIT) selects.
func list[T any](t *tx, tab table[T], rest string, args ...any) ([]T, error) {
	return collect(t, tab.row, tab.selects()+" "+rest, args...)
}

func collect[T any](t *tx, mapping func(*T) row, query string, args ...any) ([]T, error) {
	rows, err := t.QueryContext(t.ctx, query, bind(args)...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		var v T
		if err := rows.Scan(mapping(&v).dests()...); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return model.ErrNotFound
	}
	return err
}

// must turns "no row was changed" into model.ErrNotFound.
func must(n int64, err error) error {
	if err == nil && n == 0 {
		return model.ErrNotFound
	}
	return err
}
