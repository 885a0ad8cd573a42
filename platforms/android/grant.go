package android

import (
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// mailApp is an app that may use the keys, and the Email profiles that say so.
type mailApp struct {
	pkg      string
	profiles []string
}

// mailApps are the apps of the Email profiles with S/MIME settings, each once.
func (p *planner) mailApps() []mailApp {
	var apps []mailApp
	for _, o := range p.objs {
		spec, ok := o.Spec.(*profiles.Email)
		if !ok || spec.SMIME == nil {
			continue
		}
		for _, pkg := range spec.AndroidApps() {
			at := slices.IndexFunc(apps, func(a mailApp) bool { return a.pkg == pkg })
			if at < 0 {
				at, apps = len(apps), append(apps, mailApp{pkg: pkg})
			}
			if !slices.Contains(apps[at].profiles, o.Name) {
				apps[at].profiles = append(apps[at].profiles, o.Name)
			}
		}
	}
	return apps
}

// selectable tells whether people must be able to pick the keys in Android's picker: because no app is given them, or
// because an Email profile leaves the choice of the certificate to the user.
func (p *planner) selectable() bool {
	if len(p.apps) == 0 || !grants(p.in.Device.OSVersion) {
		return true
	}
	return slices.ContainsFunc(p.objs, func(o profiles.Object) bool {
		spec, ok := o.Spec.(*profiles.Email)
		return ok && spec.SMIME != nil && (spec.SMIME.Signing.UserMayChangeCertificate || spec.SMIME.Encryption.UserMayChangeCertificate)
	})
}

// planGrants gives each app each key: no call of Android lets an app look for the keys of the history (AL-3).
func (p *planner) planGrants(keys []platforms.Document) []platforms.Document {
	var docs []platforms.Document
	for _, app := range p.apps {
		var notes []string // an app with settings of its own has them there
		if !hasSettings(app.pkg) {
			notes = notInApp(app.pkg)
		}
		for _, key := range keys {
			if key.Reason != "" {
				continue
			}
			doc := p.grant(app, key)
			doc.Notes, notes = notes, nil
			docs = append(docs, doc)
		}
	}
	return docs
}

func (p *planner) grant(app mailApp, key platforms.Document) platforms.Document {
	doc := platforms.Document{ID: docGrant + app.pkg + "." + keyOf(key), Profiles: app.profiles, DependsOn: []string{key.ID}}
	if !grants(p.in.Device.OSVersion) {
		return wait(doc, waits(platforms.ReasonNotDeliverable,
			"Android %s gives no keys to apps; from Android %d on it does. Until then the user picks the certificate in %s",
			p.in.Device.OSVersion, firstGrantRelease, appName(app.pkg)))
	}
	alias := key.Identifier[len(prefixIdentity):]
	doc.Identifier, doc.Proof = grantIdentifier(app.pkg, alias), proofGranted
	finish(&doc, companion.Item{Kind: companion.KindGrant, DependsOn: []string{key.Identifier},
		Grant: &companion.Grant{Alias: alias, Package: app.pkg}}, "")
	p.granted[doc.Identifier] = doc
	return doc
}

// keyOf names a key for good: by its certificate, or, where the device makes it, by the request.
func keyOf(key platforms.Document) string {
	if IsGenerated(key) {
		return strings.TrimPrefix(key.Proof, aliasSigning)
	}
	return short(key.Proof)
}
