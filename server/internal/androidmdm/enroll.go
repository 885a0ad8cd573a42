package androidmdm

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/platforms/android"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// enroll binds a device to the user of a link. The same token, wrap key and installation again give the same device.
func (e *Endpoint) enroll(w http.ResponseWriter, r *http.Request) error {
	body, err := web.ReadBody(r)
	if err != nil {
		return err
	}
	req, err := companion.DecodeEnrollRequest(body)
	if err != nil {
		return malformed(err)
	}
	if !companion.Supported(req.Protocol) {
		return refuse(companion.CodeProtocolTooOld, "this server speaks protocol "+strconv.Itoa(companion.Protocol)+"; update the companion app")
	}
	ctx := r.Context()
	csr, err := x509.ParseCertificateRequest(req.WrapKey.CSR)
	if err != nil {
		return refuse(companion.CodeMalformed, "wrap_key.csr_b64 is no certificate request")
	}
	enr, certificate, err := e.certify(ctx, req, csr)
	if err != nil {
		return err
	}
	answer, err := e.welcome(ctx, enr, certificate)
	if err != nil {
		return err
	}
	return reply(w, http.StatusCreated, answer)
}

// certify exchanges token and wrap key for a certificate and binds it to the installation.
func (e *Endpoint) certify(ctx context.Context, req companion.EnrollRequest, csr *x509.CertificateRequest) (model.Enrolment, []byte, error) {
	if err := e.mayEnrol(ctx, req); err != nil {
		return model.Enrolment{}, nil, err
	}
	c, err := e.cfg.Identity.Direct(ctx, req.EnrollmentToken, csr)
	if err != nil {
		return model.Enrolment{}, nil, dead(err)
	}
	web.Annotate(ctx, c.EnrolmentID, "")
	e.cfg.Kick()
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	if c, err = e.cfg.Identity.Answer(waiting, c); err != nil {
		return model.Enrolment{}, nil, err
	}
	enr, err := e.cfg.Identity.Enrolled(ctx, c, req.Device.InstallID, "", factsOf(req.Device))
	switch {
	case enr.State == model.EnrolmentEnded:
		return enr, nil, refuse(companion.CodeTokenInvalid, "the enrolment by this token is over; ask for a new link")
	case errors.Is(err, model.ErrConflict):
		return enr, nil, refuse(companion.CodeInstallIDTaken, "this token and wrap key belong to another installation")
	case err != nil:
		return enr, nil, err
	}
	enr, err = e.cfg.Identity.Activate(ctx, enr)
	return enr, c.Certificate, err
}

// mayEnrol looks at the token and the installation before anything is spent.
func (e *Endpoint) mayEnrol(ctx context.Context, req companion.EnrollRequest) error {
	if _, err := e.cfg.Authority.DeviceCA(ctx); errors.Is(err, model.ErrNotFound) {
		return &refusal{companion.Problem{Code: companion.CodeUnavailable, RetryAfterSeconds: 60,
			Detail: "no connector has registered with this server yet, and only it can certify devices; the token stays usable"}}
	} else if err != nil {
		return err
	}
	l, err := e.cfg.Identity.Link(ctx, req.EnrollmentToken)
	if err != nil && !errors.Is(err, model.ErrSpent) { // the same key may ask again for what it got
		return dead(err)
	}
	if l.Platform != profiles.Android {
		return dead(model.ErrNotFound)
	}
	if _, err := e.cfg.Users.UserByID(ctx, l.UserID); errors.Is(err, model.ErrNotFound) {
		return refuse(companion.CodeBlocked, "the user of this enrolment token is not known any more")
	} else if err != nil {
		return err
	}
	taken, err := e.cfg.Identity.Taken(ctx, profiles.Android, req.Device.InstallID, l.UserID)
	if err == nil && taken {
		return refuse(companion.CodeInstallIDTaken, "this installation belongs to another user; an administrator must retire that device first")
	}
	return err
}

func dead(err error) error {
	switch {
	case errors.Is(err, model.ErrSpent):
		return refuse(companion.CodeTokenInvalid, "the enrolment token was used by a device already; ask for a new link")
	case errors.Is(err, model.ErrExpired):
		return refuse(companion.CodeTokenInvalid, "the enrolment token has expired; ask for a new link")
	case errors.Is(err, model.ErrNotFound):
		return refuse(companion.CodeTokenInvalid, "the enrolment token is not known here")
	}
	return err
}

func factsOf(d companion.Device) model.Device {
	return model.Device{ExternalID: d.InstallID, Name: d.Name, Model: strings.TrimSpace(d.Manufacturer + " " + d.Model),
		OSVersion: android.Release(d.Release, d.SDKInt), SerialNumber: d.Serial}
}

func (e *Endpoint) welcome(ctx context.Context, enr model.Enrolment, certificate []byte) (companion.EnrollResponse, error) {
	user, err := e.cfg.Users.UserByID(ctx, enr.UserID)
	if err != nil {
		return companion.EnrollResponse{}, err
	}
	credential, err := e.cfg.Identity.Credential(ctx, enr)
	if err != nil {
		return companion.EnrollResponse{}, err
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	c, _, err := model.NewCertificate(certificate)
	if err != nil {
		return companion.EnrollResponse{}, err
	}
	return companion.EnrollResponse{DeviceID: enr.DeviceID, UserHint: user.UPN, Credential: credential, WrapKeyID: c.SHA256,
		WrapCertificate: certificate, Poll: companion.Poll{IntervalSeconds: pollInterval, JitterPercent: pollJitter}, ServerTime: e.cfg.Clock().UTC()}, nil
}
