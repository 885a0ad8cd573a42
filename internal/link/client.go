package link

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
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/clock"
	"github.com/waxseal/waxseal/internal/escrow"
)

const (
	// MaxBody bounds every message of the link, in both directions. A render job with a long key history is the
	// largest.
	MaxBody = 32 << 20
	// maxProblem bounds what is read of an error answer.
	maxProblem = 64 << 10
	// callTimeout ends a call whose answer never comes to its end; a claim waits 25 s of it.
	callTimeout = 5 * time.Minute
	// pathPrefix is the version of the wire.
	pathPrefix = "/connector/v1/"
)

// Client is the connector's end of the link. The zero HTTP is http.DefaultClient. A redirection is an error answer: tokens
// and answers go to the server that the keyring names and nowhere else.
type Client struct {
	BaseURL     string
	HTTP        *http.Client
	ConnectorID string
	Credential  string
}

// StatusError is an error answer of the server (RFC 9457). It holds no secret: only the server's own words.
type StatusError struct {
	Status int    `json:"status"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d", e.Status)
	switch {
	case e.Detail != "":
		return text + ": " + e.Detail
	case e.Title != "":
		return text + ": " + e.Title
	}
	return text
}

// IsStatus tells whether err is an answer with that status.
func IsStatus(err error, status int) bool {
	var e *StatusError
	return errors.As(err, &e) && e.Status == status
}

// NewTransport trusts the CA certificates in caPEM and nothing else; without any it trusts the system's.
func NewTransport(caPEM []byte) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, Time: clock.Now},
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second, // a claim waits up to 25 s
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       90 * time.Second,
	}
	if len(caPEM) == 0 {
		return t, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(caPEM) {
		return nil, errors.New("the server's CA file holds no PEM certificate")
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// Register spends a one-time token. It needs no credential.
func (c *Client) Register(ctx context.Context, r RegisterRequest) (RegisterResponse, error) {
	var out RegisterResponse
	err := c.call(ctx, http.MethodPost, "register", r, &out)
	return out, wrap("registering", err)
}

// Publish tells the server what the connector has.
func (c *Client) Publish(ctx context.Context, r PublishRequest) (PublishResponse, error) {
	var out PublishResponse
	err := c.call(ctx, http.MethodPost, "publish", r, &out)
	return out, wrap("publishing certificates and key set", err)
}

// Claim asks for jobs; an empty answer is not an error.
func (c *Client) Claim(ctx context.Context, r ClaimRequest) ([]Job, error) {
	var out ClaimResponse
	err := c.call(ctx, http.MethodPost, "claim", r, &out)
	return out.Jobs, wrap("asking for jobs", err)
}

// Result answers a job. That another connector answered first is not an error.
func (c *Client) Result(ctx context.Context, jobID string, r Result) error {
	err := c.call(ctx, http.MethodPost, "jobs/"+url.PathEscape(jobID)+"/result", r, nil)
	if IsStatus(err, http.StatusConflict) {
		return nil
	}
	return wrap("answering job "+jobID, err)
}

// KeySet gives the server's key set, unverified; found is false before the first.
func (c *Client) KeySet(ctx context.Context) (set escrow.SignedKeySet, found bool, err error) {
	err = c.call(ctx, http.MethodGet, "keyset", nil, &set)
	if IsStatus(err, http.StatusNotFound) {
		return set, false, nil
	}
	return set, err == nil, wrap("asking for the key set", err)
}

// Pending lists the connectors that wait for approval.
func (c *Client) Pending(ctx context.Context) ([]Pending, error) {
	var out PendingResponse
	err := c.call(ctx, http.MethodGet, "pending", nil, &out)
	return out.Pending, wrap("asking for waiting connectors", err)
}

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// call sends one request and decodes the answer into out, unless out is nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := c.request(ctx, method, path, in)
	if err != nil {
		return err
	}
	client := *http.DefaultClient
	if c.HTTP != nil {
		client = *c.HTTP
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return problem(resp)
	}
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	return decode(resp.Body, out)
}

func (c *Client) request(ctx context.Context, method, path string, in any) (*http.Request, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encoding the message: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.BaseURL, "/")+pathPrefix+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, application/problem+json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Credential != "" {
		req.Header.Set("Authorization", "Bearer "+c.ConnectorID+"."+c.Credential)
	}
	return req, nil
}

// decode reads one JSON value of bounded size.
func decode(body io.Reader, out any) error {
	data, err := io.ReadAll(io.LimitReader(body, MaxBody+1))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if len(data) > MaxBody {
		return fmt.Errorf("the answer is longer than %d bytes", MaxBody)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// problem reads an error answer; one that is not problem+json keeps its status alone.
func problem(resp *http.Response) error {
	e := &StatusError{}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if json.Unmarshal(data, e) != nil {
		*e = StatusError{}
	}
	e.Status = resp.StatusCode
	if e.Title == "" {
		e.Title = http.StatusText(resp.StatusCode)
	}
	return e
}
