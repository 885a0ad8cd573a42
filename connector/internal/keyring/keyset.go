package keyring

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/waxseal/waxseal/internal/escrow"
)

// ErrNoRoot says that this keyring does not have the escrow root: only the first connector's does.
var ErrNoRoot = errors.New("this keyring does not hold the escrow root; approve and ca roll run beside the first connector's keyring")

// HasRoot tells whether the keyring can sign key sets.
func (k *Keyring) HasRoot() bool { return k.has(fileRootKey) }

// MakeRoot makes the escrow root, unless there is one, and gives its public key.
func (k *Keyring) MakeRoot() (ed25519.PublicKey, error) {
	if !k.HasRoot() {
		_, key, err := ed25519.GenerateKey(k.rand)
		if err != nil {
			return nil, fmt.Errorf("making the escrow root: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("making the escrow root: %w", err)
		}
		if err := k.writePrivate(fileRootKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return nil, err
		}
	}
	root, err := k.root()
	if err != nil {
		return nil, err
	}
	return root.Public().(ed25519.PublicKey), nil
}

// DropRoot forgets a root that was made before the server said that there is one already.
func (k *Keyring) DropRoot() error {
	if err := os.Remove(k.Path(fileRootKey)); err != nil && !isMissing(err) {
		return fmt.Errorf("dropping the unused escrow root: %w", err)
	}
	return nil
}

func (k *Keyring) root() (ed25519.PrivateKey, error) {
	data, err := k.readPrivate(fileRootKey)
	if isMissing(err) {
		return nil, ErrNoRoot
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", k.Path(fileRootKey))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	root, ok := key.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s holds no Ed25519 key", k.Path(fileRootKey))
	}
	return root, nil
}

// SignKeySet signs a key set with the root and keeps it as the newest.
func (k *Keyring) SignKeySet(set escrow.KeySet) (escrow.SignedKeySet, error) {
	root, err := k.root()
	if err != nil {
		return escrow.SignedKeySet{}, err
	}
	signed, err := escrow.SignKeySet(set, root)
	if err != nil {
		return escrow.SignedKeySet{}, err
	}
	_, err = k.AcceptKeySet(signed)
	return signed, err
}

// LockApprove keeps two approvals apart: each builds on the newest key set.
func (k *Keyring) LockApprove() (unlock func(), err error) { return k.lock("approve.lock", true) }

// StoredKeySet is the newest key set seen, as it was signed; found is false before the first.
func (k *Keyring) StoredKeySet() (signed escrow.SignedKeySet, found bool, err error) {
	data, err := k.read(fileKeySet)
	if isMissing(err) {
		return signed, false, nil
	}
	if err != nil {
		return signed, false, err
	}
	signed, err = escrow.ParseSignedKeySet(data)
	return signed, err == nil, err
}

// KeySet is the newest key set seen, verified.
func (k *Keyring) KeySet() (escrow.KeySet, error) {
	signed, found, err := k.StoredKeySet()
	if err != nil {
		return escrow.KeySet{}, err
	}
	if !found {
		return escrow.KeySet{}, errors.New("the connector has no key set yet")
	}
	return signed.Verify(k.Settings().EscrowRoot, 0)
}

// AcceptKeySet verifies a key set under the pinned root, refuses one that is older than the newest seen, and keeps it.
func (k *Keyring) AcceptKeySet(signed escrow.SignedKeySet) (escrow.KeySet, error) {
	unlock, err := k.lock("keyset.lock", true)
	if err != nil {
		return escrow.KeySet{}, err
	}
	defer unlock()
	var lowest uint64
	var known escrow.SignedKeySet
	if k.has(fileKeySet) {
		newest, err := k.KeySet()
		if err == nil {
			known, _, err = k.StoredKeySet()
		}
		if err != nil {
			return escrow.KeySet{}, fmt.Errorf("reading the newest key set seen: %w", err)
		}
		lowest = newest.Serial
	}
	set, err := signed.Verify(k.Settings().EscrowRoot, lowest)
	switch {
	case err != nil:
		return escrow.KeySet{}, err
	case set.Serial == lowest && !bytes.Equal(signed.KeySet, known.KeySet):
		return escrow.KeySet{}, fmt.Errorf("there are two key sets with the serial %d under one escrow root: approve again", lowest)
	case set.Serial == lowest:
		return set, nil
	}
	data, err := json.Marshal(signed)
	if err != nil {
		return escrow.KeySet{}, err
	}
	return set, k.write(fileKeySet, data)
}

// MakeRecovery makes a recovery key whose private half goes to the file at path and nowhere else. A file that a broken
// init left there is used again.
func (k *Keyring) MakeRecovery(path string) (escrow.Member, error) {
	if data, err := os.ReadFile(path); err == nil {
		key, err := escrow.ParsePrivateKey(data)
		if err != nil {
			return escrow.Member{}, fmt.Errorf("%s exists and is no recovery key: name another file", path)
		}
		return key.Member(escrow.MemberRecovery, "recovery"), nil
	}
	key, err := escrow.GenerateKey(k.rand, escrow.SuiteHybrid)
	if err != nil {
		return escrow.Member{}, err
	}
	data, err := key.Marshal()
	if err != nil {
		return escrow.Member{}, err
	}
	if err := WriteFile(path, data); err != nil {
		return escrow.Member{}, fmt.Errorf("writing the recovery key: %w", err)
	}
	return key.Member(escrow.MemberRecovery, "recovery"), nil
}
