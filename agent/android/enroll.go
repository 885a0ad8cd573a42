package android

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// wrapKeyBits is the size of the wrap key; every Android Keystore makes such a key in hardware.
const wrapKeyBits = 2048

// Enroll makes a device in Config.State, or takes the one that is there, and enrols it with the server that Config.Source
// names. The device is open afterwards and must be closed.
func Enroll(ctx context.Context, cfg Config) (*Device, error) {
	d, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	if err := d.Enroll(ctx, cfg.Source); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// Enroll enrols the device (android.md section 8.1). The wrap key is kept before the server is asked, so that a repetition
// after a lost answer is the same enrolment.
func (d *Device) Enroll(ctx context.Context, source string) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if d.Enrolled() && d.state.App.Unknown == "" {
		return fmt.Errorf("the device is enrolled already, with %s; unenroll it first", d.state.App.Enrolment.Server)
	}
	if err := d.makeRoom(); err != nil {
		return fmt.Errorf("before the device is enrolled anew: %w", err)
	}
	from, err := readLink(source)
	if err != nil {
		return err
	}
	csr, err := d.wrapRequest()
	if err != nil {
		return err
	}
	a, err := d.exchange(ctx, request{method: http.MethodPost, url: from.server + companion.PathEnroll, message: d.enrolRequest(from.token, csr)})
	if err != nil {
		return fmt.Errorf("enrolling: %w", err)
	}
	return d.enrolled(from, a)
}

// makeRoom removes what a former enrolment brought, before the next one brings its own.
func (d *Device) makeRoom() error {
	if !d.Enrolled() {
		return d.sweep()
	}
	if err := d.clear(); err != nil {
		return err
	}
	return d.expelled(errors.New(d.state.App.Unknown))
}

// prepare takes notice of a world in which the app may have been reinstalled, or may be missing.
func (d *Device) prepare() error {
	if err := d.look(); err != nil {
		return err
	}
	if err := d.reinstall(); err != nil {
		return err
	}
	if _, there := d.state.Phone.World.Apps[Package]; !there {
		return fmt.Errorf("the companion app is not installed: install %s", Package)
	}
	return nil
}

// wrapRequest makes the wrap key, unless an enrolment without an answer left one, and its PKCS#10 request.
func (d *Device) wrapRequest() ([]byte, error) {
	a := &d.state.App
	if a.WrapKey == nil {
		key, err := d.newWrapKey()
		if err != nil {
			return nil, err
		}
		a.WrapKey = key
		if err := d.save(); err != nil {
			return nil, err
		}
	}
	_, csr, err := d.requestFor(a.WrapKey)
	return csr, err
}

// newWrapKey makes a key, as PKCS#8.
func (d *Device) newWrapKey() ([]byte, error) {
	key, err := d.cfg.NewKey(wrapKeyBits)
	if err != nil {
		return nil, fmt.Errorf("making the wrap key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("keeping the wrap key: %w", err)
	}
	return der, nil
}

// requestFor is the PKCS#10 request of a wrap key.
func (d *Device) requestFor(pkcs8 []byte) (*rsa.PrivateKey, []byte, error) {
	key, err := parseWrapKey(pkcs8)
	if err != nil {
		return nil, nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.state.App.InstallID}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the request for the wrap key: %w", err)
	}
	return key, csr, nil
}

func (d *Device) enrolRequest(token string, csr []byte) companion.EnrollRequest {
	info, phone := d.state.Info, d.state.Phone
	return companion.EnrollRequest{
		Protocol: companion.Protocol, EnrollmentToken: token, Capabilities: d.capabilities(),
		Device: companion.Device{
			InstallID: d.state.App.InstallID, SDKInt: phone.SDK, Release: info.OSVersion, SecurityPatch: securityPatch, Manufacturer: manufacturer,
			Model: info.Model, ManagementMode: companion.ManagementMode(phone.Mode), Serial: info.SerialNumber, Name: info.DeviceName,
		},
		Agent:   companion.Agent{Package: Package, Version: appVersion, SigningCertSHA256: Signer(Package)},
		WrapKey: companion.WrapKey{KeyType: companion.WrapKeyRSA, CSR: csr},
	}
}

// capabilities are the rights that the app has at the moment.
func (d *Device) capabilities() []companion.Capability {
	phone, out := d.state.Phone, []companion.Capability{}
	if phone.May(Package, framework.ScopeCertInstall) {
		out = append(out, companion.CapabilityCertInstall, companion.CapabilityCAInstall)
		if phone.SDK >= framework.APIHasKey {
			out = append(out, companion.CapabilityHasKeyPair)
		}
		if phone.SDK >= framework.APIGenerate {
			out = append(out, companion.CapabilityGenerateKey)
		}
	}
	if phone.May(Package, framework.ScopeCertSelection) && phone.SDK >= framework.APIGrants {
		out = append(out, companion.CapabilityCertSelection)
	}
	return out
}

// enrolled takes the answer.
func (d *Device) enrolled(from link, a *answer) error {
	r, err := companion.DecodeEnrollResponse(a.body)
	if err != nil {
		return fmt.Errorf("enrolling: %w", err)
	}
	e := &enrolment{Server: from.server, DeviceID: r.DeviceID, UserHint: r.UserHint, Credential: r.Credential,
		WrapKeyID: r.WrapKeyID, Certificate: r.WrapCertificate}
	cert, err := e.certificate()
	if err != nil {
		return fmt.Errorf("enrolling: wrap_certificate_b64: %w", err)
	}
	key, err := d.state.App.wrapKey()
	if err != nil {
		return err
	}
	if !framework.Fits(key, cert) {
		return errors.New("enrolling: wrap_certificate_b64 must certify the wrap key of the request, and certifies another one")
	}
	app := &d.state.App
	app.Enrolment, app.Desired, app.Records, app.Events = e, nil, map[string]*record{}, nil
	app.Seen, app.Untold, app.Unknown, d.state.Gone = d.sees(), true, "", ""
	return d.save()
}

func (d *Device) notEnrolled() error {
	if d.state.Gone != "" {
		return fmt.Errorf("%w: %s", ErrNotEnrolled, d.state.Gone)
	}
	return ErrNotEnrolled
}
