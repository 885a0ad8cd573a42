package adcs

import (
	"context"
	"errors"
	"slices"

	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// connectorKey is how long the RSA keys are that the connector makes by default.
const connectorKey = 2048

// Test looks at the settings as an admin would: address, certificate, credentials, each template with its enrolment
// service and CA, clock. It asks for no certificate.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.client, a.settings.URL, a.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	if a.own != nil {
		out = append(out, web.OwnCertificate("client certificate", a.own, a.clock()))
	}
	known, err := a.getPolicies(ctx)
	switch {
	case errors.Is(err, web.ErrCredentials):
		out = append(out, web.Wrong("credentials", "%s", web.Words(err.Error())))
	case err != nil:
		out = append(out, web.Wrong("policy", "%s", web.Words(err.Error())))
	default:
		out = append(out, web.OK("credentials", "the policy service accepts them and shows %d templates", len(known.templates)))
		out = append(out, a.testTemplates(known)...)
	}
	return append(out, reached.Clock...)
}

func (a *adapter) testTemplates(known policies) []link.CAFinding {
	var out []link.CAFinding
	for _, name := range a.wanted() {
		t, ok := known.template(name)
		if !ok {
			out = append(out, web.Wrong("template", "%q is not shown to the connector's account: publish it at the CA, give the account Read and Enroll on it, and use its name instead of its display name", name))
			continue
		}
		out = append(out, testTemplate(t)...)
		out = append(out, a.testService(known, t)...)
	}
	return out
}

// wanted are the templates that may be asked for.
func (a *adapter) wanted() []string {
	var out []string
	for _, word := range append([]string{""}, a.settings.Templates...) {
		if name, err := a.templateName(word); err == nil && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func testTemplate(t template) []link.CAFinding {
	var out []link.CAFinding
	if !t.mayEnrol {
		out = append(out, web.Wrong("template", "%q: the connector's account may not enrol: give it Enroll on the template's Security tab", t.name))
	}
	if t.subject&subjectFromRequest == 0 {
		out = append(out, web.Wrong("template", "%q: the CA makes the names itself: choose \"Supply in the request\" on the Subject Name tab", t.name))
	}
	if t.signatures > 0 {
		out = append(out, web.Wrong("template", "%q wants %d signatures of a registration authority: set \"This number of authorized signatures\" to 0", t.name, t.signatures))
	}
	if t.minKey > connectorKey {
		out = append(out, web.Wrong("template", "%q wants keys of %d bits: profiles must ask for such keys, or set its minimum key size to %d", t.name, t.minKey, connectorKey))
	}
	if len(out) > 0 {
		return out
	}
	if t.enrolment&pendAll != 0 {
		return []link.CAFinding{web.OK("template", "%q may be enrolled; each request waits for a certificate manager's approval", t.name)}
	}
	return []link.CAFinding{web.OK("template", "%q may be enrolled", t.name)}
}

// testService looks at the CAs before the services: without a known issuer there is no service. Of several CAs that issue a
// template one will do.
func (a *adapter) testService(known policies, t template) []link.CAFinding {
	var issuers []link.CAFinding
	for _, reference := range t.cas {
		if authority, ok := known.cas[reference]; ok {
			issuers = append(issuers, web.Issuer(a.settings, authority.certificate))
		}
	}
	if i := slices.IndexFunc(issuers, func(f link.CAFinding) bool { return f.OK }); i >= 0 {
		issuers = issuers[i : i+1]
	}
	address, err := a.serviceFor(known, t)
	if err != nil {
		return append(issuers, web.Wrong("enrolment service", "%s", web.Words(err.Error())))
	}
	return append(issuers, web.OK("enrolment service", "%s enrols template %q", address, t.name))
}
