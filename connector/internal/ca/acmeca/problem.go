package acmeca

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// problemType is the last word of a problem's type (RFC 8555 section 6.7), empty if the error is none.
func problemType(err error) string {
	var p *acme.Error
	if !errors.As(err, &p) {
		return ""
	}
	return strings.TrimPrefix(p.ProblemType, "urn:ietf:params:acme:error:")
}

// problemWords are a problem's words, with those of its parts.
func problemWords(p *acme.Error) string {
	words := p.Detail
	for _, sub := range p.Subproblems {
		words += "; " + sub.Detail
	}
	if words == "" {
		words = p.ProblemType
	}
	return web.Words(words)
}

// explain says what an error means: refused for good, not yet, or for now.
func (a *adapter) explain(ctx context.Context, err error) error {
	if problemType(err) == "accountDoesNotExist" {
		a.forget()
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return ca.ErrPending // the CA took longer than one attempt waits
	}
	return a.explainLocked(err)
}

// explainLocked is explain where the account is being looked for.
func (a *adapter) explainLocked(err error) error {
	var order *acme.OrderError
	var authorization *acme.AuthorizationError
	var problem *acme.Error
	switch {
	case errors.As(err, &authorization):
		return explainAuthorization(authorization)
	case errors.As(err, &order) && order.Problem != nil:
		return fmt.Errorf("the CA gave the order up: %w", explainProblem(order.Problem))
	case errors.As(err, &problem):
		return explainProblem(problem)
	}
	return &foreignError{err}
}

// explainAuthorization: what could not be proven may be proven when an admin has put it right.
func explainAuthorization(failed *acme.AuthorizationError) error {
	var words []string
	for _, err := range failed.Errors {
		var problem *acme.Error
		if !errors.As(err, &problem) {
			continue
		}
		if problemType(problem) == "rejectedIdentifier" {
			return ca.Refuse("%s", problemWords(problem))
		}
		words = append(words, problemWords(problem))
	}
	return fmt.Errorf("the CA could not confirm %q: %s", web.Words(failed.Identifier), web.Words(strings.Join(words, "; ")))
}

func explainProblem(p *acme.Error) error {
	words := problemWords(p)
	switch problemType(p) {
	case "badCSR", "badPublicKey", "badSignatureAlgorithm", "rejectedIdentifier", "unsupportedIdentifier", "malformed":
		return ca.Refuse("%s", words)
	case "rateLimited":
		if after, _ := acme.RateLimit(p); after > 0 {
			return fmt.Errorf("the CA takes no more requests for now, and says again after %s: %s", after.Round(time.Second), words)
		}
		return fmt.Errorf("the CA takes no more requests for now: %s", words)
	case "accountDoesNotExist", "externalAccountRequired", "unauthorized", "userActionRequired", "invalidContact", "unsupportedContact":
		return fmt.Errorf("%w: %s", web.ErrCredentials, words)
	}
	return web.Failed(web.Answer{Status: p.StatusCode}, words)
}

// foreignError bounds the words of an error that may hold an answer's.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return "asking the CA: " + web.Words(e.err.Error()) }

func (e *foreignError) Unwrap() error { return e.err }
