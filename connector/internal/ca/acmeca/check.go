package acmeca

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/acme"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// Test looks at the address, its certificate, the directory, the account, the profiles, whether the CA knows the kind of
// names, the means to prove them, and the clock. It makes the account if there is none, and an order without a certificate.
// By which CA it would issue, ACME cannot say.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.plain, a.settings.URL, a.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	a.forget()
	dir, err := a.newClient().Discover(ctx)
	if err != nil {
		out = append(out, web.Wrong("directory", "the answer is no ACME directory (%s): url is the directory's own address, such as https://ca.corp.test/acme/acme/directory", web.Words(err.Error())))
		return append(out, reached.Clock...)
	}
	out = append(out, web.OK("directory", "the CA speaks ACME"))
	client, err := a.account(ctx)
	if err != nil {
		return append(append(out, web.Wrong("credentials", "%s", web.Words(err.Error()))), reached.Clock...)
	}
	out = append(out, web.OK("credentials", "the CA has an account for accountKey"))
	out = append(out, a.testProfiles(dir)...)
	out = append(out, a.testIdentifier(ctx, client), a.testProofs())
	return append(out, reached.Clock...)
}

func (a *adapter) testProfiles(dir acme.Directory) []link.CAFinding {
	var out []link.CAFinding
	wanted := slices.Sorted(maps.Values(a.options.Profiles))
	if a.options.Profile != "" {
		wanted = append([]string{a.options.Profile}, wanted...)
	}
	for _, p := range slices.Compact(wanted) {
		if _, ok := dir.Profiles[acme.ProfileName(p)]; ok {
			out = append(out, web.OK("profile", "the CA offers %q", p))
			continue
		}
		var offered []string
		for name := range dir.Profiles {
			offered = append(offered, string(name))
		}
		slices.Sort(offered)
		out = append(out, web.Wrong("profile", "the CA offers no profile %q; it offers [%s]", p, web.Words(strings.Join(offered, " "))))
	}
	return out
}

// Names for an order that nothing comes of: .invalid is nobody's (RFC 2606 section 2).
const (
	probeAddress = "waxseal-test@example.invalid"
	probeDevice  = "waxseal-test"
)

// testIdentifier finds out by an order whether the CA knows the kind of names; it has no other way to say (RFC 8555 section
// 7.1.1 names none).
func (a *adapter) testIdentifier(ctx context.Context, client *acme.Client) link.CAFinding {
	kind, value := a.options.Identifier, probeAddress
	switch kind {
	case identifierDNS:
		return web.Wrong("identifier", "orders for dns names make no mail certificates: a profile with a mail address is refused. A CA that knows RFC 8823 is asked with identifier: email")
	case identifierPermanent:
		value = probeDevice
	}
	var options []acme.OrderOption
	if a.options.Profile != "" {
		options = append(options, acme.WithOrderIssuanceProfile(acme.ProfileName(a.options.Profile)))
	}
	_, err := client.AuthorizeOrder(ctx, []acme.AuthzID{{Type: kind, Value: value}}, options...)
	var refused *ca.RefusedError
	switch {
	case err == nil:
		return web.OK("identifier", "the CA takes orders for names of type %s", kind)
	case problemType(err) == "rejectedIdentifier":
		return web.OK("identifier", "the CA knows names of type %s (it declines %s, which nobody has)", kind, value)
	case errors.As(a.explain(err), &refused):
		return web.Wrong("identifier", "the CA takes no orders for names of type %s, so it cannot make the certificates that profiles want: %s", kind, web.Words(refused.Why))
	}
	return web.Wrong("identifier", "an order could not be tried: %s", web.Words(a.explain(err).Error()))
}

func (a *adapter) testProofs() link.CAFinding {
	var kinds []string
	for _, p := range a.proofs() {
		kinds = append(kinds, p.kind)
	}
	if kinds == nil {
		return web.OK("proof", "no means to prove a name is set: the CA must have authorised the account for the names")
	}
	return web.OK("proof", "names that are not authorised yet are proven by %s", strings.Join(kinds, ", "))
}
