package framework

import (
	"crypto"
	"crypto/x509"
	"maps"
	"slices"
)

// Flags of installKeyPair.
const (
	FlagRequestAccess  = 1 // INSTALLKEY_REQUEST_CREDENTIALS_ACCESS: the caller may use the key at once
	FlagUserSelectable = 2 // INSTALLKEY_SET_USER_SELECTABLE: the key is shown in the picker
)

// InstallKeyPair is installKeyPair(null, key, chain, alias, flags) of DevicePolicyManager. The answer is false, without a
// reason, if the key store does not take the key: because of its kind, of a certificate that is another key's, of a
// missing screen lock, or because there is no room.
func (p *Phone) InstallKeyPair(caller, alias string, pair KeyPair, flags int) (bool, error) {
	if err := first(p.needAPI(APIFlags, "installKeyPair with flags"), p.needScope(caller, ScopeCertInstall)); err != nil {
		return false, err
	}
	return p.install(caller, alias, pair, flags&FlagUserSelectable != 0, flags&FlagRequestAccess != 0)
}

// InstallKeyPairBefore28 is the call without flags; whatever it installs, users can pick.
func (p *Phone) InstallKeyPairBefore28(caller, alias string, pair KeyPair, requestAccess bool) (bool, error) {
	if err := p.needScope(caller, ScopeCertInstall); err != nil {
		return false, err
	}
	return p.install(caller, alias, pair, true, requestAccess)
}

func (p *Phone) install(caller, alias string, pair KeyPair, selectable, access bool) (bool, error) {
	if err := p.needUnlocked(); err != nil {
		return false, err
	}
	if alias == "" || len(pair.Chain) == 0 || pair.Key == nil {
		return false, throw(IllegalArgument, "alias, key and certificate must not be empty")
	}
	if p.refuses() || p.StorageFull || p.DiskEncrypted && !p.DeviceSecure() || !KnownKey(pair.Key) || !Fits(pair.Key, pair.Chain[0]) {
		return false, nil
	}
	var uids []int
	if access {
		uids = append(uids, p.World.Apps[caller].UID)
	}
	if err := p.Work.put(alias, pair, selectable, uids...); err != nil {
		return false, nil
	}
	return true, nil
}

// refuses takes one of the refusals that the phone has in store.
func (p *Phone) refuses() bool {
	if p.Refusals == 0 {
		return false
	}
	p.Refusals--
	return true
}

// RemoveKeyPair is removeKeyPair; false says that there was none.
func (p *Phone) RemoveKeyPair(caller, alias string) (bool, error) {
	if err := first(p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return false, err
	}
	return p.Work.delete(alias), nil
}

// HasKeyPair is hasKeyPair.
func (p *Phone) HasKeyPair(caller, alias string) (bool, error) {
	if err := first(p.needAPI(APIHasKey, "hasKeyPair"), p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return false, err
	}
	_, there := p.Work.Keys[alias]
	return there, nil
}

// GrantKeyPairToApp is grantKeyPairToApp; false says that the alias has no key.
func (p *Phone) GrantKeyPairToApp(caller, alias, pkg string) (bool, error) {
	return p.grantTo(caller, alias, pkg, true)
}

// RevokeKeyPairFromApp is revokeKeyPairFromApp.
func (p *Phone) RevokeKeyPairFromApp(caller, alias, pkg string) (bool, error) {
	return p.grantTo(caller, alias, pkg, false)
}

func (p *Phone) grantTo(caller, alias, pkg string, granted bool) (bool, error) {
	if err := first(p.needAPI(APIGrants, "grantKeyPairToApp"), p.needScope(caller, ScopeCertSelection), p.needUnlocked()); err != nil {
		return false, err
	}
	app, there := p.World.Apps[pkg]
	if !there || alias == "" {
		return false, throw(IllegalArgument, "%s is no installed package, or the alias is empty", pkg)
	}
	return p.Work.grant(alias, app.UID, granted), nil
}

// KeyPairGrants is getKeyPairGrants, by package: whoever may use the key.
func (p *Phone) KeyPairGrants(caller, alias string) ([]string, error) {
	if err := first(p.needAPI(APIHasKey, "getKeyPairGrants"), p.needScope(caller, ScopeCertSelection), p.needUnlocked()); err != nil {
		return nil, err
	}
	if _, there := p.Work.Keys[alias]; !there {
		return nil, throw(IllegalArgument, "the alias %s has no key", alias)
	}
	return p.Grants(alias), nil
}

// Grants are the installed apps that may use a key of the work profile, for looking from outside.
func (p *Phone) Grants(alias string) []string {
	var out []string
	for _, uid := range p.Work.Keys[alias].UIDs {
		if pkg := p.World.packageOf(uid); pkg != "" {
			out = append(out, pkg)
		}
	}
	slices.Sort(out)
	return out
}

// InstallCACert is installCaCert; false says that it was not taken, and nothing of why.
func (p *Phone) InstallCACert(caller string, der []byte) (bool, error) {
	if err := first(p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return false, err
	}
	if _, err := x509.ParseCertificate(der); err != nil || p.StorageFull || p.refuses() {
		return false, nil
	}
	if p.Work.CAs == nil {
		p.Work.CAs = map[string][]byte{}
	}
	p.Work.CAs[Fingerprint(der)] = der
	p.Work.CAChanges++
	return true, nil
}

// UninstallCACert is uninstallCaCert; a certificate that is not there is no error.
func (p *Phone) UninstallCACert(caller string, der []byte) error {
	if err := first(p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return err
	}
	delete(p.Work.CAs, Fingerprint(der))
	p.Work.CAChanges++
	return nil
}

// InstalledCACerts is getInstalledCaCerts, in DER.
func (p *Phone) InstalledCACerts(caller string) ([][]byte, error) {
	if err := first(p.needScope(caller, ScopeCertInstall), p.needUnlocked()); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, sum := range slices.Sorted(maps.Keys(p.Work.CAs)) {
		out = append(out, p.Work.CAs[sum])
	}
	return out, nil
}

// SetApplicationRestrictions is setApplicationRestrictions: the managed configuration of an app, which may be set before
// the app is installed. No values take it away. Whoever may install certificates may do this too: the simulation does not
// tell the scope delegation-app-restrictions from the others.
func (p *Phone) SetApplicationRestrictions(caller, pkg string, values map[string]any) error {
	if err := p.needScope(caller, ScopeCertInstall); err != nil {
		return err
	}
	if p.Restrictions == nil {
		p.Restrictions = map[string]map[string]any{}
	}
	if len(values) == 0 {
		delete(p.Restrictions, pkg)
		return nil
	}
	p.Restrictions[pkg] = maps.Clone(values)
	return nil
}

// PrivateKey is KeyChain.getPrivateKey: a handle on the key for an app that it was granted to, or nil.
func (p *Phone) PrivateKey(pkg, alias string) crypto.Signer {
	if !p.mayUse(pkg, alias) {
		return nil
	}
	return signer(p.Work.Keys[alias].PKCS8)
}

func signer(der []byte) crypto.Signer {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil
	}
	s, _ := key.(crypto.Signer)
	return s
}

// CertificateChain is KeyChain.getCertificateChain: leaf first, or nil for an app that the key was not granted to.
func (p *Phone) CertificateChain(pkg, alias string) [][]byte {
	if !p.mayUse(pkg, alias) {
		return nil
	}
	return p.Work.Keys[alias].Chain
}

func (p *Phone) mayUse(pkg, alias string) bool {
	app, there := p.World.Apps[pkg]
	return there && !p.Locked && slices.Contains(p.Work.Keys[alias].UIDs, app.UID)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
