package windowsmdm

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// renew certifies a new key of a device that signs with its old one (windows.md section 1.8). The signature is the
// whole credential: the security header is empty. A repeated request gets the same certificate again.
func (e *Endpoint) renew(ctx context.Context, req *mde.Request) ([]byte, error) {
	signed, err := cms.Verify(req.Token.PKCS7)
	if err != nil {
		return nil, refuse(mde.Authentication, "the renewal request is not correctly signed: "+err.Error())
	}
	enr, err := e.signer(ctx, signed.Signer)
	if err != nil {
		return nil, err
	}
	certificate, store, err := e.further(ctx, req.Token, enr, signed)
	if err != nil {
		return nil, by(enr, err)
	}
	return e.provision(ctx, req, enr, certificate, store, mde.RenewalProvisioning)
}

// by says whose request was refused.
func by(enr model.Enrolment, err error) error {
	f := *faultOf(err)
	f.enrolment = enr.ID
	return &f
}

// signer finds the enrolment that a certificate is bound to.
func (e *Endpoint) signer(ctx context.Context, cert *x509.Certificate) (model.Enrolment, error) {
	if err := e.cfg.Authority.Verify(ctx, cert, e.cfg.Clock()); err != nil {
		return model.Enrolment{}, notReady(refuseAs(mde.Authentication, err))
	}
	enr, err := e.cfg.Identity.Bind(ctx, cert)
	switch {
	case errors.Is(err, model.ErrNotFound):
		return enr, refuse(mde.Authentication, "the certificate that signed is bound to no enrolment")
	case err != nil:
		return enr, err
	case enr.Platform != profiles.Windows:
		return enr, by(enr, refuse(mde.Authorization, "the certificate that signed is not a PC's; only PCs renew here"))
	case enr.State == model.EnrolmentAuthenticated: // it is due before the first session
		if enr, err = e.cfg.Identity.Activate(ctx, enr); err != nil {
			return enr, err
		}
	case enr.State != model.EnrolmentActive:
		return enr, by(enr, refuse(mde.Authorization, "the enrolment is not active; the device can be enrolled again with a new enrolment secret"))
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	return enr, nil
}

// further checks what a renewal may do and gets the certificate.
func (e *Endpoint) further(ctx context.Context, t *mde.TokenRequest, enr model.Enrolment, signed *cms.Signed) ([]byte, string, error) {
	if id := t.DeviceID(); id != "" && !strings.EqualFold(id, enr.ExternalID) {
		return nil, "", refuseBecause(mde.EnrollmentServer, mde.InvalidEnrollmentData, "DeviceID names another device than the certificate that signed is bound to")
	}
	store := enr.CertStore // the certificate goes where the former one is, whatever the request says or leaves out
	if opens := signed.Signer.NotAfter.Add(-e.cfg.RenewWindow); e.cfg.Clock().Before(opens) {
		return nil, "", refuseBecause(mde.Authorization, mde.NotEligibleToRenew, "the certificate can be renewed from "+opens.UTC().Format(time.RFC3339)+" on, and no earlier")
	}
	csr, err := parseCSR(signed.Content)
	if err != nil {
		return nil, "", err
	}
	c, err := e.cfg.Identity.Renew(ctx, enr, csr)
	if err != nil {
		return nil, "", refuseAs(mde.CertificateRequest, err)
	}
	e.cfg.Kick()
	c, err = e.await(ctx, c)
	return c.Certificate, store, err
}
