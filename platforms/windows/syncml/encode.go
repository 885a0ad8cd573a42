package syncml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The namespaces of a message (windows.md sections 2.2 and 2.4), as attributes.
const (
	syncmlNS = ` xmlns="SYNCML:SYNCML1.2"`
	metinfNS = ` xmlns="syncml:metinf"`
	msftNS   = ` xmlns:msft="http://schemas.microsoft.com/MobileDevice/MDM"`
)

// Encode writes a message as Windows writes its own: CmdID first in each command, metinf declared on each field of Meta, and
// nothing between the elements, since blanks beside base64 make Windows refuse it (windows.md section 5). Data is escaped,
// never CDATA, and comes back byte for byte. What XML cannot carry is an error.
func (m *Message) Encode() ([]byte, error) {
	w := &writer{at: "SyncHdr"}
	if err := m.check(); err != nil {
		w.fail(err)
	}
	w.raw("<SyncML" + syncmlNS + ">")
	w.header(m)
	w.body(m)
	w.raw("</SyncML>")
	if w.err == nil && w.buf.Len() > MaxMessage {
		w.err = fmt.Errorf("the message is larger than %d KiB: send fewer commands at once", MaxMessage>>10)
	}
	if w.err != nil {
		return nil, fmt.Errorf("encode SyncML message: %w", w.err)
	}
	return w.buf.Bytes(), nil
}

// writer keeps the first error, and where it is for its words.
type writer struct {
	buf bytes.Buffer
	at  string
	err error
}

func (w *writer) raw(markup string) { w.buf.WriteString(markup) }

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = fmt.Errorf("%s: %w", w.at, err)
	}
}

// leaf writes an element with text inside.
func (w *writer) leaf(name, attributes, text string) {
	w.raw("<" + name + attributes + ">")
	w.text(name, text)
	w.raw("</" + name + ">")
}

func (w *writer) optional(name, attributes, text string) {
	if text != "" {
		w.leaf(name, attributes, text)
	}
}

// text escapes line ends too: a parser would make one kind of all of them.
func (w *writer) text(name, text string) {
	if !carriable([]byte(text)) {
		w.fail(fmt.Errorf("%s has a character that XML cannot carry", name))
	}
	if err := xml.EscapeText(&w.buf, []byte(text)); err != nil {
		w.fail(err)
	}
}

func (w *writer) location(name, uri string) {
	w.raw("<" + name + ">")
	w.leaf("LocURI", "", uri)
	w.raw("</" + name + ">")
}

func (w *writer) header(m *Message) {
	w.raw("<SyncHdr>")
	w.leaf("VerDTD", "", verDTD)
	w.leaf("VerProto", "", verProto)
	w.leaf("SessionID", "", m.SessionID)
	w.leaf("MsgID", "", strconv.Itoa(m.MsgID))
	w.location("Target", m.Target)
	w.location("Source", m.Source)
	if m.MaxMsgSize > 0 {
		w.raw("<Meta>")
		w.leaf("MaxMsgSize", metinfNS, strconv.Itoa(m.MaxMsgSize))
		w.raw("</Meta>")
	}
	w.raw("</SyncHdr>")
}

func (w *writer) body(m *Message) {
	w.raw("<SyncBody")
	if anyOriginalError(m.Commands) {
		w.raw(msftNS)
	}
	w.raw(">")
	w.commands(m.Commands)
	if m.Final {
		w.raw("<Final/>")
	}
	w.raw("</SyncBody>")
}

func anyOriginalError(commands []Command) bool {
	for _, c := range commands {
		if c.OriginalError != "" || anyOriginalError(c.Commands) {
			return true
		}
	}
	return false
}

func (w *writer) commands(commands []Command) {
	for _, c := range commands {
		w.at = strings.TrimSpace(known(string(c.Verb)) + " " + c.ID)
		if err := c.check(); err != nil {
			w.fail(err)
			return
		}
		w.raw("<" + string(c.Verb) + ">")
		w.optional("CmdID", "", c.ID)
		w.fields(c)
		w.commands(c.Commands)
		w.raw("</" + string(c.Verb) + ">")
	}
}

// check looks for what would be read as something else.
func (c Command) check() error {
	switch {
	case !plain(string(c.Verb)):
		return errors.New("the verb must be an element name of plain letters")
	case !c.Verb.holds() && len(c.Commands) > 0:
		return errors.New("only Atomic and Sequence hold commands")
	case c.Verb.holds() && (len(c.Items) > 0 || c.Data != ""):
		return fmt.Errorf("%s holds commands, not items or data", c.Verb)
	}
	return nil
}

// fields writes what stands between CmdID and the end of a command that holds no other; the order is that of Status.
func (w *writer) fields(c Command) {
	if c.Verb.holds() {
		return
	}
	w.optional("MsgRef", "", c.MsgRef)
	w.optional("CmdRef", "", c.CmdRef)
	w.optional("Cmd", "", c.Cmd)
	w.optional("TargetRef", "", c.TargetRef)
	w.optional("SourceRef", "", c.SourceRef)
	w.code(c)
	for _, i := range c.Items {
		w.item(c.Verb, i)
	}
}

// code writes the Data of a Status or an Alert.
func (w *writer) code(c Command) {
	if c.OriginalError == "" {
		w.optional("Data", "", c.Data)
		return
	}
	w.raw(`<Data msft:originalerror="`)
	w.text("originalerror", c.OriginalError)
	w.raw(`">`)
	w.text("Data", c.Data)
	w.raw("</Data>")
}

func (w *writer) item(verb Verb, i Item) {
	w.raw("<Item>")
	if i.Target != "" {
		w.location("Target", i.Target)
	}
	if i.Source != "" {
		w.location("Source", i.Source)
	}
	w.meta(i)
	if i.Data != "" || i.empty(verb) {
		w.leaf("Data", "", i.Data)
	}
	if i.MoreData {
		w.raw("<MoreData/>")
	}
	w.raw("</Item>")
}

// empty says that the item's value is the empty text, which is not the same as none.
func (i Item) empty(verb Verb) bool {
	carries := verb == Add || verb == Replace || verb == Results
	return carries && i.Data == "" && i.Format != "" && i.Format != "node" && i.Format != "null"
}

func (w *writer) meta(i Item) {
	if i.Format == "" && i.Type == "" && i.Size <= 0 {
		return
	}
	w.raw("<Meta>")
	w.optional("Format", metinfNS, i.Format)
	w.optional("Type", metinfNS, i.Type)
	if i.Size > 0 {
		w.leaf("Size", metinfNS, strconv.Itoa(i.Size))
	}
	w.raw("</Meta>")
}
