package keyring

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
)

// Options are what a keyring takes from outside.
type Options struct {
	Passphrase []byte
	Rand       io.Reader
	Clock      func() time.Time
	// CAKeyBits is the size of new CA keys; 0 means 3072.
	CAKeyBits int
}

// Settings are the part of a keyring that is not secret.
type Settings struct {
	Version int    `json:"version"`
	Server  string `json:"server"`
	Name    string `json:"name"`
	// EscrowRoot is the pinned fingerprint; empty until the connector knows whom it belongs to.
	EscrowRoot string `json:"escrowRoot,omitempty"`
	// PKIURL is what the server last said.
	PKIURL string `json:"pkiUrl,omitempty"`
	// Complete says that init went through to its end.
	Complete   bool        `json:"complete"`
	Passphrase *stretching `json:"passphrase,omitempty"`
}

// Credential is how the connector shows itself to the server.
type Credential struct {
	ConnectorID string `json:"connectorId"`
	Credential  string `json:"credential"`
	// Further says that another connector was first: this one has no escrow root and waits for approval.
	Further bool `json:"further"`
}

// String hides the credential.
func (c Credential) String() string { return "credential of connector " + c.ConnectorID }

// Keyring is an open keyring. It is safe for concurrent use; several processes may open one (run and approve).
type Keyring struct {
	dir         string
	rand        io.Reader
	clock       func() time.Time
	caBits      int
	lockbox     lockbox
	mu          sync.Mutex // guards settings and authorities
	settings    Settings
	authorities map[AuthorityName]*Authority
	auditing    sync.Mutex
	escrow      escrow.PrivateKey
}

const settingsVersion = 1

// Exists tells whether there is a keyring in dir.
func Exists(dir string) bool {
	k := &Keyring{dir: dir}
	return k.has(fileSettings)
}

// Create makes the folder, the settings and the escrow key. It is repeated safely after a crash.
func Create(dir string, settings Settings, serverCA []byte, o Options) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the keyring: %w", err)
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	k := newKeyring(dir, o)
	if err := k.checkUnused(); err != nil {
		return nil, err
	}
	if len(serverCA) > 0 {
		if err := k.write(fileServerCA, serverCA); err != nil {
			return nil, err
		}
	}
	box, stretched, err := newLockbox(k.rand, o.Passphrase)
	if err != nil {
		return nil, err
	}
	k.lockbox, k.settings = box, settings
	k.settings.Version, k.settings.Passphrase = settingsVersion, stretched
	if k.escrow, err = escrow.GenerateKey(k.rand, escrow.SuiteHybrid); err != nil {
		return nil, err
	}
	raw, err := k.escrow.Marshal()
	if err != nil {
		return nil, err
	}
	if err := k.writePrivate(fileEscrowKey, raw); err != nil {
		return nil, err
	}
	// The settings come last: they are what makes the folder a keyring.
	return k, k.saveSettings()
}

// checkUnused refuses a folder whose settings were lost: a new escrow key would take the place of the one that opens the
// records. A Create that a crash cut short has left none of these files.
func (k *Keyring) checkUnused() error {
	for _, name := range []string{fileCredential, fileRootKey, fileKeySet, fileRoot, string(DeviceCA) + ".key", string(SoftCARoot) + ".key", string(SoftCA) + ".key"} {
		if k.has(name) {
			return fmt.Errorf("%s holds %s, but no %s: put that file back from a backup, or name an empty folder", k.dir, name, fileSettings)
		}
	}
	return nil
}

func newKeyring(dir string, o Options) *Keyring {
	k := &Keyring{dir: dir, rand: o.Rand, clock: o.Clock, caBits: o.CAKeyBits, authorities: map[AuthorityName]*Authority{}}
	if k.caBits == 0 {
		k.caBits = 3072
	}
	return k
}

// Open opens the keyring in dir.
func Open(dir string, o Options) (*Keyring, error) {
	k := newKeyring(dir, o)
	if !k.has(fileSettings) {
		return nil, fmt.Errorf("%s is not a keyring: make one with waxseal-connector init --keyring %s", dir, dir)
	}
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	data, err := k.read(fileSettings)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &k.settings); err != nil || k.settings.Version != settingsVersion {
		return nil, fmt.Errorf("%s is not of version %d of the keyring", k.Path(fileSettings), settingsVersion)
	}
	if k.lockbox, err = openLockbox(k.settings.Passphrase, o.Passphrase); err != nil {
		return nil, err
	}
	raw, err := k.readPrivate(fileEscrowKey)
	if err != nil {
		return nil, err
	}
	if k.escrow, err = escrow.ParsePrivateKey(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", k.Path(fileEscrowKey), err)
	}
	return k, nil
}

// Settings are the settings as they are now.
func (k *Keyring) Settings() Settings {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.settings
}

// SetPKIURL keeps what the server said.
func (k *Keyring) SetPKIURL(url string) error {
	return k.change(func(s *Settings) bool {
		changed := s.PKIURL != url
		s.PKIURL = url
		return changed
	})
}

// SetComplete notes that init went through.
func (k *Keyring) SetComplete() error {
	return k.change(func(s *Settings) bool {
		changed := !s.Complete
		s.Complete = true
		return changed
	})
}

// Restate replaces server, name and escrow root, and the CA of the server (PEM; empty: the system's CAs). It is for a keyring
// that init did not complete.
func (k *Keyring) Restate(said Settings, serverCA []byte) error {
	err := k.write(fileServerCA, serverCA)
	if len(serverCA) == 0 {
		if err = os.Remove(k.Path(fileServerCA)); isMissing(err) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return k.change(func(s *Settings) bool {
		before := *s
		s.Server, s.Name, s.EscrowRoot = said.Server, said.Name, said.EscrowRoot
		return before != *s
	})
}

// PinRoot pins the escrow root and writes its fingerprint. Another root than the pinned one is an error.
func (k *Keyring) PinRoot(fingerprint string) error {
	if pinned := k.Settings().EscrowRoot; pinned != "" && pinned != fingerprint {
		return &escrow.WrongRootError{Pinned: pinned, Got: fingerprint}
	}
	if err := k.write(fileRoot, []byte(fingerprint+"\n")); err != nil {
		return err
	}
	return k.change(func(s *Settings) bool {
		changed := s.EscrowRoot != fingerprint
		s.EscrowRoot = fingerprint
		return changed
	})
}

func (k *Keyring) change(do func(*Settings) bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !do(&k.settings) {
		return nil
	}
	return k.saveSettings()
}

func (k *Keyring) saveSettings() error {
	data, err := json.MarshalIndent(k.settings, "", "  ")
	if err != nil {
		return err
	}
	return k.write(fileSettings, append(data, '\n'))
}

// ServerCA is the PEM of the CA that the server must have its certificate from; empty means the system's CAs.
func (k *Keyring) ServerCA() ([]byte, error) {
	data, err := k.read(fileServerCA)
	if isMissing(err) {
		return nil, nil
	}
	return data, err
}

// Credential gives the credential; found is false before the connector registered.
func (k *Keyring) Credential() (c Credential, found bool, err error) {
	data, err := k.readPrivate(fileCredential)
	if isMissing(err) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	if json.Unmarshal(data, &c) != nil || c.ConnectorID == "" {
		return Credential{}, false, fmt.Errorf("%s is damaged", k.Path(fileCredential))
	}
	return c, true, nil
}

// SetCredential keeps what the server gave at registration.
func (k *Keyring) SetCredential(c Credential) error {
	if c.ConnectorID == "" || c.Credential == "" || strings.ContainsAny(c.ConnectorID+c.Credential, " \r\n") {
		return errors.New("the server registered the connector, but gave no usable credential")
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return k.writePrivate(fileCredential, data)
}

// Member is the connector's public escrow key.
func (k *Keyring) Member() escrow.Member {
	return k.escrow.Member(escrow.MemberConnector, k.Settings().Name)
}

// OpenRecord opens a record that is sealed to this connector.
func (k *Keyring) OpenRecord(r escrow.Record) (escrow.Secret, error) { return escrow.Open(r, k.escrow) }

// Rewrap seals a record's data key to the members.
func (k *Keyring) Rewrap(r escrow.Record, to []escrow.Member) (escrow.Record, error) {
	return escrow.Rewrap(k.rand, r, k.escrow, to)
}

// SealNote seals a private note of the connector to itself, for its journal; OpenNote opens it again.
func (k *Keyring) SealNote(purpose string, data []byte) ([]byte, error) {
	return escrow.SealBlob("note: "+purpose, data, k.Member())
}

// OpenNote opens what SealNote sealed.
func (k *Keyring) OpenNote(purpose string, sealed []byte) ([]byte, error) {
	return escrow.OpenBlob("note: "+purpose, sealed, k.escrow)
}

// Rand is the keyring's source of randomness, and Now its clock: who works with its keys uses the same.
func (k *Keyring) Rand() io.Reader { return k.rand }

// Now is the keyring's time.
func (k *Keyring) Now() time.Time { return k.clock() }
