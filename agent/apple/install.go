package apple

import (
	"context"
	"slices"

	"github.com/waxseal/waxseal/agent/keychain"
)

// Payload types that have a meaning here. Every other type is accepted and stored, as devices do with settings.
const (
	kindRoot   = "com.apple.security.root"
	kindPKCS1  = "com.apple.security.pkcs1"
	kindPEM    = "com.apple.security.pem"
	kindPKCS12 = "com.apple.security.pkcs12"
	kindSCEP   = "com.apple.security.scep"
	kindACME   = "com.apple.security.acme"
	kindMDM    = "com.apple.mdm"
	kindMail   = "com.apple.mail.managed"
	kindEAS    = "com.apple.eas.account"
	kindEWS    = "com.apple.ews.account"

	kindIdentityPreference    = "com.apple.security.identitypreference"
	kindCertificatePreference = "com.apple.security.certificatepreference"
)

// installation is one profile on its way in. It works on copies; the device changes when it is committed.
type installation struct {
	device  *Device
	profile *profile
	managed bool
	next    state
	keys    *keychain.Keychain
	old     *installed // what it replaces
}

// install installs or replaces a profile. It is all or nothing.
func (d *Device) install(ctx context.Context, data []byte, managed bool) error {
	p, err := parseProfile(data, d.root().keys) // what is encrypted to the device opens with the device's identity
	if err != nil {
		return installFailure("", err)
	}
	in := &installation{
		device: d, profile: p, managed: managed, next: d.state.clone(), keys: d.keys.Clone(),
		old: d.state.profile(p.id()),
	}
	in.keys.DropShared = d.chaotic(ChaosDropShared)
	if err := in.run(ctx); err != nil {
		return installFailure(p.name(), err)
	}
	return d.commit(in.next, in.keys)
}

// run takes the payloads in: certificates and identities first, since the others refer to them, in payload order.
func (in *installation) run(ctx context.Context) error {
	if err := in.onChannel(); err != nil {
		return err
	}
	if err := in.replaceable(); err != nil {
		return err
	}
	in.releaseOld()
	in.next.Accounts = slices.DeleteFunc(in.next.Accounts, func(a Account) bool { return a.Profile == in.profile.id() })
	if err := in.record(); err != nil {
		return err
	}
	for _, certificates := range []bool{true, false} {
		for _, p := range in.profile.payloads {
			if isCertificate(p.kind()) != certificates {
				continue
			}
			if err := in.payload(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func isCertificate(kind string) bool { return isIdentity(kind) || isPlainCertificate(kind) }

func isPlainCertificate(kind string) bool {
	return kind == kindRoot || kind == kindPKCS1 || kind == kindPEM
}

func isIdentity(kind string) bool {
	return kind == kindPKCS12 || kind == kindSCEP || kind == kindACME
}

// replaceable checks the rules for replacing an installed profile.
func (in *installation) replaceable() error {
	mdm := in.profile.first(kindMDM)
	current := in.device.state.MDM
	switch {
	case in.old == nil && mdm != nil && current != nil:
		return fail(domainMDM, 12009, "the device is managed already, by profile %s", current.Profile)
	case current != nil && current.Profile == in.profile.id() && mdm == nil:
		return fail(domainInstall, 4015, "the replacement of the MDM profile lacks the MDM payload")
	case in.old != nil && in.managed && !in.old.Managed && (current == nil || current.Profile != in.old.Identifier):
		return fail(domainMDM, 12013, "profile %s was installed by hand; the server does not manage it", in.old.Identifier)
	}
	return nil
}

// releaseOld takes away what payloads of the replaced profile brought, save those that stay as they are.
func (in *installation) releaseOld() {
	if in.old == nil {
		return
	}
	stays := map[string]bool{}
	for _, old := range payloadsOf(in.old.top) {
		stays[old.uuid()] = in.unchanged(old)
	}
	in.keys.Release(in.profile.id(), func(payload string) bool { return stays[payload] })
}

// unchanged reports whether an installed payload is in the new profile too, by identifier and UUID, with the same
// content. A SCEP payload always runs again.
func (in *installation) unchanged(old payload) bool {
	p := in.profile.find(old.uuid())
	return p != nil && p.id() == old.id() && p.kind() != kindSCEP && same(p.dict, old.dict)
}

// record puts the profile into the list of installed ones.
func (in *installation) record() error {
	file, err := in.device.fileName()
	if err != nil {
		return err
	}
	entry := installed{
		Identifier: in.profile.id(), UUID: in.profile.uuid(), File: file, top: in.profile.top,
		Managed: in.managed, Encrypted: in.profile.encrypted, Signers: in.profile.signers,
	}
	if in.old != nil {
		entry.Managed = in.old.Managed
	}
	at := slices.IndexFunc(in.next.Installed, func(i installed) bool { return i.Identifier == entry.Identifier })
	if at < 0 {
		in.next.Installed = append(in.next.Installed, entry)
		return nil
	}
	in.next.Installed[at] = entry
	return nil
}

// payload installs one payload.
func (in *installation) payload(ctx context.Context, p payload) error {
	switch p.kind() {
	case kindRoot, kindPKCS1, kindPEM:
		return in.certificate(p)
	case kindPKCS12:
		return in.pkcs12(p)
	case kindSCEP:
		return in.scep(ctx, p)
	case kindACME:
		return fail(domainInstall, 4023, "payload %s: this simulated device has no ACME client", p.id())
	case kindMail:
		return in.mail(p)
	case kindEAS, kindEWS:
		return in.exchange(p)
	case kindIdentityPreference, kindCertificatePreference:
		return in.preference(p)
	case kindMDM:
		return in.mdm(ctx, p)
	}
	return nil
}

// add puts an item into the keychain for a payload.
func (in *installation) add(item keychain.Item, p payload) error {
	err := in.keys.Add(item, keychain.Holder{Profile: in.profile.id(), Payload: p.uuid()})
	if err != nil {
		return fail(domainCertificate, 9002, "payload %s: cannot store the certificate: %v", p.id(), err)
	}
	return nil
}

// identity finds the identity that an identity payload of this profile brought.
func (in *installation) identity(uuid string) (keychain.Item, bool) {
	p := in.profile.find(uuid)
	if p == nil || !isIdentity(p.kind()) {
		return keychain.Item{}, false
	}
	item, there := in.keys.Payload(in.profile.id(), p.uuid())
	return item, there && item.Key != nil
}

// removeProfile takes a profile away, with its keys and accounts.
func (d *Device) removeProfile(identifier string) error {
	next, keys := d.state.clone(), d.keys.Clone()
	keys.DropShared = d.chaotic(ChaosDropShared)
	drop(&next, keys, identifier)
	return d.commit(next, keys)
}

// drop removes a profile from a state and a keychain.
func drop(s *state, keys *keychain.Keychain, identifier string) {
	keys.Release(identifier, nil)
	s.Installed = slices.DeleteFunc(s.Installed, func(i installed) bool { return i.Identifier == identifier })
	s.Accounts = slices.DeleteFunc(s.Accounts, func(a Account) bool { return a.Profile == identifier })
}

// forgetManagement is what a device does when it is unenrolled: the MDM profile and everything that came through it
// go away, and what waited to be sent with it.
func (d *Device) forgetManagement(why string) error {
	if d.state.MDM == nil {
		return nil
	}
	next, keys := d.state.clone(), d.keys.Clone()
	for _, entry := range d.state.Installed {
		if entry.Managed || entry.Identifier == d.state.MDM.Profile {
			drop(&next, keys, entry.Identifier)
		}
	}
	next.MDM, next.Outbox, next.PushMagic, next.PushToken = nil, nil, "", ""
	next.Gone = why
	if err := d.commit(next, keys); err != nil {
		return err
	}
	return d.forgetUsers()
}
