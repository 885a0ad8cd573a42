package keyring

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/escrow"
)

const (
	sharePurpose = "ca keys"
	// sharePrefix separates this use of the root's signature from key sets.
	sharePrefix = "waxseal ca keys v1\n"
)

// sharedCAs are the CA keys on their way to a further connector. HPKE does not say who sealed, so the root signs: else a
// server could plant a CA whose key it knows.
type sharedCAs struct {
	Payload   json.RawMessage `json:"payload"`
	Root      []byte          `json:"root"`
	Signature []byte          `json:"signature"`
}

type sharePayload struct {
	Member      string                     `json:"member"`
	Authorities map[AuthorityName]sharedCA `json:"authorities"`
}

type sharedCA struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"` // PKCS#8
}

// ShareAuthorities seals the CA keys to a member of the key set. Only a keyring with the root can.
func (k *Keyring) ShareAuthorities(to escrow.Member) ([]byte, error) {
	root, err := k.root()
	if err != nil {
		return nil, err
	}
	p := sharePayload{Member: to.ID, Authorities: map[AuthorityName]sharedCA{}}
	for _, name := range []AuthorityName{DeviceCA, SoftCA} {
		if p.Authorities[name], err = k.exportAuthority(name); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, errors.New("sharing the CAs: encoding failed")
	}
	signature := ed25519.Sign(root, append([]byte(sharePrefix), raw...))
	message, err := json.Marshal(sharedCAs{Payload: raw, Root: root.Public().(ed25519.PublicKey), Signature: signature})
	if err != nil {
		return nil, errors.New("sharing the CAs: encoding failed")
	}
	return escrow.SealBlob(sharePurpose, message, to)
}

func (k *Keyring) exportAuthority(name AuthorityName) (sharedCA, error) {
	a, err := k.Authority(name)
	if err != nil {
		return sharedCA{}, err
	}
	data, err := k.readPrivate(string(name) + ".key")
	if err != nil {
		return sharedCA{}, err
	}
	block, _ := pem.Decode(data) // Authority has decoded it already
	return sharedCA{Certificate: a.Certificate.Raw, Key: block.Bytes}, nil
}

// ReceiveAuthorities opens CA keys that an approve sealed to this connector, checks the root's signature and keeps them.
func (k *Keyring) ReceiveAuthorities(sealed []byte) error {
	plain, err := escrow.OpenBlob(sharePurpose, sealed, k.escrow)
	if err != nil {
		return err
	}
	var message sharedCAs
	if json.Unmarshal(plain, &message) != nil {
		return errors.New("receiving the CAs: the message is damaged")
	}
	pinned := k.Settings().EscrowRoot
	if got := escrow.Fingerprint(message.Root); got != pinned {
		return fmt.Errorf("receiving the CAs: %w", &escrow.WrongRootError{Pinned: pinned, Got: got})
	}
	if !ed25519.Verify(message.Root, append([]byte(sharePrefix), message.Payload...), message.Signature) {
		return errors.New("receiving the CAs: not signed by the escrow root")
	}
	var p sharePayload
	if json.Unmarshal(message.Payload, &p) != nil || p.Member != k.escrow.ID() {
		return errors.New("receiving the CAs: they are meant for another connector")
	}
	for _, name := range []AuthorityName{DeviceCA, SoftCA} {
		if err := k.storeAuthority(name, p.Authorities[name].Certificate, p.Authorities[name].Key); err != nil {
			return fmt.Errorf("receiving the CAs: %w", err)
		}
	}
	return nil
}
