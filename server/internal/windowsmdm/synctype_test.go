package windowsmdm_test

import (
	"testing"

	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// A session may take one part of the PC alone, and says so in either order (MS-MDM, SyncType alert).
func TestSyncType(t *testing.T) {
	for said, want := range map[string]string{"device": "none", " Device\n": "none", "user": "user", "mixed": "user", "": "user"} {
		for _, first := range []bool{true, false} {
			login, scope := alert("8", syncml.AlertClientEvent, syncml.TypeLoginStatus, "user"), alert("9", syncml.AlertClientEvent, syncml.TypeSyncType, said)
			both := []syncml.Command{login, scope}
			if first {
				both = []syncml.Command{scope, login}
			}
			d := newDesk(t)
			d.say(t, message("1", 1, append(opening(""), both...)...))
			if got := d.delivery.heard[0].session.Login; got != want {
				t.Errorf("synctype %q, first %v: login %q, want %q", said, first, got, want)
			}
		}
	}
}
