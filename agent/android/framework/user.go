package framework

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/waxseal/waxseal/internal/pfx"
)

// What a user can do by hand.

// DeleteKey is the user who deletes a key of the work profile in Settings.
func (p *Phone) DeleteKey(alias string) error {
	if !p.Work.delete(alias) {
		return fmt.Errorf("the work profile has no key with the alias %s", alias)
	}
	return nil
}

// Pick is the user who picks a key for an app in the picker (KeyChain.choosePrivateKeyAlias). Only selectable keys are
// shown there.
func (p *Phone) Pick(pkg, alias string) error {
	app, there := p.World.Apps[pkg]
	switch k, held := p.Work.Keys[alias]; {
	case !there:
		return notThere(pkg)
	case !held || !k.Selectable:
		return fmt.Errorf("the picker does not show a key with the alias %s", alias)
	}
	p.Work.grant(alias, app.UID, true)
	return nil
}

// DeleteWorkProfile is the user who deletes the work profile: everything in it is gone, and nobody is told.
func (p *Phone) DeleteWorkProfile() {
	p.Work, p.Restrictions = Store{}, nil
}

// ErrImport is all that Android says of a PKCS#12 file that it cannot open, whatever the reason (android.md section 4).
var ErrImport = errors.New("wrong password, or the file is damaged")

// UnsupportedProtection says which protection of a PKCS#12 file the version does not know, where Android itself speaks of
// the password.
type UnsupportedProtection struct{ Algorithm string }

func (e *UnsupportedProtection) Error() string {
	return fmt.Sprintf("%v (this version of Android does not know %s)", ErrImport, e.Algorithm)
}

// Unwrap makes it an ErrImport.
func (e *UnsupportedProtection) Unwrap() error { return ErrImport }

// apiModernPKCS12 is Android 14, the first that reads files with PBES2 and a SHA-256 MAC (android.md section 4).
const apiModernPKCS12 = 34

// ImportPKCS12 is the user who opens a file: its key goes into the store under the alias, and users can pick it. Of several
// keys the first counts.
func (p *Phone) ImportPKCS12(store *Store, file []byte, password, alias string) error {
	if alias == "" {
		return errors.New("importing a PKCS#12 file: the alias is missing")
	}
	if unknown := p.unknownProtection(file); unknown != "" {
		return &UnsupportedProtection{unknown}
	}
	all, err := pfx.Decode(file, password)
	if err != nil {
		return fmt.Errorf("importing a PKCS#12 file: %w", ErrImport)
	}
	id := all[0]
	if !KnownKey(id.PrivateKey) {
		return errors.New("importing a PKCS#12 file: the key chain takes RSA and ECDSA keys only")
	}
	chain := append([]*x509.Certificate{id.Certificate}, id.Chain...)
	return store.put(alias, KeyPair{Key: id.PrivateKey, Chain: chain}, true)
}

// protection is an algorithm of PKCS#12 files and the API level that knows it first.
type protection struct {
	name  string
	since int
	id    asn1.ObjectIdentifier
}

func protections() []protection {
	return []protection{
		{"PBMAC1", 1 << 20, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}}, // no version is known to read it
		{"PBES2", apiModernPKCS12, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}},
		{"a MAC with SHA-256", apiModernPKCS12, asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}},
	}
}

// unknownProtection names what the version does not know. The identifiers stand in clear in each file that uses them for
// its safes and its MAC.
func (p *Phone) unknownProtection(file []byte) string {
	for _, known := range protections() {
		if der, err := asn1.Marshal(known.id); err == nil && p.SDK < known.since && bytes.Contains(file, der) {
			return known.name
		}
	}
	return ""
}
