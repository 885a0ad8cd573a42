// Package keychain is the software keychain of a simulated device: certificates and private keys in a folder, with a
// note of which configuration profile brought each of them.
//
// Like the real one it holds a certificate once, by issuer and serial number. A key, and the trust in a CA, belong to
// the profiles that brought them, and go with the last of them, even if the certificate stays for another one. Whether
// iOS drops an item that two profiles share when one of them is removed is not known, so that both behaviours can be
// chosen.
//
//	index.json             what is there, and for whom
//	SHA256.pem             the certificate
//	SHA256.key             its private key, PKCS#8 PEM, mode 0600
//
// A Keychain is a value in memory; nothing is on disk before Save. An installation works on a Clone, which is dropped
// if the installation fails.
package keychain

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"slices"
	"sort"
	"strings"
)

// ErrOtherKey says that a certificate is there already, with a different private key.
var ErrOtherKey = errors.New("the keychain holds this certificate with another private key")

// Holder is a payload of an installed profile that brought an item: its certificate at least. Add sets the flags.
type Holder struct {
	Profile string `json:"profile"`           // top-level PayloadIdentifier
	Payload string `json:"payload"`           // PayloadUUID
	Key     bool   `json:"key,omitempty"`     // it brought the private key, too
	Trusted bool   `json:"trusted,omitempty"` // it told the device to trust the certificate
}

// is reports whether two holders are the same payload, whatever it brought.
func (h Holder) is(other Holder) bool {
	return h.Profile == other.Profile && h.Payload == other.Payload
}

func (h Holder) bringsKey() bool   { return h.Key }
func (h Holder) bringsTrust() bool { return h.Trusted }

// Item is a certificate, with its private key if the device has it. In a keychain, key and trust are those of its holders.
type Item struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Trusted     bool // a root or intermediate that a profile told the device to trust
	Holders     []Holder
}

// settle takes from an item the key or the trust that none of its holders brought.
func (i *Item) settle() {
	if !slices.ContainsFunc(i.Holders, Holder.bringsKey) {
		i.Key = nil
	}
	i.Trusted = slices.ContainsFunc(i.Holders, Holder.bringsTrust)
}

// ID is the SHA-256 of the certificate, in lower-case hex.
func (i Item) ID() string { return Fingerprint(i.Certificate) }

// Fingerprint is the SHA-256 of a certificate, in lower-case hex.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// HeldBy reports whether a payload of the profile brought the item.
func (i Item) HeldBy(profile string) bool {
	return slices.ContainsFunc(i.Holders, func(h Holder) bool { return h.Profile == profile })
}

// Keychain is the set of items. It is not safe for concurrent use.
type Keychain struct {
	dir   string
	items []Item
	// DropShared makes the removal of a profile take items with it that another profile holds too.
	DropShared bool
}

// Clone copies the keychain, so that a failed installation leaves no trace.
func (k *Keychain) Clone() *Keychain {
	out := &Keychain{dir: k.dir, DropShared: k.DropShared, items: make([]Item, len(k.items))}
	for n, item := range k.items {
		item.Holders = slices.Clone(item.Holders)
		out.items[n] = item
	}
	return out
}

// Add puts a certificate, and the key if there is one, into the keychain for a payload. What is there already gets
// what the payload brings, and the holder.
func (k *Keychain) Add(item Item, holder Holder) error {
	holder.Key, holder.Trusted = item.Key != nil, item.Trusted
	return k.put(item, holder)
}

// Merge adds the items of another keychain for the holders that they have there, and to each what it brought. An item
// that is here with another key is left out, and is an error.
func (k *Keychain) Merge(other *Keychain) error {
	var refused []error
	for _, item := range other.items {
		for _, holder := range item.Holders {
			refused = append(refused, k.put(item, holder))
		}
	}
	return errors.Join(refused...)
}

// put adds as much of an item as the flags of the holder say.
func (k *Keychain) put(item Item, holder Holder) error {
	at := k.index(item.Certificate)
	if at < 0 {
		at = len(k.items)
		k.items = append(k.items, Item{Certificate: item.Certificate})
	}
	there := &k.items[at]
	if holder.Key && there.Key != nil && !samePublic(item.Key, there.Key) {
		return ErrOtherKey
	}
	if holder.Key {
		there.Key = item.Key
	}
	there.Trusted = there.Trusted || holder.Trusted
	same := slices.IndexFunc(there.Holders, holder.is)
	if same < 0 {
		there.Holders = append(there.Holders, holder)
		return nil
	}
	known := &there.Holders[same]
	known.Key, known.Trusted = known.Key || holder.Key, known.Trusted || holder.Trusted
	return nil
}

// index finds a certificate by issuer and serial number, which is what makes an item unique.
func (k *Keychain) index(cert *x509.Certificate) int {
	return slices.IndexFunc(k.items, func(i Item) bool {
		return i.Certificate.SerialNumber.Cmp(cert.SerialNumber) == 0 && bytes.Equal(i.Certificate.RawIssuer, cert.RawIssuer)
	})
}

func samePublic(a, b crypto.Signer) bool {
	type equaler interface{ Equal(crypto.PublicKey) bool }
	pub, ok := a.Public().(equaler)
	return ok && pub.Equal(b.Public())
}

// Release takes the items of a profile away for which keep says no, by payload. Keep nil takes all. Of an item that
// others hold too, what only the profile brought goes: its key, or the trust in it.
func (k *Keychain) Release(profile string, keep func(payload string) bool) {
	gone := func(h Holder) bool { return h.Profile == profile && (keep == nil || !keep(h.Payload)) }
	k.items = slices.DeleteFunc(k.items, func(i Item) bool {
		return slices.ContainsFunc(i.Holders, gone) && (k.DropShared || !slices.ContainsFunc(i.Holders, func(h Holder) bool { return !gone(h) }))
	})
	for n := range k.items {
		k.items[n].Holders = slices.DeleteFunc(k.items[n].Holders, gone)
		k.items[n].settle()
	}
}

// Retain drops every holder that is not one of the given ones, what only those brought, and items without any: what an
// interrupted installation may have left.
func (k *Keychain) Retain(known func(Holder) bool) {
	for n := range k.items {
		k.items[n].Holders = slices.DeleteFunc(k.items[n].Holders, func(h Holder) bool { return !known(h) })
		k.items[n].settle()
	}
	k.items = slices.DeleteFunc(k.items, func(i Item) bool { return len(i.Holders) == 0 })
}

// Delete takes an item away, whatever profiles hold it, as a person can in Keychain Access.
func (k *Keychain) Delete(id string) {
	k.items = slices.DeleteFunc(k.items, func(i Item) bool { return i.ID() == id })
}

// Clear empties the keychain.
func (k *Keychain) Clear() { k.items = nil }

// Items are all items, newest certificate first.
func (k *Keychain) Items() []Item {
	out := slices.Clone(k.items)
	sort.SliceStable(out, func(a, b int) bool { return newer(out[a].Certificate, out[b].Certificate) })
	return out
}

// newer orders certificates: later notBefore, then notAfter, then fingerprint.
func newer(a, b *x509.Certificate) bool {
	switch {
	case !a.NotBefore.Equal(b.NotBefore):
		return a.NotBefore.After(b.NotBefore)
	case !a.NotAfter.Equal(b.NotAfter):
		return a.NotAfter.After(b.NotAfter)
	}
	return Fingerprint(a) > Fingerprint(b)
}

// Identities are the items with a private key, newest first.
func (k *Keychain) Identities() []Item {
	return slices.DeleteFunc(k.Items(), func(i Item) bool { return i.Key == nil })
}

// Payload finds the item that a payload of a profile brought, the identity before its chain.
func (k *Keychain) Payload(profile, payload string) (Item, bool) {
	holder := Holder{Profile: profile, Payload: payload}
	var chain Item
	found := false
	for _, item := range k.items {
		switch at := slices.IndexFunc(item.Holders, holder.is); {
		case at < 0:
		case item.Holders[at].Key:
			return item, true
		case !found:
			chain, found = item, true
		}
	}
	return chain, found
}

// ByFingerprint finds an item by the SHA-256 of its certificate.
func (k *Keychain) ByFingerprint(id string) (Item, bool) {
	for _, item := range k.items {
		if strings.EqualFold(item.ID(), id) {
			return item, true
		}
	}
	return Item{}, false
}

// Trusted are the certificates that profiles told the device to trust.
func (k *Keychain) Trusted() []*x509.Certificate {
	var out []*x509.Certificate
	for _, item := range k.items {
		if item.Trusted {
			out = append(out, item.Certificate)
		}
	}
	return out
}

// Certificates are all certificates, for building chains.
func (k *Keychain) Certificates() []*x509.Certificate {
	out := make([]*x509.Certificate, 0, len(k.items))
	for _, item := range k.items {
		out = append(out, item.Certificate)
	}
	return out
}
