package leak

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/agent/apple"
)

// iphones and macs of the story, all Alice's: her imported keys travel to each.
var (
	iphones = []string{"iphone", "ipad"}
	macs    = []string{"mac"}
)

const checkin = "/mdm/apple/checkin"

// watchUserChannel copies the database when the first encrypted profile is on its way to the login keychain of a Mac.
func (h *house) watchUserChannel() *snapshot {
	return h.watch("user channel", map[string]string{
		"a profile of the user channel": "SELECT count(*) FROM documents d JOIN enrolments e ON e.id = d.enrolment_id WHERE e.channel = 'user' AND length(d.payload) > 1000",
	}, func(r *http.Request, body []byte) bool {
		return r.URL.Path == "/mdm/apple/command" && strings.HasPrefix(r.UserAgent(), "MDM-OSX/") && holds(body, "EncryptedPayloadContent")
	})
}

// holds tells whether a text stands in data, or in base64 in it.
func holds(data []byte, text string) bool {
	for _, d := range append(decodings(data), decoded{data: data}) {
		if bytes.Contains(d.data, []byte(text)) {
			return true
		}
	}
	return false
}

// escrowBootstrap hands the Mac's bootstrap token to the server, as macOS does, and asks for it, as macOS does before it needs
// it. The server may read it (docs/threat-model.md), and may write it nowhere but among its settings.
func (h *house) escrowBootstrap(device string) {
	h.t.Helper()
	token := make([]byte, 128)
	if _, err := rand.Read(token); err != nil {
		h.t.Fatal(err)
	}
	h.passing[device+": bootstrap token"] = passing{[]string{string(token)}, ofBootstrap}
	d, err := apple.Open(apple.Config{State: h.path(device)})
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if err := d.SetBootstrapToken(h.t.Context(), token); err != nil {
		h.t.Fatal(err)
	}
	if got, err := d.BootstrapToken(h.t.Context()); err != nil || !bytes.Equal(got, token) {
		h.t.Errorf("the server gives another bootstrap token back: %v", err)
	}
}

// ofBootstrap is where a Mac's bootstrap token may be.
func ofBootstrap(place string) bool {
	return body(place, "PUT "+checkin+", ") || inDatabase(place, "settings", "value")
}

// bootstrapTokens are those that the server keeps.
func (h *house) bootstrapTokens() (n int) {
	h.t.Helper()
	db, err := sql.Open("sqlite", "file:"+h.path("server", "waxseal.db")+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := db.QueryRow("SELECT count(*) FROM settings WHERE name LIKE 'bootstrap.%'").Scan(&n); err != nil {
		h.t.Fatal(err)
	}
	return n
}
