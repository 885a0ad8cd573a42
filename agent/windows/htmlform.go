package windows

import (
	"html"
	"strings"
)

// Bounds of a web page with a form.
const (
	maxPage   = 1 << 20
	maxFields = 200
)

// field is an input of a form.
type field struct {
	kind, name, value, id string
	checked               bool
}

// form is a form of a web page.
type form struct {
	action, method string
	fields         []field
}

// tag is one tag of a page.
type tag struct {
	name  string // lower case; with a slash in front when it closes
	attrs map[string]string
	text  string // what stands before it
}

// forms finds the forms of a page, as tolerantly as a browser does.
func forms(page string) []form {
	var out []form
	inside := false
	for _, t := range tags(page) {
		switch {
		case t.name == "form" && len(out) < maxFields:
			out = append(out, form{action: t.attrs["action"], method: strings.ToLower(t.attrs["method"])})
			inside = true
		case t.name == "/form":
			inside = false
		case inside && (t.name == "input" || t.name == "button"):
			if f := &out[len(out)-1]; len(f.fields) < maxFields {
				f.fields = append(f.fields, newField(t))
			}
		}
	}
	return out
}

func newField(t tag) field {
	_, checked := t.attrs["checked"]
	f := field{kind: strings.ToLower(t.attrs["type"]), name: t.attrs["name"], value: t.attrs["value"], id: t.attrs["id"], checked: checked}
	if f.kind == "" {
		f.kind = "text"
		if t.name == "button" {
			f.kind = "submit"
		}
	}
	return f
}

// text is what a person reads on a page, without headings and the captions of fields, cut short.
func text(page string) string {
	var out strings.Builder
	hidden := ""
	for _, t := range tags(page) {
		if hidden == "" {
			out.WriteString(t.text + " ")
		}
		switch {
		case hidden == "" && silent(t.name):
			hidden = t.name
		case t.name == "/"+hidden:
			hidden = ""
		}
	}
	words := []rune(strings.Join(strings.Fields(html.UnescapeString(out.String())), " "))
	if len(words) > 300 {
		return string(words[:300]) + "…"
	}
	return string(words)
}

func silent(name string) bool {
	switch name {
	case "script", "style", "title", "h1", "label", "button":
		return true
	}
	return false
}

// tags cuts a page into its tags.
func tags(page string) []tag {
	var out []tag
	for page != "" {
		before, rest, there := strings.Cut(page, "<")
		if !there {
			return append(out, tag{text: before})
		}
		t := tag{text: before}
		switch {
		case strings.HasPrefix(rest, "!--"):
			_, page, _ = strings.Cut(rest, "-->")
		default:
			t.name, t.attrs, page = readTag(rest)
		}
		out = append(out, t)
		if t.name == "script" || t.name == "style" {
			page = skipRaw(page, "</"+t.name)
		}
	}
	return out
}

// skipRaw jumps over the content of an element in which < means nothing.
func skipRaw(page, end string) string {
	for at := 0; ; {
		n := strings.Index(page[at:], "</")
		if n < 0 {
			return ""
		}
		at += n
		if len(page)-at >= len(end) && strings.EqualFold(page[at:at+len(end)], end) {
			return page[at:]
		}
		at += len("</")
	}
}

const blanks = " \t\r\n\f"

// readTag reads a tag behind its < and returns what follows it.
func readTag(s string) (name string, attrs map[string]string, rest string) {
	end := strings.IndexAny(s, blanks+">")
	if end < 0 {
		return strings.ToLower(s), nil, ""
	}
	name, s = strings.ToLower(strings.TrimSuffix(s[:end], "/")), s[end:]
	attrs = map[string]string{}
	for {
		s = strings.TrimLeft(s, blanks+"/")
		if s == "" || s[0] == '>' {
			return name, attrs, strings.TrimPrefix(s, ">")
		}
		var key, value string
		key, value, s = readAttr(s)
		if _, twice := attrs[key]; !twice && len(attrs) < maxFields {
			attrs[key] = value
		}
	}
}

// readAttr reads name, name=value, name="value" or name='value'.
func readAttr(s string) (key, value, rest string) {
	end := strings.IndexAny(s, blanks+"=>/")
	if end == 0 { // a stray = opens a name
		end = 1
	}
	if end < 0 {
		return strings.ToLower(s), "", ""
	}
	key, rest = strings.ToLower(s[:end]), strings.TrimLeft(s[end:], blanks)
	if !strings.HasPrefix(rest, "=") {
		return key, "", rest
	}
	rest = strings.TrimLeft(rest[1:], blanks)
	if rest != "" && (rest[0] == '"' || rest[0] == '\'') {
		value, rest, _ = strings.Cut(rest[1:], rest[:1])
		return key, html.UnescapeString(value), rest
	}
	end = strings.IndexAny(rest, blanks+">")
	if end < 0 {
		end = len(rest)
	}
	return key, html.UnescapeString(rest[:end]), rest[end:]
}
