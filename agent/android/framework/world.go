package framework

import (
	"fmt"
	"maps"
	"slices"
)

// World is what a phone's owner and its administrator decide: which apps are there, what is delegated, whether there is a
// screen lock. It is kept apart from the phone, so that it can change while the phone is in use.
type World struct {
	Apps    map[string]App `json:"apps"` // by package
	NextUID int            `json:"nextUID"`
	// Revoked are the scopes that are not delegated.
	Revoked      []string `json:"revoked,omitempty"`
	NoScreenLock bool     `json:"noScreenLock,omitempty"`
}

// App is an installed app. A new installation has another UID.
type App struct {
	UID     int    `json:"uid"`
	Version string `json:"version"`
	Signer  string `json:"signer"` // SHA-256 of its signing certificate
}

// firstUID is FIRST_APPLICATION_UID of android.os.Process.
const firstUID = 10000

// Install installs an app; one that is there is updated and keeps its UID.
func (w *World) Install(pkg, version, signer string) {
	if w.Apps == nil {
		w.Apps = map[string]App{}
	}
	app, there := w.Apps[pkg]
	if !there {
		w.NextUID = max(w.NextUID, firstUID) + 1
		app.UID = w.NextUID
	}
	app.Version, app.Signer = version, signer
	w.Apps[pkg] = app
}

// Remove uninstalls an app. What the key chain granted to its UID is of no use to anybody from then on.
func (w *World) Remove(pkg string) error {
	if _, there := w.Apps[pkg]; !there {
		return notThere(pkg)
	}
	delete(w.Apps, pkg)
	return nil
}

// Reinstall removes an app and installs it again: its UID is another one.
func (w *World) Reinstall(pkg string) error {
	app, there := w.Apps[pkg]
	if !there {
		return notThere(pkg)
	}
	delete(w.Apps, pkg)
	w.Install(pkg, app.Version, app.Signer)
	return nil
}

func notThere(pkg string) error { return fmt.Errorf("the app %s is not installed", pkg) }

// Delegate grants or revokes a scope of the managing app.
func (w *World) Delegate(scope string, granted bool) error {
	if scope != ScopeCertInstall && scope != ScopeCertSelection {
		return fmt.Errorf("the scope %q is not simulated; %s and %s are", scope, ScopeCertInstall, ScopeCertSelection)
	}
	w.Revoked = slices.DeleteFunc(w.Revoked, func(s string) bool { return s == scope })
	if !granted {
		w.Revoked = append(w.Revoked, scope)
	}
	return nil
}

// Packages are the installed apps, in alphabetical order.
func (w *World) Packages() []string { return slices.Sorted(maps.Keys(w.Apps)) }

// packageOf names the app of a UID, empty if there is none any more.
func (w *World) packageOf(uid int) string {
	for pkg, app := range w.Apps {
		if app.UID == uid {
			return pkg
		}
	}
	return ""
}
