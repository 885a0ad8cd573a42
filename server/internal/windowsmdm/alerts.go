package windowsmdm

import (
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// heard is what a message says besides answers.
type heard struct {
	// login is the LoginStatus: "user", "others" or "none"; empty: not said. In a session that takes the device's part
	// alone it is "none", whoever is logged on: what is the user's would get 405.
	login      string
	deviceOnly bool
	unenrolled bool // the user, or we, ended the enrolment
	aborted    bool
}

// hear reads the alerts of a message (windows.md section 2.3). What it does not know it leaves alone.
func hear(msg *syncml.Message) heard {
	var h heard
	for _, c := range msg.Commands {
		if c.Verb != syncml.Alert {
			continue
		}
		h.aborted = h.aborted || c.Data == syncml.AlertAbort
		for _, i := range c.Items {
			h.event(c.Data, i)
		}
	}
	if h.deviceOnly {
		h.login = "none"
	}
	return h
}

func (h *heard) event(code string, i syncml.Item) {
	switch {
	case code == syncml.AlertClientEvent && strings.EqualFold(i.Type, syncml.TypeLoginStatus):
		if login := strings.ToLower(strings.TrimSpace(i.Data)); login == "user" || login == "others" || login == "none" {
			h.login = login
		}
	case code == syncml.AlertClientEvent && strings.EqualFold(i.Type, syncml.TypeSyncType):
		h.deviceOnly = h.deviceOnly || strings.EqualFold(strings.TrimSpace(i.Data), "device")
	case code == syncml.AlertGeneric && strings.EqualFold(i.Type, syncml.TypeUnenroll):
		h.unenrolled = true
	}
}

// replies are our statuses, in order: one for the header, one for each command of the PC, none for its answers.
func replies(msg *syncml.Message) []syncml.Command {
	out := []syncml.Command{headerStatus(msg, syncml.StatusOK)}
	for _, c := range msg.Commands {
		code := syncml.StatusOK
		switch c.Verb {
		case syncml.Status, syncml.Results:
			continue
		case syncml.Alert, syncml.Replace, syncml.Add:
		default:
			code = syncml.StatusUnsupportedFeature
		}
		if c.ID == "" {
			continue // nothing to answer by
		}
		out = append(out, status(msg, len(out)+1, c.ID, string(c.Verb), code))
	}
	return out
}

func headerStatus(msg *syncml.Message, code int) syncml.Command {
	return status(msg, 1, "0", "SyncHdr", code)
}

func status(msg *syncml.Message, id int, ref, cmd string, code int) syncml.Command {
	return syncml.Command{Verb: syncml.Status, ID: strconv.Itoa(id), MsgRef: strconv.Itoa(msg.MsgID), CmdRef: ref, Cmd: cmd, Data: strconv.Itoa(code)}
}
