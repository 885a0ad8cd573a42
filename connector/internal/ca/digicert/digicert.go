// Package digicert asks DigiCert: Trust Lifecycle Manager by its REST API (kind digicert), and the older PKI platform by its
// SOAP services with an RA certificate (kind digicert-legacy). The messages are those of DigiCert's published OpenAPI and
// WSDL descriptions; neither service can be run here, so nothing of this was tried with the real ones.
package digicert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/ledger"
	"github.com/waxseal/waxseal/connector/internal/ca/web"
)

// Options are the settings' options of kind digicert. url of the settings is https://one.digicert.com, or with a client
// certificate https://clientauth.one.digicert.com.
type Options struct {
	// APIKey is a service user's token with the rights to enrol, view and revoke certificates and to view profiles.
	APIKey string `json:"apiKey,omitempty"`
	// ClientCertificate and ClientKey (PEM) are used instead of it.
	ClientCertificate string `json:"clientCertificate,omitempty"`
	ClientKey         string `json:"clientKey,omitempty"`
	// Profile is the id of the certificate profile for profiles here that name no template.
	Profile string `json:"profile"`
	// Profiles maps the words that profiles use for template to ids of certificate profiles.
	Profiles map[string]string `json:"profiles,omitempty"`
	// Seat is what names the seat that a certificate counts for: email (the first address; the default), upn or commonName.
	Seat string `json:"seat,omitempty"`
	// OverrideValidity sends the validity of the profile here; the certificate profile must allow it.
	OverrideValidity bool `json:"overrideValidity,omitempty"`
	// The paths of the API, below url. {serial} and {profile} stand for what is asked about.
	CertificatePath string `json:"certificatePath,omitempty"`
	FetchPath       string `json:"fetchPath,omitempty"`
	SearchPath      string `json:"searchPath,omitempty"`
	RevokePath      string `json:"revokePath,omitempty"`
	ProfilePath     string `json:"profilePath,omitempty"`
}

// The paths of the OpenAPI description of DigiCert ONE, "Enterprise PKI Manager REST API" 1.0.0.
func (o *Options) fill() {
	for path, usual := range map[*string]string{
		&o.CertificatePath: "/mpki/api/v1/certificate",
		&o.FetchPath:       "/mpki/api/v1/certificate/{serial}",
		&o.SearchPath:      "/mpki/api/v1/certificate-search",
		&o.RevokePath:      "/mpki/api/v1/certificate/{serial}/revoke",
		&o.ProfilePath:     "/mpki/api/v1/profile/{profile}",
	} {
		if *path == "" {
			*path = usual
		}
	}
	o.APIKey = strings.TrimSpace(o.APIKey) // a file ends with a line break
}

// checkPaths keeps credentials and requests with the host of url: a path that goes on after the host would name another.
func checkPaths(paths ...string) error {
	for _, path := range paths {
		if !strings.HasPrefix(path, "/") {
			return fmt.Errorf("options: path %q: it stands after the host, and so begins with a slash", path)
		}
	}
	return nil
}

type adapter struct {
	settings ca.Settings
	options  Options
	own      *tls.Certificate
	client   *http.Client
	clock    func() time.Time
}

// New makes the adapter of kind digicert.
func New(s ca.Settings, env ca.Env) (ledger.Upstream, error) {
	var o Options
	if err := s.DecodeOptions(&o); err != nil {
		return nil, err
	}
	o.fill()
	own, err := web.KeyPair("clientCertificate", o.ClientCertificate, "clientKey", o.ClientKey)
	switch {
	case err != nil:
		return nil, err
	case (own == nil) == (o.APIKey == ""):
		return nil, errors.New("options: either apiKeyFile, or clientCertificateFile and clientKeyFile, are needed")
	}
	if err := errors.Join(checkShared(s, o.Profile, o.Profiles, o.Seat), checkPaths(o.CertificatePath, o.FetchPath, o.SearchPath, o.RevokePath, o.ProfilePath)); err != nil {
		return nil, err
	}
	client, err := s.Client(own)
	if err != nil {
		return nil, err
	}
	return &adapter{settings: s, options: o, own: own, client: client, clock: env.Clock}, nil
}

// checkShared looks at what both kinds have.
func checkShared(s ca.Settings, profile string, profiles map[string]string, seat string) error {
	switch seat {
	case "", seatEmail, seatUPN, seatCommonName:
	default:
		return fmt.Errorf("options: seat %q: email, upn and commonName are possible", seat)
	}
	if profile == "" && len(profiles) == 0 {
		return errors.New("options: profile is missing: the id of the certificate profile at DigiCert")
	}
	for _, word := range s.Templates {
		if profiles[word] == "" {
			return fmt.Errorf("options: profiles has no certificate profile for the template %q", word)
		}
	}
	return web.RequireHTTPS("url", s.URL)
}

// profileFor is DigiCert's id for what a profile here calls its template.
func profileFor(word, usual string, profiles map[string]string) (string, error) {
	id := profiles[word]
	if word == "" {
		id = usual
	}
	if id == "" {
		return "", ca.Refuse("no certificate profile of DigiCert is set for the template %q", word)
	}
	return id, nil
}

// handle is by what an answer is found again: a serial number, or only that the certificate was asked for. Waits says that
// DigiCert took the request, so that it must not be asked again.
type handle struct {
	Serial string `json:"serial,omitempty"`
	Waits  bool   `json:"waits,omitempty"`
}

// noteHandle is written before the question: DigiCert issues at once, so the certificate of a lost answer exists and has
// taken a seat. The next attempt looks for it instead of asking again.
func noteHandle(q ledger.Question, h any) error {
	raw, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("noting the request: %w", err)
	}
	return q.Note(raw)
}

// Enroll asks for a certificate; at the second attempt it looks first for the one that the first may have got.
func (a *adapter) Enroll(ctx context.Context, q ledger.Question) ([][]byte, error) {
	e, err := a.enrolment(q.Intent)
	if err != nil {
		return nil, err
	}
	if q.Handle != nil {
		chain, err := a.earlier(ctx, q, e)
		if chain != nil || err != nil {
			return chain, err
		}
	}
	if err := noteHandle(q, handle{}); err != nil {
		return nil, err
	}
	var got certificate
	if err := a.do(ctx, http.MethodPost, a.options.CertificatePath, nil, e, &got); err != nil {
		return nil, final(err)
	}
	return a.take(q, got)
}

// earlier fetches what an earlier attempt got; nil if it got nothing.
func (a *adapter) earlier(ctx context.Context, q ledger.Question, e enrolment) ([][]byte, error) {
	var h handle
	if err := json.Unmarshal(q.Handle, &h); err != nil {
		return nil, fmt.Errorf("the note of the earlier request is damaged: %w", err)
	}
	if h.Serial != "" {
		got, err := a.fetch(ctx, h.Serial)
		if isMissing(err) {
			return nil, errors.Join(err, noteHandle(q, handle{})) // the next attempt looks for it, and asks anew
		}
		if err != nil {
			return nil, err
		}
		return a.take(q, got)
	}
	chain, err := a.search(ctx, q, e)
	if chain == nil && err == nil && h.Waits {
		return nil, fmt.Errorf("%w (DigiCert gave the request no number, so it is looked for among the seat's certificates)", ca.ErrPending)
	}
	return chain, err
}

// maxFound bounds how many certificates of a seat are looked at, the newest page first.
const maxFound = 100

// search looks among the seat's certificates for one of the intent's key.
func (a *adapter) search(ctx context.Context, q ledger.Question, e enrolment) ([][]byte, error) {
	query := url.Values{"seat_id": {e.Seat.ID}, "profile_id": {e.Profile.ID}, "limit": {fmt.Sprint(maxFound)}}
	var found struct {
		Items []certificate `json:"items"`
	}
	if err := a.do(ctx, http.MethodGet, a.options.SearchPath, query, nil, &found); err != nil {
		return nil, fmt.Errorf("looking for the certificate of a lost answer: %w", err)
	}
	for _, item := range found.Items[:min(len(found.Items), maxFound)] {
		if strings.EqualFold(item.Status, "revoked") {
			continue
		}
		if item.Certificate == "" && item.Serial != "" {
			var err error
			item, err = a.fetch(ctx, item.Serial)
			if isMissing(err) {
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		certs, err := item.parse()
		if err != nil || !isFor(certs, q.Intent.PublicKey) {
			continue
		}
		return web.Leaf(certs, q.Intent.PublicKey)
	}
	return nil, nil
}

// isMissing tells whether DigiCert knows no such certificate.
func isMissing(err error) bool {
	var api *apiError
	return errors.As(err, &api) && api.answer.Status == http.StatusNotFound
}

func isFor(certs []*x509.Certificate, key crypto.PublicKey) bool {
	for _, c := range certs {
		if public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && public.Equal(key) {
			return true
		}
	}
	return false
}

func (a *adapter) fetch(ctx context.Context, serial string) (certificate, error) {
	var got certificate
	err := a.do(ctx, http.MethodGet, fill(a.options.FetchPath, "{serial}", serial), nil, nil, &got)
	if err != nil {
		err = fmt.Errorf("fetching certificate %s: %w", web.Words(serial), err)
	}
	return got, err
}

func fill(path, what, value string) string {
	return strings.ReplaceAll(path, what, url.PathEscape(value))
}

// take gives an answer's chain. An answer without a certificate is one of a profile that waits for approval, or was declined.
func (a *adapter) take(q ledger.Question, got certificate) ([][]byte, error) {
	if got.Certificate == "" && isOver(got.Status) {
		return nil, ca.Refuse("DigiCert says %q", web.Words(got.Status))
	}
	if got.Certificate == "" {
		if err := noteHandle(q, handle{Serial: got.Serial, Waits: got.Status != ""}); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (DigiCert says %q)", ca.ErrPending, web.Words(got.Status))
	}
	certs, err := got.parse()
	if err != nil {
		return nil, err
	}
	return web.Leaf(certs, q.Intent.PublicKey)
}

// isOver tells whether nothing comes of a request any more. The API's description lists no statuses: these are usual words.
func isOver(status string) bool {
	switch strings.ToLower(status) {
	case "rejected", "denied", "declined", "canceled", "cancelled", "failed", "expired":
		return true
	}
	return false
}

// apiError is an answer of DigiCert's that is no success.
type apiError struct {
	answer web.Answer
	words  string
}

func (e *apiError) Error() string { return e.Unwrap().Error() }

func (e *apiError) Unwrap() error { return web.Failed(e.answer, e.words) }

// final turns what DigiCert declines because of the request into a refusal; the rest may pass or be put right.
func final(err error) error {
	var api *apiError
	if !errors.As(err, &api) || api.words == "" {
		return err
	}
	switch api.answer.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusUnprocessableEntity:
		return ca.Refuse("%s", api.words)
	}
	return err
}

// do sends JSON and reads JSON; into may be nil.
func (a *adapter) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	var content []byte
	if body != nil {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return fmt.Errorf("writing the request: %w", err)
		}
	}
	address := strings.TrimRight(a.settings.URL, "/") + path
	if query != nil {
		address += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(content))
	if err != nil {
		return errors.New("url and the paths of the options make no address")
	}
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if a.options.APIKey != "" {
		request.Header.Set("X-API-Key", a.options.APIKey)
	}
	answer, err := web.Do(a.client, request)
	if err != nil {
		return err
	}
	return decode(answer, into)
}

func decode(answer web.Answer, into any) error {
	if answer.Status < 200 || answer.Status > 299 {
		return &apiError{answer, errorWords(answer.Body)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Body, into); err != nil {
		return errors.New("DigiCert's answer is not the JSON of its API: look at url and the paths of the options")
	}
	return nil
}

// errorWords reads both forms of an error that the API describes.
func errorWords(body []byte) string {
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	var e struct {
		Errors []one `json:"errors"`
		Error  one   `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	var words []string
	for _, o := range append(e.Errors, e.Error) {
		switch {
		case o.Message != "" && o.Code != "":
			words = append(words, o.Message+" ("+o.Code+")")
		case o.Message != "" || o.Code != "":
			words = append(words, o.Message+o.Code)
		}
	}
	return web.Words(strings.Join(words, "; "))
}

// certificate is DigiCert's certificate, of an enrolment or of a search.
type certificate struct {
	Serial      string `json:"serial_number"`
	Certificate string `json:"certificate"` // PEM, or base64 without its lines
	Status      string `json:"status"`
}

func (c certificate) parse() ([]*x509.Certificate, error) {
	text := strings.TrimSpace(c.Certificate)
	if !strings.HasPrefix(text, "-----BEGIN") {
		text = "-----BEGIN CERTIFICATE-----\n" + text + "\n-----END CERTIFICATE-----\n"
	}
	certs, err := ca.Certificates([]byte(text))
	if err != nil || len(certs) == 0 {
		return nil, errors.New("DigiCert's answer has a certificate that does not parse: the certificate profile must deliver X.509")
	}
	return certs, nil
}

// serialText is how DigiCert writes serial numbers.
func serialText(cert *x509.Certificate) string { return fmt.Sprintf("%X", cert.SerialNumber.Bytes()) }

// reasons are the words of the API for RFC 5280's reason codes.
func reasons() map[int]string {
	return map[int]string{0: "unspecified", 1: "key_compromise", 2: "ca_compromise", 3: "affiliation_changed", 4: "superseded",
		5: "cessation_of_operation", 6: "certificate_hold", 9: "privilege_withdrawn", 10: "aa_compromise"}
}

// Revoke revokes by serial number and thumbprint, since two CAs of an account may have used the same number.
func (a *adapter) Revoke(ctx context.Context, leaf *x509.Certificate, reason int) error {
	word, ok := reasons()[reason]
	if !ok {
		return ca.Refuse("reason code %d has no word at DigiCert", reason)
	}
	serial := serialText(leaf)
	query := url.Values{"thumbprint_sha256": {thumbprint(leaf)}}
	body := map[string]string{"revocation_reason": word}
	err := a.do(ctx, http.MethodPut, fill(a.options.RevokePath, "{serial}", serial), query, body, nil)
	if err == nil {
		return nil
	}
	if got, fetchErr := a.fetch(ctx, serial); fetchErr == nil && strings.EqualFold(got.Status, "revoked") {
		return nil
	}
	var api *apiError
	if errors.As(err, &api) && api.answer.Status == http.StatusForbidden {
		return fmt.Errorf("%w (DigiCert gives the API key no right to revoke: %s)", ca.ErrCannotRevoke, api.words)
	}
	return fmt.Errorf("revoking certificate %s: %w", serial, err)
}

// pemRequest is a request as the API takes it.
func pemRequest(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
