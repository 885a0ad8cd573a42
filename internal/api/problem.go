package api

import (
	"fmt"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// ProblemType is the media type of errors (RFC 9457 section 3).
const ProblemType = "application/problem+json"

// Problem is an error of the server in the form of RFC 9457.
type Problem struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Errors are all faults of the request, each with its place.
	Errors []ProblemError `json:"errors,omitempty"`
}

// ProblemError is one fault of a request.
type ProblemError struct {
	Location string `json:"location,omitempty"`
	Message  string `json:"message"`
}

// Error is the sentence for a person, with one line per fault.
func (p *Problem) Error() string {
	lines := []string{p.Detail}
	if p.Detail == "" {
		lines[0] = strings.ToLower(p.Title)
	}
	for _, e := range p.Errors {
		lines = append(lines, e.String())
	}
	return strings.Join(lines, "\n")
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes the server answer with the media type of problems.
func (p *Problem) ContentType(string) string { return ProblemType }

// String is the place and the message in one line.
func (e ProblemError) String() string {
	if e.Location == "" {
		return e.Message
	}
	return strings.TrimPrefix(e.Location, "body.") + ": " + e.Message // a person knows fields, not bodies
}

// FaultsProblem is the problem of objects that cannot be applied.
func FaultsProblem(faults profiles.Faults) *Problem {
	p := &Problem{Title: "Unprocessable Entity", Status: 422, Detail: fmt.Sprintf("%d faults, nothing was applied", len(faults))}
	if len(faults) == 1 {
		p.Detail = "1 fault, nothing was applied"
	}
	p.Errors = FaultErrors(faults)
	return p
}

// FaultErrors gives faults the form of the wire.
func FaultErrors(faults profiles.Faults) []ProblemError {
	var out []ProblemError
	for _, f := range faults {
		out = append(out, ProblemError{Location: f.Path, Message: f.Message})
	}
	return out
}
