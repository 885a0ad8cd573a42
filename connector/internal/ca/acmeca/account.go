package acmeca

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// account gives a client with an account, which it looks for, and makes if the CA has none (RFC 8555 section 7.3).
func (a *adapter) account(ctx context.Context) (*acme.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.client != nil {
		return a.client, nil
	}
	client := a.newClient()
	known, err := client.GetReg(ctx, "")
	if errors.Is(err, acme.ErrNoAccount) {
		known, err = a.register(ctx, client)
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the account: %w", accountError(err))
	}
	if known.Status != acme.StatusValid {
		return nil, fmt.Errorf("%w: the account is %s: give another accountKey", web.ErrCredentials, web.Words(known.Status))
	}
	client.KID = acme.KeyID(known.URI)
	a.client = client
	return client, nil
}

// accountError is never final: that the CA wants another account is no certificate's fault.
func accountError(err error) error {
	var refused *ca.RefusedError
	if err = explainProblems(err); errors.As(err, &refused) {
		return fmt.Errorf("%w: %s", web.ErrCredentials, refused.Why)
	}
	return err
}

// newClient makes a client that gives up at once, but for a stale nonce: repeating is the ledger's, with its memory.
func (a *adapter) newClient() *acme.Client {
	return &acme.Client{Key: a.key, HTTPClient: a.web, DirectoryURL: a.settings.URL, UserAgent: "waxseal",
		RetryBackoff: func(n int, _ *http.Request, response *http.Response) time.Duration {
			if n > 3 || response.StatusCode != http.StatusBadRequest {
				return -1
			}
			return time.Millisecond
		}}
}

func (a *adapter) register(ctx context.Context, client *acme.Client) (*acme.Account, error) {
	dir, err := client.Discover(ctx)
	if err != nil {
		return nil, err
	}
	if dir.Terms != "" && !a.options.AcceptTerms {
		return nil, fmt.Errorf("the CA has terms of service: read %s, and if you agree, set acceptTerms: true", web.Words(dir.Terms))
	}
	if dir.ExternalAccountRequired && a.options.EABKeyID == "" {
		return nil, errors.New("the CA wants an External Account Binding: ask it for eabKeyID and eabHMAC")
	}
	wish := &acme.Account{Contact: a.options.Contact}
	if a.options.EABKeyID != "" {
		wish.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: a.options.EABKeyID, Key: a.hmac}
	}
	known, err := client.Register(ctx, wish, acme.AcceptTOS)
	if errors.Is(err, acme.ErrAccountAlreadyExists) { // somebody was faster
		return client.GetReg(ctx, "")
	}
	return known, err
}

// forget has the account and the directory looked for again.
func (a *adapter) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.client = nil
}
