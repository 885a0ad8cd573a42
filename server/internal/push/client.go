package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// DefaultURL is Apple's production service; MDM has no other.
const DefaultURL = "https://api.push.apple.com"

// expiry is how long Apple keeps a wake-up for a device that is off. The next one replaces it.
const expiry = 7 * 24 * time.Hour

// ClientConfig is one connection to APNs.
type ClientConfig struct {
	// Certificate is the MDM push certificate with its key.
	Certificate tls.Certificate
	// URL defaults to DefaultURL.
	URL string
	// Roots defaults to the system's.
	Roots *x509.CertPool
	Clock func() time.Time
}

// Client sends wake-ups. It is safe for concurrent use.
type Client struct {
	base  string
	topic string
	http  *http.Client
	clock func() time.Time
}

// NewClient checks the push certificate. An expired one is no error: it degrades push and nothing else, and APNs says so.
func NewClient(cfg ClientConfig) (*Client, error) {
	topic, err := certificateTopic(cfg.Certificate)
	if err != nil {
		return nil, err
	}
	if cfg.URL == "" {
		cfg.URL = DefaultURL
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("apns-url: %q is not an https URL like %s", cfg.URL, DefaultURL)
	}
	transport := &http.Transport{
		ForceAttemptHTTP2:   true,
		TLSClientConfig:     &tls.Config{Certificates: []tls.Certificate{cfg.Certificate}, RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12, Time: cfg.Clock},
		IdleConnTimeout:     time.Hour,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxConnsPerHost:     2,
	}
	return &Client{base: strings.TrimSuffix(cfg.URL, "/"), topic: topic, clock: cfg.Clock,
		http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}, nil
}

// Topic is the certificate's topic; an enrolment with another one cannot be woken.
func (c *Client) Topic() string { return c.topic }

func certificateTopic(cert tls.Certificate) (string, error) {
	if len(cert.Certificate) == 0 {
		return "", errors.New("apns-cert: there is no certificate in it")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return "", fmt.Errorf("apns-cert: %w", err)
	}
	return Topic(leaf)
}

// Topic reads the APNs topic of an MDM push certificate: the UID (0.9.2342.19200300.100.1.1) of its subject.
func Topic(cert *x509.Certificate) (string, error) {
	uid := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
	for _, name := range cert.Subject.Names {
		if value, ok := name.Value.(string); ok && name.Type.Equal(uid) && strings.HasPrefix(value, "com.apple.mgmt.") {
			return value, nil
		}
	}
	return "", fmt.Errorf("apns-cert: the subject %q has no UID that begins with com.apple.mgmt.; use an MDM push certificate from identity.apple.com/pushcert", cert.Subject)
}

// Error is an answer of APNs other than 200.
type Error struct {
	Status int
	Reason string // Apple's word: "Unregistered", "BadDeviceToken" …
}

func (e *Error) Error() string { return fmt.Sprintf("apns answered %d %s", e.Status, e.Reason) }

// Gone reports whether the token will never work again: it takes a new TokenUpdate.
func (e *Error) Gone() bool {
	switch e.Reason {
	case "Unregistered", "BadDeviceToken", "ExpiredToken", "DeviceTokenNotForTopic":
		return true
	}
	return e.Status == http.StatusGone
}

// Push wakes one enrolment. An *Error is Apple's refusal; anything else is the network's.
func (c *Client) Push(ctx context.Context, t Target) error {
	body, err := json.Marshal(map[string]string{"mdm": t.Magic})
	if err != nil {
		return fmt.Errorf("encoding a wake-up: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/3/device/"+hex.EncodeToString(t.Token), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making a wake-up: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("apns-topic", t.Topic)
	req.Header.Set("apns-push-type", "mdm")
	req.Header.Set("apns-expiration", strconv.FormatInt(c.clock().Add(expiry).Unix(), 10))
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("reaching APNs: %w", withoutURL(err))
	}
	defer resp.Body.Close()
	return answer(resp)
}

// withoutURL drops the URL of the error, which holds the device's push token.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func answer(resp *http.Response) error {
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // a cut body leaves the status, which is enough
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if json.Unmarshal(raw, &body) != nil || len(body.Reason) > 64 {
		body.Reason = ""
	}
	return &Error{Status: resp.StatusCode, Reason: body.Reason}
}
