package csp

import (
	"errors"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/windows/csp/admx"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// policy is the Policy CSP as far as ingested ADMX files go (windows.md section 3.10), and the one of Windows' own policies
// that concerns the enrolment.
func policy() *provider {
	const apps = "ConfigOperations/ADMXInstall/*"
	purge := func(p *PC, _ place) { p.purgePolicies() }
	return &provider{root: microsoft("Policy"), scopes: "UD", creates: true, rows: []row{
		{path: apps, access: "ADG", format: formatNode, scopes: "D", gone: purge},
		{path: apps + "/Policy", access: "ADG", format: formatNode, scopes: "D", gone: purge},
		{path: apps + "/Policy/*", access: "ADGR", format: formatChr, scopes: "D", write: ingest, gone: purge},
		{path: apps + "/Preference", access: "ADG", format: formatNode, scopes: "D", gone: purge},
		{path: apps + "/Preference/*", access: "ADGR", format: formatChr, scopes: "D", write: ingest, gone: purge},
		{path: "Config/Experience/AllowManualMDMUnenrollment", access: "ADGR", format: formatInt, scopes: "D", initial: "1", check: between(0, 1)},
		{path: "Config/*", access: "G", format: formatNode},
		{path: "Config/*/*", access: "ADGR", format: formatChr, write: setPolicy},
		{path: "Result/*/*", access: "G", format: formatChr, read: func(p *PC, l place) (string, bool) {
			config, _ := l.csp.at(l.scope, append([]string{"Config"}, l.names[1:]...))
			return p.value(config)
		}},
	}}
}

// ingest takes an ADMX file.
func ingest(t *transaction, l place, value string) outcome {
	_, err := admx.Parse(value)
	switch {
	case errors.Is(err, admx.ErrKey):
		return fail(syncml.StatusFailed, errAccessDenied)
	case err != nil:
		return fail(syncml.StatusFailed, errXMLParse)
	}
	t.pc.store(l, value)
	t.pc.purgePolicies()
	return outcome{}
}

// setPolicy takes the setting of a policy that an ingested file defines.
func setPolicy(t *transaction, l place, value string) outcome {
	definition, ok := t.pc.definition(l)
	if !ok {
		return notFound()
	}
	s, err := admx.ParseSetting(value)
	if err != nil {
		return fail(syncml.StatusUnsupportedFormat, errXMLParse)
	}
	if definition.Apply(s, map[string]string{}) != nil {
		return fail(syncml.StatusBadRequest, errInvalidArgument)
	}
	t.pc.store(l, value)
	return outcome{}
}

// definition finds the policy that a node Config/{App}~Policy~{Category}…/{Name} sets, in the scope that its class allows.
func (p *PC) definition(l place) (admx.Policy, bool) {
	parts := strings.Split(l.names[1], "~")
	if len(parts) < 3 || !oneOf("Policy", "Preference")(parts[1]) {
		return admx.Policy{}, false
	}
	folder, ok := l.csp.at("Device", []string{"ConfigOperations", "ADMXInstall", parts[0], parts[1]})
	if !ok {
		return admx.Policy{}, false
	}
	for _, file := range p.children(folder) {
		parsed, err := admx.Parse(p.text(folder.down(file)))
		if err != nil {
			continue
		}
		if definition, ok := parsed.Find(parts[2:], l.names[2]); ok && definition.In(l.scope) {
			return definition, true
		}
	}
	return admx.Policy{}, false
}

// settings are the policies that are set, by LocURI.
func (p *PC) settings() []place {
	var out []place
	for _, n := range p.state.nodes {
		if l, failed := p.resolve(n.Path); !failed.failed() && l.row.path == "Config/*/*" {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b place) int { return strings.Compare(a.key(), b.key()) })
	return out
}

// purgePolicies drops the settings whose definition is gone.
func (p *PC) purgePolicies() {
	for _, l := range p.settings() {
		if _, ok := p.definition(l); !ok {
			p.prune(l.key())
		}
	}
}

// Policies are the registry values that the policies write, such as
// Software\Policies\Microsoft\Office\16.0\Outlook\Security\AlwaysSign; those of the user win over the device's.
func (p *PC) Policies() map[string]string {
	out := map[string]string{}
	for _, l := range p.settings() {
		definition, ok := p.definition(l)
		if !ok {
			continue
		}
		if s, err := admx.ParseSetting(p.text(l)); err == nil {
			_ = definition.Apply(s, out) // was checked when it was set
		}
	}
	return out
}
