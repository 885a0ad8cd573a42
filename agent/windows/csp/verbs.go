package csp

import (
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// apply executes a command on each of its items, up to the first that fails; a Get reads what it can.
func (t *transaction) apply(c syncml.Command) (outcome, []syncml.Item) {
	if c.ID == "" || len(c.Items) == 0 || verb(c.Verb) == nil {
		return fail(syncml.StatusBadRequest, 0), nil
	}
	var first outcome
	var read []syncml.Item
	for _, item := range c.Items {
		out, result := t.item(c.Verb, item)
		if result != nil {
			read = append(read, *result)
		}
		if !out.failed() || first.failed() {
			continue
		}
		if first = out; len(c.Items) > 1 {
			first.target = item.Target
		}
		if c.Verb != syncml.Get {
			break
		}
	}
	return first, read
}

// verb is the function of a command; nil for what is no command to a PC.
func verb(v syncml.Verb) func(*transaction, place, syncml.Item) outcome {
	switch v {
	case syncml.Add:
		return (*transaction).add
	case syncml.Replace:
		return (*transaction).replace
	case syncml.Delete:
		return (*transaction).remove
	case syncml.Exec:
		return (*transaction).exec
	case syncml.Get:
		return (*transaction).readable
	}
	return nil
}

func (t *transaction) item(v syncml.Verb, item syncml.Item) (outcome, *syncml.Item) {
	if item.MoreData { // Windows takes no large objects from a server (windows.md section 2.5)
		return fail(syncml.StatusUnsupportedFeature, errPropertyNotSupported), nil
	}
	l, out := t.pc.resolve(item.Target)
	if out.failed() {
		return out, nil
	}
	if l.scope == "User" && t.pc.state.login != "user" {
		return fail(or(t.pc.cfg.Rules.NoUser, syncml.StatusFailed), errDeviceNotAvailable), nil
	}
	if out = verb(v)(t, l, item); out.failed() || v != syncml.Get {
		return out, nil
	}
	result := &syncml.Item{Source: item.Target, Format: l.row.format, Type: "text/plain"}
	result.Data = t.pc.shown(l)
	return out, result
}

func (t *transaction) add(l place, item syncml.Item) outcome {
	switch {
	case !l.allows("A"):
		return notAllowed()
	case t.pc.there(l):
		return fail(syncml.StatusExists, errAlreadyExists)
	}
	return t.put(syncml.Add, l, item)
}

func (t *transaction) replace(l place, item syncml.Item) outcome {
	switch {
	case !l.allows("R"):
		return notAllowed()
	case t.clash(syncml.Replace, l): // before it counts as there: the Add of the same Atomic made it
		return fail(syncml.StatusFailed, errIllegalInAtomic)
	case !l.csp.creates && !t.pc.exists(l): // a default can be replaced
		return fail(or(t.pc.cfg.Rules.ReplaceMissing, syncml.StatusNotFound), errNodeNotFound)
	}
	return t.put(syncml.Replace, l, item)
}

// clash reports an Add and a Replace of one node in one Atomic.
func (t *transaction) clash(v syncml.Verb, l place) bool {
	before, ok := t.written[l.key()]
	return t.atomic && ok && before != v
}

// put writes a node, and with it those above it.
func (t *transaction) put(v syncml.Verb, l place, item syncml.Item) outcome {
	switch {
	case t.clash(v, l):
		return fail(syncml.StatusFailed, errIllegalInAtomic)
	case t.outside(l):
		return fail(t.pc.cfg.Rules.OutsideAtomic, errIllegalOutsideAtomic)
	case !l.row.takes(item.Format, item.Data):
		return fail(syncml.StatusUnsupportedFormat, errInvalidDataType)
	}
	t.written[l.key()] = v
	if l.row.write != nil {
		return l.row.write(t, l, item.Data)
	}
	t.pc.store(l, item.Data)
	return outcome{}
}

// outside reports a write that ought to stand in an Atomic, if the rules mind.
func (t *transaction) outside(l place) bool {
	return l.row.atomic && !t.atomic && t.pc.cfg.Rules.OutsideAtomic >= 300
}

func (t *transaction) remove(l place, _ syncml.Item) outcome {
	switch {
	case !l.allows("D"):
		return notAllowed()
	case !t.pc.exists(l):
		return notFound()
	}
	t.pc.prune(l.key())
	if l.row.gone != nil {
		l.row.gone(t.pc, l)
	}
	return outcome{}
}

func (t *transaction) exec(l place, item syncml.Item) outcome {
	switch {
	case !l.allows("X"):
		return notAllowed()
	case t.outside(l):
		return fail(t.pc.cfg.Rules.OutsideAtomic, errIllegalOutsideAtomic)
	}
	return l.row.exec(t, l, item.Data)
}

func (t *transaction) readable(l place, _ syncml.Item) outcome {
	switch {
	case !l.allows("G"):
		return notAllowed()
	case !t.pc.exists(l):
		return notFound()
	case l.row.secret:
		return fail(syncml.StatusNotAllowed, errSecretData)
	}
	return outcome{}
}

// store writes a node as it is.
func (p *PC) store(l place, value string) {
	p.state.nodes[l.key()] = node{Path: l.uri(), Format: l.row.format, Value: value}
}

// prune deletes stored nodes: one and all below it.
func (p *PC) prune(key string) {
	for k := range p.state.nodes {
		if k == key || strings.HasPrefix(k, key+"/") {
			delete(p.state.nodes, k)
		}
	}
}
