package windows

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Bounds of a session.
const (
	maxMessages = 1000
	maxMessage  = 524288 // what the PC says that it takes
)

// errEnd ends a session without a fault: the PC has left, or chaos cut the line.
var errEnd = errors.New("end of the session")

// session is an OMA DM session (windows.md section 2).
type session struct {
	device  *Device
	client  *http.Client
	id      string
	signer  *identity // of MDM-Signature; nil: messages are not signed
	msgID   int
	sent    []syncml.Command // of the last message
	pending int
	renew   bool // a command asked for a new MDM certificate
}

// newSession opens a session with a fresh id.
func (d *Device) newSession() (*session, error) {
	if d.state.MDM == nil {
		return nil, d.notEnrolled()
	}
	id, err := d.state.MDM.identity()
	if err != nil {
		return nil, err
	}
	if print := thumbprint(id.cert); d.client == nil || d.idOf != print {
		d.dropClient()
		d.client, d.idOf = d.newClient(id), print
	}
	s := &session{device: d, client: d.client, id: d.sessionID()}
	if d.cfg.Sign || d.node(d.providerURI()+"/RequireMessageSigning") == "true" {
		s.signer = id
	}
	d.state.PC.SetLogin(d.folder.Logon())
	return s, d.save()
}

// sessionID counts in decimal; with SyncApplicationVersion 2.0 and later the id is two bytes in hex (windows.md section
// 2.2).
func (d *Device) sessionID() string {
	d.state.Sessions = d.state.Sessions%0xffff + 1
	if version, err := strconv.ParseFloat(d.node(d.providerURI()+"/SyncApplicationVersion"), 64); err == nil && version >= 2 {
		return fmt.Sprintf("%X", d.state.Sessions)
	}
	return strconv.Itoa(d.state.Sessions)
}

func (d *Device) notEnrolled() error {
	if d.state.Gone != "" {
		return fmt.Errorf("%w: %s", ErrNotEnrolled, d.state.Gone)
	}
	return ErrNotEnrolled
}

// opening is the first message of a session (windows.md section 2.3).
func (s *session) opening(more ...syncml.Command) []syncml.Command {
	d := s.device
	out := []syncml.Command{
		{Verb: syncml.Alert, Data: syncml.AlertClientInitiated},
		{Verb: syncml.Alert, Data: syncml.AlertClientEvent, Items: []syncml.Item{{Type: syncml.TypeLoginStatus, Data: d.folder.Logon()}}},
	}
	out = append(out, more...)
	info := syncml.Command{Verb: syncml.Replace}
	for _, pair := range [][2]string{
		{"DevId", d.state.MDM.DeviceID}, {"Man", manufacturer}, {"Mod", d.state.Model}, {"DmV", "1.3"}, {"Lang", "en-US"},
	} {
		info.Items = append(info.Items, syncml.Item{Source: "./DevInfo/" + pair[0], Data: pair[1]})
	}
	return append(out, info)
}

// talk keeps the session going until the server sends only statuses.
func (s *session) talk(ctx context.Context, r *Report) error {
	out := s.opening(s.device.results()...)
	for range maxMessages {
		in, err := s.exchange(ctx, out)
		if err != nil {
			return err
		}
		s.device.state.Asked = nil // told; told twice if the session dies now
		r.Pending = s.pending
		commands := commandsOf(in)
		if aborted(commands) || len(commands) == 0 && in.Final {
			return nil
		}
		if out, err = s.carryOut(in, commands, r); err != nil {
			return err
		}
		if !in.Final {
			out = append(out, syncml.Command{Verb: syncml.Alert, Data: syncml.AlertNextMessage})
		}
		if s.device.state.Ending == endWipe {
			_, err := s.exchange(ctx, out)
			return errors.Join(errEnd, logged(s.device, err))
		}
	}
	return fmt.Errorf("the server did not end the session after %d messages", maxMessages)
}

// logged keeps an error out of the way that changes nothing any more.
func logged(d *Device, err error) error {
	if err != nil {
		d.cfg.Log.Info("the last message did not arrive", "reason", err)
	}
	return nil
}

func commandsOf(in *syncml.Message) []syncml.Command {
	var out []syncml.Command
	for _, c := range in.Commands {
		if c.Verb != syncml.Status && c.Verb != syncml.Results {
			out = append(out, c)
		}
	}
	return out
}

func aborted(commands []syncml.Command) bool {
	return len(commands) > 0 && commands[0].Verb == syncml.Alert && commands[0].Data == syncml.AlertAbort
}

// carryOut executes commands and makes the answers. The state is saved before anything is sent: a session that dies now
// leaves commands that were carried out and not answered, which the server will send again.
func (s *session) carryOut(in *syncml.Message, commands []syncml.Command, r *Report) ([]syncml.Command, error) {
	d := s.device
	ref := strconv.Itoa(in.MsgID)
	answers, did := d.state.PC.Execute(ref, commands)
	r.note(commands, answers)
	for _, id := range did.SCEP {
		delete(d.state.Asking, id) // another challenge, another key
	}
	d.dropDeleted()
	switch {
	case did.Wipe:
		d.state.Ending = endWipe
	case did.Unenroll && d.state.Ending == "":
		d.state.Ending = endUnenroll
	}
	s.renew = s.renew || did.Renew
	d.state.Results++
	if err := d.save(); err != nil {
		return nil, err
	}
	if did.Unenroll { // no Status comes back (windows.md section 2.8)
		return nil, errEnd
	}
	if d.chaotic(ChaosAbort) && d.state.Results%4 == 2 {
		r.cut = true
		return nil, errEnd
	}
	header := syncml.Command{Verb: syncml.Status, MsgRef: ref, CmdRef: "0", Cmd: "SyncHdr", Data: strconv.Itoa(syncml.StatusOK)}
	return append([]syncml.Command{header}, answers...), nil
}

// exchange sends a message and reads the answer to it.
func (s *session) exchange(ctx context.Context, commands []syncml.Command) (*syncml.Message, error) {
	d := s.device
	s.msgID++
	d.state.Messages++
	s.sent, _ = syncml.Number(1, commands)
	m := &syncml.Message{
		SessionID: s.id, MsgID: s.msgID, Target: d.state.MDM.Address, Source: d.state.MDM.DeviceID,
		MaxMsgSize: maxMessage, Commands: s.sent, Final: true,
	}
	body, err := m.Encode()
	if err != nil {
		return nil, fmt.Errorf("making a message to the server: %w", err)
	}
	if d.chaotic(ChaosDuplicate) && d.state.Messages%2 == 1 {
		if _, err := s.send(ctx, body); err != nil {
			return nil, err
		}
	}
	in, err := s.send(ctx, body)
	if err == nil && d.chaotic(ChaosLost) && s.msgID > 1 && d.state.Results%5 == 3 {
		return nil, errLost
	}
	return in, err
}

// errLost is an answer that never arrived.
var errLost = fmt.Errorf("the answer of the server was lost: %w", errEnd)

func (s *session) send(ctx context.Context, body []byte) (*syncml.Message, error) {
	header, err := s.header(body)
	if err != nil {
		return nil, err
	}
	d := s.device
	resp, err := d.post(ctx, s.client, sessionURL(d.state.MDM.Address), syncml.ContentType+"; charset=utf-8", body, header)
	if err != nil {
		return nil, err
	}
	if resp.status != http.StatusOK {
		return nil, resp.refusal()
	}
	if kind := resp.mediaType(); kind != syncml.ContentType {
		return nil, fmt.Errorf("the server's message has the content type %q; %s is right", kind, syncml.ContentType)
	}
	s.pending = resp.pending
	in, err := syncml.Decode(resp.body)
	if err != nil {
		return nil, fmt.Errorf("reading the server's message: %w", err)
	}
	return in, s.check(in)
}

// sessionURL adds the query that Windows sends (windows.md section 2.1).
func sessionURL(address string) string {
	const query = "mode=Maintenance&Platform=WoA"
	if strings.Contains(address, "?") {
		return address + "&" + query
	}
	return address + "?" + query
}

// header are the HTTP headers of a message.
func (s *session) header(body []byte) (http.Header, error) {
	out := http.Header{
		"Accept":         {syncml.ContentType + ", application/octet-stream"},
		"Accept-Charset": {"UTF-8"}, "Accept-Encoding": {"identity"}, "Expect": {"100-Continue"}, "User-Agent": {userAgentManage},
	}
	if s.signer == nil {
		return out, nil
	}
	signature, err := cms.Sign(body, s.signer.cert, s.signer.key, cms.SignOptions{Detached: true, SigningTime: s.device.now()})
	if err != nil {
		return nil, fmt.Errorf("signing a message to the server: %w", err)
	}
	out["MDM-Signature"] = []string{base64.StdEncoding.EncodeToString(signature)}
	return out, nil
}

// check holds the server to its rules (windows.md section 2.4): the session's id comes back, the message is for this PC,
// the header has a Status, and so has each command that the PC sent.
func (s *session) check(in *syncml.Message) error {
	switch {
	case in.SessionID != s.id:
		return fmt.Errorf("the server's message is of session %q; this one is %q", in.SessionID, s.id)
	case in.Target != s.device.state.MDM.DeviceID:
		return errors.New("the Target of the server's message is not the DeviceID of this PC")
	}
	answers := in.Answers(s.msgID)
	switch code, there := answers.Header(); {
	case !there:
		return fmt.Errorf("the server's message has no Status for the header of message %d", s.msgID)
	case code != syncml.StatusOK && code != syncml.StatusAuthenticated:
		return fmt.Errorf("the server answers %d to the header of message %d: %s", code, s.msgID, syncml.Meaning(code))
	}
	for _, c := range s.sent {
		if c.Verb == syncml.Status || c.Verb == syncml.Results {
			continue
		}
		if _, there := answers.Status(c.ID); !there {
			return fmt.Errorf("the server's message has no Status for %s %s of message %d", c.Verb, c.ID, s.msgID)
		}
	}
	for _, stray := range answers.Strays() {
		s.device.cfg.Log.Warn("the server answers what was not asked", "verb", stray.Verb, "msgRef", stray.MsgRef, "cmdRef", stray.CmdRef)
	}
	return nil
}
