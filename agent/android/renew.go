package android

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// renewalPart is the last part of the wrap certificate's life in which the app renews it: a fifth.
const renewalPart = 5

// renewalPause keeps an app from renewing at every poll where the device CA itself ends soon.
const renewalPause = 24 * time.Hour

// renewalDue reports whether the wrap certificate ends soon.
func (d *Device) renewalDue() bool {
	cert, err := d.state.App.Enrolment.certificate()
	if err != nil {
		return false
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	now := d.Now()
	return !now.Before(cert.NotAfter.Add(-life/renewalPart)) && now.Sub(d.state.App.RenewedAt) >= renewalPause
}

// Renew gives the device a new wrap key with a certificate. The key is kept before the server is asked; the former one is
// dropped when the answer is there, and what was sealed to it is fetched again.
func (d *Device) Renew(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if !d.Enrolled() {
		return d.notEnrolled()
	}
	return d.renew(ctx)
}

func (d *Device) renew(ctx context.Context) error {
	app := &d.state.App
	if app.NextWrapKey == nil {
		key, err := d.newWrapKey()
		if err != nil {
			return err
		}
		app.NextWrapKey = key
		if err := d.save(); err != nil {
			return err
		}
	}
	key, csr, err := d.requestFor(app.NextWrapKey)
	if err != nil {
		return err
	}
	a, err := d.call(ctx, http.MethodPost, companion.PathRenew, companion.RenewRequest{WrapKey: companion.WrapKey{KeyType: companion.WrapKeyRSA, CSR: csr}})
	if err != nil {
		return fmt.Errorf("renewing the wrap key: %w", err)
	}
	return d.renewed(a, key)
}

func (d *Device) renewed(a *answer, key *rsa.PrivateKey) error {
	r, err := companion.DecodeRenewResponse(a.body)
	if err != nil {
		return fmt.Errorf("renewing the wrap key: %w", err)
	}
	cert, err := x509.ParseCertificate(r.WrapCertificate)
	if err != nil {
		return fmt.Errorf("renewing the wrap key: wrap_certificate_b64: %w", err)
	}
	if !framework.Fits(key, cert) {
		return errors.New("renewing the wrap key: wrap_certificate_b64 certifies another key than the one of the request")
	}
	app := &d.state.App
	app.WrapKey, app.NextWrapKey, app.RenewedAt = app.NextWrapKey, nil, d.Now()
	app.Enrolment.WrapKeyID, app.Enrolment.Certificate = r.WrapKeyID, r.WrapCertificate
	d.acted()
	return d.save()
}

// WrapKeyUntil is when the certificate of the wrap key ends.
func (d *Device) WrapKeyUntil() time.Time {
	if !d.Enrolled() {
		return time.Time{}
	}
	cert, err := d.state.App.Enrolment.certificate()
	if err != nil {
		return time.Time{}
	}
	return cert.NotAfter
}
