package androidmdm

import (
	"context"
	"crypto/x509"
	"errors"

	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
)

// csr certifies a key that the device made. Who asks, the credential says, and what for, the item does; what the certificate
// says, its profile. The same key again gets the same certificate.
func (e *Endpoint) csr(ctx context.Context, c call) (any, error) {
	req, err := companion.DecodeCSRRequest(c.body)
	if err != nil {
		return nil, malformed(err)
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil {
		return nil, refuse(companion.CodeMalformed, "csr_b64 is no certificate request")
	}
	request, err := e.cfg.Delivery.Request(ctx, c.enr, c.item, req.Revision)
	if err != nil {
		return nil, err
	}
	r, err := e.certified(ctx, c.enr.ID, request, csr)
	if errors.Is(err, issuance.ErrPending) {
		return nil, e.waiting(ctx, c, req.Revision)
	}
	if err != nil {
		return nil, noCertificate(err)
	}
	cert, _, err := model.NewCertificate(r.Certificate)
	if err != nil {
		return nil, err
	}
	entry := model.AuditEntry{At: e.cfg.Clock(), Actor: "device " + c.enr.DeviceID, Action: "certificate.fetch", Object: cert.SHA256, Outcome: "ok",
		Detail: map[string]string{"item": c.item, "key": r.KeySHA256}}
	return companion.CSRResponse{CertSHA256: cert.SHA256, Chain: append([][]byte{r.Certificate}, r.Chain...)}, e.cfg.Auditor.AppendAudit(ctx, entry)
}

// certified waits for the connector, but no longer than a device can be held.
func (e *Endpoint) certified(ctx context.Context, enrolmentID, request string, csr *x509.CertificateRequest) (model.SCEPRequest, error) {
	r, err := e.cfg.Issuance.BeginFor(ctx, enrolmentID, request, csr)
	if err != nil {
		return r, err
	}
	waiting, cancel := context.WithTimeout(ctx, e.cfg.Wait)
	defer cancel()
	return e.cfg.Issuance.Answer(waiting, r)
}

// waiting lets the app ask again, and people read why.
func (e *Endpoint) waiting(ctx context.Context, c call, revision string) error {
	if err := e.cfg.Delivery.Asking(ctx, c.enr, c.item, revision); err != nil {
		return err
	}
	return &refusal{companion.Problem{Code: companion.CodeWaitingForConnector, Detail: "the CA has not issued the certificate yet", RetryAfterSeconds: 1}}
}

// noCertificate tells the app why there is none. One whose profile was changed meanwhile reads its state again.
func noCertificate(err error) error {
	var fault *issuance.Fault
	switch {
	case !errors.As(err, &fault):
		return err
	case fault.Code == issuance.ScepProfileNoLongerTargeted:
		return refuse(companion.CodeRevisionStale, fault.Detail)
	}
	return refuse(companion.CodeCSRRefused, fault.Detail)
}
