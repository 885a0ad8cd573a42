package partnerca

import (
	"net/http"
	"net/url"

	"github.com/waxseal/waxseal/server/internal/web"
)

// service is an entry of the service map. Microsoft Graph says providerName, its predecessor serviceName; libraries compare it
// in lower case.
type service struct {
	ID           string `json:"id"`
	Capability   string `json:"capability"`
	ProviderName string `json:"providerName"`
	ServiceName  string `json:"serviceName"`
	URI          string `json:"uri"`
}

type serviceMap struct {
	Value []service `json:"value"`
}

// discover says where the services are. A partner asks for it with a token, as it must at Microsoft's.
func (e *Endpoint) discover(w http.ResponseWriter, r *http.Request) error {
	if _, err := e.partner(w, r); err != nil {
		return err
	}
	var out serviceMap
	for _, name := range []string{validationService, revocationService} {
		out.Value = append(out.Value, service{ID: name, Capability: name, ProviderName: name, ServiceName: name, URI: e.cfg.PublicURL + Prefix + "/" + name})
	}
	return sendJSON(w, http.StatusOK, out)
}

// configuration is what libraries read of OpenID Connect Discovery 1.0 section 3. There are no users here: the fields that
// their readers insist on are present, and nothing answers at the addresses but the token endpoint.
type configuration struct {
	Issuer        string   `json:"issuer"`
	Token         string   `json:"token_endpoint"`
	Authorization string   `json:"authorization_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Methods       []string `json:"token_endpoint_auth_methods_supported"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	SigningAlgs   []string `json:"id_token_signing_alg_values_supported"`
}

func (e *Endpoint) openID(w http.ResponseWriter, r *http.Request) error {
	base := e.cfg.PublicURL + "/" + url.PathEscape(web.Vars(r)["tenant"])
	return sendJSON(w, http.StatusOK, configuration{Issuer: base + "/v2.0", Token: base + "/oauth2/v2.0/token", Authorization: base + "/oauth2/v2.0/authorize",
		Keys: base + "/discovery/v2.0/keys", Methods: []string{"client_secret_post", "client_secret_basic"},
		ResponseTypes: []string{"token"}, SubjectTypes: []string{"pairwise"}, SigningAlgs: []string{"RS256"}})
}

// instances is Microsoft's instance discovery: which hosts are one authority.
type instances struct {
	Endpoint   string     `json:"tenant_discovery_endpoint"`
	APIVersion string     `json:"api-version"`
	Metadata   []instance `json:"metadata"`
}

type instance struct {
	Network string   `json:"preferred_network"`
	Cache   string   `json:"preferred_cache"`
	Aliases []string `json:"aliases"`
}

func (e *Endpoint) instance(w http.ResponseWriter, _ *http.Request) error {
	u, err := url.Parse(e.cfg.PublicURL)
	if err != nil {
		return err
	}
	return sendJSON(w, http.StatusOK, instances{Endpoint: e.cfg.PublicURL + "/common/v2.0/.well-known/openid-configuration", APIVersion: "1.1",
		Metadata: []instance{{Network: u.Host, Cache: u.Host, Aliases: []string{u.Host}}}})
}
