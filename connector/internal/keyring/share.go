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
	family, err := k.SMIME()
	if err != nil {
		return nil, err
	}
	names := []AuthorityName{DeviceCA}
	for _, a := range family.All() {
		names = append(names, a.Name)
	}
	for _, name := range names {
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

// ShareWithOthers seals the CA keys to every other connector of the key set, by the ids of their keys.
func (k *Keyring) ShareWithOthers() (map[string][]byte, error) {
	set, err := k.KeySet()
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, m := range set.Connectors() {
		if m.ID == k.Member().ID {
			continue
		}
		if out[m.ID], err = k.ShareAuthorities(m); err != nil {
			return nil, err
		}
	}
	return out, nil
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

// ReceiveAuthorities opens CA keys that approve or ca roll sealed to this connector, checks the root's signature and keeps
// those that are new. Repeated, it changes nothing.
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
	return k.storeShared(p.Authorities)
}

// storeShared keeps the CAs that are new here; the first issuing CA comes last but for its successors, since with it the
// keyring counts as having CAs.
func (k *Keyring) storeShared(all map[AuthorityName]sharedCA) error {
	order := []AuthorityName{DeviceCA, SoftCARoot}
	for n := range maxIssuing {
		order = append(order, issuingName(n+1))
	}
	for _, name := range []AuthorityName{DeviceCA, SoftCA} {
		if len(all[name].Certificate) == 0 {
			return fmt.Errorf("receiving the CAs: the message has no %s", name)
		}
	}
	for name := range all {
		if name != DeviceCA && !softCAName.MatchString(string(name)) {
			return fmt.Errorf("receiving the CAs: %q is no CA that this connector knows: it may be older than the other one", name)
		}
	}
	for _, name := range order {
		shared, ok := all[name]
		if !ok {
			continue
		}
		if err := k.storeAuthority(name, shared.Certificate, shared.Key); err != nil {
			return fmt.Errorf("receiving the CAs: %w", err)
		}
	}
	return nil
}
