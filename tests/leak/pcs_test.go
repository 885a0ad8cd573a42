package leak

import (
	"database/sql"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strings"
	"sync"
)

// phones and pcs of the story, all Alice's: her imported keys travel to each.
var (
	phones = []string{"iphone", "ipad"}
	pcs    = []string{"pc", "old-pc"}
)

// delivered is how many keys come to each PC: those of the five encryption certificates (alice-nss holds the one of alice-2019,
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
	h.oneTime[device+": enrolment secret"] = secret
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
			h.oneTime[fmt.Sprintf("sign-in token %d", n)] = html.UnescapeString(string(found[1]))
		}
	}
	if n != 1 {
		h.t.Errorf("the sign-in page handed out %d tokens, want the one for the second PC", n)
	}
}

// oneTimeSecrets are spent: after that only their hashes are on the server. An enrolment secret is read without its
// dashes and in any case.
func (h *house) oneTimeSecrets() (secrets []secret, travels map[string]func(string) bool) {
	h.t.Helper()
	travels = map[string]func(string) bool{}
	add := func(name, value string) {
		secrets = append(secrets, secret{name, []byte(value)}, secret{name, wide([]byte(value))[2:]})
		travels[name] = byDesign
	}
	for name, value := range h.oneTime {
		add(name, value)
		if plain := strings.ReplaceAll(value, "-", ""); strings.HasSuffix(name, "enrolment secret") {
			add(name, plain)
			add(name, strings.ToLower(value))
			add(name, strings.ToLower(plain))
		}
	}
	return secrets, travels
}

// byDesign is where a one-time secret passes on its only way: to the admin, from the PC to the services of enrolment, and
// back from the sign-in page. Headers, which proxies log, are not among them.
func byDesign(place string) bool {
	return place == "logs/waxctl-calls.log" || strings.HasPrefix(place, "body ") &&
		(strings.Contains(place, "POST /api/v1/enrollment-links, answer") || strings.Contains(place, "POST "+enrolment+"Auth, ") ||
			strings.Contains(place, "POST "+enrolment+"Policy.svc, request") || strings.Contains(place, "POST "+enrolment+"Enrollment.svc, request"))
}

// carriesPKCS12 is where the PKCS#12 of a PC passes: from the connector, through the server's database, to the PC.
func carriesPKCS12(place string) bool {
	switch {
	case strings.HasPrefix(place, "body "):
		return strings.Contains(place, "POST "+management+", answer 200") || strings.Contains(place, "POST /connector/") && strings.Contains(place, ", request")
	case strings.HasPrefix(place, "data folder/waxseal.db"):
		return true
	}
	return (strings.HasPrefix(place, "table documents, ") ||
		strings.HasPrefix(place, "session: table documents, ")) && strings.HasSuffix(place, ", payload")
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

// snapshot is a copy of the database, as a backup makes it, at the moment when the first PKCS#12 is on its way to a PC: the
// session waits for answers, and the documents that follow have their payloads.
type snapshot struct {
	once sync.Once
	err  error
	path string
}

// watchSession takes the snapshot as soon as there is something to see.
func (h *house) watchSession() *snapshot {
	shot := &snapshot{path: h.path("session.db")}
	h.proxy.setAlter(func(r *http.Request, status int, body []byte) (int, []byte) {
		if r.URL.Path == management && strings.Contains(string(body), "/PFXCertBlob") {
			shot.once.Do(func() { shot.err = copyDatabase(h.path("server", "waxseal.db"), shot.path) })
		}
		return status, body
	})
	return shot
}

func copyDatabase(from, to string) error {
	db, err := sql.Open("sqlite", "file:"+from+"?mode=ro&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.Exec("VACUUM INTO $1", to)
	return err
}

// searchSession searches the snapshot. What lies there opens nothing: neither what a session waits for, nor a payload.
func (h *house) searchSession(shot *snapshot, s *scanner) {
	h.t.Helper()
	if shot.err != nil {
		h.t.Fatalf("copying the database in the middle of a session: %v", shot.err)
	}
	db, err := sql.Open("sqlite", "file:"+shot.path+"?mode=ro")
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for what, query := range map[string]string{
		"a session that waits":     "SELECT count(*) FROM sessions WHERE length(state) > 10",
		"a payload with a PKCS#12": "SELECT count(*) FROM documents WHERE CAST(payload AS TEXT) LIKE '%/PFXCertBlob%'",
	} {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil || n == 0 {
			h.t.Errorf("the snapshot has no row with %s (%v): nothing was searched there", what, err)
		}
	}
	before := s.carried
	for _, table := range tableNames(h.t, db) {
		s.scanTable(h.t, db, "session: table "+table)
	}
	if s.carried == before {
		h.t.Error("the search did not see the PKCS#12 of a payload")
	}
}
