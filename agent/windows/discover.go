package windows

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Ways to authenticate at enrolment (windows.md section 1.3).
const (
	OnPremise = "OnPremise"
	Federated = "Federated"
)

const discoveryPath = "/EnrollmentServer/Discovery.svc"

// maxRedirects bounds how often discovery is sent on.
const maxRedirects = 5

// start is where an enrolment begins.
type start struct {
	discovery *url.URL
	user      string
}

// readSource reads what a person gives to enrol with: a deep link, the https URL of a server, or a mail address, for
// which Windows asks enterpriseenrollment.DOMAIN (windows.md sections 0 and 1.2).
func readSource(source, user string) (start, error) {
	u, err := url.Parse(source)
	switch {
	case err == nil && u.Scheme == "ms-device-enrollment":
		return readDeepLink(u, user)
	case err == nil && (u.Scheme == "https" || u.Scheme == "http"):
		where, err := discoveryURL(source)
		return start{where, user}, err
	}
	local, domain, there := strings.Cut(source, "@")
	if !there || local == "" || domain == "" || strings.ContainsAny(domain, "/@ ") {
		return start{}, errors.New("a PC enrols with a link ms-device-enrollment:?mode=mdm&…, the https URL of a server, or a mail address")
	}
	if user == "" {
		user = source
	}
	where, err := discoveryURL("https://enterpriseenrollment." + domain)
	return start{where, user}, err
}

func readDeepLink(u *url.URL, user string) (start, error) {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return start{}, errors.New("the parameters of the enrolment link are malformed")
	}
	if mode := query.Get("mode"); mode != "mdm" {
		return start{}, fmt.Errorf("the enrolment link has mode=%q; only mdm is simulated", mode)
	}
	if query.Get("username") != "" {
		user = query.Get("username")
	}
	if query.Get("servername") == "" {
		return readSource(user, user)
	}
	where, err := discoveryURL(query.Get("servername"))
	return start{where, user}, err
}

// discoveryURL completes the address of a server.
func discoveryURL(text string) (*url.URL, error) {
	u, err := httpsURL("the address of the server", text)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = discoveryPath
	}
	return u, nil
}

// services is what discovery answers.
type services struct {
	authPolicy             string
	policy, enroll, signIn string // URLs; policy may be empty
}

// discover asks where and how to enrol: GET, which must answer 200 with nothing, then POST. Both may be redirected.
func (e *enrolling) discover(ctx context.Context, where *url.URL) (services, error) {
	where, err := e.ping(ctx, where)
	if err != nil {
		return services{}, err
	}
	c := call{action: actionDiscover, answer: actionDiscovered, body: e.discoverBody(), space: nsDiscover, name: "DiscoverResponse"}
	for range maxRedirects {
		c.to = where.String()
		got, err := e.device.do(ctx, e.client, c)
		var moved *movedError
		if errors.As(err, &moved) {
			where = moved.to
			continue
		}
		if err != nil {
			return services{}, err
		}
		return e.readServices(got.at("DiscoverResult"))
	}
	return services{}, fmt.Errorf("the server redirects more than %d times", maxRedirects)
}

// ping is the GET by which Windows looks whether there is a server, and where.
func (e *enrolling) ping(ctx context.Context, where *url.URL) (*url.URL, error) {
	for range maxRedirects {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
		if err != nil {
			return nil, errors.New("the address of the server is malformed")
		}
		req.Header.Set("User-Agent", userAgentEnroll)
		req.Header.Set("Cache-Control", "no-cache")
		resp, err := e.client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("the server cannot be reached: %w", withoutURL(err))
		}
		got, err := readAnswer(resp)
		if err != nil {
			return nil, err
		}
		switch to, err := got.location(where); {
		case err != nil:
			return nil, err
		case to != nil:
			where = to
		case got.status != http.StatusOK:
			return nil, got.refusal()
		default:
			return where, nil
		}
	}
	return nil, fmt.Errorf("the server redirects more than %d times", maxRedirects)
}

// movedError is the redirect of a POST.
type movedError struct{ to *url.URL }

func (e *movedError) Error() string { return "the server redirects, which only discovery may do" }

// location is where a redirect leads; nil if the answer is none.
func (a *answer) location(from *url.URL) (*url.URL, error) {
	if a.status/100 != 3 {
		return nil, nil
	}
	to, err := from.Parse(a.header.Get("Location"))
	if err != nil || a.header.Get("Location") == "" {
		return nil, errors.New("the server redirects without saying where to")
	}
	return httpsURL("the address that the server redirects to", to.String())
}

func (e *enrolling) discoverBody() string {
	var policies strings.Builder
	for _, policy := range e.device.cfg.AuthPolicies {
		policies.WriteString("<AuthPolicy>" + escape(policy) + "</AuthPolicy>")
	}
	version := escape(e.device.state.OSVersion)
	return `<Discover xmlns="` + nsDiscover + `"><request xmlns:i="` + nsInstance + `">` +
		"<EmailAddress>" + escape(e.user) + "</EmailAddress><RequestVersion>" + requestVersion + "</RequestVersion>" +
		"<DeviceType>" + deviceType + "</DeviceType><ApplicationVersion>" + version + "</ApplicationVersion>" +
		"<OSEdition>" + osEdition + "</OSEdition><AuthPolicies>" + policies.String() + "</AuthPolicies></request></Discover>"
}

// readServices checks the answer of discovery. Policy and enrolment service must share one host (windows.md section 0).
func (e *enrolling) readServices(result *element) (services, error) {
	s := services{
		authPolicy: result.at("AuthPolicy").value(), policy: result.at("EnrollmentPolicyServiceUrl").value(),
		enroll: result.at("EnrollmentServiceUrl").value(), signIn: result.at("AuthenticationServiceUrl").value(),
	}
	if !slices.Contains(e.device.cfg.AuthPolicies, s.authPolicy) {
		return s, fmt.Errorf("discovery answers AuthPolicy %q, which was not offered; offered: %s", s.authPolicy, strings.Join(e.device.cfg.AuthPolicies, ", "))
	}
	if err := checkVersion(result.at("EnrollmentVersion").value()); err != nil {
		return s, err
	}
	enroll, err := httpsURL("EnrollmentServiceUrl in the answer of discovery", s.enroll)
	if err != nil {
		return s, err
	}
	if s.policy != "" {
		policy, err := httpsURL("EnrollmentPolicyServiceUrl in the answer of discovery", s.policy)
		if err != nil {
			return s, err
		}
		if policy.Hostname() != enroll.Hostname() {
			return s, errors.New("EnrollmentPolicyServiceUrl and EnrollmentServiceUrl must have the same host")
		}
	}
	if s.authPolicy == Federated {
		_, err = httpsURL("AuthenticationServiceUrl, which Federated needs in the answer of discovery,", s.signIn)
	}
	return s, err
}

// checkVersion takes the versions that servers are known to answer.
func checkVersion(version string) error {
	switch version {
	case "3.0", "4.0", "5.0", "6.0", "7.0":
		return nil
	}
	return fmt.Errorf("discovery answers EnrollmentVersion %q; 3.0 to 7.0 are known", version)
}
