package windowsmdm

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/sender"
	"github.com/waxseal/waxseal/server/internal/web"
)

// maxID bounds the names that a device gives itself.
const maxID = 255

// enroll answers RequestSecurityToken (MS-WSTEP): the first certificate of a device, or a further one.
func (e *Endpoint) enroll(ctx context.Context, req *mde.Request) ([]byte, error) {
	switch {
	case req.Token == nil:
		return nil, refuse(mde.MessageFormat, "this address answers RequestSecurityToken")
	case req.Token.Renew:
		return e.renew(ctx, req)
	}
	cred, err := e.credential(ctx, req.Security)
	if err != nil {
		return nil, deadCredential(err)
	}
	pc, err := describe(req.Token)
	if err != nil {
		return nil, err
	}
	csr, err := parseCSR(req.Token.CSR)
	if err != nil {
		return nil, err
	}
	enr, certificate, err := e.certify(ctx, cred, csr, pc)
	if err != nil {
		return nil, err
	}
	return e.provision(ctx, req, enr, certificate, pc.store, mde.Provisioning)
}

// pc is what a request says of the device that sends it.
type pc struct {
	deviceID string // names this enrolment, and every later message
	store    string // where the certificate goes: "User" or "System"
	facts    model.Device
}

// describe reads the context of a request. The hardware id stays the same when a device enrols again; older clients
// send none (windows.md section 1.6).
func describe(t *mde.TokenRequest) (pc, error) {
	out := pc{deviceID: t.DeviceID()}
	hardware := t.HWDevID()
	if hardware == "" {
		hardware = out.deviceID
	}
	for name, id := range map[string]string{"DeviceID": out.deviceID, "HWDevID": hardware} {
		if !printable(id) {
			return pc{}, refuseBecause(mde.EnrollmentServer, mde.InvalidEnrollmentData, fmt.Sprintf("%s must have 1 to %d printable characters", name, maxID))
		}
	}
	var err error
	if out.store, err = storeOf(t.EnrollmentType()); err != nil {
		return pc{}, err
	}
	out.facts = model.Device{ExternalID: hardware, Name: cut(t.DeviceName()), OSVersion: cut(t.OSVersion()),
		Model: cut(t.First("DeviceModel")), SerialNumber: cut(t.First("SerialNumber")), IMEI: cut(t.First("IMEI"))}
	return out, nil
}

func printable(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsGraphic(r) })
}

// storeOf says whose store a certificate goes to; Full is what a person's enrolment is.
func storeOf(enrollmentType string) (string, error) {
	switch enrollmentType {
	case "Full", "":
		return mde.StoreUser, nil
	case "Device":
		return mde.StoreSystem, nil
	}
	return "", refuseBecause(mde.EnrollmentServer, mde.InvalidEnrollmentData, "EnrollmentType must be Full or Device")
}

// cut bounds what a device says about itself.
func cut(s string) string {
	if r := []rune(s); len(r) > maxID {
		return string(r[:maxID])
	}
	return s
}

// parseCSR reads a request and checks that its sender has the key. The subject is not used: names come from the link.
func parseCSR(der []byte) (*x509.CertificateRequest, error) {
	csr, err := mde.ParseCSR(der)
	if err != nil {
		return nil, refuse(mde.CertificateRequest, "the certificate request cannot be read: "+err.Error())
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, refuse(mde.CertificateRequest, "the certificate request is not signed by its own key")
	}
	return csr, nil
}

// certify exchanges credential and request for a certificate and binds it to the device. The same again gives the same.
func (e *Endpoint) certify(ctx context.Context, cred credential, csr *x509.CertificateRequest, pc pc) (model.Enrolment, []byte, error) {
	c, err := e.redeem(ctx, cred, csr)
	if err == nil {
		c, err = e.await(ctx, c)
	}
	if err != nil {
		return model.Enrolment{}, nil, err
	}
	enr, err := e.cfg.Identity.Enrolled(ctx, c, pc.deviceID, pc.store, pc.facts)
	switch {
	case enr.State == model.EnrolmentEnded:
		return enr, nil, refuse(mde.Authorization, "this enrolment has ended; ask your administrator for a new enrolment secret")
	case errors.Is(err, model.ErrConflict):
		return enr, nil, refuseBecause(mde.EnrollmentServer, mde.InvalidEnrollmentData, "the certificate request belongs to another device than DeviceID names")
	case err != nil:
		return enr, nil, refuseAs(mde.Authorization, err)
	}
	web.Annotate(ctx, enr.ID, enr.DeviceID)
	e.cfg.Kick()
	return enr, c.Certificate, nil
}

// redeem takes the credential for this key. Before the first connector it takes nothing.
func (e *Endpoint) redeem(ctx context.Context, cred credential, csr *x509.CertificateRequest) (model.Challenge, error) {
	if err := e.ready(ctx); err != nil {
		return model.Challenge{}, notReady(err)
	}
	var c model.Challenge
	var err error
	if cred.token != "" {
		c, err = e.cfg.Identity.Redeem(ctx, cred.token, csr, profiles.Windows)
	} else {
		c, err = e.cfg.Identity.Direct(ctx, identity.Secret(cred.secret), csr)
	}
	if err != nil {
		return c, deadCredential(refuseAs(mde.CertificateRequest, err))
	}
	web.Annotate(ctx, c.EnrolmentID, "")
	e.cfg.Kick()
	return c, nil
}

func notReady(err error) error {
	if errors.Is(err, model.ErrNotFound) {
		return &fault{subcode: mde.EnrollmentServer, detail: mde.InMaintenance, reason: sender.NoConnector, cause: err}
	}
	return err
}

// await holds the answer until the connector has certified, or for as long as a device waits.
func (e *Endpoint) await(ctx context.Context, c model.Challenge) (model.Challenge, error) {
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	c, err := e.cfg.Identity.Answer(waiting, c)
	return c, refuseAs(mde.CertificateRequest, err)
}

// provision wraps the document around a certificate.
func (e *Endpoint) provision(ctx context.Context, req *mde.Request, enr model.Enrolment, certificate []byte, store string,
	encode func(mde.ProvisioningDocument) ([]byte, error)) ([]byte, error) {
	user, err := e.cfg.Users.UserByID(ctx, enr.UserID)
	if err != nil {
		return nil, fmt.Errorf("reading the user of enrolment %s: %w", enr.ID, err)
	}
	document, err := e.cfg.Provision(ctx, enr, certificate, store, user)
	if err != nil {
		return nil, fmt.Errorf("filling in the provisioning document of enrolment %s: %w", enr.ID, err)
	}
	body, err := encode(document)
	if err != nil {
		return nil, fmt.Errorf("writing the provisioning document of enrolment %s: %w", enr.ID, err)
	}
	return mde.TokenResponse(req.MessageID, body, e.cfg.Clock())
}
