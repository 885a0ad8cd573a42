package scepca

import (
	"context"
	"errors"
	"net/http"

	"github.com/waxseal/waxseal/connector/internal/ca/chain"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// Test looks at the settings as an admin would: address, capabilities, the CA's certificates, the connector's own, the
// challenge, clock. It asks for no certificate, and NDES for no challenge: those are few.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.client, a.settings.URL+"?operation=GetCACaps", a.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	out = append(out, a.testAuthority(ctx)...)
	return append(append(out, a.testRA(), a.testChallenge(ctx)), reached.Clock...)
}

func (a *adapter) testAuthority(ctx context.Context) []link.CAFinding {
	c, err := a.getCapabilities(ctx)
	if err != nil {
		return []link.CAFinding{web.Wrong("capabilities", "%s", web.Words(err.Error()))}
	}
	out := []link.CAFinding{a.testCapabilities(c)}
	certs, err := a.getCertificates(ctx)
	if err != nil {
		return append(out, web.Wrong("CA certificate", "%s", web.Words(err.Error())))
	}
	au := authority{capabilities: c, certificates: certs}
	if err := a.choose(&au); err != nil {
		out = append(out, web.Wrong("CA certificate", "%s", web.Words(err.Error())))
	} else {
		out = append(out, web.OK("CA certificate", "requests are encrypted to %s", web.Words(au.recipient.Subject.String())))
	}
	return append(out, chain.Finding(a.settings, certs))
}

func (a *adapter) testCapabilities(c capabilities) link.CAFinding {
	if _, err := a.cipher(c); err != nil {
		return web.Wrong("capabilities", "%v", err)
	}
	cipher, method, digest := "AES", "POST", "SHA-256"
	if !c.aes {
		cipher = "Triple DES"
	}
	if !c.post {
		method = "GET"
	}
	if !c.sha256 {
		digest = "SHA-256, which the CA does not announce"
	}
	return web.OK("capabilities", "requests go by %s, encrypted with %s, signed with %s", method, cipher, digest)
}

func (a *adapter) testRA() link.CAFinding {
	if a.ra == nil {
		return web.OK("ra certificate", "there is none, so only keys that the connector made can be certified; keys that devices hold need raCertificateFile and raKeyFile")
	}
	return web.OwnCertificate("ra certificate", a.ra, a.clock())
}

// testChallenge asks NDES by a method for which it makes no challenge; the web server looks at the password before that.
func (a *adapter) testChallenge(ctx context.Context) link.CAFinding {
	switch {
	case a.options.Challenge != "":
		return web.OK("credentials", "a challenge is set; whether it is right only a request for a certificate can tell")
	case a.options.NDESAdminURL == "":
		return web.OK("credentials", "no challenge is set: the CA must know the RA certificate, or have somebody approve each request")
	}
	answer, err := a.admin(ctx, http.MethodOptions)
	if err == nil && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden) {
		err = web.Failed(answer, "")
	}
	switch {
	case errors.Is(err, web.ErrCredentials):
		return web.Wrong("credentials", "%s: NDES must allow Basic authentication at mscep_admin, and username be DOMAIN\\user", web.Words(err.Error()))
	case err != nil:
		return web.Wrong("credentials", "%s", web.Words(err.Error()))
	case answer.Status == http.StatusNotFound:
		return web.Wrong("credentials", "there is no page at ndesAdminURL: it looks like https://ndes.corp.test/certsrv/mscep_admin/")
	}
	return web.OK("credentials", "the mscep_admin page lets the account in")
}
