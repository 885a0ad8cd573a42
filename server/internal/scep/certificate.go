package scep

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// Issuance certifies devices' own keys for SCEPCertificate profiles. Errors are *issuance.Fault for what the client
// is told, issuance.ErrPending when no connector has answered in time, and faults of the machine.
type Issuance interface {
	Begin(ctx context.Context, challenge, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error)
	Renew(ctx context.Context, former *x509.Certificate, transactionID string, csr *x509.CertificateRequest) (model.SCEPRequest, error)
	Poll(ctx context.Context, transactionID string, signer *x509.Certificate) (model.SCEPRequest, error)
	Answer(ctx context.Context, r model.SCEPRequest) (model.SCEPRequest, error)
}

// Authorities gives the certificates of a connector's CA, issuing CA first and up to the root; model.ErrNotFound: nobody
// offers it.
type Authorities func(ctx context.Context, name string) ([]*x509.Certificate, error)

// ofProfile serves the CA of a certificate profile, at /scep/NAME. Which CA certifies, the challenge says; the path is for
// GetCACert, since some clients check what they get against it (ClientCertificateInstall CSP: CAThumbprint).
func (e *Endpoint) ofProfile(w http.ResponseWriter, r *http.Request) error {
	name := web.Vars(r)["ca"]
	chain, err := e.cfg.Authorities(r.Context(), name)
	if errors.Is(err, model.ErrNotFound) {
		return web.Errorf(http.StatusNotFound, "no connector offers a certificate authority %q", name)
	}
	if err != nil {
		return err
	}
	return e.answer(w, r, canRenew, chain, e.certify)
}

// certify brings a request for a mail certificate to its answer.
func (e *Endpoint) certify(ctx context.Context, req *scepmsg.Request) (*x509.Certificate, []*x509.Certificate, error) {
	r, err := e.begin(ctx, req)
	web.Annotate(ctx, r.EnrolmentID, "")
	var unknown *issuance.Fault
	switch {
	case errors.As(err, &unknown) && req.MessageType == scepmsg.CertPoll: // nothing matches what was asked for: RFC 8894 section 3.2.1.4
		return nil, nil, &refused{info: scepmsg.BadCertID, code: string(unknown.Code), reason: unknown.Detail}
	case err != nil:
		return nil, nil, issuanceFault(err)
	}
	e.cfg.Kick()
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	if r, err = e.cfg.Issuance.Answer(waiting, r); err != nil {
		return nil, nil, issuanceFault(err)
	}
	return parseAnswer(model.Challenge{EnrolmentID: r.EnrolmentID, Certificate: r.Certificate, Chain: r.Chain})
}

func (e *Endpoint) begin(ctx context.Context, req *scepmsg.Request) (model.SCEPRequest, error) {
	switch {
	case req.MessageType == scepmsg.CertPoll:
		return e.cfg.Issuance.Poll(ctx, req.TransactionID, req.Signer)
	case req.MessageType == scepmsg.RenewalReq: // some clients repeat the challenge of their first request in it
		return e.cfg.Issuance.Renew(ctx, req.Signer, req.TransactionID, req.CSR)
	case !selfSigned(req.Signer): // before RFC 8894, and with certmonger, a PKCSReq that a certificate signed renews it
		r, err := e.cfg.Issuance.Renew(ctx, req.Signer, req.TransactionID, req.CSR)
		var unknown *issuance.Fault
		if !sameKey(req) || !errors.As(err, &unknown) || unknown.Code != issuance.BadRequestIDInChallenge {
			return r, err
		}
	}
	return e.cfg.Issuance.Begin(ctx, req.Challenge, req.TransactionID, req.CSR)
}

// issuanceFault turns a fault into failInfo (RFC 8894 section 3.2.1.4.5).
func issuanceFault(err error) error {
	var fault *issuance.Fault
	switch {
	case errors.Is(err, issuance.ErrPending):
		return errPending
	case !errors.As(err, &fault):
		return err
	}
	info := scepmsg.BadRequest
	switch fault.Code {
	case issuance.SignatureValidationFailed, issuance.RegisteredKeyMismatch:
		info = scepmsg.BadMessageCheck
	case issuance.KeyLengthMismatch:
		info = scepmsg.BadAlg
	case issuance.ChallengeExpired, issuance.ChallengeInvalidTimestamp:
		info = scepmsg.BadTime
	}
	return &refused{info: info, code: string(fault.Code), reason: fault.Detail}
}

// errPending says that the client shall poll: the CA has not issued yet.
var errPending = errors.New("no connector has issued yet")

// bag is what GetCACert gives: the RA first, so that a client encrypts to it, and the RA's own issuer last, by which some
// clients (certmonger) check the signature of an answer.
func bag(ra, issuer *x509.Certificate, chain []*x509.Certificate) ([]byte, error) {
	all := append([]*x509.Certificate{ra}, chain...)
	if !slices.ContainsFunc(chain, issuer.Equal) {
		all = append(all, issuer)
	}
	return cms.CertsOnly(all...)
}
