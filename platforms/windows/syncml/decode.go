package syncml

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	maxCommands = 2000 // those inside others among them
	maxItems    = 500  // of one command
	maxID       = 128  // characters of a SessionID, CmdID, MsgRef, CmdRef, Cmd or originalerror
	maxName     = 64   // characters of an unknown command's name
)

// The versions that are spoken (windows.md section 2.2).
const (
	verDTD   = "1.2"
	verProto = "DM/1.2"
)

// Decode reads a message of at most MaxMessage bytes. It is lenient about prefixes, namespaces, order and what it does not
// know; unknown elements where commands stand are kept as commands, so that the receiver can answer them with 400. Ids,
// codes and LocURIs are trimmed, the Data of items is kept as it is. Its errors wrap a *SyntaxError.
func Decode(b []byte) (*Message, error) {
	m, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("decode SyncML message: %w", err)
	}
	return m, nil
}

func decode(b []byte) (*Message, error) {
	root, err := parse(b)
	if err != nil {
		return nil, err
	}
	r := &reader{}
	header, body := r.child(root, "SyncHdr"), r.child(root, "SyncBody")
	if r.err == nil && (header == nil || body == nil) {
		r.fail(root, "SyncML must have a SyncHdr and a SyncBody")
	}
	if r.err != nil {
		return nil, r.err
	}
	m := r.header(header)
	if err := m.check(); err != nil {
		r.fail(header, err.Error())
	}
	r.body(body, m)
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

// check looks for what each message must have.
func (m *Message) check() error {
	switch {
	case m.SessionID == "":
		return errors.New("SessionID is missing")
	case m.MsgID < 1:
		return errors.New("MsgID must be a positive integer")
	case m.Source == "":
		return errors.New("Source/LocURI of the header is missing")
	}
	return nil
}

// reader takes a tree apart and keeps the first error.
type reader struct {
	commands int
	err      error
}

func (r *reader) fail(e *element, reason string) {
	if r.err == nil {
		r.err = &SyntaxError{e.line, reason}
	}
}

// child finds the element of that name; nil when there is none. Two of them would leave open which one counts.
func (r *reader) child(e *element, name string) *element {
	if e == nil {
		return nil
	}
	var found *element
	for _, c := range e.children {
		if c.name != name {
			continue
		}
		if found != nil {
			r.fail(c, name+" stands twice in one "+known(e.name))
		}
		found = c
	}
	return found
}

// known is the name of an element for an error; a name that is not short is the sender's text.
func known(name string) string {
	if plain(name) {
		return name
	}
	return "element"
}

// text is what stands at the end of the path, trimmed.
func (r *reader) text(e *element, path ...string) string {
	for _, name := range path {
		e = r.child(e, name)
	}
	return strings.TrimSpace(e.value())
}

// firstText is the text of the first element of that name: OMA DM lets a Status name several targets.
func firstText(e *element, name string) string {
	for _, c := range e.children {
		if c.name == name {
			return strings.TrimSpace(c.value())
		}
	}
	return ""
}

// id is a short text, one that ends up in the receiver's records.
func (r *reader) id(e *element, name string) string { return r.short(e, name, r.text(e, name)) }

func (r *reader) short(e *element, name, text string) string {
	if len(text) > maxID {
		r.fail(e, fmt.Sprintf("%s is longer than %d characters", name, maxID))
	}
	return text
}

// number is 0 when there is none.
func (r *reader) number(e *element, path ...string) int {
	text := r.text(e, path...)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		r.fail(e, path[len(path)-1]+" must be a positive integer of at most 31 bits")
	}
	return int(n)
}

func (r *reader) header(e *element) *Message {
	r.version(e, "VerDTD", verDTD)
	r.version(e, "VerProto", verProto)
	return &Message{SessionID: r.id(e, "SessionID"), MsgID: r.number(e, "MsgID"), Target: r.text(e, "Target", "LocURI"),
		Source: r.text(e, "Source", "LocURI"), MaxMsgSize: r.number(e, "Meta", "MaxMsgSize")}
}

func (r *reader) version(e *element, name, want string) {
	if got := r.text(e, name); got != want {
		r.fail(e, fmt.Sprintf("%s is %.20q, only %q is spoken", name, got, want))
	}
}

func (r *reader) body(e *element, m *Message) {
	for _, c := range e.children {
		if c.name == "Final" {
			m.Final = true
			continue
		}
		m.Commands = append(m.Commands, r.command(c))
	}
}

func (r *reader) command(e *element) Command {
	if r.commands++; r.commands > maxCommands {
		r.fail(e, fmt.Sprintf("more than %d commands", maxCommands))
	}
	if !plain(e.name) {
		r.fail(e, "the name of a command must be short and of plain letters")
	}
	if r.err != nil {
		return Command{}
	}
	c := Command{Verb: Verb(e.name), ID: r.id(e, "CmdID")}
	if c.Verb.holds() {
		c.Commands = r.inner(e)
		return c
	}
	c.MsgRef, c.CmdRef, c.Cmd = r.id(e, "MsgRef"), r.id(e, "CmdRef"), r.id(e, "Cmd")
	c.TargetRef, c.SourceRef = firstText(e, "TargetRef"), firstText(e, "SourceRef")
	c.Data = r.text(e, "Data")
	if data := r.child(e, "Data"); data != nil {
		c.OriginalError = r.short(data, "originalerror", data.originalError)
	}
	c.Items = r.items(e)
	return c
}

// holds says whether other commands stand inside.
func (v Verb) holds() bool { return v == Atomic || v == Sequence }

// plain says whether a name is one that a command could have.
func plain(name string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
	return name != "" && len(name) <= maxName && strings.Trim(name, letters+"0123456789.-") == "" && strings.Contains(letters, name[:1])
}

// inner are the commands inside an Atomic or a Sequence.
func (r *reader) inner(e *element) []Command {
	var commands []Command
	for _, c := range e.children {
		switch c.name {
		case "CmdID", "Meta", "NoResp": // in OMA DM's DTD the only children that are no commands
		default:
			commands = append(commands, r.command(c))
		}
	}
	return commands
}

// items are those of a command. What its own Meta says holds for each item that does not say otherwise; an alert may
// carry its type without an item (windows.md section 2.3).
func (r *reader) items(e *element) []Item {
	var items []Item
	for _, c := range e.children {
		if c.name == "Item" {
			items = append(items, r.item(c))
		}
	}
	if len(items) > maxItems {
		r.fail(e, fmt.Sprintf("more than %d items in one command", maxItems))
	}
	format, kind := r.meta(e, "Format"), r.meta(e, "Type")
	if len(items) == 0 && kind != "" && Verb(e.name) == Alert {
		items = []Item{{}}
	}
	for i := range items {
		items[i].Format, items[i].Type = cmp.Or(items[i].Format, format), cmp.Or(items[i].Type, kind)
	}
	return items
}

func (r *reader) item(e *element) Item {
	return Item{Target: r.text(e, "Target", "LocURI"), Source: r.text(e, "Source", "LocURI"),
		Format: r.meta(e, "Format"), Type: r.meta(e, "Type"), Size: r.number(e, "Meta", "Size"),
		Data: r.child(e, "Data").value(), MoreData: r.child(e, "MoreData") != nil}
}

// meta is a field of Meta, or of the element itself: in MS-MDM's text Type stands outside Meta.
func (r *reader) meta(e *element, name string) string {
	return cmp.Or(r.text(e, "Meta", name), r.text(e, name))
}
