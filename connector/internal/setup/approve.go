package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
)

// Approve takes the connector with that fingerprint into the key set and seals the CA keys to it. The fingerprint is the
// hash of its public key, so the server cannot put another key in its place. It says whether anything changed.
func (s Syncer) Approve(ctx context.Context, fingerprint string) (name string, changed bool, err error) {
	id, err := escrow.ParseFingerprint(fingerprint)
	if err != nil {
		return "", false, err
	}
	id = strings.TrimPrefix(id, "sha256:")
	if !s.Keyring.HasRoot() {
		return "", false, keyring.ErrNoRoot
	}
	unlock, err := s.Keyring.LockApprove()
	if err != nil {
		return "", false, err
	}
	defer unlock()
	if err := learnKeySet(ctx, s.Keyring, s.Client); err != nil {
		return "", false, err
	}
	set, err := s.Keyring.KeySet()
	if err != nil {
		return "", false, err
	}
	waiting, err := s.Client.Pending(ctx)
	if err != nil {
		return "", false, err
	}
	at := slices.IndexFunc(waiting, func(p link.Pending) bool { return p.Member.ID == id })
	if at < 0 {
		if m, ok := set.Member(id); ok {
			return m.Name, false, nil
		}
		return "", false, fmt.Errorf("no connector with fingerprint %s waits for approval: %s", id, names(waiting))
	}
	return waiting[at].Name, true, s.take(ctx, set, waiting[at])
}

// take signs first, and publishes what is on the disk: if publishing fails, a repeated approve publishes the same set.
func (s Syncer) take(ctx context.Context, set escrow.KeySet, p link.Pending) error {
	if p.Member.Kind != escrow.MemberConnector {
		return fmt.Errorf("connector %q presents a key of kind %q: it must be %q", p.Name, p.Member.Kind, escrow.MemberConnector)
	}
	if err := p.Member.Check(); err != nil {
		return fmt.Errorf("connector %q: %w", p.Name, err)
	}
	if _, ok := set.Member(p.Member.ID); !ok {
		set = escrow.KeySet{Serial: set.Serial + 1, Members: append(slices.Clone(set.Members), p.Member)}
		if err := s.Keyring.Audit(keyring.Event{Action: keyring.ActionApprove, Member: p.Member.ID, KeySet: set.Serial}); err != nil {
			return err
		}
		if _, err := s.Keyring.SignKeySet(set); err != nil {
			return err
		}
	}
	sealed, err := s.Keyring.ShareAuthorities(p.Member)
	if err != nil {
		return err
	}
	return publish(ctx, s.Keyring, s.Client, map[string][]byte{p.ConnectorID: sealed})
}

func names(waiting []link.Pending) string {
	if len(waiting) == 0 {
		return "none is waiting"
	}
	var out []string
	for _, p := range waiting {
		out = append(out, fmt.Sprintf("%s is waiting with %s", p.Name, p.Member.ID))
	}
	return strings.Join(out, ", ")
}
