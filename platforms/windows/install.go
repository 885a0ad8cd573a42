package windows

import (
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Install makes the commands that bring a rendered document to the PC, without CmdIDs, and the checks of what must be
// read back in the next message. The payload is checked as CheckRendered does it.
//
// replace says that nodes of the document are on the PC already and wrong: they are deleted first and outside the
// Atomic, for Add on a node that exists fails and Add and Replace of one node do not go together in one Atomic
// (windows.md traps 1 and 2). A Delete that finds nothing (404) is no failure. An Add of a CA certificate that is there
// already (418) is none either, since its node's name is its hash.
func Install(doc platforms.Document, payload []byte, replace bool) (commands []syncml.Command, checks []Check, err error) {
	r, err := checked(doc, payload)
	if err != nil {
		return nil, nil, fmt.Errorf("install %s: %w", doc.ID, err)
	}
	if replace {
		commands = Remove(doc.Identifier)
	}
	var adds []syncml.Command
	for _, n := range r.Nodes {
		adds = append(adds, n.command())
	}
	if r.Atomic {
		adds = []syncml.Command{{Verb: syncml.Atomic, Commands: adds}}
	}
	return append(commands, adds...), checksOf(doc, r), nil
}

func (n node) command() syncml.Command {
	verb := syncml.Add
	if n.Exec {
		verb = syncml.Exec
	}
	return syncml.Command{Verb: verb, Items: []syncml.Item{{Target: n.LocURI, Format: n.Format, Type: n.Type, Data: n.Data}}}
}

// checksOf says what proves the document. A PFX has a status and a thumbprint of its own; CA certificates and policies
// must read as they were written. The ADMX file itself may read as anything: its policies prove it. What a certificate by
// SCEP must be, nobody knows yet: see ReadAsked.
func checksOf(doc platforms.Document, r rendered) []Check {
	if IsSCEP(doc) {
		return nil
	}
	if doc.HasSecrets() {
		return []Check{{doc.Identifier + "/Status", "0"}, {doc.Identifier + "/Thumbprint", doc.Proof}}
	}
	var checks []Check
	for _, n := range r.Nodes {
		if !strings.HasPrefix(n.LocURI, admxApp+"/") {
			checks = append(checks, Check{n.LocURI, n.Data})
		}
	}
	return checks
}

// Remove makes the commands that take a document away. A status 404 counts as done.
func Remove(identifier string) []syncml.Command {
	var commands []syncml.Command
	if identifier == "" { // of a document that never was more than a wait
		return nil
	}
	if strings.EqualFold(identifier, admxApp) {
		for _, p := range outlookPolicies() {
			commands = append(commands, remove(p.locURI()))
		}
	}
	return append(commands, remove(identifier))
}

func remove(uri string) syncml.Command {
	return syncml.Command{Verb: syncml.Delete, Items: []syncml.Item{{Target: uri}}}
}

// Wipe resets the PC. Its status says "accepted" at best. Source: "RemoteWipe CSP"; windows.md 3.9.
func Wipe() []syncml.Command {
	return []syncml.Command{{Verb: syncml.Exec, Items: []syncml.Item{{
		Target: "./Device/Vendor/MSFT/RemoteWipe/doWipe", Format: formatText}}}}
}

// Unenroll ends the enrolment, and with it goes everything that management installed. No status comes back: the PC
// answers with the alert of an unenrolment, or not at all. Source: "DMClient CSP"; windows.md 2.8.
func Unenroll(providerID string) []syncml.Command {
	return []syncml.Command{{Verb: syncml.Exec, Items: []syncml.Item{{
		Target: "./Device/Vendor/MSFT/DMClient/Provider/" + syncml.Escape(providerID) + "/Unenroll",
		Format: formatText, Data: providerID}}}}
}
