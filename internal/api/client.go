package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/clock"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/profiles"
)

const (
	// BasePath is where the paths of this package begin.
	BasePath = "/api/v1"
	// maxAnswer bounds what a client reads of one answer.
	maxAnswer = 64 << 20
	// DefaultTimeout bounds one request.
	DefaultTimeout = 60 * time.Second
)

// Client speaks to the admin API of one server. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient makes a client; a nil HTTP client gets the system's roots and a timeout.
func NewClient(server, token string, client *http.Client) (*Client, error) {
	u, err := url.Parse(strings.TrimSuffix(server, "/"))
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("server %q: it must be a URL such as https://mdm.example.com", server)
	}
	if client == nil {
		client = &http.Client{Timeout: DefaultTimeout}
	}
	return &Client{base: u.String() + BasePath, token: token, http: client}, nil
}

// Open makes a client from what the command line gives: the server's URL, the file with its CA (empty: the system's
// roots) and the file with the admin token.
func Open(server, caFile, tokenFile string) (*Client, error) {
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return nil, fmt.Errorf("reading the admin token: %w", err)
	}
	if strings.ContainsAny(strings.TrimSpace(string(token)), " \r\n\t") {
		return nil, fmt.Errorf("%s is no token file: it must hold one token, as the server's DIR/admin-token does", tokenFile)
	}
	transport, err := transport(caFile)
	if err != nil {
		return nil, err
	}
	return NewClient(server, strings.TrimSpace(string(token)), &http.Client{Timeout: DefaultTimeout, Transport: transport})
}

func transport(caFile string) (*http.Transport, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 15 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, Time: clock.Now}}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the server's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate: give the server's ca.pem", caFile)
	}
	t.TLSClientConfig.RootCAs = roots
	return t, nil
}

// Apply sends objects; all or nothing is applied.
func (c *Client) Apply(ctx context.Context, objects []profiles.Object, dryRun bool) (ApplyResponse, error) {
	raw, err := json.Marshal(objects)
	if err != nil {
		return ApplyResponse{}, fmt.Errorf("encoding the objects: %w", err)
	}
	return ask[ApplyResponse](ctx, c, http.MethodPost, "/apply", ApplyRequest{Objects: raw, DryRun: dryRun})
}

// DeleteObject removes a profile, an assignment or a user without devices.
func (c *Client) DeleteObject(ctx context.Context, kind profiles.Kind, name string) error {
	q := url.Values{"kind": {string(kind)}, "name": {name}} // names may hold slashes
	return c.do(ctx, http.MethodDelete, "/objects?"+q.Encode(), nil, nil)
}

// PageQuery asks for a part of a list. Limit 0 is the server's choice.
type PageQuery struct {
	After string
	Limit int
}

func (q PageQuery) encode() string {
	v := url.Values{}
	if q.After != "" {
		v.Set("after", q.After)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// ask sends a request and decodes the answer.
func ask[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	err := c.do(ctx, method, path, in, &out)
	return out, err
}

func list[T any](ctx context.Context, c *Client, path string, q PageQuery) (Page[T], error) {
	return ask[Page[T]](ctx, c, http.MethodGet, path+q.encode(), nil)
}

// All reads every page of a list: api.All(ctx, client.Users).
func All[T any](ctx context.Context, list func(context.Context, PageQuery) (Page[T], error)) ([]T, error) {
	items := []T{}
	for q := (PageQuery{Limit: 1000}); ; {
		page, err := list(ctx, q)
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items, nil
		}
		if page.Next == q.After {
			return nil, errors.New("the server's list does not advance")
		}
		q.After = page.Next
	}
}

// Objects are profiles and assignments as they were applied.
func (c *Client) Objects(ctx context.Context, q PageQuery) (Page[profiles.Object], error) {
	return list[profiles.Object](ctx, c, "/objects", q)
}

// Users lists users.
func (c *Client) Users(ctx context.Context, q PageQuery) (Page[User], error) {
	return list[User](ctx, c, "/users", q)
}

// User reads one user; a *Problem with status 404 when there is none.
func (c *Client) User(ctx context.Context, upn string) (User, error) {
	return ask[User](ctx, c, http.MethodGet, "/users/"+url.PathEscape(upn), nil)
}

// Groups lists groups.
func (c *Client) Groups(ctx context.Context, q PageQuery) (Page[Group], error) {
	return list[Group](ctx, c, "/groups", q)
}

// Profiles lists profiles.
func (c *Client) Profiles(ctx context.Context, q PageQuery) (Page[Profile], error) {
	return list[Profile](ctx, c, "/profiles", q)
}

// Devices lists devices.
func (c *Client) Devices(ctx context.Context, q PageQuery) (Page[Device], error) {
	return list[Device](ctx, c, "/devices", q)
}

// Certificates lists certificates.
func (c *Client) Certificates(ctx context.Context, q PageQuery) (Page[Certificate], error) {
	return list[Certificate](ctx, c, "/certificates", q)
}

// EscrowRecords lists escrow records.
func (c *Client) EscrowRecords(ctx context.Context, q PageQuery) (Page[EscrowRecord], error) {
	return list[EscrowRecord](ctx, c, "/escrow", q)
}

// Connectors lists connectors.
func (c *Client) Connectors(ctx context.Context, q PageQuery) (Page[Connector], error) {
	return list[Connector](ctx, c, "/connectors", q)
}

// CAs lists the certification authorities that connectors offer.
func (c *Client) CAs(ctx context.Context, q PageQuery) (Page[CA], error) {
	return list[CA](ctx, c, "/cas", q)
}

// Expiring is what ends within a time, soonest first: certificates in use, CAs, and the server's own; at most 1000.
func (c *Client) Expiring(ctx context.Context, within time.Duration) ([]Expiring, error) {
	var out struct {
		Items []Expiring `json:"items"`
	}
	err := c.do(ctx, http.MethodGet, "/expiring?within="+url.QueryEscape(within.String()), nil, &out)
	return out.Items, err
}

// TestCA has a connector look whether a CA's settings are right; no certificate is issued.
func (c *Client) TestCA(ctx context.Context, name string) (CATest, error) {
	var out CATest
	err := c.do(ctx, http.MethodPost, "/cas/"+url.PathEscape(name)+"/test", nil, &out)
	return out, err
}

// AddPartner adds a partner CA; only its answer has the secret.
func (c *Client) AddPartner(ctx context.Context, r PartnerRequest) (Partner, error) {
	return ask[Partner](ctx, c, http.MethodPost, "/partners", r)
}

// Partners lists the partner CAs.
func (c *Client) Partners(ctx context.Context, q PageQuery) (Page[Partner], error) {
	return list[Partner](ctx, c, "/partners", q)
}

// RemovePartner ends a partner's access at once; its certificates stay what they are.
func (c *Client) RemovePartner(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/partners/"+url.PathEscape(name), nil, nil)
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, q PageQuery) (Page[Job], error) {
	return list[Job](ctx, c, "/jobs", q)
}

// Audit lists the audit log, oldest first.
func (c *Client) Audit(ctx context.Context, q PageQuery) (Page[AuditEntry], error) {
	return list[AuditEntry](ctx, c, "/audit", q)
}

// Explain says what should be on a device, what is there, and why not.
func (c *Client) Explain(ctx context.Context, deviceID string) (Explain, error) {
	return ask[Explain](ctx, c, http.MethodGet, "/devices/"+url.PathEscape(deviceID)+"/explain", nil)
}

// Retire takes what Waxseal delivered off a device, the enrolment last.
func (c *Client) Retire(ctx context.Context, deviceID string) (Device, error) {
	return c.act(ctx, deviceID, "retire")
}

// Wipe erases a device.
func (c *Client) Wipe(ctx context.Context, deviceID string) (Device, error) {
	return c.act(ctx, deviceID, "wipe")
}

// Sync has a device planned and inventoried again at its next check-in.
func (c *Client) Sync(ctx context.Context, deviceID string) (Device, error) {
	return c.act(ctx, deviceID, "sync")
}

func (c *Client) act(ctx context.Context, deviceID, verb string) (Device, error) {
	return ask[Device](ctx, c, http.MethodPost, "/devices/"+url.PathEscape(deviceID)+"/"+verb, nil)
}

// EnrollmentLink makes an enrolment link.
func (c *Client) EnrollmentLink(ctx context.Context, r LinkRequest) (Link, error) {
	return ask[Link](ctx, c, http.MethodPost, "/enrollment-links", r)
}

// ConnectorToken makes a one-time registration token.
func (c *Client) ConnectorToken(ctx context.Context) (Token, error) {
	return ask[Token](ctx, c, http.MethodPost, "/connector-tokens", nil)
}

// KeySet reads the signed key set. Whoever seals to it verifies it first, under the pinned root.
func (c *Client) KeySet(ctx context.Context) (escrow.SignedKeySet, error) {
	return ask[escrow.SignedKeySet](ctx, c, http.MethodGet, "/key-set", nil)
}

// Import sends one sealed record with its certificate.
func (c *Client) Import(ctx context.Context, r ImportRequest) (ImportResponse, error) {
	return ask[ImportResponse](ctx, c, http.MethodPost, "/escrow", r)
}

// DeleteRecord removes an escrow record: devices lose it at their next check-in, nothing is revoked.
func (c *Client) DeleteRecord(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodDelete, "/escrow/"+url.PathEscape(id), nil, nil)
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return decodeAnswer(resp, out)
}

func decodeAnswer(resp *http.Response, out any) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if len(raw) > maxAnswer {
		return fmt.Errorf("the server's answer is longer than %d bytes", maxAnswer)
	}
	if resp.StatusCode >= 300 {
		return decodeProblem(resp, raw)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	return nil
}

// decodeProblem makes an error of any answer; one that is no problem+json came from something in between.
func decodeProblem(resp *http.Response, raw []byte) error {
	p := &Problem{}
	if err := json.Unmarshal(raw, p); err != nil || (p.Detail == "" && p.Title == "") {
		return &Problem{Title: http.StatusText(resp.StatusCode), Status: resp.StatusCode,
			Detail: fmt.Sprintf("the server answered %s", resp.Status)}
	}
	p.Status = resp.StatusCode
	return p
}
