package keyring

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Action is what an audit event is about.
type Action string

// The actions. Each is written before its effect leaves the connector.
const (
	ActionRelease  Action = "release"  // a private key goes to a device, encrypted to it
	ActionIssue    Action = "issue"    // a certificate with a key that the connector made
	ActionIdentity Action = "identity" // a device certificate
	ActionRA       Action = "ra"       // the server's RA certificate
	ActionRevoke   Action = "revoke"
	ActionRewrap   Action = "rewrap"
	ActionApprove  Action = "approve"
	ActionRoll     Action = "roll"   // the S/MIME CA gets another issuing CA
	ActionRefuse   Action = "refuse" // something was asked that the rules forbid
)

// Event is one line of the audit log. It never holds a secret.
type Event struct {
	At          time.Time `json:"at"`
	Action      Action    `json:"action"`
	Job         string    `json:"job,omitempty"`
	Record      string    `json:"record,omitempty"`
	Owner       string    `json:"owner,omitempty"`
	Recipient   string    `json:"recipient,omitempty"`   // SHA-256 of the device certificate
	Certificate string    `json:"certificate,omitempty"` // SHA-256
	Member      string    `json:"member,omitempty"`
	KeySet      uint64    `json:"keySet,omitempty"`
	Detail      string    `json:"detail,omitempty"`
}

// Audit appends events and returns when they are on the disk. Who gets an error must not go on.
func (k *Keyring) Audit(events ...Event) error {
	var lines []byte
	for _, e := range events {
		e.At = k.clock().UTC()
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("writing the audit log: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	k.auditing.Lock()
	defer k.auditing.Unlock()
	if err := appendLines(k.Path(fileAudit), lines); err != nil {
		return fmt.Errorf("writing the audit log: %w", err)
	}
	return nil
}

// appendLines ends a line that a crash cut short before it adds more.
func appendLines(path string, lines []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	last := make([]byte, 1)
	if size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			lines = append([]byte{'\n'}, lines...)
		}
	}
	if _, err := f.Write(lines); err != nil {
		return err
	}
	if err := f.Sync(); err != nil || size > 0 {
		return err
	}
	return syncDir(filepath.Dir(path)) // the name of a new file is not durable by its own fsync
}
