package windowsmdm

import (
	"context"
	"errors"
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
		return enr, nil, &identity.Refusal{Reason: "the certificate is not a PC's; Windows speaks here"}
	}
	msg, err := syncml.Decode(body)
	if err != nil {
		return enr, nil, &identity.Refusal{Reason: "the message cannot be read: " + err.Error()}
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
		return e.farewell(ctx, enr, statuses, said)
	case said.unenrolled:
		err := e.cfg.Identity.CheckOut(ctx, enr)
		e.cfg.Kick() // certificates may have to be revoked
		return statuses, 0, err
	case said.aborted || msg.MsgID > maxMessages:
		return statuses, 0, nil
	case !msg.Final:
		next := syncml.Command{Verb: syncml.Alert, ID: strconv.Itoa(len(statuses) + 1), Data: syncml.AlertNextMessage}
		return append(statuses, next), 0, nil
	}
	enr, err := e.cfg.Identity.Activate(ctx, enr)
	if err != nil {
		return nil, 0, err
	}
	commands, pending, err := e.next(ctx, enr, msg, said, len(statuses)+1)
	return append(statuses, commands...), pending, err
}

// next carries the session on: what it waited for is in the store, since the next message may reach another node.
func (e *Endpoint) next(ctx context.Context, enr model.Enrolment, msg *syncml.Message, said heard, first int) ([]syncml.Command, int, error) {
	s, answers, err := e.session(ctx, enr, msg)
	if err != nil {
		return nil, 0, err
	}
	if said.login != "" {
		s.Login = said.login
	}
	waited := len(s.State) > 0
	commands, pending, err := e.cfg.Delivery.Exchange(ctx, enr, &s, answers, first)
	if err != nil {
		return nil, 0, err
	}
	s.Heard, s.UpdatedAt = msg.MsgID, e.cfg.Clock()
	if waited || len(s.State) > 0 { // an idle session leaves nothing behind
		err = e.cfg.Sessions.SaveSession(ctx, s)
	}
	return commands, pending, err
}

// session gives the session of a message, and its answers to our last one. Another SessionID begins anew; a message that
// came before, or that skips one, answers nothing.
func (e *Endpoint) session(ctx context.Context, enr model.Enrolment, msg *syncml.Message) (model.Session, syncml.Answers, error) {
	s, err := e.cfg.Sessions.Session(ctx, enr.ID)
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return s, syncml.Answers{}, err
	}
	if s.ID != msg.SessionID || msg.MsgID == 1 {
		return model.Session{EnrolmentID: enr.ID, ID: msg.SessionID, Version: s.Version}, syncml.Answers{}, nil
	}
	if msg.MsgID != s.Heard+1 {
		return s, syncml.Answers{}, nil
	}
	answers := msg.Answers(s.Heard)
	if n := len(answers.Strays()); n > 0 {
		e.cfg.Refusals.Note(ctx, actor(enr.ID), "mdm.status", enr.ID, "the PC answers commands that were never sent", map[string]string{"answers": strconv.Itoa(n)})
	}
	return s, answers, nil
}

// farewell answers a PC whose enrolment is over. One that was retired or that said goodbye is told to drop it; of one
// that enrolled anew in between, or changed hands, the old certificate is refused.
func (e *Endpoint) farewell(ctx context.Context, enr model.Enrolment, statuses []syncml.Command, said heard) ([]syncml.Command, int, error) {
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
	commands, _ := syncml.Number(len(statuses)+1, windows.Unenroll(e.cfg.ProviderID))
	return append(statuses, commands...), 0, nil
}

// refused turns an error into an answer: 403 for a sender that proves nothing, 400 for what cannot be read, 503 for what
// may work the next time, 500 for our own faults.
func (e *Endpoint) refused(ctx context.Context, enrolmentID string, err error) error {
	var refusal *identity.Refusal
	var answer *web.Error
	switch {
	case errors.As(err, &answer):
		return answer
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
