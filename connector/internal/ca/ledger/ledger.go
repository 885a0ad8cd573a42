// Package ledger makes a CA of others safe to ask twice. Such a CA knows nothing of our intents, so the ledger writes down
// what is asked before it is asked, and what came of it before anybody else hears of it:
//
//	asked      before the CA is asked; Handle is by what its answer can be fetched again
//	issued     the certificate, checked
//	odd        a certificate that is not what was asked for: kept, revoked as far as the CA lets us, never handed out; asked
//	           again once the settings are put right, or after a week
//
//	crash before asked            nothing was asked
//	crash between asked, issued   asked again, with the handle where the protocol has one; what the CA may have issued to
//	                              the lost question is for the intent's own key, so it is of use to nobody else, and the
//	                              audit log names the intent
//	crash after issued            the same certificate again
package ledger

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
)

// Question is one certificate that is asked for.
type Question struct {
	Intent ca.Intent
	// Handle is what Note kept of an earlier attempt at the same question; nil at the first.
	Handle []byte
	// Note keeps by what the answer can be fetched later (an order's URL, a request's number), nil that there is nothing to fetch
	// any more; durable when it returns.
	Note func(handle []byte) error
}

// Upstream is a CA of others, as an adapter speaks with it.
//
// Enroll asks for a certificate and gives the chain, leaf first. A *ca.RefusedError is final; ca.ErrPending and any other
// error may pass. It may be called again for the same intent.
// Revoke revokes; that the certificate is revoked already is no error. ca.ErrCannotRevoke: the protocol has no word for it.
// Test asks the CA without wanting a certificate, one finding for each thing that must be right.
type Upstream interface {
	Enroll(ctx context.Context, q Question) ([][]byte, error)
	Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error
	Test(ctx context.Context) []link.CAFinding
}

// CA is an Upstream with a memory: the worker's port.
type CA struct {
	settings ca.Settings
	upstream Upstream
	journal  *journal.Journal
	audit    func(...keyring.Event) error
	clock    func() time.Time
	issuers  []*x509.Certificate
	locks    *locks
}

// locks are by intent, or by certificate. They are few: they go with the process.
type locks struct {
	mu sync.Mutex
	of map[string]*sync.Mutex
}

// asked is a journal entry under an intent's id.
type asked struct {
	PublicKey string    `json:"publicKey"`      // SHA-256 of the SubjectPublicKeyInfo
	From      string    `json:"from,omitempty"` // kind and address of the CA
	At        time.Time `json:"at"`
	Attempts  int       `json:"attempts"`
	Handle    []byte    `json:"handle,omitempty"`
	Chain     [][]byte  `json:"chain,omitempty"` // issued
	Odd       []byte    `json:"odd,omitempty"`
	Why       string    `json:"why,omitempty"`
}

// revoked is a journal entry under a certificate's SHA-256.
type revoked struct {
	At     time.Time `json:"at"`
	Reason int       `json:"reason"`
}

// New opens the ledger of one CA. audit writes to the connector's own log and is asked before anything is done.
func New(s ca.Settings, up Upstream, j *journal.Journal, audit func(...keyring.Event) error, clock func() time.Time) (*CA, error) {
	c := &CA{journal: j, audit: audit, clock: clock, locks: &locks{of: map[string]*sync.Mutex{}}}
	return c.With(s, up)
}

// With is the same CA by other settings, with the same memory. What c is at work on ends by the former ones.
func (c *CA) With(s ca.Settings, up Upstream) (*CA, error) {
	issuers, err := s.IssuerCertificates()
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", s.Name, err)
	}
	return &CA{settings: s, upstream: up, journal: c.journal, audit: c.audit, clock: c.clock, issuers: issuers, locks: c.locks}, nil
}

// Info says what the CA offers.
func (c *CA) Info() link.CA { return Describe(c.settings) }

// Describe says what a CA of those settings offers; the settings must be right.
func Describe(s ca.Settings) link.CA {
	info := link.CA{Name: s.Name, Kind: s.Kind, Templates: s.Templates}
	issuers, err := s.IssuerCertificates()
	if err != nil {
		return info
	}
	info.Certificate = issuers[0].Raw
	for _, i := range issuers[1:] {
		info.Chain = append(info.Chain, i.Raw)
	}
	return info
}

// Test asks the CA whether its settings are right.
func (c *CA) Test(ctx context.Context) []link.CAFinding { return c.upstream.Test(ctx) }

// lock lets one goroutine at a time ask for an intent.
func (l *locks) lock(id string) (unlock func()) {
	l.mu.Lock()
	one := l.of[id]
	if one == nil {
		one = &sync.Mutex{}
		l.of[id] = one
	}
	l.mu.Unlock()
	one.Lock()
	return one.Unlock
}

// Issue gives the certificate of an intent with its chain, leaf first, as the worker's port says.
func (c *CA) Issue(ctx context.Context, in ca.Intent) ([][]byte, error) {
	key, err := keyHash(in)
	if err != nil {
		return nil, err
	}
	if err := c.knowsTemplate(in.Template); err != nil {
		return nil, err
	}
	defer c.locks.lock(in.ID)()
	var known asked
	found, err := c.journal.Get(askedKey(in.ID), &known)
	switch {
	case err != nil:
		return nil, err
	case found && known.PublicKey != key:
		return nil, ca.Refuse("intent %s was begun for another key", in.ID)
	case known.Chain != nil:
		return c.valid(known.Chain)
	case known.Odd != nil && !c.mayAskAnew(in, known):
		return nil, c.refuseOdd(ctx, in, known)
	case known.Odd != nil || known.elsewhere(c.settings):
		known.Odd, known.Why, known.Handle = nil, "", nil // the handle would lead there again
	}
	known.PublicKey, known.From, known.At, known.Attempts = key, from(c.settings), c.clock().UTC(), known.Attempts+1
	if err := c.begin(in, known); err != nil {
		return nil, err
	}
	return c.ask(ctx, in, known)
}

func (c *CA) knowsTemplate(template string) error {
	if template == "" {
		return nil
	}
	for _, t := range c.settings.Templates {
		if t == template {
			return nil
		}
	}
	return ca.Refuse("template %q is unknown: the settings of CA %s name %q", template, c.settings.Name, c.settings.Templates)
}

// begin writes down that the CA is going to be asked.
func (c *CA) begin(in ca.Intent, known asked) error {
	if known.Attempts > 1 && known.Handle == nil {
		event := keyring.Event{Action: keyring.ActionIssue, Record: in.ID,
			Detail: fmt.Sprintf("CA %s is asked again (attempt %d): it may have issued a certificate whose answer was lost, for the same key", c.settings.Name, known.Attempts)}
		if err := c.audit(event); err != nil {
			return err
		}
	}
	return c.journal.Put(askedKey(in.ID), known)
}

func (c *CA) ask(ctx context.Context, in ca.Intent, known asked) ([][]byte, error) {
	note := func(handle []byte) error {
		known.Handle = handle
		return c.journal.Put(askedKey(in.ID), known)
	}
	chain, err := c.upstream.Enroll(ctx, Question{Intent: in, Handle: known.Handle, Note: note})
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, errors.New("the CA answered without a certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("the CA answered with what is no certificate: %w", err)
	}
	if err := c.check(in, leaf); err != nil {
		known.Odd, known.Why = chain[0], why(err)
		if putErr := c.journal.Put(askedKey(in.ID), known); putErr != nil {
			return nil, putErr
		}
		return nil, c.refuseOdd(ctx, in, known)
	}
	known.Chain, known.Handle = append([][]byte{chain[0]}, c.path(leaf)...), nil
	if err := c.journal.Put(askedKey(in.ID), known); err != nil {
		return nil, err
	}
	return c.valid(known.Chain)
}

// why is a refusal without the words that it will get again.
func why(err error) string {
	var refused *ca.RefusedError
	if errors.As(err, &refused) {
		return refused.Why
	}
	return err.Error()
}

// refuseOdd has a certificate that is not what was asked for revoked, as far as the CA lets us, and refuses it.
func (c *CA) refuseOdd(ctx context.Context, in ca.Intent, known asked) error {
	detail := known.Why
	if leaf, err := x509.ParseCertificate(known.Odd); err == nil {
		if err := c.upstream.Revoke(ctx, leaf, reasonCessation); err != nil {
			detail += "; it could not be revoked: " + err.Error()
		} else {
			detail += "; it was revoked"
		}
	}
	event := keyring.Event{Action: keyring.ActionRefuse, Record: in.ID, Certificate: sum(known.Odd), Detail: "CA " + c.settings.Name + ": " + detail}
	if err := c.audit(event); err != nil {
		return err
	}
	return &ca.RefusedError{Why: detail}
}

// reasonCessation is CRLReason cessationOfOperation (RFC 5280 section 5.3.1).
const reasonCessation = 5

func askedKey(id string) string    { return "asked/" + id }
func revokedKey(sha string) string { return "revoked/" + sha }

func sum(der []byte) string {
	s := sha256.Sum256(der)
	return hex.EncodeToString(s[:])
}

func keyHash(in ca.Intent) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(in.PublicKey)
	if err != nil {
		return "", ca.Refuse("the key is a %T, which no certificate can be for", in.PublicKey)
	}
	return sum(der), nil
}
