package expiry

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Webhook tells somebody else's program what expires: a POST of one notice as JSON. Header X-Waxseal-Signature is
// "sha256=" and the HMAC of the exact body under the secret, in hex, X-Waxseal-Delivery the notice's key: a notice may come
// twice. Any 2xx takes it; everything else is tried again at the next round.
type Webhook struct {
	URL    string
	Secret []byte
	HTTP   *http.Client
	Store  Store
	Clock  func() time.Time
}

const (
	maxNotices  = 200
	hookTimeout = 20 * time.Second
)

func encode(n Notice) ([]byte, error) {
	raw, err := json.Marshal(n)
	if err != nil {
		return nil, fmt.Errorf("writing a notice: %w", err)
	}
	return raw, nil
}

// Deliver sends what was not taken yet, in order, until one is refused.
func (h *Webhook) Deliver(ctx context.Context) error {
	waiting, err := h.Store.Notices(ctx, maxNotices)
	if err != nil {
		return fmt.Errorf("reading notices for the webhook: %w", err)
	}
	for _, n := range waiting {
		if err := h.send(ctx, n.Key, n.Payload); err != nil {
			return err
		}
		if err := h.Store.Taken(ctx, n.Key, h.Clock()); err != nil {
			return fmt.Errorf("noting that the webhook has a notice: %w", err)
		}
	}
	return nil
}

func (h *Webhook) send(ctx context.Context, key string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("calling the webhook: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Waxseal-Delivery", key)
	if len(h.Secret) > 0 {
		mac := hmac.New(sha256.New, h.Secret)
		mac.Write(body)
		req.Header.Set("X-Waxseal-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	client := *h.HTTP
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err // the address may hold a token
	}
	if err != nil {
		return fmt.Errorf("calling the webhook: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook answers %s", resp.Status)
	}
	return nil
}
