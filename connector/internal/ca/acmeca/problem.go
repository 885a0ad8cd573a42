package acmeca

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// problemSpace is before the types that RFC 8555 and its successors register.
const problemSpace = "urn:ietf:params:acme:error:"

// problemType is the last word of a problem's type (RFC 8555 section 6.7), empty if the error is none.
func problemType(err error) string {
	var p *acme.Error
	if !errors.As(err, &p) {
		return ""
	}
	return strings.TrimPrefix(p.ProblemType, problemSpace)
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

// explain says what an error means: refused for good, or for now.
func (a *adapter) explain(err error) error {
	if problemType(err) == "accountDoesNotExist" || isGone(err) {
		a.forget()
	}
	return explainProblems(err)
}

// isGone tells whether there is nothing at an address that the directory named: it may name another by now.
func isGone(err error) bool {
	var p *acme.Error
	return errors.As(err, &p) && (p.StatusCode == http.StatusNotFound || p.StatusCode == http.StatusGone)
}

func explainProblems(err error) error {
	if errors.Is(err, ca.ErrPending) {
		return err
	}
	var order *acme.OrderError
	var authorization *acme.AuthorizationError
	var problem *acme.Error
	switch {
	case errors.As(err, &authorization):
		return explainAuthorization(authorization)
	case errors.As(err, &order) && order.Problem != nil:
		return explainOrder(order.Problem)
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

// final tells whether asking for the same again cannot help. CAs call a wrong address malformed, too.
func final(p *acme.Error) bool {
	if isGone(p) {
		return false
	}
	switch problemType(p) {
	case "badCSR", "badPublicKey", "badSignatureAlgorithm", "rejectedIdentifier", "unsupportedIdentifier", "malformed":
		return true
	}
	return false
}

// explainOrder: an order that was given up is followed by another, which may fare better.
func explainOrder(p *acme.Error) error {
	if final(p) {
		return ca.Refuse("%s", problemWords(p))
	}
	return fmt.Errorf("the CA gave the order up (%s): %s", web.Words(problemType(p)), problemWords(p))
}

func explainProblem(p *acme.Error) error {
	words := problemWords(p)
	if final(p) {
		return ca.Refuse("%s", words)
	}
	switch problemType(p) {
	case "rateLimited":
		if after, _ := acme.RateLimit(p); after > 0 {
			return fmt.Errorf("the CA takes no more requests for now, and says again after %s: %s", after.Round(time.Second), words)
		}
		return fmt.Errorf("the CA takes no more requests for now: %s", words)
	case "accountDoesNotExist", "externalAccountRequired", "unauthorized", "userActionRequired", "invalidContact", "unsupportedContact":
		return fmt.Errorf("%w: %s", web.ErrCredentials, words)
	}
	if kind := problemType(p); strings.HasPrefix(p.ProblemType, problemSpace) {
		return fmt.Errorf("the CA answers %s: %s", web.Words(kind), words) // 403 stands with many types that are not about rights
	}
	return web.Failed(web.Answer{Status: p.StatusCode}, words)
}

// foreignError bounds the words of an error that may hold an answer's.
type foreignError struct{ err error }

func (e *foreignError) Error() string { return "asking the CA: " + web.Words(e.err.Error()) }

func (e *foreignError) Unwrap() error { return e.err }
