package digicert

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
	"github.com/waxseal/waxseal/internal/link"
)

// Test is the button for a configuration that would silently issue nothing (DC-04): address, certificate, credentials, each
// certificate profile with its CA, clock. It asks for no certificate.
func (a *adapter) Test(ctx context.Context) []link.CAFinding {
	reached := web.Reach(ctx, a.client, a.settings.URL, a.clock())
	out := reached.First
	if !reached.OK {
		return out
	}
	if a.own != nil {
		out = append(out, web.OwnCertificate("client certificate", a.own, a.clock()))
	}
	for i, profile := range profilesOf(a.settings, a.options.Profile, a.options.Profiles) {
		p, err := a.profile(ctx, profile)
		if errors.Is(err, web.ErrCredentials) && i == 0 {
			out = append(out, web.Wrong("credentials", "%s. The service user needs the right to view certificate profiles, and the profile must be its to see", web.Words(err.Error())))
			break
		}
		if i == 0 && err == nil {
			out = append(out, web.OK("credentials", "DigiCert accepts them"))
		}
		if err != nil {
			out = append(out, web.Wrong("profile", "%s: %s. The option profile takes the id that the certificate profile's page shows", profile, web.Words(err.Error())))
			continue
		}
		out = append(out, a.testProfile(profile, p)...)
	}
	return append(out, reached.Clock...)
}

// profilesOf are the certificate profiles that may be asked for, each once.
func profilesOf(s ca.Settings, usual string, profiles map[string]string) []string {
	var out []string
	for _, word := range append([]string{""}, s.Templates...) {
		if id, err := profileFor(word, usual, profiles); err == nil && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// certificateProfile is what the API tells of one (PublicProfileResponse).
type certificateProfile struct {
	Name             string `json:"name"`
	Status           string `json:"status"`
	Method           string `json:"enrollment_method"`
	Authentication   string `json:"authentication_method"`
	OverrideValidity bool   `json:"override_cert_validity_via_api"`
	Certificate      struct {
		Issuer struct {
			Certificate string `json:"certificate"`
		} `json:"issuer"`
	} `json:"certificate"`
}

func (a *adapter) profile(ctx context.Context, profile string) (certificateProfile, error) {
	var p certificateProfile
	err := a.do(ctx, http.MethodGet, fill(a.options.ProfilePath, "{profile}", profile), nil, nil, &p)
	return p, err
}

func (a *adapter) testProfile(profile string, p certificateProfile) []link.CAFinding {
	var out []link.CAFinding
	wrong := func(format string, args ...any) {
		out = append(out, web.Wrong("profile", "%s (%s): "+format, append([]any{profile, web.Words(p.Name)}, args...)...))
	}
	if p.Status != "" && !strings.EqualFold(p.Status, "active") {
		wrong("its status is %q: activate it", web.Words(p.Status))
	}
	if p.Method != "" && !strings.EqualFold(p.Method, "rest_api") {
		wrong("its enrollment method is %q: it must be REST API", web.Words(p.Method))
	}
	if p.Authentication != "" && !strings.EqualFold(p.Authentication, "third_party_app") {
		wrong("its authentication method is %q: it must be 3rd party app", web.Words(p.Authentication))
	}
	if a.options.OverrideValidity && !p.OverrideValidity {
		wrong("it does not let requests choose the validity: allow it there, or take overrideValidity out of the options")
	}
	if len(out) == 0 {
		out = append(out, web.OK("profile", "%s (%s) is active and issues by REST API", profile, web.Words(p.Name)))
	}
	issuer, err := certificate{Certificate: p.Certificate.Issuer.Certificate}.parse()
	if err != nil || len(issuer) == 0 {
		return out // the API may leave it out
	}
	return append(out, web.Issuer(a.settings, issuer[0]))
}
