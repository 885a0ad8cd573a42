package delivery

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// flight is an action whose commands are at the device. It holds no secret: it is stored between two messages.
type flight struct {
	Action reconcile.ActionKind `json:"action"`
	UUID   string               `json:"uuid"`
	Sent   []sentCommand        `json:"sent"`
	// Document and Revision are set for an install; Checks is what must be read back.
	Document string          `json:"document,omitempty"`
	Revision string          `json:"revision,omitempty"`
	Checks   []windows.Check `json:"checks,omitempty"`
	// Reading: the commands are the Gets of the checks. Failure and Exists are what the commands before them got.
	Reading bool   `json:"reading,omitempty"`
	Failure string `json:"failure,omitempty"`
	Exists  bool   `json:"exists,omitempty"`
	// Replacing: what was there has been deleted first.
	Replacing bool `json:"replacing,omitempty"`
	// Stage and Identifier are set for a certificate that the PC asks for itself.
	Stage      string `json:"stage,omitempty"`
	Identifier string `json:"identifier,omitempty"`

	commands []syncml.Command
}

// sentCommand is one command, an inner one too.
type sentCommand struct {
	ID     string      `json:"id"`
	Verb   syncml.Verb `json:"verb"`
	LocURI string      `json:"locURI,omitempty"`
}

// readFlight reads what a session kept; what cannot be read waits for nothing.
func readFlight(state json.RawMessage) *flight {
	if len(state) == 0 {
		return nil
	}
	var f flight
	if json.Unmarshal(state, &f) != nil {
		return nil
	}
	return &f
}

// unwritable is a document that no commands can be made of.
type unwritable struct{ error }

// install makes the commands of a document; its error is an *unwritable. replace: what is there is deleted first.
func (f *flight) install(doc platforms.Document, payload []byte, replace bool) (err error) {
	if !doc.HasSecrets() {
		if payload, err = windows.Render(doc, nil, nil); err != nil {
			return &unwritable{err}
		}
	}
	f.Document, f.Revision, f.Replacing = doc.ID, doc.Revision, replace
	f.commands, f.Checks, err = windows.Install(doc, payload, replace)
	if err != nil {
		return &unwritable{err}
	}
	return nil
}

// readBack is the stage after an install.
func (f *flight) readBack(answers syncml.Answers) *flight {
	next := f.readingBack()
	next.Failure, _ = f.failure(answers)
	for _, c := range f.Sent {
		status, _ := answers.Status(c.ID)
		next.Exists = next.Exists || status.Code == syncml.StatusExists
	}
	return next
}

// readingBack is the flight with the Gets of its checks as commands.
func (f *flight) readingBack() *flight {
	next := *f
	next.Reading, next.Sent, next.commands = true, nil, nil
	var uris []string
	for _, c := range f.Checks {
		uris = append(uris, c.LocURI)
	}
	next.get(uris)
	return &next
}

// get asks for each node by a command of its own: a missing one is a 404 of its own then.
func (f *flight) get(uris []string) {
	for _, uri := range uris {
		f.commands = append(f.commands, syncml.Command{Verb: syncml.Get, Items: []syncml.Item{{Target: uri}}})
	}
}

// number gives the commands their ids and notes them.
func (f *flight) number(first int) []syncml.Command {
	numbered, _ := syncml.Number(first, f.commands)
	f.Sent = nil
	f.note(numbered)
	return numbered
}

func (f *flight) note(commands []syncml.Command) {
	for _, c := range commands {
		sent := sentCommand{ID: c.ID, Verb: c.Verb}
		if len(c.Items) > 0 {
			sent.LocURI = c.Items[0].Target
		}
		f.Sent = append(f.Sent, sent)
		f.note(c.Commands)
	}
}

// answered tells whether the device said anything of these commands; a message that came twice, or an older one, does not.
func (f *flight) answered(answers syncml.Answers) bool {
	if f == nil {
		return false
	}
	for _, c := range f.Sent {
		if _, ok := answers.Status(c.ID); ok {
			return true
		}
	}
	return false
}

// askedAgain is the reading back of an install that the device did not answer: it is safe to repeat, and the install itself
// need not be. Everything else is offered again by reconcile.
func (f *flight) askedAgain() *flight {
	if f == nil || !f.Reading || len(f.Checks) == 0 {
		return nil
	}
	return f.readingBack()
}

// values are the nodes that the device gave, by LocURI as we asked.
func (f *flight) values(answers syncml.Answers) map[string]string { return f.read(answers).values }

// reading is what Gets brought.
type reading struct {
	// values are by LocURI, as we asked.
	values map[string]string
	// unread are the LocURIs of the Gets that were answered neither with a value nor with 404.
	unread []string
}

func (f *flight) read(answers syncml.Answers) reading {
	r := reading{values: map[string]string{}}
	for _, c := range f.Sent {
		status, _ := answers.Status(c.ID)
		v, ok := answers.Value(c.ID, c.LocURI)
		switch {
		case status.Code == syncml.StatusOK && ok && whole(answers, c.ID):
			r.values[c.LocURI] = v
		case status.Code != syncml.StatusNotFound:
			r.unread = append(r.unread, c.LocURI)
		}
	}
	return r
}

// whole tells whether no piece of a value is missing: half a list would look as if the other half was gone.
func whole(answers syncml.Answers, cmdID string) bool {
	return !slices.ContainsFunc(answers.Results(cmdID), func(i syncml.Item) bool { return i.MoreData })
}

// landedList is what a certificate list can be read from: the device has just answered the document list, whose Gets are
// the same.
func landedList(f *flight, landed bool, answers syncml.Answers) *reading {
	if !landed || f.Action != reconcile.ActionListDocuments {
		return nil
	}
	return new(f.read(answers))
}

// hides names a node that could not be read although a document is there, below or above; empty when there is none.
func (r reading) hides(docs []platforms.Document) string {
	for _, uri := range r.unread {
		for _, doc := range docs {
			if doc.Identifier != "" && (within(doc.Identifier, uri) || within(uri, doc.Identifier)) {
				return uri
			}
		}
	}
	return ""
}

// within tells whether a LocURI is another one or lies below it.
func within(uri, parent string) bool {
	return strings.EqualFold(uri, parent) || (len(uri) > len(parent) && uri[len(parent)] == '/' && strings.EqualFold(uri[:len(parent)], parent))
}

// failure is a sentence about the command that is to blame; empty when all went well. In a failed Atomic that is neither
// the Atomic itself nor what was rolled back or not begun (windows.md section 2.4). absent: nothing failed but for
// targets that were not there, which is what a removal wants. A wipe that the PC does not know is none.
func (f *flight) failure(answers syncml.Answers) (sentence string, absent bool) {
	for _, c := range f.Sent {
		status, ok := answers.Status(c.ID)
		switch {
		case !ok, carriedOut(status.Code):
		case status.Code == syncml.StatusNotFound && f.removes(c):
			absent = true
		case sentence == "" || isConsequence(sentence):
			sentence = describe(c, status)
		}
	}
	if sentence == "" && absent && f.Action == reconcile.ActionRemoveEnrolment {
		return "the PC knows no enrolment of ours", true
	}
	return sentence, absent && sentence == ""
}

// carriedOut tells whether a status says that the command was, or will be. Those of the 200s that say that it was
// cancelled, not begun or undone do not.
func carriedOut(code int) bool { return code >= syncml.StatusOK && code <= syncml.StatusChunkAccepted }

// removes tells whether the command is content to find nothing.
func (f *flight) removes(c sentCommand) bool {
	return c.Verb == syncml.Delete || (c.Verb == syncml.Exec && f.Action == reconcile.ActionRemoveEnrolment)
}

// consequence begins the sentences about statuses that another command is to blame for.
const consequence = "the PC took nothing of a group of commands"

func isConsequence(sentence string) bool { return strings.HasPrefix(sentence, consequence) }

// facilityWin32 begins the HRESULTs that stand for Win32 errors.
const facilityWin32 = 0x8007

func describe(c sentCommand, status syncml.Outcome) string {
	if c.Verb == syncml.Atomic || c.Verb == syncml.Sequence || status.Code == syncml.StatusNotExecuted || status.Code == syncml.StatusRolledBack {
		return consequence + " (" + strconv.Itoa(status.Code) + ")"
	}
	out := fmt.Sprintf("the PC refused %s of %s: %s (%d)", c.Verb, c.LocURI, syncml.Meaning(status.Code), status.Code)
	code, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(status.OriginalError), "0x"), 16, 32)
	switch {
	case err != nil:
		return out
	case strings.Contains(c.LocURI, "/PFXCertInstall/") && c.Verb != syncml.Delete:
		if code>>16 == facilityWin32 {
			code &= 0xFFFF // the number that the Status node has (windows.md section 3.1)
		}
		return fmt.Sprintf("the PC refused the PFX: %s; it answered %d to %s of %s", windows.ImportMeaning(int64(code)), status.Code, c.Verb, c.LocURI)
	}
	return out + fmt.Sprintf(", error 0x%08X", code)
}
