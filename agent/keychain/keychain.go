// Package keychain is the software keychain of a simulated device: certificates and private keys in a folder, with a
// note of which configuration profile brought each of them.
//
// Like the real one it holds a certificate once, by issuer and serial number. A key belongs to the profiles that
// installed it, and goes with the last of them. Whether iOS drops an item that two profiles share when one of them
// is removed is not known, so that both behaviours can be chosen.
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

// Holder is a payload of an installed profile that brought an item.
type Holder struct {
	Profile string `json:"profile"` // top-level PayloadIdentifier
	Payload string `json:"payload"` // PayloadUUID
}

// Item is a certificate, with its private key if the device has it.
type Item struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Trusted     bool // a root or intermediate that a profile told the device to trust
	Holders     []Holder
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

// Add puts a certificate, and the key if there is one, into the keychain for a payload. Adding what is there already
// adds the holder only.
func (k *Keychain) Add(item Item, holder Holder) error {
	at := k.index(item.Certificate)
	if at < 0 {
		item.Holders = []Holder{holder}
		k.items = append(k.items, item)
		return nil
	}
	there := &k.items[at]
	if item.Key != nil && there.Key != nil && !samePublic(item.Key, there.Key) {
		return ErrOtherKey
	}
	if item.Key != nil {
		there.Key = item.Key
	}
	there.Trusted = there.Trusted || item.Trusted
	if !slices.Contains(there.Holders, holder) {
		there.Holders = append(there.Holders, holder)
	}
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

// Release takes the items of a profile away for which keep says no, by payload. Keep nil takes all.
func (k *Keychain) Release(profile string, keep func(payload string) bool) {
	gone := func(h Holder) bool { return h.Profile == profile && (keep == nil || !keep(h.Payload)) }
	k.items = slices.DeleteFunc(k.items, func(i Item) bool {
		return slices.ContainsFunc(i.Holders, gone) && (k.DropShared || !slices.ContainsFunc(i.Holders, func(h Holder) bool { return !gone(h) }))
	})
	for n := range k.items {
		k.items[n].Holders = slices.DeleteFunc(k.items[n].Holders, gone)
	}
}

// Retain drops every holder that is not one of the given ones, and items without any: what an interrupted
// installation may have left.
func (k *Keychain) Retain(known func(Holder) bool) {
	for n := range k.items {
		k.items[n].Holders = slices.DeleteFunc(k.items[n].Holders, func(h Holder) bool { return !known(h) })
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
	var found []Item
	for _, item := range k.items {
		if slices.Contains(item.Holders, holder) {
			found = append(found, item)
		}
	}
	sort.SliceStable(found, func(a, b int) bool { return found[a].Key != nil && found[b].Key == nil })
	if len(found) == 0 {
		return Item{}, false
	}
	return found[0], true
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
