package android

import (
	"slices"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// installCA makes the user of the work profile trust a CA.
func (r *round) installCA(ca *companion.CACert) outcome {
	p := r.state.Phone
	held, err := p.InstalledCACerts(Package)
	if err != nil {
		return thrown(err, companion.ErrDelegationMissing)
	}
	if !slices.ContainsFunc(held, func(der []byte) bool { return framework.Fingerprint(der) == ca.SHA256 }) {
		switch ok, err := p.InstallCACert(Package, ca.DER); {
		case err != nil:
			return thrown(err, companion.ErrDelegationMissing)
		case !ok && p.StorageFull:
			return fault(companion.ErrStorageFull, "", nil)
		case !ok:
			return fault(companion.ErrCARefused, "", nil)
		}
	}
	o := done(companion.StateInstalled)
	o.observed = &companion.Observed{CertSHA256: ca.SHA256}
	return o
}

// removeCA takes the trust away. Android wants the certificate itself, so the app looks for it by its SHA-256.
func (r *round) removeCA(ca *companion.CACert) outcome {
	held, err := r.state.Phone.InstalledCACerts(Package)
	if err != nil {
		return thrown(err, companion.ErrDelegationMissing)
	}
	for _, der := range held {
		if framework.Fingerprint(der) != ca.SHA256 {
			continue
		}
		if err := r.state.Phone.UninstallCACert(Package, der); err != nil {
			return thrown(err, companion.ErrDelegationMissing)
		}
	}
	return done(companion.StateRemoved)
}

// installGrant lets an app use a key.
func (r *round) installGrant(rec *record) outcome {
	g, p := rec.Item.Grant, r.state.Phone
	app, there := p.World.Apps[g.Package]
	switch {
	case p.SDK < framework.APIGrants:
		return fault(companion.ErrUnsupportedAPI, "keys can be granted from Android 11 on", nil)
	case !there:
		return fault(companion.ErrAppNotInstalled, g.Package, nil)
	case g.SigningCertSHA256 != "" && g.SigningCertSHA256 != app.Signer:
		return fault(companion.ErrAppSignatureMismatch, g.Package, nil)
	}
	ok, err := p.GrantKeyPairToApp(Package, g.Alias, g.Package)
	if err != nil {
		return thrown(err, companion.ErrSelectionDelegationMissing)
	}
	if !ok {
		return fault(companion.ErrKeychainRefused, "there is no key under the alias "+g.Alias, nil)
	}
	rec.UID = app.UID
	o := done(companion.StateGranted)
	sum, state := r.held(g.Alias)
	o.observed = &companion.Observed{Alias: g.Alias, CertSHA256: sum, HasKeyPair: state == keyThere, GrantedTo: []string{g.Package}}
	return o
}

// removeGrant takes the right back. An app that is not there has none, nor has anybody where there is no key.
func (r *round) removeGrant(g *companion.Grant) outcome {
	p := r.state.Phone
	if _, there := p.World.Apps[g.Package]; !there || p.SDK < framework.APIGrants {
		return done(companion.StateRemoved)
	}
	if _, state := r.held(g.Alias); state == keyAbsent {
		return done(companion.StateRemoved)
	}
	if _, err := p.RevokeKeyPairFromApp(Package, g.Alias, g.Package); err != nil {
		return thrown(err, companion.ErrSelectionDelegationMissing)
	}
	return done(companion.StateRemoved)
}

// installConfig sets the managed configuration of a mail app. Android would take it before the app is there; the app waits
// all the same, so that nobody takes for set up what is not.
func (r *round) installConfig(m *companion.MailConfig) outcome {
	if _, there := r.state.Phone.World.Apps[m.Package]; !there {
		return fault(companion.ErrAppNotInstalled, m.Package, nil)
	}
	if err := r.state.Phone.SetApplicationRestrictions(Package, m.Package, m.Values); err != nil {
		return thrown(err, companion.ErrDelegationMissing)
	}
	return done(companion.StateInstalled)
}

func (r *round) removeConfig(m *companion.MailConfig) outcome {
	if err := r.state.Phone.SetApplicationRestrictions(Package, m.Package, nil); err != nil {
		return thrown(err, companion.ErrDelegationMissing)
	}
	return done(companion.StateRemoved)
}
