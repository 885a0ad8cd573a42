package connectorapi

import (
	"context"
	"crypto"
	_ "crypto/sha1" // issuers are named by it in most OCSP requests
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

const (
	// softCA is the CA whose revocation lists and OCSP answers the server serves.
	softCA = "softca"
	// maxShared bounds what is sealed to one connector: a hundred CA keys.
	maxShared = 1 << 20
	// maxConnectors bounds the connectors that CA keys are shared with.
	maxConnectors = 64
)

// caName is one of the S/MIME CA's CAs.
var caName = regexp.MustCompile(`^softca(-root|-[2-9]|-[1-9][0-9])?$`)

// serialNumber is a certificate's, in hex (RFC 5280 section 4.1.2.2: at most 20 octets).
var serialNumber = regexp.MustCompile(`^[0-9a-f]{1,40}$`)

// StatusStore keeps what is served about the S/MIME CA.
type StatusStore interface {
	// ExchangeStatus stores checked files and answers of a trusted connector and tells what it lacks (link.StatusResponse), in
	// one transaction. A list takes the place of one with a lower number only, and is not taken when the connector has not
	// learnt of a revocation; an answer never takes the place of a newer one, and never takes a revocation back.
	ExchangeStatus(ctx context.Context, in StatusExchange) (link.StatusResponse, error)
	// CAFile reads a file; model.ErrNotFound.
	CAFile(ctx context.Context, name string) (model.CAFile, error)
}

// StatusExchange is a checked link.StatusRequest.
type StatusExchange struct {
	Connector model.Connector
	Now       time.Time
	Request   link.StatusRequest
	Files     []model.CAFile
	Answers   []model.CAAnswer
}

// status takes revocation lists and OCSP answers, and tells what the connector lacks. What is served is checked as a client
// would check it: it must be signed by a CA under the published root.
func (s *Service) status(w http.ResponseWriter, r *http.Request, c model.Connector) error {
	if err := trusted(c); err != nil {
		return err
	}
	var in link.StatusRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	x := StatusExchange{Connector: c, Now: s.cfg.Clock(), Request: in}
	if err := s.checkStatus(r.Context(), &x); err != nil {
		if !isRefusal(err) {
			return err
		}
		e := s.entry("connector "+c.ID, "connector.status", "connector "+c.ID, map[string]string{"reason": err.Error()})
		e.Outcome = "refused"
		s.audit(r.Context(), e)
		return web.Errorf(http.StatusConflict, "what the connector says of issued certificates is refused: %w", err)
	}
	out, err := s.cfg.Status.ExchangeStatus(r.Context(), x)
	if err != nil {
		return err
	}
	return writeJSON(w, out)
}

func (s *Service) checkStatus(ctx context.Context, x *StatusExchange) error {
	in := x.Request
	for name, n := range map[string]int{"files": len(in.Files), "answers": len(in.Answers), "have": len(in.Have)} {
		if n > link.MaxStatus {
			return refuse("%s: %d entries: at most %d are possible", name, n, link.MaxStatus)
		}
	}
	if len(in.Shared) > maxConnectors {
		return refuse("shared: %d connectors: at most %d are possible", len(in.Shared), maxConnectors)
	}
	for member, sealed := range in.Shared {
		if len(sealed) > maxShared {
			return refuse("shared: %d bytes for %.64q: at most %d are possible", len(sealed), member, maxShared)
		}
	}
	if len(in.Files)+len(in.Answers) == 0 {
		return nil
	}
	trust, err := s.cfg.Store.Trust(ctx)
	if err != nil {
		return err
	}
	known := issuers{store: s.cfg.Status, certs: map[string]*x509.Certificate{}}
	if err := known.trust(trust.CAs); err != nil {
		return err
	}
	if err := known.files(ctx, x); err != nil {
		return err
	}
	return known.answers(ctx, x)
}

// issuers are the CAs of the S/MIME CA, by name.
type issuers struct {
	store StatusStore
	root  *x509.Certificate
	certs map[string]*x509.Certificate
}

// trust finds the published root: the last of the chain, or the CA itself.
func (i *issuers) trust(cas []link.CA) error {
	at := slices.IndexFunc(cas, func(ca link.CA) bool { return ca.Name == softCA })
	if at < 0 {
		return refuse("no connector has published %s", softCA)
	}
	der := cas[at].Certificate
	if n := len(cas[at].Chain); n > 0 {
		der = cas[at].Chain[n-1]
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("reading the root of %s: %w", softCA, err)
	}
	i.root = root
	return nil
}

// named gives a CA's certificate, from this message or stored by an earlier one.
func (i *issuers) named(ctx context.Context, name string) (*x509.Certificate, error) {
	if c := i.certs[name]; c != nil {
		return c, nil
	}
	if !caName.MatchString(name) {
		return nil, refuse("%.64q is no CA of %s", name, softCA)
	}
	f, err := i.store.CAFile(ctx, link.IssuerFile(name))
	if errors.Is(err, model.ErrNotFound) {
		return nil, refuse("the certificate of %s (%s) has not come yet", name, link.IssuerFile(name))
	}
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(f.Content)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of %s: %w", name, err)
	}
	i.certs[name] = c
	return c, nil
}

// files takes certificates first: lists are checked with them.
func (i *issuers) files(ctx context.Context, x *StatusExchange) error {
	for _, f := range x.Request.Files {
		if name, ok := fileOf(f.Name, "aia/", ".cer"); ok {
			if err := i.certificate(name, f.Content); err != nil {
				return err
			}
			x.Files = append(x.Files, model.CAFile{Name: f.Name, Content: f.Content})
		}
	}
	for _, f := range x.Request.Files {
		if _, ok := fileOf(f.Name, "aia/", ".cer"); ok {
			continue
		}
		name, ok := fileOf(f.Name, "crl/", ".crl")
		if !ok {
			return refuse("files: %.64q is neither aia/NAME.cer nor crl/NAME.crl", f.Name)
		}
		number, err := i.list(ctx, name, f.Content, x.Now)
		if err != nil {
			return err
		}
		x.Files = append(x.Files, model.CAFile{Name: f.Name, Content: f.Content, Number: number})
	}
	return nil
}

func fileOf(path, folder, suffix string) (name string, ok bool) {
	name, ok = strings.CutPrefix(path, folder)
	if ok {
		name, ok = strings.CutSuffix(name, suffix)
	}
	return name, ok && caName.MatchString(name)
}

func (i *issuers) certificate(name string, der []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return refuse("%s: %w", link.IssuerFile(name), err)
	}
	if !c.IsCA || !c.Equal(i.root) && c.CheckSignatureFrom(i.root) != nil {
		return refuse("%s: it is no CA under the published root", link.IssuerFile(name))
	}
	i.certs[name] = c
	return nil
}

// list checks a revocation list and gives its number.
func (i *issuers) list(ctx context.Context, name string, der []byte, now time.Time) (int64, error) {
	issuer, err := i.named(ctx, name)
	if err != nil {
		return 0, err
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return 0, refuse("%s: %w", link.CRLFile(name), err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return 0, refuse("%s: it is not signed by %s: %w", link.CRLFile(name), name, err)
	}
	if list.Number == nil || list.Number.Sign() < 0 || !list.Number.IsInt64() {
		return 0, refuse("%s: it has no number", link.CRLFile(name))
	}
	if now.After(list.NextUpdate) || now.Add(maxSkew).Before(list.ThisUpdate) {
		return 0, refuse("%s: it is for %s to %s, and now is %s: compare the clocks of server and connector", link.CRLFile(name),
			list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return list.Number.Int64(), nil
}

func (i *issuers) answers(ctx context.Context, x *StatusExchange) error {
	for _, a := range x.Request.Answers {
		issuer, err := i.named(ctx, a.CA)
		if err != nil {
			return err
		}
		if !serialNumber.MatchString(a.Serial) {
			return refuse("answers: %.64q is no serial number", a.Serial)
		}
		one, err := checkAnswer(a.SHA1, crypto.SHA1, a, issuer)
		if err != nil {
			return err
		}
		if _, err := checkAnswer(a.SHA256, crypto.SHA256, a, issuer); err != nil {
			return err
		}
		if x.Now.Add(maxSkew).Before(one.ThisUpdate) { // it would keep those out that are made once the clock is right
			return refuse("the answer for %s of %s, from %s, is for later: compare the clocks of server and connector", a.Serial, a.CA, one.ThisUpdate.Format(time.RFC3339))
		}
		x.Answers = append(x.Answers, model.CAAnswer{CA: a.CA, Serial: a.Serial, NotAfter: a.NotAfter, Revoked: a.Revoked,
			ThisUpdate: one.ThisUpdate, NextUpdate: one.NextUpdate, SHA1: a.SHA1, SHA256: a.SHA256})
	}
	return nil
}

// checkAnswer checks an OCSP response as a client would (RFC 6960 section 4.2.2.2): signed by a delegated responder of the
// issuing CA, for this certificate.
func checkAnswer(der []byte, hash crypto.Hash, a link.StatusAnswer, issuer *x509.Certificate) (*ocsp.Response, error) {
	r, err := ocsp.ParseResponse(der, issuer)
	if err != nil {
		return nil, refuse("the answer for %s of %s: %w", a.Serial, a.CA, err)
	}
	delegated := r.Certificate != nil && slices.Contains(r.Certificate.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning)
	serial, ok := new(big.Int).SetString(a.Serial, 16)
	if !delegated || !ok || r.SerialNumber.Cmp(serial) != 0 || r.IssuerHash != hash || (r.Status == ocsp.Revoked) != a.Revoked || r.Status == ocsp.Unknown {
		return nil, refuse("the answer for %s of %s is for another certificate, by another responder or says something else", a.Serial, a.CA)
	}
	return r, nil
}
