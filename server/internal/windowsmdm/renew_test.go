package windowsmdm_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

// active is a PC that has enrolled and spoken once.
func (r *rig) active(t *testing.T) *testpki.Identity {
	t.Helper()
	w := r.post(windowsmdm.EnrollmentPath, issue(r.header(t, mde.AuthOnPremise), csr(t, 1), usual()))
	id := &testpki.Identity{Cert: certificate(t, provisioned(t, w), "User"), Key: testpki.PoolKey(t, 1)}
	if _, err := r.svc.Activate(t.Context(), r.Enrolment(id.Cert.Subject.CommonName)); err != nil {
		t.Fatal(err)
	}
	return id
}

// due is an active PC in the last month of its certificate.
func (r *rig) due(t *testing.T) *testpki.Identity {
	t.Helper()
	id := r.active(t)
	r.now = id.Cert.NotAfter.AddDate(0, -1, 0)
	return id
}

func signedBy(t *testing.T, id *testpki.Identity, content []byte) []byte {
	t.Helper()
	der, err := cms.Sign(content, id.Cert, id.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRenewal(t *testing.T) {
	r := newRig(t)
	id := r.due(t)
	enrolment := id.Cert.Subject.CommonName
	request := renewal(signedBy(t, id, csr(t, 2)), about("DeviceID", strings.ToLower(deviceID), "EnrollmentType", "Full"))
	doc := provisioned(t, r.post(windowsmdm.EnrollmentPath, request))
	cert := certificate(t, doc, "User")
	if cert.Equal(id.Cert) || cert.Subject.CommonName != enrolment || !cert.NotAfter.After(id.Cert.NotAfter) {
		t.Fatalf("the new certificate: %s until %s", cert.Subject, cert.NotAfter)
	}
	if doc.at("APPLICATION").parm("PROVIDER-ID") != "Waxseal" || doc.at("APPLICATION").parm("ADDR") != "" || doc.at("CertificateStore", "Root").Type != "" {
		t.Errorf("more than a renewal needs: %+v", doc)
	}
	if e := r.Enrolment(enrolment); e.CertSHA256 == e.NextCertSHA256 || e.NextCertSHA256 == "" {
		t.Errorf("the former certificate does not hold until the new one is used: %+v", e)
	}
	if again := certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User"); !again.Equal(cert) {
		t.Error("the same request again gave another certificate")
	}
	if _, err := r.svc.Bind(t.Context(), cert); err != nil { // the PC speaks with it
		t.Fatal(err)
	}
	isFault(t, r.post(windowsmdm.EnrollmentPath, request), mde.Authentication, "")
	if len(r.Refused()) != 1 {
		t.Errorf("audit %+v", r.Refused())
	}
}

func TestRefusedRenewals(t *testing.T) {
	usually := about("DeviceID", deviceID)
	tests := []struct {
		name   string
		make   func(*testing.T, *rig) string
		code   mde.Subcode
		detail mde.ErrorType
	}{
		{"early", func(t *testing.T, r *rig) string {
			id := r.active(t)
			r.now = id.Cert.NotAfter.AddDate(0, 0, -60).Add(-time.Second)
			return renewal(signedBy(t, id, csr(t, 2)), usually)
		}, mde.Authorization, mde.NotEligibleToRenew},
		{"late", func(t *testing.T, r *rig) string {
			id := r.active(t)
			r.now = id.Cert.NotAfter.Add(time.Second)
			return renewal(signedBy(t, id, csr(t, 2)), usually)
		}, mde.Authentication, ""},
		{"foreign CA", func(t *testing.T, r *rig) string {
			r.due(t)
			other := testpki.NewCA(t, "another CA").Issue(t, testpki.Options{CN: "x", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			return renewal(signedBy(t, other, csr(t, 2)), usually)
		}, mde.Authentication, ""},
		{"bound to nothing", func(t *testing.T, r *rig) string {
			r.due(t)
			other := r.ca.Issue(t, testpki.Options{CN: "x", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			return renewal(signedBy(t, other, csr(t, 2)), usually)
		}, mde.Authentication, ""},
		{"not by its key", func(t *testing.T, r *rig) string {
			id := r.due(t)
			return renewal(signedBy(t, &testpki.Identity{Cert: id.Cert, Key: testpki.PoolKey(t, 2)}, csr(t, 2)), usually)
		}, mde.Authentication, ""},
		{"no content", func(t *testing.T, r *rig) string {
			id := r.due(t)
			der, err := cms.Sign(csr(t, 2), id.Cert, id.Key, cms.SignOptions{Detached: true})
			if err != nil {
				t.Fatal(err)
			}
			return renewal(der, usually)
		}, mde.Authentication, ""},
		{"another device", func(t *testing.T, r *rig) string {
			return renewal(signedBy(t, r.due(t), csr(t, 2)), about("DeviceID", "another"))
		}, mde.EnrollmentServer, mde.InvalidEnrollmentData},
		{"no request inside", func(t *testing.T, r *rig) string {
			return renewal(signedBy(t, r.due(t), []byte("hello")), usually)
		}, mde.CertificateRequest, ""},
		{"signed by another key inside", func(t *testing.T, r *rig) string {
			inner := csr(t, 2)
			inner[len(inner)-1] ^= 1
			return renewal(signedBy(t, r.due(t), inner), usually)
		}, mde.CertificateRequest, ""},
		{"no PC", func(t *testing.T, r *rig) string {
			id := r.due(t)
			e := r.Enrolment(id.Cert.Subject.CommonName)
			e.Platform = profiles.IOS
			r.PutEnrolment(e)
			return renewal(signedBy(t, id, csr(t, 2)), about())
		}, mde.Authorization, ""},
		{"ended", func(t *testing.T, r *rig) string {
			id := r.due(t)
			e := r.Enrolment(id.Cert.Subject.CommonName)
			e.State = model.EnrolmentEnded
			r.PutEnrolment(e)
			return renewal(signedBy(t, id, csr(t, 2)), usually)
		}, mde.Authorization, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			request := tt.make(t, r)
			before := r.Challenges()
			isFault(t, r.post(windowsmdm.EnrollmentPath, request), tt.code, tt.detail)
			if len(r.Refused()) != 1 || r.Challenges() != before || len(r.waiting) != 0 {
				t.Errorf("audit %+v, %d challenges", r.Refused(), r.Challenges()-before)
			}
		})
	}
}

func TestRenewalWaitsForTheConnector(t *testing.T) {
	r := newRig(t)
	id := r.due(t)
	r.idle = true
	request := renewal(signedBy(t, id, csr(t, 2)), about())
	isFault(t, r.post(windowsmdm.EnrollmentPath, request), mde.EnrollmentServer, mde.InMaintenance)
	r.work()
	certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User")
}
