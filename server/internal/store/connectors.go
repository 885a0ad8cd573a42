package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

// CreateConnectorToken implements connectorapi.Store.
func (db *DB) CreateConnectorToken(ctx context.Context, tokenHash string, expires time.Time, audit model.AuditEntry) error {
	return db.write(ctx, "storing a registration token", func(t *tx) error {
		if err := put(t, tokens(), tokens().insert(), token{Hash: tokenHash, ExpiresAt: expires}); err != nil {
			return err
		}
		return t.audit(audit)
	})
}

// RegisterConnector implements connectorapi.Store. A member that is registered already needs the token that it spent.
func (db *DB) RegisterConnector(ctx context.Context, tokenHash string, c model.Connector, root []byte, now time.Time, audit model.AuditEntry) (registered model.Connector, err error) {
	err = db.write(ctx, "registering a connector", func(t *tx) error {
		if err := t.lockTrust(); err != nil {
			return err
		}
		tok, err := find(t, tokens(), `WHERE token_hash = $1`+db.dialect.ForUpdate, tokenHash)
		if err != nil {
			return fmt.Errorf("registration token: %w", err)
		}
		known, err := find(t, connectors(), `WHERE member_id = $1`, c.Member.ID)
		if err != nil && !isAbsent(err) {
			return err
		}
		switch {
		case !tok.SpentAt.IsZero() && (tok.SpentBy != c.Member.ID || known.ID == ""):
			return fmt.Errorf("registration token: %w", model.ErrSpent)
		case !tok.SpentAt.IsZero():
			registered, err = t.reregister(known, c, now)
		case now.After(tok.ExpiresAt):
			return fmt.Errorf("registration token: %w", model.ErrExpired)
		case known.ID != "":
			return fmt.Errorf("a connector with this key is registered already, as %s: %w", known.ID, model.ErrConflict)
		default:
			registered, err = t.register(tok, c, root, now)
		}
		if err != nil {
			return err
		}
		return t.audit(audit)
	})
	return registered, err
}

func (t *tx) reregister(known, c model.Connector, now time.Time) (model.Connector, error) {
	known.CredentialHash, known.LastSeen = c.CredentialHash, now
	return known, t.do(`UPDATE connectors SET credential_hash = $1, last_seen = $2 WHERE id = $3`, known.CredentialHash, now, known.ID)
}

// register stores a new connector. The first ever is trusted: there is nobody who could approve it.
func (t *tx) register(tok token, c model.Connector, root []byte, now time.Time) (model.Connector, error) {
	others, err := one[int64](t, `SELECT count(*) FROM connectors`)
	if err != nil {
		return c, err
	}
	c.State = model.ConnectorPending
	if others == 0 {
		c.State = model.ConnectorTrusted
		if len(root) > 0 {
			if err := t.setTrusted(trustRoot, root); err != nil {
				return c, err
			}
		}
	}
	if c.ID == "" {
		c.ID = t.db.newID()
	}
	if c.CreatedAt.IsZero() {
		c.CreatedAt = now
	}
	c.LastSeen = now
	if err := put(t, connectors(), connectors().insert(), c); err != nil {
		return c, err
	}
	return c, t.do(`UPDATE connector_tokens SET spent_at = $1, spent_by = $2 WHERE token_hash = $3`, now, c.Member.ID, tok.Hash)
}

// ConnectorByID implements connectorapi.Store.
func (db *DB) ConnectorByID(ctx context.Context, id string) (c model.Connector, err error) {
	err = db.read(ctx, "reading a connector", func(t *tx) error {
		c, err = find(t, connectors(), `WHERE id = $1`, id)
		return err
	})
	return c, err
}

// Connectors implements connectorapi.Store.
func (db *DB) Connectors(ctx context.Context) (all []model.Connector, err error) {
	err = db.read(ctx, "reading the connectors", func(t *tx) error {
		all, err = list(t, connectors(), `ORDER BY created_at, id`)
		return err
	})
	return all, err
}

// Setting implements connectorapi.Store.
func (db *DB) Setting(ctx context.Context, name string) (value json.RawMessage, err error) {
	err = db.read(ctx, "reading the setting "+name, func(t *tx) error {
		value, err = one[json.RawMessage](t, `SELECT value FROM settings WHERE name = $1`, name)
		return err
	})
	return value, err
}

// SetSetting implements connectorapi.Store.
func (db *DB) SetSetting(ctx context.Context, name string, value json.RawMessage) error {
	return db.write(ctx, "storing the setting "+name, func(t *tx) error {
		return t.do(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	})
}
