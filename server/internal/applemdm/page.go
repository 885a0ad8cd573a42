package applemdm

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
)

// page is what the enrolment page shows: a sentence, or instructions with a button.
type page struct {
	Organization string
	Sentence     string
	Download     string // relative to the link
	Platform     string
	Device       string // what the link is for, as people call it
	Until        string
	NoPush       bool
}

// render writes a page. The template is parsed each time: people open these pages, not machines.
func render(w http.ResponseWriter, status int, p page) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("parsing the page template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return fmt.Errorf("filling the page template: %w", err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes()) // the browser left
	return nil
}

const pageHTML = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{with .Device}}Enrol this {{.}}{{else}}{{or .Organization "Waxseal"}}{{end}}</title>
<style>
body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 36rem; margin: 2rem auto; padding: 0 1rem; color: #1d1d1f; background: #fff }
a.button { display: inline-block; padding: .7rem 1.4rem; border-radius: .5rem; background: #0b57d0; color: #fff; text-decoration: none }
.note { border-left: .25rem solid #b3261e; padding-left: .8rem }
@media (prefers-color-scheme: dark) { body { color: #f5f5f7; background: #1c1c1e } a.button { background: #3a7bf0 } }
</style>
</head>
<body>
{{- if .Sentence}}
<h1>{{or .Organization "Waxseal"}}</h1>
<p>{{.Sentence}}</p>
{{- else}}
<h1>Enrol this {{.Device}}{{with .Organization}} with {{.}}{{end}}</h1>
<p>Your mail will be set up to be signed and encrypted, and mail that was encrypted to you before will open here.</p>
{{- if eq .Platform "android"}}
<ol>
<li>Open the companion app in the work profile of the device.</li>
<li>Give it the address of this page, by its camera or by copying it.</li>
<li>Leave the device unlocked and connected for a few minutes.</li>
</ol>
{{- else}}
<ol>
<li>Open this page on the {{.Device}} itself, in Safari.</li>
<li>Download the profile:<br><a class="button" href="{{.Download}}">Download profile</a></li>
{{- if eq .Platform "macos"}}
<li>Open System Settings, General, Device Management, and install the profile there.</li>
{{- else}}
<li>Open Settings. “Profile Downloaded” is near the top; tap it, then Install. Do so within 15 minutes.</li>
{{- end}}
<li>Leave the {{.Device}} unlocked and connected for a few minutes.</li>
</ol>
{{- end}}
<p>The link works for one {{.Device}} and for nothing else, until {{.Until}}.</p>
{{- if and .NoPush (ne .Platform "android")}}
<p class="note"><strong>NoPushCertificate:</strong> this server has no push certificate, so it cannot wake Apple devices. A real
device will enrol and then not fetch anything. Tell your administrator before you go on.</p>
{{- end}}
{{- end}}
</body>
</html>
`
