package windowsmdm

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
)

// page is what the sign-in shows: a sentence, the form, or the last page with the token.
type page struct {
	Organization string
	Sentence     string
	Wrong        string // above the form
	AppRU        string
	User         string
	Token        string
	Nonce        string // of the script that submits the last page
}

// Action is where the last page goes. Windows wants the address as it gave it, and html/template would take ms-app for
// an unsafe scheme: it was checked, and is escaped for HTML here.
func (p page) Action() template.HTMLAttr {
	return template.HTMLAttr(`action="` + template.HTMLEscapeString(p.AppRU) + `"`)
}

// render writes a page. The template is parsed each time: people open these pages, not machines.
func (e *Endpoint) render(w http.ResponseWriter, status int, p page) error {
	p.Organization = e.cfg.Organization
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("parsing the page template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return fmt.Errorf("filling the page template: %w", err)
	}
	private(w, p)
	send(w, status, "text/html; charset=UTF-8", out.Bytes())
	return nil
}

// private keeps secrets out of caches, referrers and frames, and lets a form go only where the page is meant to lead.
func private(w http.ResponseWriter, p page) {
	policy := "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action "
	switch {
	case p.Token != "":
		policy += "ms-app:; script-src 'nonce-" + p.Nonce + "'"
	case p.Sentence != "":
		policy += "'none'"
	default:
		policy += "'self'"
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
}

const pageHTML = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Enrol this PC</title>
<style>
body { font: 1.05rem/1.5 "Segoe UI", system-ui, sans-serif; max-width: 30rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; background: #fff }
h1 { font-size: 1.6rem; font-weight: 600; line-height: 1.25 }
label { display: block; margin: 1rem 0 .25rem; font-weight: 600 }
input { box-sizing: border-box; width: 100%; padding: .6rem; border: 1px solid #767676; border-radius: .3rem; font: inherit; color: inherit; background: transparent }
button { margin-top: 1.5rem; padding: .7rem 1.6rem; border: 0; border-radius: .3rem; background: #0b57d0; color: #fff; font: inherit; cursor: pointer }
input:focus, button:focus { outline: 3px solid #8ab4f8; outline-offset: 1px }
.wrong { border-left: .25rem solid #b3261e; padding-left: .8rem }
.hint { margin: .25rem 0 0; font-size: .9rem; color: #5f6368 }
@media (prefers-color-scheme: dark) { body { color: #f5f5f7; background: #1c1c1e } button { background: #3a7bf0 } .hint { color: #aeaeb2 } }
</style>
</head>
<body>
{{- if .Sentence}}
<h1>{{or .Organization "Waxseal"}}</h1>
<p class="wrong">{{.Sentence}}</p>
{{- else if .Token}}
<h1>You are signed in</h1>
<p>Windows takes over from here. If nothing happens, press the button.</p>
<form method="post" {{.Action}}>
<input type="hidden" name="wresult" value="{{.Token}}">
<button type="submit">Continue</button>
</form>
<script nonce="{{.Nonce}}">document.forms[0].submit()</script>
{{- else}}
<h1>Enrol this PC{{with .Organization}} with {{.}}{{end}}</h1>
<p>Mail from this PC can then be signed and encrypted, and mail that was encrypted to you before will open here.</p>
{{- with .Wrong}}
<p class="wrong" role="alert">{{.}}</p>
{{- end}}
<form method="post" action="Auth">
<input type="hidden" name="appru" value="{{.AppRU}}">
<label for="user">User name</label>
<input id="user" name="user" type="text" value="{{.User}}" autocomplete="username" autocapitalize="none" spellcheck="false" required>
<label for="secret">Enrolment secret</label>
<input id="secret" name="secret" type="password" autocomplete="off" required>
<p class="hint">Your administrator gave it to you. It works once; case and dashes do not matter.</p>
<button type="submit">Sign in</button>
</form>
{{- end}}
</body>
</html>
`
