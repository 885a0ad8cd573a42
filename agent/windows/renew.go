package windows

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strconv"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
)

const day = 24 * time.Hour

// renewURI holds the settings of the renewal, which a server may change (windows.md section 3.4).
const renewURI = "./Device/Vendor/MSFT/CertificateStore/MY/WSTEP/Renew/"

// renewalDue reports whether the MDM certificate is in its renewal period and was not tried a short while ago. Windows
// does not renew on its own after the end of the certificate (windows.md section 1.8).
func (d *Device) renewalDue() bool {
	mdm := d.state.MDM
	if mdm.Renew == nil || d.node(renewURI+"ROBOSupport") == "false" {
		return false
	}
	id, err := mdm.identity()
	if err != nil {
		return false
	}
	now, end := d.now(), id.cert.NotAfter
	period, retry := d.days("RenewPeriod", mdm.Renew.Period), d.days("RetryInterval", mdm.Renew.Retry)
	return now.After(end.Add(-period)) && now.Before(end) && !now.Before(mdm.Attempted.Add(retry))
}

// days reads a number of days, in the tree or else as it was at enrolment.
func (d *Device) days(name string, otherwise int) time.Duration {
	n, err := strconv.Atoi(d.node(renewURI + name))
	if err != nil {
		n = otherwise
	}
	return time.Duration(n) * day
}

// Renew asks for a new MDM certificate at once, with a new key (ROBO, windows.md section 1.8). The old one stays until
// the answer was checked.
func (d *Device) Renew(ctx context.Context) error {
	mdm := d.state.MDM
	if mdm == nil {
		return d.notEnrolled()
	}
	key, err := d.nextKey()
	if err != nil {
		return err
	}
	document, err := d.askRenewal(ctx, key)
	if err != nil {
		return fmt.Errorf("renewing the MDM certificate: %w", err)
	}
	cert, err := readRenewed(document, key, systemStore(mdm.Type), mdm.ProviderID)
	if err != nil {
		return fmt.Errorf("renewing the MDM certificate: the provisioning document: %w", err)
	}
	return d.takeOver(cert)
}

// nextKey is the key of a renewal that was not answered, or a new one. It is kept first, so that a repeated request is
// the same one.
func (d *Device) nextKey() (*rsa.PrivateKey, error) {
	mdm := d.state.MDM
	mdm.Attempted = d.now()
	if mdm.NextKey != nil {
		key, err := parseKey(mdm.NextKey)
		if err != nil {
			return nil, err
		}
		return key, d.save()
	}
	key, err := d.cfg.NewKey(mdm.KeyBits)
	if err != nil {
		return nil, fmt.Errorf("making the new key of the device: %w", err)
	}
	if mdm.NextKey, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, fmt.Errorf("keeping the new key of the device: %w", err)
	}
	return key, d.save()
}

// askRenewal sends the request for the new key, signed by the old one, over TLS with the old certificate.
func (d *Device) askRenewal(ctx context.Context, key *rsa.PrivateKey) ([]byte, error) {
	mdm := d.state.MDM
	old, err := mdm.identity()
	if err != nil {
		return nil, err
	}
	csr, err := d.newRequest(key, mdm.DeviceID)
	if err != nil {
		return nil, err
	}
	signed, err := cms.Sign(csr, old.cert, old.key, cms.SignOptions{SigningTime: d.now()})
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	target := d.node(renewURI + "ServerURL")
	if target == "" {
		target = mdm.EnrollURL
	}
	if _, err := httpsURL("ServerURL of the renewal", target); err != nil {
		return nil, err
	}
	client := d.newClient(old)
	defer client.CloseIdleConnections()
	got, err := d.do(ctx, client, call{
		action: actionRequest, answer: actionAnswer, to: target, security: usernameToken(mdm.User, ""),
		body:  requestBody("Renew", nsEnroll+"#PKCS7", signed, d.contextItems(mdm.DeviceID, mdm.Type)),
		space: nsTrust, name: "RequestSecurityTokenResponseCollection",
	})
	if err != nil {
		return nil, err
	}
	return readToken(got)
}

// takeOver puts the new certificate in the place of the old one.
func (d *Device) takeOver(cert *x509.Certificate) error {
	mdm := d.state.MDM
	old, err := mdm.identity()
	if err != nil {
		return err
	}
	if err := d.state.PC.DeleteCertificate(thumbprint(old.cert)); err != nil {
		d.cfg.Log.Info("the old MDM certificate was not in its store", "reason", err)
	}
	d.state.PC.AddProvisioned(mdm.store(), cert)
	mdm.Certificate, mdm.Key, mdm.NextKey = cert.Raw, mdm.NextKey, nil
	d.dropClient()
	return d.save()
}
