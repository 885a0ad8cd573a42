package stepca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// Test looks at the address, its certificate, step-ca's health, the root, the issuing CA, each provisioner and its tokens,
// and the clock. No certificate is asked for.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.client, a.base+"/health", a.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	healthy := a.health(ctx)
	if out = append(out, healthy); !healthy.OK {
		return append(out, reached.Clock...)
	}
	provisioners, err := a.provisioners(ctx)
	for _, n := range a.all() {
		if err != nil {
			out = append(out, web.Wrong("provisioner", "step-ca does not list its provisioners: %s", web.Words(err.Error())))
			break
		}
		out = append(out, findProvisioner(n, provisioners), a.credentials(ctx, n.signer))
	}
	out = append(out, a.root(ctx)...)
	out = append(out, a.issuer(ctx)...)
	return append(out, reached.Clock...)
}

// named is a provisioner with the words of templates that it serves, for findings.
type named struct {
	template string
	signer   *signer
}

func (a *adapter) all() []named {
	var out []named
	if a.usual != nil {
		out = append(out, named{"", a.usual})
	}
	for _, word := range slices.Sorted(maps.Keys(a.signers)) {
		out = append(out, named{word, a.signers[word]})
	}
	return out
}

func (a *adapter) health(ctx context.Context) link.CAFinding {
	body, err := a.get(ctx, "/health", nil)
	var health struct {
		Status string `json:"status"`
	}
	switch {
	case err != nil:
		return web.Wrong("health", "%s: step-ca answers /health with status ok; look whether url leads to it", web.Words(err.Error()))
	case json.Unmarshal(body, &health) != nil || health.Status != "ok":
		return web.Wrong("health", "the answer to /health is not step-ca's: look whether url leads to it")
	}
	return web.OK("health", "step-ca says that it is well")
}

// maxPages bounds how many pages of provisioners are read.
const maxPages = 20

func (a *adapter) provisioners(ctx context.Context) ([]listed, error) {
	var out []listed
	cursor := ""
	for range maxPages {
		query := url.Values{"limit": {"100"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		body, err := a.get(ctx, "/provisioners", query)
		if err != nil {
			return nil, err
		}
		page, next, err := parseProvisioners(body)
		if err != nil {
			return nil, err
		}
		if out = append(out, page...); next == "" {
			return out, nil
		}
		cursor = next
	}
	return out, nil
}

// findProvisioner looks for a provisioner by name and key.
func findProvisioner(n named, all []listed) link.CAFinding {
	wrong := ""
	for _, p := range all {
		switch {
		case p.Name != n.signer.name:
		case p.Type != "JWK":
			wrong = "is of type " + p.Type + ": the connector needs one of type JWK"
		case p.Key.ID != n.signer.keyID:
			wrong = "has another key than the settings: take encryptedKey from the CA's own list of provisioners"
		case p.Claims.Max != "":
			return web.OK("provisioner", "%q has this key and lets certificates live up to %s", n.signer.name, web.Words(p.Claims.Max))
		default:
			return web.OK("provisioner", "%q has this key; how long certificates may live, the CA's own claims say (24h unless they say more)", n.signer.name)
		}
	}
	if wrong == "" {
		wrong = "is not among step-ca's provisioners: step ca provisioner list shows their names"
	}
	return web.Wrong("provisioner", "%q %s", n.signer.name, web.Words(wrong))
}

// credentials asks step-ca to revoke one certificate with a token for another: it looks at the token first, and what it
// then declines is the mismatch. Nothing can come of it, since the two numbers never agree.
func (a *adapter) credentials(ctx context.Context, s *signer) link.CAFinding {
	err := a.revoke(ctx, s, "1", "2", 0)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.answer.Status == http.StatusForbidden && status.words != "":
		return web.OK("credentials", "step-ca takes the tokens of %q", s.name)
	case errors.Is(err, web.ErrCredentials):
		return web.Wrong("credentials", "step-ca does not take the tokens of %q: %s. The key must be this provisioner's, audience a name of dnsNames in ca.json, the clocks alike", s.name, web.Words(status.words))
	case err == nil:
		return web.Wrong("credentials", "the answer is not step-ca's: look whether url leads to it")
	}
	return web.Wrong("credentials", "the tokens of %q could not be tried: %s", s.name, web.Words(err.Error()))
}

// root compares step-ca's roots with the fingerprint of the settings.
func (a *adapter) root(ctx context.Context) []link.CAFinding {
	if a.options.RootFingerprint == "" {
		return nil
	}
	body, err := a.get(ctx, "/roots", nil)
	if err != nil {
		return []link.CAFinding{web.Wrong("root", "step-ca does not give its roots: %s", web.Words(err.Error()))}
	}
	roots, err := parseList(body)
	if err != nil {
		return []link.CAFinding{web.Wrong("root", "%v", err)}
	}
	for _, r := range roots {
		if fingerprint(r) == a.options.RootFingerprint {
			return []link.CAFinding{web.OK("root", "%s has the fingerprint of the settings", web.Words(r.Subject.String()))}
		}
	}
	return []link.CAFinding{web.Wrong("root", "the root is %s with the fingerprint %s, rootFingerprint is another: ask the CA's admin which is right", web.Words(roots[0].Subject.String()), fingerprint(roots[0]))}
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// issuer looks whether the certificates that issue are among the settings'. A step-ca that is too old to tell has no finding.
func (a *adapter) issuer(ctx context.Context) []link.CAFinding {
	body, err := a.get(ctx, "/intermediates", nil)
	var status *statusError
	if errors.As(err, &status) && status.answer.Status == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return []link.CAFinding{web.Wrong("issuer", "step-ca does not say by which CA it issues: %s", web.Words(err.Error()))}
	}
	issuers, err := parseList(body)
	if err != nil {
		return []link.CAFinding{web.Wrong("issuer", "%v", err)}
	}
	return []link.CAFinding{web.Issuer(a.settings, issuers[0])}
}
