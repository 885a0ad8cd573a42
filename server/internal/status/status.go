// Package status serves what anybody may ask about the S/MIME CA: revocation lists, CA certificates and OCSP answers, all of
// them signed by a connector and kept in the database. The server signs nothing, so of a certificate that it has no answer
// for it says "unauthorized", as RFC 6960 section 2.3 wants it, and it cannot repeat a nonce.
//
//	GET  [/pki]/crl/NAME.crl         application/pkix-crl
//	GET  [/pki]/aia/NAME.cer         application/pkix-cert
//	GET  [/pki]/ocsp/NAME/REQUEST    application/ocsp-response; REQUEST is base64 (RFC 6960 appendix A.1)
//	POST [/pki]/ocsp/NAME            the same
//
// An answer whose time is over is not given: "tryLater". A list whose time is over is given, since it still says more than
// none.
package status

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	// MaxBody bounds an OCSP request; one certificate's has about a hundred bytes.
	MaxBody = 16 << 10
	// Prefix is below the public URL; a plain listener answers without it, too.
	Prefix = "/pki/"
	// cacheFor is how long proxies may keep what may change at any revocation.
	cacheFor = 5 * time.Minute

	typeOCSP = "application/ocsp-response"
)

// Store reads what the connectors published; model.ErrNotFound.
type Store interface {
	CAFile(ctx context.Context, name string) (model.CAFile, error)
	CAAnswer(ctx context.Context, ca, serial string) (model.CAAnswer, error)
}

// Config is what the endpoint needs.
type Config struct {
	Store Store
	// BasePath is the path of the PKI URL, if it is another than Prefix.
	BasePath string
	Clock    func() time.Time
	Logger   *slog.Logger
}

// Handler answers; it is safe for concurrent use.
type Handler struct{ cfg Config }

// New makes the endpoint.
func New(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{cfg: cfg}
}

// ServeHTTP answers one request. Base64 may hold slashes, encoded or not, so the path is taken apart here.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := h.below(r.URL.EscapedPath())
	folder, rest, _ := strings.Cut(path, "/")
	switch {
	case folder == "ocsp" && r.Method == http.MethodPost:
		h.post(w, r, rest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "this address does not answer that method", http.StatusMethodNotAllowed)
	case folder == "ocsp":
		h.get(w, r, rest)
	case folder == "crl":
		h.file(w, r, path, "application/pkix-crl")
	case folder == "aia":
		h.file(w, r, path, "application/pkix-cert")
	default:
		http.Error(w, "there is nothing at this address", http.StatusNotFound)
	}
}

func (h *Handler) below(path string) string {
	for _, base := range []string{h.cfg.BasePath, Prefix} {
		if rest, ok := strings.CutPrefix(path, strings.TrimRight(base, "/")+"/"); ok && strings.Trim(base, "/") != "" {
			return rest
		}
	}
	return strings.TrimPrefix(path, "/")
}

func (h *Handler) file(w http.ResponseWriter, r *http.Request, name, contentType string) {
	f, err := h.cfg.Store.CAFile(r.Context(), name)
	if errors.Is(err, model.ErrNotFound) {
		http.Error(w, "there is no such file, or no connector has published it yet", http.StatusNotFound)
		return
	}
	if err != nil {
		h.cfg.Logger.ErrorContext(r.Context(), "reading a file of the CA failed", "error", err.Error())
		http.Error(w, "try again later", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(f.Content)
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(cacheFor.Seconds())))
	http.ServeContent(w, r, "", f.UpdatedAt, bytes.NewReader(f.Content))
}

func (h *Handler) post(w http.ResponseWriter, r *http.Request, ca string) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err != nil {
		h.answer(w, ocsp.MalformedRequestErrorResponse, http.StatusOK)
		return
	}
	answer, status, _ := h.ask(r.Context(), strings.TrimSuffix(ca, "/"), body)
	h.answer(w, answer, status)
}

// get is RFC 6960 appendix A.1.1; proxies may keep the answer (RFC 5019 section 6.2).
func (h *Handler) get(w http.ResponseWriter, r *http.Request, rest string) {
	ca, encoded, _ := strings.Cut(rest, "/")
	request, err := decode(encoded)
	if err != nil {
		h.answer(w, ocsp.MalformedRequestErrorResponse, http.StatusOK)
		return
	}
	answer, status, known := h.ask(r.Context(), ca, request)
	if known != nil {
		age := min(cacheFor, known.NextUpdate.Sub(h.cfg.Clock()))
		w.Header().Set("Cache-Control", fmt.Sprintf("max-age=%d, public, no-transform, must-revalidate", int(age.Seconds())))
		w.Header().Set("Last-Modified", known.ThisUpdate.UTC().Format(http.TimeFormat))
		w.Header().Set("Expires", known.NextUpdate.UTC().Format(http.TimeFormat))
	}
	h.answer(w, answer, status)
}

// decode reads the base64 of a GET, which some clients do not escape, and some write without padding.
func decode(encoded string) ([]byte, error) {
	if len(encoded) > 2*MaxBody {
		return nil, errors.New("the request is too long")
	}
	text, err := url.PathUnescape(encoded)
	if err != nil {
		return nil, err
	}
	text = strings.TrimRight(strings.ReplaceAll(text, " ", "+"), "=")
	return base64.RawStdEncoding.DecodeString(text)
}

func (h *Handler) answer(w http.ResponseWriter, der []byte, status int) {
	w.Header().Set("Content-Type", typeOCSP)
	w.Header().Set("Content-Length", fmt.Sprint(len(der)))
	w.WriteHeader(status)
	_, _ = w.Write(der) // the connection is gone if this fails
}

// ask finds the answer to a request; known is nil for one that nobody signed (RFC 6960 section 2.3).
func (h *Handler) ask(ctx context.Context, ca string, der []byte) (answer []byte, status int, known *model.CAAnswer) {
	request, err := ocsp.ParseRequest(der)
	if err != nil || request.SerialNumber == nil || request.SerialNumber.Sign() <= 0 {
		return ocsp.MalformedRequestErrorResponse, http.StatusOK, nil
	}
	found, err := h.cfg.Store.CAAnswer(ctx, ca, request.SerialNumber.Text(16))
	if errors.Is(err, model.ErrNotFound) {
		return ocsp.UnauthorizedErrorResponse, http.StatusOK, nil
	}
	if err != nil {
		h.cfg.Logger.ErrorContext(ctx, "reading an OCSP answer failed", "error", err.Error())
		return ocsp.InternalErrorErrorResponse, http.StatusOK, nil
	}
	answer = matching(request, found)
	switch {
	case answer == nil:
		return ocsp.UnauthorizedErrorResponse, http.StatusOK, nil
	case !h.cfg.Clock().Before(found.NextUpdate):
		return ocsp.TryLaterErrorResponse, http.StatusOK, nil
	}
	return answer, http.StatusOK, &found
}

// matching is the response of the request's hash, if it is about the same issuer: its hashes stand in the response as they
// are.
func matching(r *ocsp.Request, a model.CAAnswer) []byte {
	var der []byte
	switch r.HashAlgorithm {
	case crypto.SHA1:
		der = a.SHA1
	case crypto.SHA256:
		der = a.SHA256
	}
	if len(r.IssuerNameHash) == 0 || !bytes.Contains(der, r.IssuerNameHash) || len(r.IssuerKeyHash) == 0 || !bytes.Contains(der, r.IssuerKeyHash) {
		return nil
	}
	return der
}
