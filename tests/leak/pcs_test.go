package leak

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
)

// pcs of the story.
var pcs = []string{"pc", "old-pc"}

// delivered is how many keys come to each device: those of the five encryption certificates (alice-nss holds the one of alice-2019,
// and nothing asks for alice-signing) and the issued one.
const delivered = 6

const (
	management = "/ManagementServer/MDM.svc"
	enrolment  = "/EnrollmentServer/"
)

// enrolPC enrols a PC of Alice's with a one-time secret and syncs it.
func (h *house) enrolPC(device, version, policy string) {
	h.t.Helper()
	link, secret, ok := strings.Cut(h.mustWaxctl("enroll", "link", "--user", "alice@corp.test", "--platform", "windows"), "\n")
	if !ok {
		h.t.Fatalf("enroll link gives %q and no secret", link)
	}
	h.passesTyped(device+": enrolment secret", secret, byDesign)
	file := h.write(device+"-secret", secret+"\n")
	h.must("waxseal-agent", "enroll", link, "--platform", "windows", "--secret-file", file, "--auth-policy", policy,
		"--os-version", version, "--state", h.path(device), "--ca", h.proxy.CA)
	h.sync(device)
}

var wresult = regexp.MustCompile(`name="wresult" value="([^"]+)"`)

// signInTokens are those that the sign-in page handed out.
func (h *house) signInTokens() {
	h.t.Helper()
	n := 0
	for _, r := range h.proxy.taken(h.t) {
		if found := wresult.FindSubmatch(r.body); r.method == http.MethodPost && r.path == enrolment+"Auth" && found != nil {
			n++
			h.passes(fmt.Sprintf("sign-in token %d", n), html.UnescapeString(string(found[1])), byDesign)
		}
	}
	if n != 1 {
		h.t.Errorf("the sign-in page handed out %d tokens, want the one for the second PC", n)
	}
}

// byDesign is where a one-time secret of a PC passes on its only way: to the admin, from the PC to the services of enrolment,
// and back from the sign-in page. Headers, which proxies log, are not among them.
func byDesign(place string) bool {
	return toAdmin(place) || body(place, "POST "+enrolment+"Auth, ", "POST "+enrolment+"Policy.svc, request", "POST "+enrolment+"Enrollment.svc, request")
}

// carriesPKCS12 is where the PKCS#12 of a PC passes: from the connector, through the server's database, to the PC.
func carriesPKCS12(place string) bool {
	return body(place, "POST "+management+", answer 200") || inDatabase(place, "documents", "payload") ||
		strings.HasPrefix(place, "body ") && strings.Contains(place, "POST /connector/") && strings.Contains(place, ", request")
}

// deliveries opens with the PCs' own keys what was sealed to them. It returns the passwords of their PKCS#12 files.
func (h *house) deliveries(s *scanner) (passwords []string) {
	h.t.Helper()
	for _, device := range pcs {
		mine := map[string]bool{}
		for _, content := range s.contents[device] {
			mine[content] = true
			if len(content) != len(pfxPassword) {
				h.t.Errorf("something else than a password was sealed to %s: %d bytes", device, len(content))
			}
		}
		if len(mine) < delivered {
			h.t.Errorf("%d passwords were sealed to %s, want at least %d", len(mine), device, delivered)
		}
		for password := range mine {
			passwords = append(passwords, password)
		}
	}
	return passwords
}

// watchSession copies the database when the first PKCS#12 is on its way to a PC: the session waits for answers, and the
// documents that follow have their payloads.
func (h *house) watchSession() *snapshot {
	return h.watch("session", map[string]string{
		"a session that waits":     "SELECT count(*) FROM sessions WHERE length(state) > 10",
		"a payload with a PKCS#12": "SELECT count(*) FROM documents WHERE CAST(payload AS TEXT) LIKE '%/PFXCertBlob%'",
	}, func(r *http.Request, body []byte) bool {
		return r.URL.Path == management && strings.Contains(string(body), "/PFXCertBlob")
	})
}
