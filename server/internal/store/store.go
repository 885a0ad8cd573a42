// Package store keeps the server's state in a database: one implementation over database/sql, with one query text for
// SQLite and PostgreSQL and a small Dialect for what differs. The packages sqlite and postgres open it.
//
// Rules that hold for every method:
//
//   - One method is one transaction; it is durable when it returns without an error, and nothing is kept otherwise.
//   - Writers lock first and read then: the trust or generation row, the enrolment, the job, in this order. Deadlocks and
//     serialization failures are retried, a bounded number of times.
//   - Whatever changes the ground of a decision about an enrolment increments the enrolment's version, so that a decision
//     made from an older snapshot conflicts and is never half-right.
//   - Times are microseconds of UTC since 1970; 0 is "never". Private keys are here only as sealed records and as
//     payloads encrypted to the device; of tokens there are only hashes.
package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/push"
)

// Dialect is what differs between the databases.
type Dialect struct {
	// Name is "sqlite" or "postgres".
	Name string
	// ForUpdate ends a SELECT whose rows are locked until the transaction ends; empty where a writer is alone anyway.
	ForUpdate string
	// SkipLocked is ForUpdate that leaves out rows that somebody else has locked.
	SkipLocked string
	// ClaimLock is a statement that makes claims wait for each other, so that two nodes share jobs fairly; may be empty.
	ClaimLock string
	// Snapshot are the options of a transaction that reads one consistent state.
	Snapshot *sql.TxOptions
	// Prepare has the texts of statements kept parsed; for a driver that does not do so by itself.
	Prepare bool
	// Retryable tells an error after which the same transaction may succeed (deadlock, serialization failure, busy).
	Retryable func(error) bool
}

// DB implements the ports of the server's cores and endpoints.
type DB struct {
	writer  *pool
	reader  *pool
	dialect Dialect
	newID   func() string
	// objects are the decoded profiles and assignments of one generation; every node may have them, none needs another's.
	objects atomic.Pointer[objectCache]
}

type objectCache struct {
	generation int64
	objects    []profiles.Object
}

var (
	_ delivery.Store     = (*DB)(nil)
	_ identity.Store     = (*DB)(nil)
	_ connectorapi.Store = (*DB)(nil)
	_ admin.Store        = (*DB)(nil)
	_ push.Store         = (*DB)(nil)
)

// New makes a store over migrated databases. Writer and reader may be the same; Close closes both.
func New(writer, reader *sql.DB, dialect Dialect) *DB {
	w := newPool(writer, dialect)
	r := w
	if reader != writer {
		r = newPool(reader, dialect)
	}
	return &DB{writer: w, reader: r, dialect: dialect, newID: randomID}
}

// randomID is 128 random bits in lower-case hex. Ids of users bind sealed records and are never reused.
func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// Close closes the database.
func (db *DB) Close() error {
	err := db.writer.Close()
	if db.reader != db.writer {
		if e := db.reader.Close(); err == nil {
			err = e
		}
	}
	if err != nil {
		return fmt.Errorf("closing the database: %w", err)
	}
	return nil
}

// Ping tells whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	return db.read(ctx, "asking the database for an answer", func(t *tx) error {
		_, err := one[int64](t, `SELECT value FROM meta WHERE name = 'generation'`)
		return err
	})
}
