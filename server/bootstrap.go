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

func bootstrapName(deviceID string) string { return "bootstrap." + deviceID }

// SetBootstrapToken implements applemdm.Bootstrap.
func (b bootstrapTokens) SetBootstrapToken(ctx context.Context, deviceID string, token []byte) error {
	raw, err := json.Marshal(token)
	if err != nil {
		return err
	}
	return b.db.SetSetting(ctx, bootstrapName(deviceID), raw)
}

// BootstrapToken implements applemdm.Bootstrap.
func (b bootstrapTokens) BootstrapToken(ctx context.Context, deviceID string) ([]byte, error) {
	raw, err := b.db.Setting(ctx, bootstrapName(deviceID))
	if errors.Is(err, model.ErrNotFound) || (err == nil && len(raw) == 0) {
		return nil, nil
	}
	var token []byte
	if err == nil {
		err = json.Unmarshal(raw, &token)
	}
	return token, err
}
