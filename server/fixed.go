package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
)

const (
	fixedSetting  = "server.fixed"
	commandPath   = "/mdm/apple/command"
	checkinPath   = "/mdm/apple/checkin"
	namespaceRoot = "io.waxseal."
	topicRoot     = "com.apple.mgmt.External."
)

// fixed are the values that enrolled devices keep for ever: a device takes no other Topic, ServerURL, CheckInURL or
// AccessRights later (Apple: MDM payload).
type fixed struct {
	// Namespace is the random prefix of this installation's identifiers.
	Namespace string `json:"namespace"`
	// Topic stands for the push certificate's while there is none.
	Topic        string `json:"topic"`
	PublicURL    string `json:"publicURL"`
	Given        bool   `json:"given"` // PublicURL was set by the operator, not taken from the bound address
	ServerURL    string `json:"serverURL"`
	CheckInURL   string `json:"checkInURL"`
	AccessRights int    `json:"accessRights"`
}

// settle reads the stored values, compares them with the settings, and stores what is new.
func settle(ctx context.Context, c Config, db *store.DB, bound string) (fixed, error) {
	stored, err := readFixed(ctx, db)
	if err != nil {
		return fixed{}, err
	}
	enrolled, err := anyDevice(ctx, db)
	if err != nil {
		return fixed{}, err
	}
	want, err := c.wanted(stored, bound)
	if err != nil {
		return fixed{}, err
	}
	if err := c.compare(stored, want, enrolled); err != nil {
		return fixed{}, err
	}
	raw, err := json.Marshal(want)
	if err != nil {
		return fixed{}, err
	}
	return want, db.SetSetting(ctx, fixedSetting, raw)
}

func readFixed(ctx context.Context, db *store.DB) (fixed, error) {
	var f fixed
	raw, err := db.Setting(ctx, fixedSetting)
	if errors.Is(err, model.ErrNotFound) || (err == nil && len(raw) == 0) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("reading the fixed values: %w", err)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return f, fmt.Errorf("reading the fixed values: %w", err)
	}
	return f, nil
}

func anyDevice(ctx context.Context, db *store.DB) (bool, error) {
	devices, err := db.Devices(ctx, admin.Page{Limit: 1})
	return len(devices) > 0, err
}

// wanted are the values by the settings; what is stored and random stays.
func (c Config) wanted(stored fixed, bound string) (fixed, error) {
	want := stored
	want.PublicURL, want.Given = strings.TrimSuffix(c.Settings.PublicURL, "/"), true
	if want.PublicURL == "" {
		want.PublicURL, want.Given = bound, false
		if stored.Given {
			want.PublicURL, want.Given = stored.PublicURL, true
		}
	}
	if u, err := url.Parse(want.PublicURL); err == nil && !want.Given && nowhere(u.Hostname()) {
		return fixed{}, fmt.Errorf("--listen %s is every address of this machine, and none that a link could name: say --public-url https://mdm.example.com", c.Settings.Listen)
	}
	devices := want.PublicURL
	if c.Settings.DeviceURL != "" {
		devices = strings.TrimSuffix(c.Settings.DeviceURL, "/")
	}
	want.ServerURL, want.CheckInURL, want.AccessRights = devices+commandPath, devices+checkinPath, c.Settings.AccessRights
	return want, want.fillRandom(c.Rand)
}

// nowhere hosts can be listened on and not called.
func nowhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

func (f *fixed) fillRandom(rand io.Reader) error {
	if f.Namespace == "" {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return fmt.Errorf("making the namespace: %w", err)
		}
		f.Namespace = namespaceRoot + hex.EncodeToString(b[:])
	}
	if f.Topic == "" {
		id, err := uuid.NewRandomFromReader(rand)
		if err != nil {
			return fmt.Errorf("making the topic: %w", err)
		}
		f.Topic = topicRoot + id.String()
	}
	return nil
}

// compare refuses what enrolled devices would never learn.
func (c Config) compare(stored, want fixed, enrolled bool) error {
	if stored.PublicURL == "" {
		return nil
	}
	binding := enrolled || (stored.Given && want.Given)
	if binding && !c.Settings.AcceptNewPublicURL && (stored.ServerURL != want.ServerURL || stored.PublicURL != want.PublicURL) {
		return fmt.Errorf("public-url: this server was set up as %s (devices speak to %s), and enrolled devices can never learn another address than that; "+
			"start it with --public-url %s, or with --accept-new-public-url if devices will enrol again or the former name leads here too",
			stored.PublicURL, stored.ServerURL, stored.PublicURL)
	}
	if enrolled && stored.AccessRights != want.AccessRights {
		return fmt.Errorf("access-rights: devices enrolled with %d and cannot change that; start the server with --access-rights %d", stored.AccessRights, stored.AccessRights)
	}
	return nil
}
