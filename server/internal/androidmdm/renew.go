package androidmdm

import (
	"context"
	"crypto/x509"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// renew certifies a further wrap key of a device. Keys are encrypted to the former one until the app names the new one in
// a poll, so that an answer which gets lost leaves nobody without.
func (e *Endpoint) renew(ctx context.Context, c call) (any, error) {
	req, err := companion.DecodeRenewRequest(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	csr, err := x509.ParseCertificateRequest(req.WrapKey.CSR)
	if err != nil {
		return nil, refuse(companion.CodeMalformed, "wrap_key.csr_b64 is no certificate request")
	}
	challenge, err := e.cfg.Identity.Renew(ctx, c.enr, csr)
	if err != nil {
		return nil, err
	}
	e.cfg.Kick()
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	if challenge, err = e.cfg.Identity.Answer(waiting, challenge); err != nil {
		return nil, err
	}
	cert, _, err := model.NewCertificate(challenge.Certificate)
	if err != nil {
		return nil, err
	}
	return companion.RenewResponse{WrapKeyID: cert.SHA256, WrapCertificate: challenge.Certificate}, nil
}

// uses takes the renewed wrap key over, if it is the one that the app names.
func (e *Endpoint) uses(c call) (model.Enrolment, error) {
	id := c.request.URL.Query().Get(companion.ParamWrapKey)
	if id == "" || id == c.enr.CertSHA256 || id != c.enr.NextCertSHA256 {
		return c.enr, nil
	}
	web.Annotate(c.request.Context(), c.enr.ID, c.enr.DeviceID)
	return e.cfg.Identity.InUse(context.WithoutCancel(c.request.Context()), c.enr, id)
}
