package windowsmdm

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms/windows/mde"
)

// there answers the first GET, by which a device finds out whether there is a server at all.
func there(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// discover says how to prove oneself and where the other services are. It knows no users: an address that nobody has
// gets the same answer. No version and no type of device is refused (windows.md section 1.2).
func (e *Endpoint) discover(_ context.Context, req *mde.Request) ([]byte, error) {
	if req.Discover == nil {
		return nil, refuse(mde.MessageFormat, "this address answers Discover")
	}
	policy := choose(e.cfg.AuthPolicy, req.Discover.AuthPolicies)
	if policy == "" {
		return nil, refuseBecause(mde.Authorization, mde.NotSupported, "the device offers neither OnPremise nor Federated in AuthPolicies; this server knows no other way to sign in")
	}
	base := strings.TrimSuffix(e.cfg.URL(), "/")
	d := mde.Discovery{AuthPolicy: policy, PolicyURL: base + PolicyPath, EnrollmentURL: base + EnrollmentPath}
	if policy == mde.AuthFederated {
		d.AuthenticationURL = base + AuthPath
	}
	return mde.DiscoverResponse(req.MessageID, d)
}

// choose takes the preferred way if the device can go it, else the other one; empty when it can go neither.
func choose(preferred string, offered []string) string {
	other := mde.AuthOnPremise
	if preferred == mde.AuthOnPremise {
		other = mde.AuthFederated
	}
	for _, policy := range []string{preferred, other} {
		if slices.ContainsFunc(offered, func(o string) bool { return strings.EqualFold(o, policy) }) {
			return policy
		}
	}
	return ""
}
