package scep

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// refused is a request that gets a CertRep with a failInfo.
type refused struct {
	info   scepmsg.FailInfo
	code   string // of a certificate profile's request
	reason string
}

func (r *refused) Error() string { return r.reason }

// operate answers PKIOperation: a message that cannot be read at all gets 400, a request that breaks a rule gets a
// CertRep with a failInfo, and one that no connector answered in time gets 503, or PENDING, and may come again.
func (e *Endpoint) operate(w http.ResponseWriter, r *http.Request, der []byte, enrol enrolment) error {
	ctx := r.Context()
	ra, _, err := e.authority(ctx)
	if err != nil {
		return err
	}
	req, err := scepmsg.ParseRequest(der, ra, e.cfg.RAKey)
	if req == nil {
		e.cfg.Refusals.Note(ctx, "unknown device", "scep.request", "", err.Error(), nil)
		return web.Errorf(http.StatusBadRequest, "the message is not a signed SCEP request: %v", err)
	}
	var answer []byte
	var no *refused
	cert, chain, err := e.enrol(ctx, req, err, enrol)
	switch {
	case errors.As(err, &no):
		detail := map[string]string{"failInfo": no.info.String()}
		if no.code != "" {
			detail["code"] = no.code
		}
		e.cfg.Refusals.Note(ctx, "unknown device", "scep.request", "", no.reason, detail)
		answer, err = scepmsg.Failure(req, no.info, ra, e.cfg.RAKey)
	case errors.Is(err, errPending):
		answer, err = scepmsg.Pending(req, ra, e.cfg.RAKey)
	case err == nil:
		answer, err = scepmsg.Success(req, cert, chain, ra, e.cfg.RAKey)
	}
	if err != nil {
		return err
	}
	send(w, "application/x-pki-message", answer)
	return nil
}

// enrol refuses what no kind of request may be, and hands on.
func (e *Endpoint) enrol(ctx context.Context, req *scepmsg.Request, parse error, enrol enrolment) (*x509.Certificate, []*x509.Certificate, error) {
	var fault *scepmsg.RequestError
	switch {
	case errors.As(parse, &fault):
		return nil, nil, &refused{info: fault.FailInfo, reason: fault.Error()}
	case parse != nil:
		return nil, nil, parse
	case req.MessageType == scepmsg.PKCSReq && !sameKey(req) && selfSigned(req.Signer):
		return nil, nil, &refused{info: scepmsg.BadMessageCheck, reason: "the request is signed by another key than it asks to certify"}
	}
	return enrol(ctx, req)
}

// identify gives a device its identity.
func (e *Endpoint) identify(ctx context.Context, req *scepmsg.Request) (*x509.Certificate, []*x509.Certificate, error) {
	if req.MessageType == scepmsg.PKCSReq && !sameKey(req) {
		return nil, nil, &refused{info: scepmsg.BadMessageCheck, reason: "the request is signed by another key than it asks to certify"}
	}
	if req.MessageType != scepmsg.PKCSReq {
		return nil, nil, &refused{info: scepmsg.BadRequest, reason: fmt.Sprintf("message type %s is not answered here; enrol anew by a link", req.MessageType)}
	}
	c, err := e.cfg.Identity.Redeem(ctx, req.Challenge, req.CSR, profiles.IOS, profiles.MacOS)
	if errors.Is(err, model.ErrNotFound) && e.cfg.Renew != nil {
		c, err = e.cfg.Renew(ctx, req.Challenge, req.CSR)
	}
	if err != nil {
		return nil, nil, challengeFault(err)
	}
	web.Annotate(ctx, c.EnrolmentID, "")
	e.cfg.Kick()
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	c, err = e.cfg.Identity.Answer(waiting, c)
	if err != nil {
		return nil, nil, answerFault(err)
	}
	return parseAnswer(c)
}

func selfSigned(c *x509.Certificate) bool { return bytes.Equal(c.RawIssuer, c.RawSubject) }

// sameKey reports whether the request is signed by the key that it asks to certify.
func sameKey(req *scepmsg.Request) bool {
	return bytes.Equal(req.Signer.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo)
}

// challengeFault turns an error of Redeem into what the client gets.
func challengeFault(err error) error {
	var refusal *identity.Refusal
	switch {
	case errors.As(err, &refusal):
		return &refused{info: scepmsg.BadRequest, reason: refusal.Reason}
	case errors.Is(err, model.ErrConflict):
		return &refused{info: scepmsg.BadRequest, reason: "the enrolment of the challenge is not active"}
	case errors.Is(err, model.ErrNotFound):
		return &refused{info: scepmsg.BadRequest, reason: "the challenge is not known; download the enrolment profile again"}
	case errors.Is(err, model.ErrExpired):
		return &refused{info: scepmsg.BadRequest, reason: "the challenge or its enrolment link has expired; download the enrolment profile again or ask for a new link"}
	case errors.Is(err, model.ErrSpent):
		return &refused{info: scepmsg.BadRequest, reason: "the challenge or its enrolment link was used by another key; ask for a new link"}
	}
	return err
}

func answerFault(err error) error {
	var refusal *identity.Refusal
	switch {
	case errors.As(err, &refusal):
		return &refused{info: scepmsg.BadRequest, reason: refusal.Reason}
	case errors.Is(err, identity.ErrPending):
		return web.Hide(http.StatusServiceUnavailable, "no connector has answered yet; try again, the enrolment link stays usable", err)
	}
	return err
}

func parseAnswer(c model.Challenge) (*x509.Certificate, []*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(c.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("parsing the certificate of enrolment %s: %w", c.EnrolmentID, err)
	}
	var chain []*x509.Certificate
	for _, der := range c.Chain {
		issuer, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("parsing the chain of enrolment %s: %w", c.EnrolmentID, err)
		}
		chain = append(chain, issuer)
	}
	return cert, chain, nil
}
