package acmeca

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/profiles"
)

// identifiers are the names that the order is for.
func (a *adapter) identifiers(in ca.Intent) ([]acme.AuthzID, error) {
	kind := a.options.Identifier
	if kind == identifierDNS && ca.HasEmail(in.SANs) {
		return nil, ca.Refuse("the profile wants a mail address certified, and this CA is asked for dns names alone (option identifier)")
	}
	if kind == identifierPermanent {
		if cn := commonName(in.Subject); cn != "" {
			return []acme.AuthzID{{Type: kind, Value: cn}}, nil
		}
		return nil, ca.Refuse("the profile gives no common name, which is the permanent identifier")
	}
	of := map[string]profiles.SANType{identifierEmail: profiles.SANEmail, identifierDNS: profiles.SANDNS}[kind]
	var out []acme.AuthzID
	for _, san := range in.SANs {
		if id := (acme.AuthzID{Type: kind, Value: san.Value}); san.Type == of && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return nil, ca.Refuse("the profile gives no name of type %s, and this CA is asked for those alone (option identifier)", of)
	}
	return out, nil
}

func commonName(der []byte) string {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(der, &rdns); err != nil {
		return ""
	}
	var name pkix.Name
	name.FillFromRDNSequence(&rdns)
	return name.CommonName
}

// certificate takes an order from whatever state it is in to its certificate (RFC 8555 section 7.1.6).
func (a *adapter) certificate(ctx context.Context, client *acme.Client, q ledger.Question, ids []acme.AuthzID, csr []byte) ([][]byte, error) {
	order, err := a.order(ctx, client, q, ids)
	if err != nil {
		return nil, err
	}
	if order.Status == acme.StatusPending {
		if err := a.prove(ctx, client, order, ids); err != nil {
			return nil, err
		}
	}
	if order.Status == acme.StatusPending || order.Status == acme.StatusProcessing {
		err = a.patiently(ctx, func(ctx context.Context) error {
			order, err = client.WaitOrder(ctx, order.URI)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	if order.Status == acme.StatusValid {
		return a.fetch(ctx, client, q, order)
	}
	var chain [][]byte
	err = a.patiently(ctx, func(ctx context.Context) error {
		chain, _, err = client.CreateCertFromOrder(ctx, order, csr, true)
		return err
	})
	return chain, err
}

// fetch gets the certificate of an earlier attempt. Where the CA has it no more, the next attempt makes another order.
func (a *adapter) fetch(ctx context.Context, client *acme.Client, q ledger.Question, order *acme.Order) ([][]byte, error) {
	chain, err := client.FetchCert(ctx, order.CertURL, true)
	if isGone(err) {
		err = errors.Join(err, q.Note(nil))
	}
	return chain, err
}

// patiently runs what waits for the CA. What takes longer than one attempt waits is not decided yet.
func (a *adapter) patiently(ctx context.Context, wait func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, a.waiting)
	defer cancel()
	err := wait(waiting)
	if errors.Is(err, context.DeadlineExceeded) && waiting.Err() != nil && ctx.Err() == nil {
		return ca.ErrPending
	}
	return err
}

// order is the one of an earlier attempt, if it is still of use, or a new one, noted before anything comes of it.
func (a *adapter) order(ctx context.Context, client *acme.Client, q ledger.Question, ids []acme.AuthzID) (*acme.Order, error) {
	if len(q.Handle) > 0 {
		order, err := client.GetOrder(ctx, string(q.Handle))
		var problem *acme.Error
		switch {
		case errors.As(err, &problem) && slices.Contains(gone(), problem.StatusCode):
		case err != nil:
			return nil, err
		case a.usable(order):
			order.URI = string(q.Handle)
			return order, nil
		}
	}
	options, err := a.wishes(q.Intent)
	if err != nil {
		return nil, err
	}
	order, err := client.AuthorizeOrder(ctx, ids, options...)
	var problem *acme.Error
	switch {
	case errors.As(err, &problem) && final(problem): // some CAs say no more than "malformed"
		return nil, ca.Refuse("%s (asked for names of type %s)", problemWords(problem), ids[0].Type)
	case err != nil:
		return nil, err
	}
	if order.URI == "" {
		return nil, errors.New("the CA made an order and does not say where it is")
	}
	return order, q.Note([]byte(order.URI))
}

// gone are the answers to a question for an order that the CA forgot, or that is another account's.
func gone() []int {
	return []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone}
}

// usable tells whether something can still come of an order.
func (a *adapter) usable(order *acme.Order) bool {
	switch order.Status {
	case acme.StatusValid, acme.StatusProcessing:
		return true
	case acme.StatusPending, acme.StatusReady:
		return order.Expires.IsZero() || a.clock().Before(order.Expires)
	}
	return false
}

// wishes are what an order may ask beside names.
func (a *adapter) wishes(in ca.Intent) ([]acme.OrderOption, error) {
	var out []acme.OrderOption
	profile := a.options.Profile
	if in.Template != "" {
		if profile = a.options.Profiles[in.Template]; profile == "" {
			return nil, ca.Refuse("the settings have no profile of the CA for the template %q", in.Template)
		}
	}
	if profile != "" {
		out = append(out, acme.WithOrderIssuanceProfile(acme.ProfileName(profile)))
	}
	if a.options.RequestValidity && in.Validity > 0 {
		out = append(out, acme.WithOrderNotAfter(a.clock().Add(in.Validity).UTC()))
	}
	return out, nil
}

// maxAuthorizations bounds how many an order may want.
const maxAuthorizations = 64

// prove has each name confirmed that is not confirmed yet.
func (a *adapter) prove(ctx context.Context, client *acme.Client, order *acme.Order, ids []acme.AuthzID) error {
	if len(order.AuthzURLs) > maxAuthorizations {
		return fmt.Errorf("the CA wants %d authorisations: at most %d are possible", len(order.AuthzURLs), maxAuthorizations)
	}
	for _, url := range order.AuthzURLs {
		z, err := client.GetAuthorization(ctx, url)
		if err != nil {
			return err
		}
		switch {
		case z.Status == acme.StatusValid:
		case !ours(ids, z.Identifier):
			return fmt.Errorf("the CA wants %q proven, which the order does not name", web.Words(z.Identifier.Value))
		case z.Status == acme.StatusPending:
			if err := a.answer(ctx, client, z); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the CA's authorisation for %q is %s", web.Words(z.Identifier.Value), web.Words(z.Status))
		}
	}
	return nil
}

// ours: a name that was not asked for gets neither a record nor a reply. A wildcard's authorisation is for the name below
// it (RFC 8555 section 7.1.4).
func ours(ids []acme.AuthzID, id acme.AuthzID) bool {
	return slices.ContainsFunc(ids, func(asked acme.AuthzID) bool {
		return asked.Type == id.Type && strings.EqualFold(strings.TrimPrefix(asked.Value, "*."), strings.TrimPrefix(id.Value, "*."))
	})
}
