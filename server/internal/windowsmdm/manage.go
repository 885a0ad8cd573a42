package windowsmdm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// ManagementPath is where the management client of an enrolled PC speaks; Windows appends a query of its own.
const ManagementPath = "/ManagementServer/MDM.svc"

// pendingHeader counts, on an answer without a command, what will come by itself. Windows does not look at it; a
// simulated PC that polls uses it to know whether to wait.
const pendingHeader = "Waxseal-Pending"

// maxMessages ends a session that finds no end; a PC with a hundred certificates takes about two hundred.
const maxMessages = 1000

// maxReplies bounds our statuses, so that they always fit into one message; real PCs want fewer than twenty.
const maxReplies = 200

// Delivery takes what a PC answered to our last message and gives the commands of the next one, numbered from first; none:
// the session is over. What they wait for is left in s.State. Idempotent: answers to nothing that we sent change nothing,
// and what is under way is offered again. Durable on return, but for s itself.
type Delivery interface {
	Exchange(ctx context.Context, enr model.Enrolment, s *model.Session, answers syncml.Answers, first int) (commands []syncml.Command, pending int, err error)
}

// Sessions keeps the latest session of each enrolment, for all server nodes.
type Sessions interface {
	// Session is the latest one; model.ErrNotFound before the first.
	Session(ctx context.Context, enrolmentID string) (model.Session, error)
	// SaveSession replaces it, durable on return. model.ErrConflict: it is not the version that was read.
	SaveSession(ctx context.Context, s model.Session) error
}

// Devices reads one device; model.ErrNotFound.
type Devices interface {
	DeviceByID(ctx context.Context, id string) (model.Device, error)
}

func (e *Endpoint) manageRoutes(r *web.Router) {
	r.Handle(ManagementPath, web.Options{Text: true, MaxBody: syncml.MaxMessage}, e.manage, http.MethodPost)
}

// manage answers one message of a management session (windows.md section 2). One exchange is one message each way.
func (e *Endpoint) manage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	enr, msg, err := e.receive(r)
	if err != nil {
		return e.refused(ctx, enr.ID, err)
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	if !belongs(enr, msg) {
		e.cfg.Refusals.Note(ctx, actor(enr.ID), "mdm.message", enr.ID, "the message names another device than its certificate is bound to", nil)
		return e.reply(w, msg, []syncml.Command{headerStatus(msg, syncml.StatusForbidden)}, 0)
	}
	commands, pending, err := e.converse(ctx, enr, msg)
	if err != nil {
		return e.refused(ctx, enr.ID, err)
	}
	return e.reply(w, msg, commands, pending)
}

// receive proves the sender before it reads the message.
func (e *Endpoint) receive(r *http.Request) (model.Enrolment, *syncml.Message, error) {
	body, err := web.ReadBody(r)
	if err != nil {
		return model.Enrolment{}, nil, err
	}
	enr, err := e.cfg.Sender.Find(r, body)
	if err != nil {
		return model.Enrolment{}, nil, err
	}
	if enr.Platform != profiles.Windows {
		return model.Enrolment{}, nil, &identity.Refusal{Reason: "the certificate is that of enrolment " + enr.ID + ", which is not a PC's; Windows speaks here"}
	}
	msg, err := syncml.Decode(body)
	if err != nil {
		return enr, nil, &identity.Refusal{Reason: "the message cannot be read: " + err.Error()}
	}
	if n := len(replies(msg)); n > maxReplies {
		return enr, nil, &identity.Refusal{Reason: fmt.Sprintf("the message wants %d statuses; at most %d are given", n, maxReplies)}
	}
	return enr, msg, nil
}

// belongs: the certificate proves the enrolment, and the message must name the DeviceID of that very enrolment, wherever
// it names one.
func belongs(enr model.Enrolment, msg *syncml.Message) bool {
	if enr.ExternalID == "" || !strings.EqualFold(msg.Source, enr.ExternalID) {
		return false
	}
	for _, c := range msg.Commands {
		for _, i := range c.Items {
			if c.Verb == syncml.Replace && syncml.EqualLocURI(i.Source, "./DevInfo/DevId") && !strings.EqualFold(strings.TrimSpace(i.Data), enr.ExternalID) {
				return false
			}
		}
	}
	return true
}

// converse gives the elements of the answer: a status for each thing the PC said, then commands.
func (e *Endpoint) converse(ctx context.Context, enr model.Enrolment, msg *syncml.Message) ([]syncml.Command, int, error) {
	statuses := replies(msg)
	said := hear(msg)
	switch {
	case enr.State == model.EnrolmentEnded:
		return e.farewell(ctx, enr, msg, statuses, said)
	case said.unenrolled:
		err := e.cfg.Identity.CheckOut(ctx, enr)
		e.cfg.Kick() // certificates may have to be revoked
		return statuses, 0, err
	case said.aborted || msg.MsgID > maxMessages:
		return statuses, 0, nil
	case !msg.Final:
		return e.more(ctx, enr, msg, said, statuses)
	}
	enr, err := e.cfg.Identity.Activate(ctx, enr)
	if err != nil {
		return nil, 0, err
	}
	first, err := e.unforeseeable(len(statuses) + 1)
	if err != nil {
		return nil, 0, err
	}
	commands, pending, err := e.next(ctx, enr, msg, said, first)
	return append(statuses, commands...), pending, err
}

// more asks for the rest of what the PC has begun to say (windows.md section 2.4), and keeps what it said.
func (e *Endpoint) more(ctx context.Context, enr model.Enrolment, msg *syncml.Message, said heard, statuses []syncml.Command) ([]syncml.Command, int, error) {
	s, t, err := e.session(ctx, enr, msg, said)
	if err != nil {
		return nil, 0, err
	}
	if msg.MsgID == s.Heard+1 || s.Heard == 0 {
		s.Heard = msg.MsgID
		if !t.hear(msg) {
			return statuses, 0, e.keep(ctx, s, turn{}) // too much: the session is over
		}
	}
	next := syncml.Command{Verb: syncml.Alert, ID: strconv.Itoa(len(statuses) + 1), Data: syncml.AlertNextMessage}
	return append(statuses, next), 0, e.keep(ctx, s, t)
}

// unforeseeable is the number of our next command. Answers name it, so those of a session that somebody recorded behind a
// proxy fit no other.
func (e *Endpoint) unforeseeable(least int) (int, error) {
	var b [4]byte
	if _, err := io.ReadFull(e.cfg.Rand, b[:]); err != nil {
		return 0, fmt.Errorf("choosing the number of a command: %w", err)
	}
	return least + int(binary.BigEndian.Uint32(b[:])>>2), nil
}

// next carries the session on: what it waited for is in the store, since the next message may reach another node.
func (e *Endpoint) next(ctx context.Context, enr model.Enrolment, msg *syncml.Message, said heard, first int) ([]syncml.Command, int, error) {
	s, t, err := e.session(ctx, enr, msg, said)
	if err != nil {
		return nil, 0, err
	}
	answers := e.answers(ctx, enr, msg, s, t)
	waited := len(s.State) > 0
	s.State = t.State
	commands, pending, err := e.cfg.Delivery.Exchange(ctx, enr, &s, answers, first)
	if err != nil {
		return nil, 0, err
	}
	t = turn{}
	if len(commands) > 0 {
		pending = 0
		t = turn{Asked: msg.MsgID, First: first, Last: first + count(commands) - 1, State: s.State}
	}
	s.Heard = msg.MsgID
	if waited || len(commands) > 0 { // an idle session leaves nothing behind
		err = e.keep(ctx, s, t)
	}
	return commands, pending, err
}

// session gives the session of a message and what it keeps. Another SessionID, or the first message, begins anew.
func (e *Endpoint) session(ctx context.Context, enr model.Enrolment, msg *syncml.Message, said heard) (model.Session, turn, error) {
	s, err := e.cfg.Sessions.Session(ctx, enr.ID)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return s, turn{}, err
	}
	if s.ID != msg.SessionID || msg.MsgID == 1 {
		s = model.Session{EnrolmentID: enr.ID, ID: msg.SessionID, Version: s.Version}
	}
	if said.login != "" {
		s.Login = said.login
	}
	return s, readTurn(s.State), nil
}

func (e *Endpoint) keep(ctx context.Context, s model.Session, t turn) (err error) {
	if s.State, err = t.encode(); err != nil {
		return fmt.Errorf("keep what the session waits for: %w", err)
	}
	s.UpdatedAt = e.cfg.Clock()
	return e.cfg.Sessions.SaveSession(ctx, s)
}

// answers are those of a message to our last commands. One that came before, or that skips one, answers nothing.
func (e *Endpoint) answers(ctx context.Context, enr model.Enrolment, msg *syncml.Message, s model.Session, t turn) syncml.Answers {
	if t.Asked == 0 || msg.MsgID != s.Heard+1 {
		return syncml.Answers{}
	}
	answers, strangers := t.answers(msg, s.Heard)
	if strangers > 0 {
		e.cfg.Refusals.Note(ctx, actor(enr.ID), "mdm.status", enr.ID, "the PC answers commands that were never sent", map[string]string{"answers": strconv.Itoa(strangers)})
	}
	return answers
}

// farewell answers a PC whose enrolment is over. One that was retired or that said goodbye is told to drop it; of one
// that enrolled anew in between, or changed hands, the old certificate is refused.
func (e *Endpoint) farewell(ctx context.Context, enr model.Enrolment, msg *syncml.Message, statuses []syncml.Command, said heard) ([]syncml.Command, int, error) {
	if said.unenrolled {
		return statuses, 0, nil
	}
	const reason = "the enrolment has ended; the PC can be enrolled again with a new secret"
	e.cfg.Refusals.Note(ctx, actor(enr.ID), "mdm.message", enr.ID, reason, nil)
	device, err := e.cfg.Devices.DeviceByID(ctx, enr.DeviceID)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return nil, 0, err
	}
	meant := device.Removal == model.RemovalVerified || device.Removal == model.RemovalReported
	if err != nil || device.State != model.DeviceLeft || !meant {
		return nil, 0, web.Errorf(http.StatusForbidden, "%s", reason)
	}
	if msg.MsgID > 1 { // it was told when it began to speak
		return statuses, 0, nil
	}
	commands, _ := syncml.Number(len(statuses)+1, windows.Unenroll(e.cfg.ProviderID))
	return append(statuses, commands...), 0, nil
}

// refused turns an error into an answer: 403 for a sender that proves nothing, 400 for what cannot be read, 503 for what
// may work the next time, 500 for our own faults.
func (e *Endpoint) refused(ctx context.Context, enrolmentID string, err error) error {
	var refusal *identity.Refusal
	var answer *web.Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &answer), errors.As(err, &tooLarge):
		return err // as it is
	case errors.As(err, &refusal):
		e.cfg.Refusals.Note(ctx, actor(enrolmentID), "mdm.message", enrolmentID, refusal.Reason, nil)
		status := http.StatusForbidden
		if enrolmentID != "" {
			status = http.StatusBadRequest
		}
		return web.Errorf(status, "%s", refusal.Reason)
	case errors.Is(err, model.ErrConflict):
		return web.Hide(http.StatusServiceUnavailable, "the same enrolment is busy; send the message again", err)
	}
	return web.Hide(http.StatusInternalServerError, "the server failed; send the message again", err)
}

// reply writes our message: as many as the PC has sent, so that each answers the one of its own MsgID.
func (e *Endpoint) reply(w http.ResponseWriter, msg *syncml.Message, commands []syncml.Command, pending int) error {
	out := syncml.Message{SessionID: msg.SessionID, MsgID: msg.MsgID, Target: msg.Source, Source: msg.Target, Commands: commands, Final: true}
	body, err := out.Encode()
	if err != nil {
		return err
	}
	if pending > 0 {
		w.Header().Set(pendingHeader, strconv.Itoa(pending))
	}
	send(w, http.StatusOK, syncml.ContentType, body)
	return nil
}
