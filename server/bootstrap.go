package main

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
)

// bootstrapTokens are settings: the server hands them back to the Mac that they came from and does nothing with them.
type bootstrapTokens struct{ db *store.DB }

// SetBootstrapToken implements applemdm.Bootstrap. Where there is nothing to take back nothing is written: every iPhone that
// enrols takes back a token that it never had.
func (b bootstrapTokens) SetBootstrapToken(ctx context.Context, deviceID string, token []byte) error {
	if len(token) == 0 {
		if kept, err := b.BootstrapToken(ctx, deviceID); err != nil || len(kept) == 0 {
			return err
		}
	}
	raw, err := json.Marshal(token)
	if err != nil {
		return err
	}
	return b.db.SetSetting(ctx, store.BootstrapSetting(deviceID), raw)
}

// BootstrapToken implements applemdm.Bootstrap.
func (b bootstrapTokens) BootstrapToken(ctx context.Context, deviceID string) ([]byte, error) {
	raw, err := b.db.Setting(ctx, store.BootstrapSetting(deviceID))
	if errors.Is(err, model.ErrNotFound) || (err == nil && len(raw) == 0) {
		return nil, nil
	}
	var token []byte
	if err == nil {
		err = json.Unmarshal(raw, &token)
	}
	return token, err
}
