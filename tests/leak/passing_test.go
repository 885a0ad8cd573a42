package leak

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// passing is a secret that is no key: a token, a credential, a one-time secret. Of most of them the server keeps the hash
// alone. It must be seen where it has to pass and may be nowhere else, least of all in a log or in the audit.
type passing struct {
	forms []string
	may   func(place string) bool
}

// passes says where a secret may pass. One of 256 bits in base64 is looked for as it was made, too.
func (h *house) passes(name, value string, may func(place string) bool) {
	h.t.Helper()
	if len(value) < window {
		h.t.Fatalf("%s has %d characters: no such secret is looked for", name, len(value))
	}
	forms := []string{value}
	if raw, err := base64.RawURLEncoding.DecodeString(value); err == nil {
		forms = append(forms, string(raw))
	}
	h.passing[name] = passing{forms, may}
}

// passesTyped is passes for what a person types: it is read without its dashes and in any case.
func (h *house) passesTyped(name, value string, may func(place string) bool) {
	h.t.Helper()
	plain := strings.ReplaceAll(value, "-", "")
	h.passing[name] = passing{[]string{value, plain, strings.ToLower(value), strings.ToLower(plain)}, may}
}

// passingSecrets are all of them, with their forms in UTF-16.
func (h *house) passingSecrets() (secrets []secret, travels map[string]func(string) bool) {
	travels = map[string]func(string) bool{}
	for name, p := range h.passing {
		travels[name] = p.may
		for _, form := range p.forms {
			secrets = append(secrets, secret{name, []byte(form)}, secret{name, wide([]byte(form))[2:]})
		}
	}
	return secrets, travels
}

// body tells whether a place is the body of one of these messages; header the same of headers, which proxies log.
func body(place string, messages ...string) bool   { return of("body ", place, messages) }
func header(place string, messages ...string) bool { return of("header ", place, messages) }

func of(kind, place string, messages []string) bool {
	if !strings.HasPrefix(place, kind) {
		return false
	}
	for _, m := range messages {
		if strings.Contains(place, ": "+m) {
			return true
		}
	}
	return false
}

// toAdmin is the way of an enrolment link to who asked for it.
func toAdmin(place string) bool {
	return place == "logs/waxctl-calls.log" || body(place, "POST /api/v1/enrollment-links, answer")
}

// byAppleLink: an iPhone or a Mac opens the link, so that the token is in the path.
func byAppleLink(place string) bool {
	return toAdmin(place) || header(place, "GET /enroll/") || body(place, "GET /enroll/")
}

// inProfile is the way of a SCEP challenge: with the enrolment profile to the device, and back inside what is encrypted to
// the server's RA key. It stands in the PKCS#10 request, which goes on to the connector as the device made it, in a job that
// is stored in the step that binds the challenge to the request's key: there it is no use to anybody.
func inProfile(place string) bool {
	return body(place, "GET /enroll/", "POST /scep, request", "POST /connector/v1/claim, answer") ||
		inDatabase(place, "jobs", "payload")
}

// inDatabase tells whether a place is the column of a table, of the database or of a copy. In the file itself nobody can tell.
func inDatabase(place, table, column string) bool {
	_, field, _ := strings.Cut(": "+place, ": table ")
	return strings.HasPrefix(place, "data folder/waxseal.db") ||
		strings.HasPrefix(field, table+", ") && strings.HasSuffix(field, ", "+column)
}

var challenge = regexp.MustCompile(`<key>Challenge</key>\s*<string>([^<]+)</string>`)

// challenges are those of the enrolment profiles that devices of Apple's got.
func (h *house) challenges() {
	h.t.Helper()
	n := 0
	for _, r := range h.proxy.taken(h.t) {
		if found := challenge.FindSubmatch(r.body); strings.HasPrefix(r.path, "/enroll/") && found != nil {
			n++
			h.passes(fmt.Sprintf("SCEP challenge %d", n), string(found[1]), inProfile)
		}
	}
	if want := len(iphones) + len(macs); n != want {
		h.t.Errorf("%d enrolment profiles with a challenge were recorded, want %d", n, want)
	}
}

// onRegistration is the way of a connector's one-time token.
func onRegistration(place string) bool {
	return place == "logs/waxctl-calls.log" || body(place, "POST /api/v1/connector-tokens, answer", "POST /connector/v1/register, request")
}

// ofConnectors is the way of a connector's credential.
func ofConnectors(place string) bool {
	return body(place, "POST /connector/v1/register, answer") || strings.HasPrefix(place, "header ") && strings.Contains(place, " /connector/v1/")
}

// ofAdmins is the way of the admin's token, which lies in a file for the person who installs the server.
func ofAdmins(place string) bool {
	return place == "data folder/admin-token" || strings.HasPrefix(place, "header ") && strings.Contains(place, " /api/v1/")
}

// credential is what a connector shows itself by.
func (h *house) credential(keyring string) string {
	h.t.Helper()
	var kept struct{ Credential string }
	raw, err := os.ReadFile(h.path(keyring, "credential"))
	if err == nil {
		err = json.Unmarshal(raw, &kept)
	}
	if err != nil {
		h.t.Fatalf("credential of %s: %v", keyring, err)
	}
	return kept.Credential
}
