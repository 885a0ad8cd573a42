package estca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/chain"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

const (
	// defaultWait and longestWait bound what a CA says in Retry-After.
	defaultWait = time.Minute
	longestWait = 24 * time.Hour
)

// handle is a request that the CA wants to be asked again, byte for byte (RFC 7030 section 4.2.3).
type handle struct {
	Label string    `json:"label,omitempty"`
	CSR   []byte    `json:"csr"`
	After time.Time `json:"after"`
}

// Enroll asks for a certificate, or again with the request of before.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	h, err := a.question(q)
	if err != nil {
		return nil, err
	}
	if a.clock().Before(h.After) {
		return nil, fmt.Errorf("%w; it wants to be asked again after %s", ca.ErrPending, h.After.Format(time.RFC3339))
	}
	answer, err := a.send(ctx, http.MethodPost, h.Label, "simpleenroll", h.CSR)
	if err != nil {
		return nil, err
	}
	if isPage(answer) {
		return nil, web.Failed(answer, pageWords)
	}
	switch answer.Status {
	case http.StatusOK:
		certs, err := parseBag(answer.Body)
		if err != nil {
			return nil, err
		}
		return web.Leaf(certs, q.Intent.PublicKey)
	case http.StatusAccepted:
		h.After = retryAfter(answer.Header.Get("Retry-After"), a.clock())
		return nil, wait(q, h)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return nil, ca.Refuse("%s", words(answer))
	}
	return nil, web.Failed(answer, plainText(answer))
}

func (a *adapter) question(q ledger.Question) (handle, error) {
	var h handle
	if q.Handle != nil {
		if err := json.Unmarshal(q.Handle, &h); err != nil || len(h.CSR) == 0 || checkLabel(h.Label) != nil {
			return handle{}, errors.New("the note of the earlier request is damaged")
		}
		return h, nil
	}
	csr, err := ca.Request(q.Intent, "")
	return handle{Label: a.labelFor(q.Intent.Template), CSR: csr}, err
}

func wait(q ledger.Question, h handle) error {
	note, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("noting the request: %w", err)
	}
	if err := q.Note(note); err != nil {
		return err
	}
	return fmt.Errorf("%w; it wants to be asked again after %s", ca.ErrPending, h.After.Format(time.RFC3339))
}

// retryAfter reads seconds or a date (RFC 9110 section 10.2.3). What is missing or makes no sense is a minute.
func retryAfter(text string, now time.Time) time.Time {
	d := defaultWait
	if seconds, err := strconv.ParseUint(strings.TrimSpace(text), 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return now.Add(min(max(d, 0), longestWait)).UTC()
}

// send asks an operation of a label. The body is sent in base64 (RFC 8951 section 3.1), which needs no header of its own,
// but servers of RFC 7030 look for one.
func (a *adapter) send(ctx context.Context, method, label, operation string, der []byte) (web.Answer, error) {
	path := "/.well-known/est/" + operation
	if label != "" {
		path = "/.well-known/est/" + label + "/" + operation
	}
	var body io.Reader = http.NoBody
	if der != nil {
		body = bytes.NewReader([]byte(base64.StdEncoding.EncodeToString(der)))
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(a.settings.URL, "/")+path, body)
	if err != nil {
		return web.Answer{}, fmt.Errorf("the address %q: %w", a.settings.URL, err)
	}
	if der != nil {
		request.Header.Set("Content-Type", "application/pkcs10")
		request.Header.Set("Content-Transfer-Encoding", "base64")
	}
	if a.options.Username != "" {
		request.SetBasicAuth(a.options.Username, a.options.Password)
	}
	answer, err := web.Do(a.client, request)
	var failed *url.Error
	if errors.As(err, &failed) {
		err = fmt.Errorf("asking the CA (%s): %w", operation, failed.Err)
	}
	return answer, err
}

// parseBag reads certificates in base64 with any line breaks, or as they are, which some servers send.
func parseBag(body []byte) ([]*x509.Certificate, error) {
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	return chain.Parse(der)
}

func decode(body []byte) ([]byte, error) {
	if len(body) > 0 && body[0] == 0x30 { // a SEQUENCE; in base64 one begins with M
		return body, nil
	}
	clean := strings.Join(strings.Fields(string(body)), "")
	der, err := base64.StdEncoding.DecodeString(clean)
	if err != nil || len(der) == 0 {
		return nil, errors.New("the CA's answer is no base64: look at the address and the label")
	}
	return der, nil
}

// pageWords stand for a page: RFC 7030 section 4.2.3 has words in plain text. nginx answers so (HTTP 400) to who shows no client
// certificate or one that ended, which is no refusal of the names.
const pageWords = "a page of a web server, and not the CA's words: it may want another client certificate, or the address is wrong"

func isPage(a web.Answer) bool {
	kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	return err == nil && kind == "text/html" && a.Status == http.StatusBadRequest
}

// plainText is what a CA says for people (RFC 7030 section 4.2.3); pages of a web server in between are not.
func plainText(a web.Answer) string {
	if kind, _, err := mime.ParseMediaType(a.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return ""
	}
	return string(a.Body)
}

func words(a web.Answer) string {
	if text := web.Words(plainText(a)); text != "" {
		return text
	}
	return fmt.Sprintf("HTTP %d, without words: its rules may not allow these names, or this key", a.Status)
}
