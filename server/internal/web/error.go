package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Error is the one kind of error that a handler returns to be seen outside. Title is a short phrase for the class of the
// error, Detail the sentence that says what is wrong and what would be right. Neither may hold a secret. The cause
// reaches the log and nobody else.
type Error struct {
	Status int
	Title  string
	Detail string
	// Fields name single faults of the input.
	Fields []api.ProblemError
	Cause  error
}

func (e *Error) Error() string {
	if e.Cause == nil || strings.Contains(e.Detail, e.Cause.Error()) {
		return e.Detail
	}
	return e.Detail + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error with the status' own text as its title. A %w operand becomes the cause's chain; its text is then
// part of the detail, so it must be fit to be seen.
func Errorf(status int, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Status: status, Title: http.StatusText(status), Detail: err.Error(), Cause: errors.Unwrap(err)}
}

// Hide makes an Error whose cause is logged but not shown.
func Hide(status int, detail string, cause error) *Error {
	return &Error{Status: status, Title: http.StatusText(status), Detail: detail, Cause: cause}
}

// AsError turns whatever a handler returned into the one error kind; an unknown error is a fault of ours and says nothing
// of itself outside.
func AsError(err error) *Error {
	var known *Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &tooLarge):
		return Hide(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than the %d bytes that are allowed here", tooLarge.Limit), err)
	case errors.Is(err, model.ErrNotFound):
		return Hide(http.StatusNotFound, "there is no such thing", err)
	case errors.Is(err, model.ErrConflict):
		return Hide(http.StatusConflict, "it was changed in between; try again", err)
	}
	return Hide(http.StatusInternalServerError, "the server failed; its log says why under the request id", err)
}

// Render writes an error: as a sentence where a device or a person without a program reads it, else as problem+json.
func Render(w http.ResponseWriter, err *Error, asText bool) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Del("Content-Length")
	if asText {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(err.Status)
		fmt.Fprintln(w, err.Detail)
		return
	}
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(err.Status)
	body := api.Problem{Type: "about:blank", Title: err.Title, Status: err.Status, Detail: err.Detail, Errors: err.Fields}
	if body.Title == "" {
		body.Title = http.StatusText(err.Status)
	}
	_ = json.NewEncoder(w).Encode(body) // the connection is gone if this fails
}
