package profiles

import (
	"fmt"
	"strconv"
	"strings"
)

// Fault is one thing that is wrong with an object: where it is and what would be right.
type Fault struct {
	// Path is "Email company-mail: spec.smime.encryption.certificate", or with a source
	// "sales.yaml:12:3 Email company-mail spec.smime.encryption.certificate".
	Path    string `json:"path"`
	Message string `json:"message"`
}

// String is the path and the message in one line.
func (f Fault) String() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + ": " + f.Message
}

// Faults are all faults of an input, in the order of the input.
type Faults []Fault

// Error lists the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Err is the faults as an error, nil if there are none.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Position is a place in a text file, counted from 1.
type Position struct{ Line, Column int }

// Source says where an object was written, so that faults can name the line.
type Source struct {
	File string
	// Start is where the document begins.
	Start Position
	// Fields are the places of the fields, by path as in "spec.include[0].user".
	Fields map[string]Position
	// Reported are the fields that had a fault while the file was read; Check does not repeat it in other words.
	Reported map[string]bool
}

// Report notes that a field has a fault already.
func (s *Source) Report(field string) {
	if s.Reported == nil {
		s.Reported = map[string]bool{}
	}
	s.Reported[field] = true
}

// Locate is "file:line:column" of a field, or of the nearest enclosing field that was written.
func (s *Source) Locate(field string) string {
	at := s.Start
	for path := field; path != ""; path = parentPath(path) {
		if p, ok := s.Fields[path]; ok {
			at = p
			break
		}
	}
	return fmt.Sprintf("%s:%d:%d", s.File, at.Line, at.Column)
}

// parentPath cuts the last name or index off a path.
func parentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// report collects the faults and warnings of one object.
type report struct {
	label    string // "Email company-mail"
	source   *Source
	faults   Faults
	warnings Faults
}

func newReport(o *Object, index int) *report {
	return &report{label: objectLabel(o, index), source: o.Source}
}

// objectLabel names an object in faults; one without a name goes by its place in the input.
func objectLabel(o *Object, index int) string {
	kind := string(o.Kind)
	if kind == "" {
		kind = "document"
	}
	switch {
	case o.Name == "":
		return kind + " number " + strconv.Itoa(index+1)
	case checkPrintable(o.Name) != nil:
		return kind + " " + strconv.QuoteToASCII(o.Name)
	}
	return kind + " " + o.Name
}

func (r *report) path(field string) string {
	switch {
	case r.source != nil:
		return strings.TrimSpace(r.source.Locate(field) + " " + r.label + " " + field)
	case field == "":
		return r.label
	}
	return r.label + ": " + field
}

// fault records that a field is wrong.
func (r *report) fault(field, format string, args ...any) {
	if r.source != nil && r.source.Reported[field] {
		return
	}
	r.faults = append(r.faults, Fault{r.path(field), fmt.Sprintf(format, args...)})
}

// warn records that a field is allowed and probably not meant.
func (r *report) warn(field, format string, args ...any) {
	r.warnings = append(r.warnings, Fault{r.path(field), fmt.Sprintf(format, args...)})
}

// oneOf faults a value that is not in the list.
func oneOf[T ~string](r *report, field string, value T, allowed ...T) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	names := make([]string, len(allowed))
	for i, a := range allowed {
		names[i] = string(a)
	}
	if value == "" {
		r.fault(field, "is missing; use one of %s", strings.Join(names, ", "))
		return
	}
	r.fault(field, "%q is not known; use one of %s", string(value), strings.Join(names, ", "))
}
