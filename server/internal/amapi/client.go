// Package amapi tells Google's Android Management API to install the companion app on a device and to give it its one-time
// token (android.md section 2). No key and no certificate ever goes that way. It is off unless an enterprise is set.
package amapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	google "github.com/waxseal/waxseal/platforms/android/amapi"
)

// DefaultURL is Google's.
const DefaultURL = "https://androidmanagement.googleapis.com"

const (
	timeout   = 30 * time.Second
	maxAnswer = 1 << 20
)

// Config is what a client needs.
type Config struct {
	// URL is the API's address, DefaultURL by default.
	URL string
	// Enterprise is its name at Google: "enterprises/LC012345".
	Enterprise string
	// Token gives the OAuth access token (scope androidmanagement); it is asked for each call, since tokens last an hour.
	Token func() (string, error)
	// Package is the companion app's, SigningCertSHA256 its signers in hex where it is not on Google Play.
	Package           string
	SigningCertSHA256 []string
	// ServerURL is where the companion app enrols.
	ServerURL string
	// WorkProfile allows personal use of the device beside the work profile.
	WorkProfile bool
	HTTP        *http.Client
}

// Client speaks to the API.
type Client struct{ cfg Config }

// enterpriseName is how Google writes it.
const enterpriseName = `^enterprises/[A-Za-z0-9]+$`

// New makes a client.
func New(cfg Config) (*Client, error) {
	if !regexp.MustCompile(enterpriseName).MatchString(cfg.Enterprise) {
		return nil, fmt.Errorf("amapi-enterprise: %q; it is a name such as enterprises/LC012345", cfg.Enterprise)
	}
	if cfg.URL == "" {
		cfg.URL = DefaultURL
	}
	if u, err := url.Parse(cfg.URL); err != nil || u.Host == "" || (u.Scheme != "https" && u.Hostname() != "127.0.0.1") {
		return nil, fmt.Errorf("amapi-url: %q is no https URL", cfg.URL)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the policy holds a token, which goes to nobody else
		}}
	}
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	c := &Client{cfg: cfg}
	_, err := c.policy("") // what is wrong with the app's settings is said at the start, and not at the first link
	return c, err
}

func (c *Client) policy(token string) (google.Policy, error) {
	return google.PolicyFor(google.Params{Package: c.cfg.Package, SigningCertSHA256: c.cfg.SigningCertSHA256,
		ServerURL: c.cfg.ServerURL, EnrollmentToken: token})
}

// Prepared is what brings a device in: a token to type, or the content of a QR code to scan at its first start. Both are
// secrets.
type Prepared struct {
	Value, QRCode string
}

// maxLife is the longest that Google's token is asked for; a link may live longer.
const maxLife = 30 * 24 * time.Hour

// Prepare makes a policy of its own for one enrolment, whose companion app gets the one-time token, and asks Google for an
// enrolment token under it. name tells the policies of different links apart. Nothing is sent unless all of it is right.
func (c *Client) Prepare(ctx context.Context, name, userID, token string, life time.Duration) (Prepared, error) {
	policy, err := c.policy(token)
	if err != nil {
		return Prepared{}, err
	}
	policyName := c.cfg.Enterprise + "/policies/" + name
	request, err := google.TokenFor(policyName, userID, min(max(life, time.Minute), maxLife), c.cfg.WorkProfile)
	if err != nil {
		return Prepared{}, err
	}
	if err := c.call(ctx, http.MethodPatch, "/v1/"+policyName, policy, nil); err != nil {
		return Prepared{}, fmt.Errorf("writing the policy %s: %w", policyName, err)
	}
	var answer google.EnrollmentToken
	if err := c.call(ctx, http.MethodPost, "/v1/"+c.cfg.Enterprise+"/enrollmentTokens", request, &answer); err != nil {
		return Prepared{}, fmt.Errorf("asking for an enrolment token: %w", err)
	}
	if answer.Value == "" {
		return Prepared{}, errors.New("asking for an enrolment token: the answer has none")
	}
	return Prepared{Value: answer.Value, QRCode: answer.QRCode}, nil
}

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	bearer, err := c.cfg.Token()
	if err == nil && bearer == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return fmt.Errorf("reading the access token: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.cfg.URL+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("the Android Management API cannot be reached: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refused(resp.Status, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return errors.New("the answer is no JSON")
	}
	return nil
}

// refused gives Google's own sentence.
func refused(status string, answer []byte) error {
	var body struct {
		Error struct{ Message, Status string }
	}
	if json.Unmarshal(answer, &body) == nil && body.Error.Message != "" {
		return fmt.Errorf("the Android Management API answers %s: %.300s", status, body.Error.Message)
	}
	return fmt.Errorf("the Android Management API answers %s", status)
}
