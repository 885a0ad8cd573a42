// Package stepca asks smallstep's step-ca by its own API: each request carries a one-time token, signed with the key of a
// JWK provisioner (smallstep documentation, "step-ca provisioners", JWK; API "/1.0/sign", "/1.0/revoke"). step-ca answers at
// once or not at all, so there is nothing to fetch later.
package stepca

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// Options are the settings' options of kind stepca.
type Options struct {
	// Provisioner, Key and Password are the provisioner for profiles here that name no template of Provisioners.
	Provisioner
	// Provisioners maps words that profiles use for template to provisioners of their own. A word of templates without one
	// goes to the usual provisioner, whose template finds it as .Token.waxseal.template.
	Provisioners map[string]Provisioner `json:"provisioners,omitempty"`
	// RootFingerprint is the SHA-256 of the root, as `step certificate fingerprint root_ca.crt` prints it; Test compares it.
	RootFingerprint string `json:"rootFingerprint,omitempty"`
	// Audience is the https://name that step-ca knows itself by (dnsNames of its ca.json), where url has another.
	Audience string `json:"audience,omitempty"`
	// CAValidity leaves it to the provisioner how long certificates live; else the profile here says it.
	CAValidity bool `json:"caValidity,omitempty"`
}

type adapter struct {
	settings ca.Settings
	options  Options
	base     string
	audience string
	usual    *signer
	signers  map[string]*signer // by template
	client   *http.Client
	clock    func() time.Time
	rand     io.Reader
}

// New makes the adapter of kind stepca.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o Options
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	if err := check(s, &o); err != nil {
		return nil, err
	}
	usual, signers, err := openSigners(s, o)
	if err != nil {
		return nil, err
	}
	client, err := s.Client(nil)
	if err != nil {
		return nil, err
	}
	base := strings.TrimRight(s.URL, "/")
	audience := base
	if o.Audience != "" {
		audience = strings.TrimRight(o.Audience, "/")
	}
	return &adapter{settings: s, options: o, base: base, audience: audience, usual: usual, signers: signers,
		client: client, clock: env.Clock, rand: env.Rand}, nil
}

func check(s ca.Settings, o *Options) error {
	if err := web.RequireHTTPS("url", s.URL); err != nil {
		return err
	}
	if o.Audience != "" {
		if err := web.RequireHTTPS("options: audience", o.Audience); err != nil {
			return err
		}
	}
	if o.RootFingerprint == "" {
		return nil
	}
	o.RootFingerprint = strings.ToLower(strings.ReplaceAll(strings.TrimSpace(o.RootFingerprint), ":", ""))
	if raw, err := hex.DecodeString(o.RootFingerprint); err != nil || len(raw) != 32 {
		return errors.New("options: rootFingerprint is not the SHA-256 of a certificate: 64 hexadecimal digits are right")
	}
	return nil
}

// openSigners opens the key of every provisioner.
func openSigners(s ca.Settings, o Options) (*signer, map[string]*signer, error) {
	var usual *signer
	var err error
	if o.Name != "" || o.Key != "" || len(o.Provisioners) == 0 {
		if usual, err = open(o.Provisioner); err != nil {
			return nil, nil, fmt.Errorf("options: %w", err)
		}
	}
	signers := map[string]*signer{}
	for word, p := range o.Provisioners {
		if signers[word], err = open(p); err != nil {
			return nil, nil, fmt.Errorf("options: provisioners: %s: %w", word, err)
		}
	}
	for _, word := range s.Templates {
		if signers[word] == nil && usual == nil {
			return nil, nil, fmt.Errorf("options: provisioners has none for the template %q, and there is no usual one", word)
		}
	}
	return usual, signers, nil
}

// signerFor is the provisioner for what a profile calls its template.
func (a *adapter) signerFor(template string) (*signer, error) {
	if s := a.signers[template]; s != nil {
		return s, nil
	}
	if a.usual == nil {
		return nil, ca.Refuse("the settings of CA %s have no provisioner for profiles that name no template", a.settings.Name)
	}
	return a.usual, nil
}

// signRequest is step-ca's api.SignRequest.
type signRequest struct {
	CSR      string `json:"csr"`
	Token    string `json:"ott"`
	NotAfter string `json:"notAfter,omitempty"`
}

// Enroll asks for a certificate.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	s, err := a.signerFor(q.Intent.Template)
	if err != nil {
		return nil, err
	}
	csr, err := ca.Request(q.Intent, "")
	if err != nil {
		return nil, err
	}
	token, err := a.signToken(s, q.Intent, csr)
	if err != nil {
		return nil, err
	}
	body := signRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), Token: token}
	if q.Intent.Validity > 0 && !a.options.CAValidity {
		body.NotAfter = a.clock().Add(q.Intent.Validity).UTC().Format(time.RFC3339)
	}
	answer, err := a.post(ctx, "/1.0/sign", body)
	if err != nil {
		return nil, final(err)
	}
	certs, err := parseSigned(answer)
	if err != nil {
		return nil, err
	}
	return web.Leaf(certs, q.Intent.PublicKey)
}

// final turns what step-ca declines because of the request into a refusal: it says 400 to what it cannot read and 403 to
// what the provisioner does not allow. 401 is a token that it does not take, which an admin can put right.
func final(err error) error {
	var s *statusError
	if errors.As(err, &s) && (s.answer.Status == http.StatusBadRequest || s.answer.Status == http.StatusForbidden) && s.words != "" {
		return ca.Refuse("%s", s.words)
	}
	return err
}

// revokeRequest is step-ca's api.RevokeRequest; step-ca knows passive revocation only.
type revokeRequest struct {
	Serial     string `json:"serial"`
	Token      string `json:"ott"`
	ReasonCode int    `json:"reasonCode"`
	Passive    bool   `json:"passive"`
}

// Revoke revokes by serial number.
func (a *adapter) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	serial := leaf.SerialNumber.String()
	err := a.revoke(ctx, a.anySigner(), serial, serial, reason)
	var s *statusError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &s):
		return err
	case s.answer.Status == http.StatusBadRequest && strings.Contains(s.words, "already revoked"):
		return nil
	case s.answer.Status == http.StatusNotImplemented:
		return fmt.Errorf("%w (step-ca has no database to remember it in: %s)", ca.ErrCannotRevoke, s.words)
	}
	return fmt.Errorf("revoking certificate %s: %w", serial, err)
}

// anySigner is a provisioner: each may revoke what any of them issued.
func (a *adapter) anySigner() *signer {
	if a.usual != nil {
		return a.usual
	}
	return a.all()[0].signer
}

func (a *adapter) revoke(ctx context.Context, s *signer, tokenFor, serial string, reason int) error {
	token, err := a.token(s, "/1.0/revoke", claims{Subject: tokenFor})
	if err != nil {
		return err
	}
	_, err = a.post(ctx, "/1.0/revoke", revokeRequest{Serial: serial, Token: token, ReasonCode: reason, Passive: true})
	return err
}

// statusError is an answer of step-ca's that is no success.
type statusError struct {
	answer web.Answer
	words  string
}

func (e *statusError) Error() string { return e.Unwrap().Error() }

func (e *statusError) Unwrap() error { return web.Failed(e.answer, e.words) }

func (a *adapter) post(ctx context.Context, path string, body any) ([]byte, error) {
	content, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("writing the request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+path, bytes.NewReader(content))
	if err != nil {
		return nil, errors.New("url of the settings makes no address")
	}
	request.Header.Set("Content-Type", "application/json")
	return a.do(request)
}

func (a *adapter) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	address := a.base + path
	if query != nil {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("url of the settings makes no address")
	}
	return a.do(request)
}

func (a *adapter) do(request *http.Request) ([]byte, error) {
	answer, err := web.Do(a.client, request)
	if err != nil {
		return nil, err
	}
	if answer.Status < 200 || answer.Status > 299 {
		return nil, &statusError{answer, errorWords(answer.Body)}
	}
	return answer.Body, nil
}
