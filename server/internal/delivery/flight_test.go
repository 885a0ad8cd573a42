package delivery

import (
	"slices"
	"strconv"
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// TestOnlyAWholeValueOr404IsAnAnswer: what is not said, or said by half, never counts as gone.
func TestOnlyAWholeValueOr404IsAnAnswer(t *testing.T) {
	const uri = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"
	status := func(code int) syncml.Command {
		return syncml.Command{Verb: syncml.Status, MsgRef: "1", CmdRef: "3", Cmd: "Get", Data: strconv.Itoa(code)}
	}
	result := func(i syncml.Item) syncml.Command {
		return syncml.Command{Verb: syncml.Results, MsgRef: "1", CmdRef: "3", Items: []syncml.Item{i}}
	}
	tests := []struct {
		name       string
		said       []syncml.Command
		value, bad bool
	}{
		{"a list", []syncml.Command{status(200), result(syncml.Item{Source: uri, Data: "A/B"})}, true, false},
		{"an empty list", []syncml.Command{status(200), result(syncml.Item{Source: uri})}, true, false},
		{"not found", []syncml.Command{status(404)}, false, false},
		{"no results", []syncml.Command{status(200)}, false, true},
		{"results of another node", []syncml.Command{status(200), result(syncml.Item{Source: uri + "/A", Data: "x"})}, false, true},
		{"a piece", []syncml.Command{status(200), result(syncml.Item{Source: uri, Data: "A/", MoreData: true})}, false, true},
		{"later", []syncml.Command{status(202)}, false, true},
		{"refused", []syncml.Command{status(405)}, false, true},
		{"nothing", nil, false, true},
	}
	for _, tt := range tests {
		f := &flight{Sent: []sentCommand{{ID: "3", Verb: syncml.Get, LocURI: uri}}}
		m := syncml.Message{Commands: tt.said}
		r := f.read(m.Answers(1))
		if _, there := r.values[uri]; there != tt.value || slices.Contains(r.unread, uri) != tt.bad {
			t.Errorf("%s: values %v, unread %v", tt.name, r.values, r.unread)
		}
	}
}
