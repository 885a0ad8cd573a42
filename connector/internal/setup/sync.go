package setup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/authorities"
	"github.com/waxseal/waxseal/connector/internal/ca/deviceca"
	"github.com/waxseal/waxseal/connector/internal/ca/softca"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
)

// Syncer tells the server what the connector has and takes what the server has for it.
type Syncer struct {
	Keyring *keyring.Keyring
	Client  *link.Client
}

// ErrNotApproved says that a further connector still waits for approve.
var ErrNotApproved = errors.New("this connector waits for approval: run waxseal-connector approve beside the first connector's keyring")

// Sync learns the key set and publishes. It gives ErrNotApproved while the connector has no part in the work yet.
func (s Syncer) Sync(ctx context.Context) error {
	if err := learnKeySet(ctx, s.Keyring, s.Client); err != nil {
		return err
	}
	if err := publish(ctx, s.Keyring, s.Client, nil); err != nil {
		return err
	}
	if !s.Keyring.HasAuthorities() {
		return ErrNotApproved
	}
	set, err := s.Keyring.KeySet()
	if err != nil {
		return err
	}
	if _, ok := set.Member(s.Keyring.Member().ID); !ok {
		return ErrNotApproved
	}
	return nil
}

// Publish tells the server what the connector has, also beside the running connector of this keyring.
func (s Syncer) Publish(ctx context.Context) error { return publish(ctx, s.Keyring, s.Client, nil) }

// Roll makes the next issuing CA of the S/MIME CA and gives the server its certificate, and the key sealed to each of the
// other connectors. What the server does not take now, it gets from the running connector of this keyring.
func (s Syncer) Roll(ctx context.Context) (*keyring.Authority, error) {
	if !s.Keyring.HasRoot() {
		return nil, keyring.ErrNoRoot
	}
	next, err := s.Keyring.RollSMIME()
	if err != nil {
		return nil, err
	}
	shared, err := s.Keyring.ShareWithOthers()
	if err != nil {
		return next, err
	}
	if len(shared) > 0 {
		if _, err := s.Client.Status(ctx, link.StatusRequest{Shared: shared}); err != nil {
			return next, err
		}
	}
	return next, publish(ctx, s.Keyring, s.Client, nil)
}

// learnKeySet fetches the key set and keeps it if it is signed by the pinned root and not older than one seen. A keyring
// that has no pin yet (a further connector without --escrow-root) pins at first use.
func learnKeySet(ctx context.Context, k *keyring.Keyring, client *link.Client) error {
	signed, found, err := client.KeySet(ctx)
	if link.IsStatus(err, http.StatusForbidden) || err == nil && !found {
		return nil // not approved yet, or before the first publish
	}
	if err != nil {
		return err
	}
	if k.Settings().EscrowRoot == "" {
		if _, err := signed.Verify(escrow.Fingerprint(signed.Root), 0); err != nil {
			return err
		}
		if err := k.PinRoot(escrow.Fingerprint(signed.Root)); err != nil {
			return err
		}
	}
	_, err = k.AcceptKeySet(signed)
	var old *escrow.RollbackError
	if errors.As(err, &old) && k.HasRoot() {
		return nil // an approve broke off before it published: publish brings the server up to date
	}
	return err
}

// publish sends certificates and key set, and answers what the server asks for in return.
func publish(ctx context.Context, k *keyring.Keyring, client *link.Client, sealedCAs map[string][]byte) error {
	request, err := publishRequest(k)
	if err != nil {
		return err
	}
	request.SealedCAs = sealedCAs
	answer, err := client.Publish(ctx, request)
	if link.IsStatus(err, http.StatusForbidden) && !k.HasAuthorities() {
		return nil // not approved yet
	}
	if err != nil {
		return err
	}
	if err := checkPKIURL(answer.PKIURL); err != nil {
		return err
	}
	if err := k.SetPKIURL(answer.PKIURL); err != nil {
		return err
	}
	if len(answer.SealedCAs) > 0 && !k.HasAuthorities() {
		if err := k.ReceiveAuthorities(answer.SealedCAs); err != nil {
			return err
		}
		return publish(ctx, k, client, nil)
	}
	if len(answer.RACSR) == 0 || !k.HasAuthorities() {
		return nil
	}
	return answerRA(ctx, k, client, request, answer.RACSR)
}

// maxPKIURL bounds what goes into each certificate.
const maxPKIURL = 255

// checkPKIURL refuses what has no place in a certificate's CRL distribution point (RFC 5280 section 4.2.1.13).
func checkPKIURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	ascii := !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	if err != nil || len(text) > maxPKIURL || !ascii || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the server's pki-url %.64q is no URL for revocation lists: it looks like http://pki.corp.test, at most %d bytes", text, maxPKIURL)
	}
	return nil
}

func publishRequest(k *keyring.Keyring) (link.PublishRequest, error) {
	var r link.PublishRequest
	if !k.HasAuthorities() {
		return r, nil
	}
	device, err := k.Authority(keyring.DeviceCA)
	if err != nil {
		return r, err
	}
	soft, err := softca.Describe(k)
	if err != nil {
		return r, err
	}
	others, err := authorities.Describe(k)
	if err != nil {
		return r, err
	}
	r.DeviceCA, r.CAs = device.Certificate.Raw, append([]link.CA{soft}, others...)
	if !k.HasRoot() {
		return r, nil
	}
	signed, found, err := k.StoredKeySet()
	if found {
		r.KeySet = &signed
	}
	return r, err
}

// answerRA issues the server's RA certificate.
func answerRA(ctx context.Context, k *keyring.Keyring, client *link.Client, r link.PublishRequest, csr []byte) error {
	device, err := k.Authority(keyring.DeviceCA)
	if err != nil {
		return err
	}
	if r.RACertificate, err = deviceca.IssueRA(device, k.Rand(), k.Now(), csr); err != nil {
		return fmt.Errorf("issuing the server's RA certificate: %w", err)
	}
	sum := sha256.Sum256(r.RACertificate)
	if err := k.Audit(keyring.Event{Action: keyring.ActionRA, Certificate: hex.EncodeToString(sum[:])}); err != nil {
		return err
	}
	r.SealedCAs = nil
	_, err = client.Publish(ctx, r)
	return err
}

// Passing tells whether a sync's error may pass by itself: the server cannot be reached, is in trouble, or nobody has
// approved the connector yet. What the rules forbid does not pass.
func Passing(err error) bool {
	var status *link.StatusError
	var unreachable *url.Error
	switch {
	case errors.Is(err, ErrNotApproved), errors.As(err, &unreachable):
		return true
	case errors.As(err, &status):
		return status.Status >= 500 || status.Status == http.StatusTooManyRequests || status.Status == http.StatusForbidden
	}
	return false
}
