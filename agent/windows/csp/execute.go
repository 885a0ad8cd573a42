package csp

import (
	"strconv"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// maxSequences bounds Sequences inside Sequences.
const maxSequences = 4

// run is the execution of one message.
type run struct {
	pc      *PC
	msgID   string
	answers []syncml.Command
	effects Effects
}

// Execute executes the commands of a server's message in their order and returns a Status for each, with Results behind
// those of a Get. An Atomic has a Status of its own and one for each command in it, and leaves nothing behind when one of
// them fails. CmdIDs count from 1. Status and Results of the server are passed over.
func (p *PC) Execute(msgID string, commands []syncml.Command) ([]syncml.Command, Effects) {
	r := &run{pc: p, msgID: msgID}
	for _, c := range commands {
		r.command(c, 0)
	}
	for n := range r.answers {
		r.answers[n].ID = strconv.Itoa(n + 1)
	}
	return r.answers, r.effects
}

func (r *run) command(c syncml.Command, depth int) {
	switch {
	case r.effects.Unenroll: // the session dies with the enrolment
	case c.Verb == syncml.Status || c.Verb == syncml.Results:
	case c.ID == "":
		r.answer(c, fail(syncml.StatusBadRequest, 0))
	case c.Verb == syncml.Atomic:
		r.atomic(c)
	case c.Verb == syncml.Sequence:
		r.sequence(c, depth)
	default:
		r.single(c)
	}
}

// single executes a command that stands for itself.
func (r *run) single(c syncml.Command) {
	t := r.pc.begin(false)
	out, items := t.apply(c)
	if _, late := t.finish(); !out.failed() {
		out = late
	}
	r.effects.merge(t.effects)
	r.answer(c, out)
	if len(items) > 0 {
		r.answers = append(r.answers, syncml.Command{Verb: syncml.Results, MsgRef: r.msgID, CmdRef: c.ID, Items: items})
	}
}

func (r *run) sequence(c syncml.Command, depth int) {
	if depth >= maxSequences {
		r.answer(c, fail(syncml.StatusBadRequest, 0))
		return
	}
	r.answer(c, outcome{})
	for _, inner := range c.Commands {
		r.command(inner, depth+1)
	}
}

// atomic executes all or nothing. The failed one of the commands tells why; those before it were rolled back (216), those
// behind it never executed (215). Imports come last, so that the nodes beside a PFX may stand in any order.
func (r *run) atomic(c syncml.Command) {
	if len(c.Commands) == 0 {
		r.answer(c, fail(syncml.StatusBadRequest, 0))
		return
	}
	saved := r.pc.state.clone()
	t := r.pc.begin(true)
	culprit, out := t.all(c.Commands)
	if !out.failed() {
		culprit, out = t.finish()
	}
	if out.failed() {
		r.pc.state = saved
		r.rolledBack(c, culprit, out)
		return
	}
	r.effects.merge(t.effects)
	r.answer(c, outcome{})
	for _, inner := range c.Commands {
		r.answer(inner, outcome{})
	}
}

func (r *run) rolledBack(c syncml.Command, culprit int, out outcome) {
	r.answer(c, fail(syncml.StatusAtomicFailed, out.hresult))
	for n, inner := range c.Commands {
		switch {
		case n < culprit:
			r.answer(inner, outcome{code: syncml.StatusRolledBack})
		case n == culprit:
			r.answer(inner, out)
		default:
			r.answer(inner, outcome{code: syncml.StatusNotExecuted})
		}
		r.unexecuted(inner)
	}
}

// unexecuted answers for the commands in an Atomic or Sequence that stood in an Atomic.
func (r *run) unexecuted(c syncml.Command) {
	for _, inner := range c.Commands {
		r.answer(inner, outcome{code: syncml.StatusNotExecuted})
		r.unexecuted(inner)
	}
}

func (r *run) answer(c syncml.Command, o outcome) {
	s := syncml.Command{Verb: syncml.Status, MsgRef: r.msgID, CmdRef: c.ID, Cmd: string(c.Verb), TargetRef: o.target}
	s.Data = strconv.Itoa(r.pc.status(c.Verb, o))
	s.OriginalError = o.originalError()
	r.answers = append(r.answers, s)
}

// transaction is one command, or the commands of one Atomic.
type transaction struct {
	pc      *PC
	atomic  bool
	at      int                    // index of the command
	written map[string]syncml.Verb // by key, what wrote it
	imports []pending
	effects Effects
}

// pending is an import that waits for the end of the transaction.
type pending struct {
	id place
	at int
}

func (p *PC) begin(atomic bool) *transaction {
	return &transaction{pc: p, atomic: atomic, written: map[string]syncml.Verb{}}
}

// all executes the commands of an Atomic up to the first that fails.
func (t *transaction) all(commands []syncml.Command) (int, outcome) {
	for n, c := range commands {
		t.at = n
		if out := t.member(c); out.failed() {
			return n, out
		}
	}
	return 0, outcome{}
}

// member executes one command of an Atomic, where Get and Atomic may not be (windows.md section 2.4).
func (t *transaction) member(c syncml.Command) outcome {
	switch c.Verb {
	case syncml.Get, syncml.Atomic:
		return fail(syncml.StatusFailed, errIllegalInAtomic)
	case syncml.Sequence:
		return fail(syncml.StatusUnsupportedFeature, errIllegalInAtomic)
	}
	out, _ := t.apply(c)
	return out
}

// finish does the imports that the commands prepared; it returns the command that must answer for the one that failed.
func (t *transaction) finish() (int, outcome) {
	for _, i := range t.imports {
		if out := t.pc.importPFX(i.id); out.failed() {
			return i.at, out
		}
	}
	return 0, outcome{}
}
