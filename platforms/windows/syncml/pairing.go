package syncml

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// syncHdr is what a Status for the header calls it, with CmdRef 0 (windows.md section 2.4).
const syncHdr = "SyncHdr"

// Number gives each command a CmdID, those inside others too, counting from first, and says which number comes next. It
// leaves what it was given as it is.
func Number(first int, cmds []Command) (numbered []Command, next int) {
	for _, c := range cmds {
		c.ID = strconv.Itoa(first)
		c.Commands, first = Number(first+1, c.Commands)
		numbered = append(numbered, c)
	}
	return numbered, first
}

// Outcome is what a Status says of a command.
type Outcome struct {
	// Code is a status code of OMA DM, 3 digits.
	Code int
	// OriginalError is the HRESULT behind it, the best error text there is; empty when there is none.
	OriginalError string
}

// Answers are the statuses and results of one message, by the commands that they answer.
type Answers struct {
	outcomes map[string]Outcome
	results  map[string][]Item
	strays   []Command
}

// Answers pairs the statuses and results of m with the commands of the message whose MsgID was msgRef. They are matched by
// MsgRef and CmdRef and never by position: a Get of a missing node has a Status and no Results (windows.md section 5).
func (m *Message) Answers(msgRef int) Answers {
	a := Answers{outcomes: map[string]Outcome{}, results: map[string][]Item{}}
	want := strconv.Itoa(msgRef)
	for _, c := range m.Commands {
		if (c.Verb == Status || c.Verb == Results) && (c.MsgRef != want || !a.add(c)) {
			a.strays = append(a.strays, c)
		}
	}
	return a
}

// add takes a Status or Results in; false when it is not clear what it answers.
func (a *Answers) add(c Command) bool {
	header := c.CmdRef == "0"
	if c.CmdRef == "" || header != (c.Cmd == syncHdr) {
		return false
	}
	if c.Verb == Status {
		return a.addStatus(c)
	}
	for _, i := range c.Items {
		i.Source = cmp.Or(i.Source, i.Target, c.SourceRef, c.TargetRef)
		a.results[c.CmdRef] = append(a.results[c.CmdRef], i)
	}
	return true
}

func (a *Answers) addStatus(c Command) bool {
	code, err := strconv.Atoi(c.Data)
	if _, twice := a.outcomes[c.CmdRef]; twice || err != nil || code < 100 || code > 999 {
		return false
	}
	a.outcomes[c.CmdRef] = Outcome{Code: code, OriginalError: c.OriginalError}
	return true
}

// Header is the code that the header got; false when it got none.
func (a Answers) Header() (int, bool) {
	o, ok := a.outcomes["0"]
	return o.Code, ok
}

// Status is what became of a command; false when the other side did not say. Of two for one command the first counts.
func (a Answers) Status(cmdID string) (Outcome, bool) {
	o, ok := a.outcomes[cmdID]
	return o, ok
}

// Value is the Data that a Get brought for a node; false when it brought none.
func (a Answers) Value(cmdID, locURI string) (string, bool) {
	for _, i := range a.results[cmdID] {
		if EqualLocURI(i.Source, locURI) {
			return i.Data, true
		}
	}
	return "", false
}

// Results are all items that a Get brought; the node's LocURI is in Source, wherever the device put it.
func (a Answers) Results(cmdID string) []Item { return a.results[cmdID] }

// Refs are the CmdRefs that have a status or results, sorted, without the header's: who knows which CmdIDs it sent finds
// answers to others by them.
func (a Answers) Refs() []string {
	refs := slices.AppendSeq(slices.Collect(maps.Keys(a.outcomes)), maps.Keys(a.results))
	slices.Sort(refs)
	refs = slices.Compact(refs)
	return slices.DeleteFunc(refs, func(ref string) bool { return ref == "0" })
}

// Strays are the statuses and results that answer another message, or no command, or a command that has its status
// already. They are for the log: a session that was dropped in the middle leaves some behind.
func (a Answers) Strays() []Command { return a.strays }
