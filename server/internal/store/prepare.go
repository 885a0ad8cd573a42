package store

import (
	"context"
	"database/sql"
	"sync"
)

// maxPrepared bounds the statements of one pool. The texts are constants; their number is about a hundred.
const maxPrepared = 300

// conn is what statements are executed on: a pool or a transaction.
type conn interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// pool keeps the statements of a database parsed. SQLite parses a text each time otherwise, which takes longer than
// finding a row; pgx does the same by itself.
type pool struct {
	*sql.DB
	prepares   bool
	mu         sync.RWMutex
	statements map[string]*sql.Stmt
}

func newPool(db *sql.DB, d Dialect) *pool {
	return &pool{DB: db, prepares: d.Prepare, statements: map[string]*sql.Stmt{}}
}

func (p *pool) prepared(query string) *sql.Stmt {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.statements[query]
}

// prepare takes a connection of its own, so that nobody may call it who holds one; for the same reason it waits for the
// connection without the lock.
func (p *pool) prepare(ctx context.Context, query string) *sql.Stmt {
	if !p.prepares {
		return nil
	}
	s, err := p.PrepareContext(context.WithoutCancel(ctx), query)
	if err != nil {
		return nil // the statement itself will say why
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if first := p.statements[query]; first != nil || len(p.statements) >= maxPrepared {
		_ = s.Close() // somebody was faster
		return first
	}
	p.statements[query] = s
	return s
}

// transaction uses the prepared statements of its pool and notes which others there should be.
type transaction struct {
	*sql.Tx
	pool   *pool
	wanted []string
}

func (t *transaction) statement(ctx context.Context, query string) *sql.Stmt {
	if s := t.pool.prepared(query); s != nil {
		return t.StmtContext(ctx, s)
	}
	if t.pool.prepares {
		t.wanted = append(t.wanted, query)
	}
	return nil
}

// end prepares what was wanted; the transaction has given its connection back.
func (t *transaction) end(ctx context.Context) {
	for _, query := range t.wanted {
		if t.pool.prepared(query) == nil {
			t.pool.prepare(ctx, query)
		}
	}
}

// ExecContext implements conn.
func (t *transaction) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if s := t.statement(ctx, query); s != nil {
		return s.ExecContext(ctx, args...)
	}
	return t.Tx.ExecContext(ctx, query, args...)
}

// QueryContext implements conn.
func (t *transaction) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := t.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return t.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext implements conn.
func (t *transaction) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := t.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return t.Tx.QueryRowContext(ctx, query, args...)
}

// alone executes single statements without a transaction.
type alone struct{ *pool }

func (a alone) statement(ctx context.Context, query string) *sql.Stmt {
	if s := a.prepared(query); s != nil {
		return s
	}
	return a.prepare(ctx, query)
}

// QueryContext implements conn.
func (a alone) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if s := a.statement(ctx, query); s != nil {
		return s.QueryContext(ctx, args...)
	}
	return a.DB.QueryContext(ctx, query, args...)
}

// QueryRowContext implements conn.
func (a alone) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if s := a.statement(ctx, query); s != nil {
		return s.QueryRowContext(ctx, args...)
	}
	return a.DB.QueryRowContext(ctx, query, args...)
}
