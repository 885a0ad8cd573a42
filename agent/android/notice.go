package android

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// seen is what the app saw of the device last; what differs from it happened without the app.
type seen struct {
	Apps       map[string]int `json:"apps"` // UID by package
	Keys       int            `json:"keys"`
	CAs        int            `json:"cas"`
	Revoked    []string       `json:"revoked,omitempty"`
	Locked     bool           `json:"locked,omitempty"`
	ScreenLock bool           `json:"screenLock"`
}

func (d *Device) sees() seen {
	p := d.state.Phone
	s := seen{Apps: map[string]int{}, Keys: p.Work.KeyChanges, CAs: p.Work.CAChanges, Revoked: p.World.Revoked, Locked: p.Locked, ScreenLock: p.DeviceSecure()}
	for pkg, app := range p.World.Apps {
		s.Apps[pkg] = app.UID
	}
	return s
}

// acted notes the app's own changes of the key chain, of which it need not be told.
func (d *Device) acted() {
	p := d.state.Phone
	d.state.App.Seen.Keys, d.state.App.Seen.CAs = p.Work.KeyChanges, p.Work.CAChanges
}

// notice finds what happened on the device without the app, as broadcasts tell a real one, and what is gone by it.
func (r *round) notice() error {
	app := &r.state.App
	before, now := app.Seen, r.sees()
	events := r.appEvents(before.Apps, now.Apps)
	for kind, happened := range map[string]bool{companion.EventKeychainChanged: before.Keys != now.Keys,
		companion.EventTrustStoreChanged: before.CAs != now.CAs, companion.EventRestrictionsChanged: !slices.Equal(before.Revoked, now.Revoked)} {
		if happened {
			events = append(events, companion.Event{Type: kind, At: r.now().UTC()})
		}
	}
	if len(events) == 0 && before.Locked == now.Locked && before.ScreenLock == now.ScreenLock {
		return nil
	}
	app.Seen, app.Untold = now, true
	app.Events = append(app.Events, events...)
	for _, rec := range app.Records {
		if rec.present() && !r.inPlace(rec) {
			if rec.done() {
				rec.again()
			}
			rec.Held, rec.Brought = "", rec.Item.Kind == companion.KindMailConfig // settings wait for their app
		}
	}
	return r.save()
}

// appEvents: an app with another UID was removed and installed again.
func (r *round) appEvents(before, now map[string]int) []companion.Event {
	var out []companion.Event
	event := func(kind, pkg string) {
		out = append(out, companion.Event{Type: kind, Package: pkg, At: r.now().UTC()})
	}
	for _, pkg := range slices.Sorted(maps.Keys(before)) {
		if before[pkg] != now[pkg] {
			event(companion.EventPackageRemoved, pkg)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(now)) {
		if before[pkg] != now[pkg] {
			event(companion.EventPackageAdded, pkg)
		}
	}
	return out
}

// inPlace reports whether what the app did is still there, as far as it may see.
func (r *round) inPlace(rec *record) bool {
	p, item := r.state.Phone, rec.Item
	switch item.Kind {
	case companion.KindCACert:
		held, err := p.InstalledCACerts(Package)
		return err != nil || slices.ContainsFunc(held, func(der []byte) bool { return framework.Fingerprint(der) == item.CACert.SHA256 })
	case companion.KindIdentity:
		// Where the app died before it noted what it installed, the certificate is that of the item.
		sum, _ := r.held(item.Identity.Alias)
		return !r.gone(item.Identity.Alias) && slices.Contains([]string{"", rec.Held, item.Identity.CertSHA256}, sum)
	case companion.KindGrant:
		return r.granted(item.Grant, rec.UID)
	}
	_, there := p.World.Apps[item.MailConfig.Package]
	return there
}

// granted reports whether an app may use a key. Before API 31 the app can only tell that it is still the same app.
func (r *round) granted(g *companion.Grant, uid int) bool {
	p := r.state.Phone
	app, there := p.World.Apps[g.Package]
	if !there || app.UID != uid {
		return false
	}
	who, err := p.KeyPairGrants(Package, g.Alias)
	if isException(err, framework.IllegalArgument) {
		return false
	}
	return err != nil || slices.Contains(who, g.Package)
}

// tellEvents tells of what happened.
func (r *round) tellEvents(ctx context.Context) error {
	app := &r.state.App
	if _, err := r.call(ctx, http.MethodPost, companion.PathEvents, app.Events); err != nil {
		return fmt.Errorf("telling events: %w", err)
	}
	app.Events = nil
	r.report.Changes++
	return r.save()
}

// tellInventory tells what is on the device, if that has changed, if the server asked, or if it is time.
func (r *round) tellInventory(ctx context.Context) error {
	app := &r.state.App
	if !app.Untold && !r.inventoryDue() {
		return nil
	}
	if _, err := r.call(ctx, http.MethodPost, companion.PathInventory, r.inventory()); err != nil {
		return fmt.Errorf("telling the inventory: %w", err)
	}
	app.Untold, app.Inventoried = false, r.now().UTC()
	r.report.Changes++
	return r.save()
}

func (r *round) inventoryDue() bool {
	app := &r.state.App
	if app.Desired == nil || app.Desired.Policy.ReportInventorySeconds == 0 {
		return false
	}
	return r.now().Sub(app.Inventoried) >= time.Duration(app.Desired.Policy.ReportInventorySeconds)*time.Second
}

// inventory is what the app can see of the device: the aliases that it knows of, since no call lists them (android.md
// AL-3), and everything else.
func (r *round) inventory() companion.Inventory {
	app, p := &r.state.App, r.state.Phone
	inv := companion.Inventory{SDKInt: p.SDK, Release: r.state.Info.OSVersion, Identities: []companion.Held{}, CAs: []string{}, Capabilities: r.capabilities(), Apps: []companion.App{},
		ScreenLock: p.DeviceSecure(), UserUnlocked: p.UserUnlocked()}
	if app.Desired != nil {
		inv.Generation = app.Desired.Generation
	}
	for _, id := range slices.Sorted(maps.Keys(app.Records)) {
		switch rec := app.Records[id]; {
		case rec.Item.Kind == companion.KindIdentity:
			inv.Identities = append(inv.Identities, r.heldKey(rec)...)
		case rec.Item.Kind == companion.KindMailConfig && rec.done():
			inv.MailConfigs = append(inv.MailConfigs, companion.Configured{Package: rec.Item.MailConfig.Package, Revision: rec.Item.Revision})
		}
	}
	inv.CAs = append(inv.CAs, r.heldCAs()...)
	for _, pkg := range p.World.Packages() {
		inv.Apps = append(inv.Apps, companion.App{Package: pkg, Version: p.World.Apps[pkg].Version})
	}
	return inv
}

// heldKey is the line of an alias, none if it has no key. An app that may not look tells what it did.
func (r *round) heldKey(rec *record) []companion.Held {
	alias := rec.Item.Identity.Alias
	sum, _ := r.held(alias)
	if sum == "" {
		sum = rec.Held
	}
	if r.gone(alias) || sum == "" {
		return nil
	}
	grants, err := r.state.Phone.KeyPairGrants(Package, alias)
	if err != nil {
		grants = r.grantsByRecord(alias)
	}
	grants = slices.DeleteFunc(grants, func(pkg string) bool { return pkg == Package })
	return []companion.Held{{Alias: alias, CertSHA256: sum, Present: true, Grants: grants}}
}

// grantsByRecord are the apps that the app itself has given a key.
func (r *round) grantsByRecord(alias string) []string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(r.state.App.Records)) {
		rec := r.state.App.Records[id]
		if rec.Item.Kind == companion.KindGrant && rec.Item.Grant.Alias == alias && rec.present() {
			out = append(out, rec.Item.Grant.Package)
		}
	}
	return out
}

// heldCAs are the trusted CAs; an app that may not look tells what it did.
func (r *round) heldCAs() []string {
	var out []string
	held, err := r.state.Phone.InstalledCACerts(Package)
	for _, der := range held {
		out = append(out, framework.Fingerprint(der))
	}
	if err == nil {
		return out
	}
	for _, rec := range r.state.App.Records {
		if rec.Item.Kind == companion.KindCACert && rec.present() {
			out = append(out, rec.Item.CACert.SHA256)
		}
	}
	slices.Sort(out)
	return out
}
