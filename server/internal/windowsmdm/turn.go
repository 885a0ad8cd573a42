package windowsmdm

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// turn is what a session keeps while the PC is to speak: which commands it answers, what it has answered so far, and what
// Delivery waits for.
type turn struct {
	// Asked is the MsgID of our message with the commands, whose CmdIDs, inner ones too, are First to Last.
	Asked int `json:"asked,omitempty"`
	First int `json:"first,omitempty"`
	Last  int `json:"last,omitempty"`
	// Said are the statuses and results that came in messages without Final; the rest of them follows.
	Said []syncml.Command `json:"said,omitempty"`
	// State is Delivery's.
	State json.RawMessage `json:"state,omitempty"`
}

const (
	// maxSaid and maxSaidBytes bound what is kept of an answer in several messages.
	maxSaid      = 2000
	maxSaidBytes = syncml.MaxMessage
)

// readTurn reads what a session kept; what cannot be read waits for nothing.
func readTurn(state json.RawMessage) turn {
	var t turn
	if len(state) == 0 || json.Unmarshal(state, &t) != nil {
		return turn{}
	}
	return t
}

// encode is what the session keeps; nothing when no commands are out.
func (t turn) encode() (json.RawMessage, error) {
	if t.Asked == 0 {
		return nil, nil
	}
	return json.Marshal(t)
}

// hear takes the answers of a message in that another one follows; false when they become too many. What is stored
// counts, and not the values alone: a PC may make every part of an answer long.
func (t *turn) hear(msg *syncml.Message) bool {
	for _, c := range msg.Commands {
		if (c.Verb == syncml.Status || c.Verb == syncml.Results) && c.MsgRef == strconv.Itoa(t.Asked) && t.has(c.CmdRef) {
			t.Said = append(t.Said, c)
		}
	}
	raw, err := t.encode()
	return err == nil && len(raw) <= maxSaidBytes && len(t.Said) <= maxSaid
}

// answers pairs what the PC says now, and said in the messages before, with our commands. strangers counts what answers
// no command of ours. heard is the MsgID of the message before: its own answer has only a header, and perhaps an alert.
func (t turn) answers(msg *syncml.Message, heard int) (a syncml.Answers, strangers int) {
	all := syncml.Message{Commands: slices.Concat(t.Said, msg.Commands)}
	a = all.Answers(t.Asked)
	for _, c := range a.Strays() {
		if heard == t.Asked || c.MsgRef != strconv.Itoa(heard) {
			strangers++
		}
	}
	for _, ref := range a.Refs() {
		if !t.has(ref) {
			strangers++
		}
	}
	return a, strangers
}

// has tells whether a CmdID is one of our commands.
func (t turn) has(ref string) bool {
	id, err := strconv.Atoi(ref)
	return err == nil && t.Asked > 0 && t.First <= id && id <= t.Last && strconv.Itoa(id) == ref
}

// count is how many CmdIDs the commands take.
func count(commands []syncml.Command) int {
	n := len(commands)
	for _, c := range commands {
		n += count(c.Commands)
	}
	return n
}
