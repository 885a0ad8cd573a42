package leak

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
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
	header := mdm.Header{Enrollment: mdm.Enrollment{UDID: h.udid(device)}}
	h.checkIn(device, &mdm.SetBootstrapToken{Header: header, BootstrapToken: token})
	answer := h.checkIn(device, &mdm.GetBootstrapToken{Header: header})
	if !holds(answer, string(token)) {
		h.t.Errorf("the server gives another bootstrap token back: %q", answer)
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

func (h *house) udid(device string) string {
	h.t.Helper()
	var info struct{ UDID string }
	if err := json.Unmarshal([]byte(h.must("waxseal-agent", "info", "--state", h.path(device))), &info); err != nil || info.UDID == "" {
		h.t.Fatalf("%s has no UDID: %v", device, err)
	}
	return info.UDID
}

// identity is a device's own, out of its keychain.
func (h *house) identity(device string) opener {
	h.t.Helper()
	for _, o := range h.exported(device, h.path("own-"+device)) {
		if ofDeviceCA(o.cert) {
			return o
		}
	}
	h.t.Fatalf("%s has no certificate of the device CA", device)
	return opener{}
}

// checkIn sends a message by the identity of a device of Apple's.
func (h *house) checkIn(device string, m mdm.Message) []byte {
	h.t.Helper()
	message, err := mdm.EncodeCheckin(m)
	if err != nil {
		h.t.Fatal(err)
	}
	id := h.identity(device)
	signature, err := cms.Sign(message, id.cert, id.key.(crypto.Signer), cms.SignOptions{Detached: true})
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodPut, h.proxy.URL+checkin, bytes.NewReader(message))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-apple-aspen-mdm-checkin")
	req.Header.Set("Mdm-Signature", base64.StdEncoding.EncodeToString(signature))
	resp, err := h.proxy.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %s, %v: %s", m.Type(), resp.Status, err, answer)
	}
	return answer
}
