package android

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/profiles"
)

// Work is what stands before the name of something in the work profile, where other devices have a configuration profile.
const Work = "work:"

// Keychain shows the key chain and the trusted CAs of the work profile as other simulated devices show theirs: the alias
// takes the place of the profile. It is made anew for each call, and changing it changes nothing.
func (d *Device) Keychain() *keychain.Keychain {
	out := &keychain.Keychain{}
	p := d.state.Phone
	for _, alias := range p.Work.Aliases() {
		held := p.Work.Keys[alias]
		key, err := x509.ParsePKCS8PrivateKey(held.PKCS8)
		signer, ok := key.(crypto.Signer)
		if err != nil || !ok || len(held.Chain) == 0 {
			continue
		}
		d.add(out, held.Chain[0], signer, Work+alias, alias)
	}
	d.addCAs(out)
	return out
}

func (d *Device) add(out *keychain.Keychain, der []byte, key crypto.Signer, profile, payload string) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return
	}
	item := keychain.Item{Certificate: cert, Key: key, Trusted: profile == Work+"ca"}
	if err := out.Add(item, keychain.Holder{Profile: profile, Payload: payload}); err != nil {
		d.cfg.Log.Warn("a certificate is there with two keys", "sha256", item.ID())
	}
}

func (d *Device) addCAs(out *keychain.Keychain) {
	for sum, der := range d.state.Phone.Work.CAs {
		d.add(out, der, nil, Work+"ca", sum)
	}
}

// Grants are the apps that may use the key of an alias, beside the companion app itself.
func (d *Device) Grants(alias string) []string {
	return slices.DeleteFunc(d.state.Phone.Grants(alias), func(pkg string) bool { return pkg == Package })
}

// Roots are the CAs that the user of the work profile trusts; those of the machine mean nothing for mail.
func (d *Device) Roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, der := range d.state.Phone.Work.CAs {
		if cert, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(cert)
		}
	}
	return pool, nil
}

// App is the device as one of its mail apps sees it.
type App struct {
	*Device
	pkg string
}

// App is what a mail program works on: the keys that were granted to the app, and no others.
func (d *Device) App(pkg string) App {
	if pkg == "" {
		pkg = profiles.PackageOutlook
	}
	return App{d, pkg}
}

// Keychain holds the keys that the app may use, with their chains, and the trusted CAs.
func (a App) Keychain() *keychain.Keychain {
	out := &keychain.Keychain{}
	p := a.state.Phone
	for _, alias := range p.Work.Aliases() {
		key := p.PrivateKey(a.pkg, alias)
		if key == nil {
			continue
		}
		for i, der := range p.CertificateChain(a.pkg, alias) {
			if i > 0 {
				key = nil
			}
			a.add(out, der, key, Work+alias, alias)
		}
	}
	a.addCAs(out)
	return out
}

// Check says that there is no such app.
func (a App) Check() error {
	if _, there := a.state.Phone.World.Apps[a.pkg]; !there {
		return fmt.Errorf("the app %s is not installed; apps list shows those that are", a.pkg)
	}
	return nil
}

// aliasOf finds a key of the work profile by its alias or the beginning of its certificate's SHA-256.
func (d *Device) aliasOf(id string) (string, error) {
	if id == "" {
		return "", errors.New("no key named: give its alias, or the SHA-256 that keychain list shows")
	}
	store, found := &d.state.Phone.Work, []string{}
	for _, alias := range store.Aliases() {
		if alias == id {
			return alias, nil
		}
		if strings.HasPrefix(store.Keys[alias].Fingerprint(), strings.ToLower(id)) {
			found = append(found, alias)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("the key chain holds no key with the alias %q, nor one whose certificate's SHA-256 begins so", id)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d keys have a certificate whose SHA-256 begins with %q; give more of it", len(found), id)
}

// Facts are what is worth knowing of the device and its companion app.
type Facts struct {
	SDK            int                       `json:"sdk"`
	ManagementMode framework.Mode            `json:"managementMode"`
	Capabilities   []string                  `json:"capabilities"`
	Server         string                    `json:"server,omitempty"`
	DeviceID       string                    `json:"deviceID,omitempty"`
	Gone           string                    `json:"gone,omitempty"`
	UserUnlocked   bool                      `json:"userUnlocked"`
	ScreenLock     bool                      `json:"screenLock"`
	Apps           []string                  `json:"apps"`
	Items          map[string]string         `json:"items"` // state by id
	MailConfigs    map[string]map[string]any `json:"mailConfigs"`
}

// Facts looks at the device.
func (d *Device) Facts() Facts {
	p, a := d.state.Phone, &d.state.App
	f := Facts{SDK: p.SDK, ManagementMode: p.Mode, Capabilities: []string{}, Gone: d.state.Gone, UserUnlocked: p.UserUnlocked(),
		ScreenLock: p.DeviceSecure(), Apps: p.World.Packages(), Items: map[string]string{}, MailConfigs: p.Restrictions}
	for _, c := range d.capabilities() {
		f.Capabilities = append(f.Capabilities, string(c))
	}
	if e := a.Enrolment; e != nil {
		f.Server, f.DeviceID = e.Server, e.DeviceID
	}
	for id, rec := range a.Records {
		f.Items[id] = string(rec.State)
		if rec.Error != nil {
			f.Items[id] += " (" + string(rec.Error.Code) + ")"
		}
	}
	return f
}
