package partnerca

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	// TokenLife is how long an access token works.
	TokenLife = 30 * time.Minute
	tokenPath = "/{tenant}/oauth2/v2.0/token"
	// purpose separates the key from everything else that is made of the RA key.
	purpose = "waxseal partner access token, HMAC-SHA256"
	// maxToken is far above the length of a token.
	maxToken = 512
	// maxAppID is that of a GUID, with room.
	maxAppID = 128
)

// Tokens makes access tokens and reads them: authenticated by a key that every node of the server has and nobody else, so
// that none of them is stored. A token names its partner, which has to exist at every use.
type Tokens struct{ key []byte }

// NewTokens derives the key from the SCEP RA key (RFC 5869).
func NewTokens(ra *rsa.PrivateKey) (*Tokens, error) {
	key, err := hkdf.Key(sha256.New, x509.MarshalPKCS1PrivateKey(ra), nil, purpose, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the key of access tokens: %w", err)
	}
	return &Tokens{key: key}, nil
}

func (t *Tokens) mac(plain []byte) []byte {
	h := hmac.New(sha256.New, t.key)
	h.Write(plain)
	return h.Sum(nil)
}

func (t *Tokens) make(appID string, now time.Time) string {
	plain := binary.BigEndian.AppendUint64(nil, uint64(now.Add(TokenLife).Unix()))
	plain = append(plain, appID...)
	return base64.RawURLEncoding.EncodeToString(append(plain, t.mac(plain)...))
}

// open gives the app id of a token that is good now.
func (t *Tokens) open(token string, now time.Time) (appID string, ok bool) {
	if len(token) > maxToken {
		return "", false
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) <= 8+sha256.Size {
		return "", false
	}
	plain, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if !hmac.Equal(mac, t.mac(plain)) {
		return "", false
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(plain)), 0)
	return string(plain[8:]), now.Before(expires)
}

// grant is a token answer (RFC 6749 section 5.1). Numbers are strings where the older endpoint is asked, as Microsoft's does.
type grant struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    any    `json:"expires_in"`
	ExtExpiresIn any    `json:"ext_expires_in"`
	ExpiresOn    string `json:"expires_on,omitempty"`
	Resource     string `json:"resource,omitempty"`
	AccessToken  string `json:"access_token"`
}

// oauthError is RFC 6749 section 5.2.
type oauthError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	CorrelationID string `json:"correlation_id,omitempty"`
	status        int
}

// token answers client credentials (RFC 6749 section 4.4) with an access token.
func (e *Endpoint) token(w http.ResponseWriter, r *http.Request) error {
	form, bad := tokenForm(r)
	if bad == nil {
		var p model.Partner
		var err error
		if p, bad, err = e.client(r, form); err != nil {
			return err
		}
		if bad == nil {
			return sendJSON(w, http.StatusOK, e.granted(p, form))
		}
	}
	bad.CorrelationID = w.Header().Get("client-request-id")
	if bad.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="waxseal partners"`)
	}
	return sendJSON(w, bad.status, bad)
}

// tokenForm reads the form, and refuses what is no request for a token by client credentials.
func tokenForm(r *http.Request) (url.Values, *oauthError) {
	body, err := web.ReadBody(r)
	if err != nil {
		return nil, &oauthError{Error: "invalid_request", Description: "the body cannot be read, or is too large", status: http.StatusBadRequest}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, &oauthError{Error: "invalid_request", Description: "the body is no form (application/x-www-form-urlencoded)", status: http.StatusBadRequest}
	}
	switch {
	case form.Get("grant_type") != "client_credentials":
		return nil, &oauthError{Error: "unsupported_grant_type", Description: "grant_type: client_credentials is the only one here", status: http.StatusBadRequest}
	case form.Has("client_assertion"):
		return nil, &oauthError{Error: "invalid_client", Description: "client_assertion: certificates of clients are not taken; use the client secret", status: http.StatusUnauthorized}
	}
	return form, nil
}

// client holds the credentials, in the body or by HTTP Basic (RFC 6749 section 2.3.1), against the stored hash.
func (e *Endpoint) client(r *http.Request, form url.Values) (model.Partner, *oauthError, error) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		id, secret = unescaped(user), unescaped(password)
	}
	p, err := model.Partner{}, error(model.ErrNotFound)
	if id != "" && len(id) <= maxAppID {
		p, err = e.cfg.Store.PartnerByApp(r.Context(), strings.ToLower(id))
	}
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return p, nil, fmt.Errorf("looking for a partner: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(model.PartnerSecretHash(secret)), []byte(p.SecretHash)) == 1 {
		return p, nil, nil
	}
	e.cfg.Refusals.Note(r.Context(), "unknown partner", "partner.token", clipped(id, maxAppID), "client id or secret is wrong", nil)
	return p, &oauthError{Error: "invalid_client", Description: "client_id or client_secret is wrong; waxctl partner add prints them once", status: http.StatusUnauthorized}, nil
}

// unescaped: RFC 6749 has both parts form-encoded before Basic; what is not stays as it is.
func unescaped(text string) string {
	if plain, err := url.QueryUnescape(text); err == nil {
		return plain
	}
	return text
}

func (e *Endpoint) granted(p model.Partner, form url.Values) grant {
	now := e.cfg.Clock()
	seconds := int(TokenLife / time.Second)
	g := grant{TokenType: "Bearer", ExpiresIn: seconds, ExtExpiresIn: seconds, AccessToken: e.cfg.Tokens.make(p.AppID, now)}
	if resource := form.Get("resource"); resource != "" && !form.Has("scope") {
		g.ExpiresIn, g.ExtExpiresIn = strconv.Itoa(seconds), strconv.Itoa(seconds)
		g.ExpiresOn, g.Resource = strconv.FormatInt(now.Add(TokenLife).Unix(), 10), clipped(resource, 512)
	}
	return g
}

// clipped bounds what is repeated of a stranger's words.
func clipped(text string, runes int) string {
	if r := []rune(text); len(r) > runes {
		return string(r[:runes])
	}
	return text
}
