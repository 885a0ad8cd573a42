package partnerca

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/issuance"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// verdict is what validateRequest and the notifications answer, with HTTP 200 whatever the code is (PA-01, PA-04).
type verdict struct {
	Code        issuance.Code `json:"code"`
	Description string        `json:"errorDescription"`
}

// validate tells whether a device's request is right. The same request again gets the same answer.
func (e *Endpoint) validate(ctx context.Context, p model.Partner, body []byte) (any, error) {
	in, err := decode[validation](body)
	if err == nil && in.Request == nil {
		err = badly("request: it is missing")
	}
	if err == nil {
		err = in.Request.check("request")
	}
	if err != nil {
		return nil, err
	}
	r, err := e.approve(ctx, p, in.Request)
	web.Annotate(ctx, r.EnrolmentID, "")
	if err == nil {
		entry := e.entry(p, "partner.validate", r.EnrolmentID, details(in.Request))
		err = e.cfg.Store.AppendAudit(ctx, entry)
	}
	return e.say(ctx, p, "partner.validate", in.Request, r, err)
}

func (e *Endpoint) approve(ctx context.Context, p model.Partner, a *asked) (model.SCEPRequest, error) {
	csr, challenge, err := a.request()
	if err != nil {
		return model.SCEPRequest{}, err
	}
	return e.cfg.Issuance.Approve(ctx, p.Name, challenge, a.TransactionID, csr)
}

func (e *Endpoint) approved(ctx context.Context, p model.Partner, a *asked) (model.SCEPRequest, error) {
	csr, challenge, err := a.request()
	if err != nil {
		return model.SCEPRequest{}, err
	}
	return e.cfg.Issuance.Approved(ctx, p.Name, challenge, csr)
}

func details(a *asked) map[string]string {
	return map[string]string{"transaction": a.TransactionID, "caller": a.CallerInfo}
}

// say turns a fault of the request into its code, and writes it down; other errors stay what they are.
func (e *Endpoint) say(ctx context.Context, p model.Partner, action string, a *asked, r model.SCEPRequest, err error) (any, error) {
	var fault *issuance.Fault
	switch {
	case err == nil:
		return verdict{Code: issuance.Success}, nil
	case !errors.As(err, &fault):
		return nil, err
	}
	detail := details(a)
	detail["code"] = string(fault.Code)
	e.cfg.Refusals.Note(ctx, actor(p), action, r.EnrolmentID, fault.Detail, detail)
	return verdict{Code: fault.Code, Description: fault.Detail}, nil
}

// succeeded keeps what the partner tells of a certificate. The certificate itself it never sends.
func (e *Endpoint) succeeded(ctx context.Context, p model.Partner, body []byte) (any, error) {
	in, err := decode[success](body)
	if err == nil && in.Notification == nil {
		err = badly("notification: it is missing")
	}
	if err == nil {
		err = in.Notification.check("notification")
	}
	if err != nil {
		return nil, err
	}
	words, cert, err := e.told(p, in)
	if err != nil {
		return nil, err
	}
	a := &in.Notification.asked
	r, err := e.approved(ctx, p, a)
	web.Annotate(ctx, r.EnrolmentID, "")
	if err == nil {
		err = e.note(ctx, p, r, a, words, cert)
	}
	return e.say(ctx, p, "partner.issued", a, r, err)
}

// told reads the partner's words.
func (e *Endpoint) told(p model.Partner, in success) (model.PartnerCertificate, model.Certificate, error) {
	n, now := in.Notification, e.cfg.Clock()
	sha1, err := thumbprint(n.Thumbprint)
	if err != nil {
		return model.PartnerCertificate{}, model.Certificate{}, err
	}
	until, err := endOf(n.Expires)
	if err == nil && !until.After(now) {
		err = badly("notification.certificateExpirationDateUtc: %s is past", until.Format(time.RFC3339))
	}
	for _, t := range []struct {
		field, text string
		limit       int
		needed      bool
	}{{"certificateSerialNumber", n.Serial, maxSerial, true}, {"issuingCertificateAuthority", n.Issuer, maxName, true},
		{"caConfiguration", n.CAConfiguration, maxName, false}, {"certificateAuthority", n.CertificateAuthority, maxName, false}} {
		if err == nil {
			err = said(t.field, t.text, t.limit, t.needed)
		}
	}
	words := model.PartnerCertificate{ID: model.NotedID(sha1), Partner: p.Name, Serial: n.Serial, Issuer: n.Issuer, CAConfiguration: n.CAConfiguration, At: now}
	cert := model.Certificate{Certificate: profiles.Certificate{SHA256: words.ID, SHA1: sha1, NotBefore: now, NotAfter: until, Purpose: profiles.PurposeSMIMESigning},
		Kind: model.CertificateIssued, Issuer: n.Issuer, Serial: serial(n.Serial), StatusAt: now, CreatedAt: now}
	return words, cert, err
}

// note stores a certificate with what the request was for: its names are those that were asked for, since nobody tells which
// it has.
func (e *Endpoint) note(ctx context.Context, p model.Partner, r model.SCEPRequest, a *asked, words model.PartnerCertificate, cert model.Certificate) error {
	job, err := e.cfg.Store.JobByID(ctx, r.JobID)
	if err != nil {
		return fmt.Errorf("reading what the request was for: %w", err)
	}
	var order link.CertifyJob
	if err := json.Unmarshal(job.Payload, &order); err != nil {
		return fmt.Errorf("reading what the request was for: %w", err)
	}
	words.RequestHash = r.Hash
	cert.UserID, cert.DeviceID, cert.EnrolmentID, cert.Profile = order.UserID, order.DeviceID, order.EnrolmentID, order.Profile
	cert.CA, cert.RevokeOn = order.Request.CertificateAuthority, order.Request.Revocations()
	cert.Subject, cert.Addresses = namesOf(order)
	detail := details(a)
	detail["sha1"], detail["serial"], detail["profile"] = cert.SHA1, cert.Serial, cert.Profile
	err = e.cfg.Store.NotePartnerCertificate(ctx, words, cert, e.entry(p, "partner.issued", r.EnrolmentID, detail))
	switch {
	case errors.Is(err, model.ErrNotFound):
		return &issuance.Fault{Code: issuance.BadRequestIDInChallenge, Detail: "the request is not known any more"}
	case errors.Is(err, model.ErrConflict):
		e.cfg.Kick()
		return &issuance.Fault{Code: issuance.BadRequestIDInChallenge, Detail: "the request has another certificate, or its device has left: withhold this one, it is to be revoked"}
	case err == nil:
		e.cfg.Kick()
	}
	return err
}

func namesOf(order link.CertifyJob) (subject string, addresses []string) {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(order.Subject, &rdns); err == nil && len(rest) == 0 {
		var name pkix.Name
		name.FillFromRDNSequence(&rdns)
		subject = profiles.NameString(name)
	}
	for _, n := range order.SANs {
		if n.Type == profiles.SANEmail {
			addresses = append(addresses, n.Value)
		}
	}
	return subject, addresses
}

// failed keeps why the partner does not issue: an admin reads it in explain.
func (e *Endpoint) failed(ctx context.Context, p model.Partner, body []byte) (any, error) {
	in, err := decode[failure](body)
	if err == nil && in.Notification == nil {
		err = badly("notification: it is missing")
	}
	if err == nil {
		err = in.Notification.check("notification")
	}
	if err != nil {
		return nil, err
	}
	words, err := refusal(in.Notification.HResult, in.Notification.Description)
	if err != nil {
		return nil, err
	}
	a := &in.Notification.asked
	r, err := e.approved(ctx, p, a)
	web.Annotate(ctx, r.EnrolmentID, "")
	if err == nil {
		detail := details(a)
		detail["reason"] = words
		err = e.cfg.Store.RefusePartnerRequest(ctx, r.Hash, words, e.entry(p, "partner.refused", r.EnrolmentID, detail))
		e.cfg.Kick()
	}
	return e.say(ctx, p, "partner.refused", a, r, err)
}

// refusal writes the partner's words with its number, an HRESULT of 32 bits (MS-ERREF section 2.1), signed or not.
func refusal(number json.Number, description string) (string, error) {
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || n < -1<<31 || n > 1<<32-1 {
		return "", badly("notification.hResult: it is no number of 32 bits")
	}
	text := clean(description, maxDescription)
	if text == "" {
		return "", badly("notification.errorDescription: it is missing")
	}
	return fmt.Sprintf("%s (0x%08X)", text, uint32(n)), nil
}
