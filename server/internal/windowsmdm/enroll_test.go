package windowsmdm_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

func TestDiscoveryIsThere(t *testing.T) {
	w := newRig(t).do(http.MethodGet, windowsmdm.DiscoveryPath, "", nil)
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "0" {
		t.Fatalf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

func TestDiscoverPicksAWayThatTheDeviceCanGo(t *testing.T) {
	tests := []struct {
		preferred string
		offered   []string
		want      string
	}{
		{"", []string{"OnPremise", "Federated"}, "OnPremise"},
		{"OnPremise", []string{"Federated", "OnPremise"}, "OnPremise"},
		{"OnPremise", []string{"Federated"}, "Federated"},
		{"Federated", []string{"OnPremise", "Federated"}, "Federated"},
		{"Federated", []string{" OnPremise "}, "OnPremise"},
		{"Federated", []string{"Certificate", "federated"}, "Federated"},
	}
	for _, tt := range tests {
		r := newRig(t, func(c *windowsmdm.Config) {
			c.AuthPolicy = tt.preferred
			c.URL = func() string { return baseURL + "/" }
		})
		w := r.post(windowsmdm.DiscoveryPath, discover(tt.offered...))
		wholly(t, w)
		body := w.Body.Bytes()
		if value(t, body, "AuthPolicy") != tt.want || value(t, body, "RelatesTo") != messageID {
			t.Errorf("%s of %v: %s", tt.preferred, tt.offered, body)
		}
		if value(t, body, "EnrollmentPolicyServiceUrl") != baseURL+windowsmdm.PolicyPath || value(t, body, "EnrollmentServiceUrl") != baseURL+windowsmdm.EnrollmentPath {
			t.Errorf("addresses: %s", body)
		}
		if auth := value(t, body, "AuthenticationServiceUrl"); (auth == baseURL+windowsmdm.AuthPath) != (tt.want == "Federated") || (auth == "") != (tt.want == "OnPremise") {
			t.Errorf("%s has the sign-in page %q", tt.want, auth)
		}
	}
	for _, offered := range [][]string{{"Certificate"}, nil} {
		r := newRig(t)
		isFault(t, r.post(windowsmdm.DiscoveryPath, discover(offered...)), mde.Authorization, mde.NotSupported)
		if len(r.Refused()) != 1 || r.Refused()[0].Action != "mde.discover" {
			t.Errorf("audit: %+v", r.Refused())
		}
	}
}

func TestRenewalLongerThanLife(t *testing.T) {
	r := newRig(t, func(c *windowsmdm.Config) { c.RenewWindow = 1000 * 24 * time.Hour })
	w := r.post(windowsmdm.PolicyPath, getPolicies(username("alice@example.com", r.secret(t))))
	if got := value(t, w.Body.Bytes(), "renewalPeriodSeconds"); got != "31535999" {
		t.Errorf("renewalPeriodSeconds is %q: %s", got, w.Body)
	}
}

func TestEnrolOnPremise(t *testing.T) {
	r := newRig(t, func(c *windowsmdm.Config) { c.CryptoProviders = []string{mde.ProviderTPM, mde.ProviderSoftware} })
	typed := strings.ReplaceAll(strings.ToLower(r.secret(t)), "-", " ")
	header := username(" ALICE@example.com ", typed)
	w := r.post(windowsmdm.PolicyPath, getPolicies(header))
	wholly(t, w)
	if value(t, w.Body.Bytes(), "minimalKeyLength") != "2048" || value(t, w.Body.Bytes(), "provider") != mde.ProviderTPM+","+mde.ProviderSoftware {
		t.Fatalf("policies: %s", w.Body)
	}
	if r.Challenges() != 0 {
		t.Fatal("GetPolicies had an effect")
	}
	request := issue(header, csr(t, 1), usual())
	cert := certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User")
	r.checkEnrolled(t, cert)
	again := certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User")
	if !again.Equal(cert) {
		t.Error("the same request again gave another certificate")
	}
	if len(r.Refused()) != 0 {
		t.Errorf("refused: %+v", r.Refused())
	}
}

// checkEnrolled checks what the usual context makes.
func (r *rig) checkEnrolled(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	if !testpki.PoolKey(t, 1).PublicKey.Equal(cert.PublicKey) {
		t.Error("the certificate is for another key")
	}
	enr := r.Enrolment(cert.Subject.CommonName)
	device, err := r.DeviceByID(t.Context(), enr.DeviceID)
	if err != nil {
		t.Fatal(err)
	}
	if enr.ExternalID != deviceID || enr.UserID != "u1" || enr.Platform != profiles.Windows || enr.State != model.EnrolmentAuthenticated {
		t.Errorf("enrolment %+v", enr)
	}
	if device.ExternalID != hardware || device.Name != "PC-0001" || device.OSVersion != "10.0.22631.3007" || device.Model != "Surface" || device.SerialNumber != "S1" || device.IMEI != "35" {
		t.Errorf("device %+v", device)
	}
}

func TestEnrolFederated(t *testing.T) {
	for times := range 3 {
		r := newRig(t, federated)
		header := bearer(r.token(t), times)
		w := r.post(windowsmdm.PolicyPath, getPolicies(header))
		if wholly(t, w); value(t, w.Body.Bytes(), "minimalKeyLength") != "2048" {
			t.Fatalf("encoded %d times: %s", times, w.Body)
		}
		request := issue(header, csr(t, 1), usual())
		cert := certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User")
		r.checkEnrolled(t, cert)
		if !certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User").Equal(cert) {
			t.Error("the same request again gave another certificate")
		}
	}
}

func TestContextOfARequest(t *testing.T) {
	long := strings.Repeat("A", 256)
	tests := []struct {
		name     string
		items    items
		store    string // empty: refused
		hardware string
	}{
		{"device", about("DeviceID", deviceID, "HWDevID", hardware, "EnrollmentType", "Device"), "System", hardware},
		{"no type", about("DeviceID", deviceID, "HWDevID", hardware), "User", hardware},
		{"no hardware id", about("DeviceID", deviceID, "EnrollmentType", "Full"), "User", deviceID},
		{"long name", about("DeviceID", deviceID, "DeviceName", long, "EnrollmentType", "Full"), "User", deviceID},
		{"no id", about("HWDevID", hardware, "EnrollmentType", "Full"), "", ""},
		{"long id", about("DeviceID", long, "EnrollmentType", "Full"), "", ""},
		{"long hardware id", about("DeviceID", deviceID, "HWDevID", long), "", ""},
		{"control character", about("DeviceID", "a&#9;b"), "", ""},
		{"other type", about("DeviceID", deviceID, "EnrollmentType", "Kiosk"), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			w := r.post(windowsmdm.EnrollmentPath, issue(username(upn, r.secret(t)), csr(t, 1), tt.items))
			if tt.store == "" {
				isFault(t, w, mde.EnrollmentServer, mde.InvalidEnrollmentData)
				if r.Challenges() != 0 || len(r.Refused()) != 1 || r.Refused()[0].Action != "mde.enrol" {
					t.Errorf("%d challenges, audit %+v", r.Challenges(), r.Refused())
				}
				return
			}
			enr := r.Enrolment(certificate(t, provisioned(t, w), tt.store).Subject.CommonName)
			if d, err := r.DeviceByID(t.Context(), enr.DeviceID); err != nil || d.ExternalID != tt.hardware {
				t.Errorf("device %+v, %v", d, err)
			}
		})
	}
}

func TestCertificateRequests(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ec)
	if err != nil {
		t.Fatal(err)
	}
	foreign := csr(t, 1)
	foreign[len(foreign)-1] ^= 1
	tests := []struct {
		name string
		csr  []byte
		ok   bool
	}{
		{"UTF8String", csr(t, 1), true},
		{"PrintableString that is none", windowsCSR(t, 1, asn1.TagPrintableString), true},
		{"signed by another key", foreign, false},
		{"EC key", curve, false},
		{"server name", identitytest.CSR(t, &x509.CertificateRequest{DNSNames: []string{"x"}}, &testpki.Identity{Key: testpki.PoolKey(t, 1)}).Raw, false},
		{"garbage", []byte{0x30, 3, 1, 2, 3}, false},
	}
	for _, tt := range tests {
		for _, way := range []string{mde.AuthOnPremise, mde.AuthFederated} {
			t.Run(tt.name+" "+way, func(t *testing.T) {
				r := newRig(t)
				w := r.post(windowsmdm.EnrollmentPath, issue(r.header(t, way), tt.csr, usual()))
				if tt.ok {
					r.checkEnrolled(t, certificate(t, provisioned(t, w), "User"))
					return
				}
				isFault(t, w, mde.CertificateRequest, "")
				if len(r.Refused()) != 1 || len(r.waiting) != 0 {
					t.Errorf("audit %+v, jobs %v", r.Refused(), r.waiting)
				}
			})
		}
	}
}

// header is a fresh credential.
func (r *rig) header(t *testing.T, way string) string {
	t.Helper()
	if way == mde.AuthFederated {
		return bearer(r.token(t), 1)
	}
	return username(upn, r.secret(t))
}

func TestRefusedCredentials(t *testing.T) {
	tests := []struct {
		name   string
		header func(*testing.T, *rig) string
		code   mde.Subcode
	}{
		{"another's name", func(t *testing.T, r *rig) string { return username("bob@example.com", r.secret(t)) }, mde.Authentication},
		{"no name", func(t *testing.T, r *rig) string { return username("", r.secret(t)) }, mde.Authentication},
		{"wrong secret", func(t *testing.T, r *rig) string { return username(upn, "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA") }, mde.Authentication},
		{"no secret", func(t *testing.T, r *rig) string { return username(upn, "") }, mde.Authentication},
		{"Apple's link", func(t *testing.T, r *rig) string { return username(upn, r.link(t, profiles.IOS)) }, mde.Authentication},
		{"spent secret", func(t *testing.T, r *rig) string { return username(upn, r.spent(t)) }, mde.Authorization},
		{"spent secret, another's name", func(t *testing.T, r *rig) string { return username("bob@example.com", r.spent(t)) }, mde.Authentication},
		{"expired secret", func(t *testing.T, r *rig) string {
			secret := r.secret(t)
			r.now = r.now.Add(73 * time.Hour)
			return username(upn, secret)
		}, mde.Authorization},
		{"unknown token", func(t *testing.T, r *rig) string { return bearer("bm90aGluZw", 1) }, mde.Authentication},
		{"empty token", func(t *testing.T, r *rig) string { return bearer("", 0) }, mde.Authentication},
		{"secret as a token", func(t *testing.T, r *rig) string { return bearer(r.secret(t), 1) }, mde.Authentication},
		{"Apple's challenge", func(t *testing.T, r *rig) string {
			challenge, _, err := r.svc.Profile(t.Context(), r.link(t, profiles.MacOS))
			if err != nil {
				t.Fatal(err)
			}
			return bearer(challenge, 1)
		}, mde.Authentication},
		{"reused token", func(t *testing.T, r *rig) string {
			header := bearer(r.token(t), 1)
			provisioned(t, r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 2), usual())))
			return header
		}, mde.Authorization},
		{"expired token", func(t *testing.T, r *rig) string {
			token := r.token(t)
			r.now = r.now.Add(16 * time.Minute)
			return bearer(token, 1)
		}, mde.Authorization},
		{"no header", func(*testing.T, *rig) string { return "" }, mde.InvalidSecurity},
		{"empty header", func(*testing.T, *rig) string { return "<wsse:Security/>" }, mde.InvalidSecurity},
		{"digest", func(t *testing.T, r *rig) string { return usernameOf("#PasswordDigest", upn, r.secret(t)) }, mde.InvalidSecurity},
		{"both", func(t *testing.T, r *rig) string {
			return strings.Replace(username(upn, r.secret(t)), "</wsse:Security>", strings.TrimPrefix(bearer(r.token(t), 1), `<wsse:Security s:mustUnderstand="1">`), 1)
		}, mde.InvalidSecurity},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			header := tt.header(t, r)
			before := r.Challenges()
			isFault(t, r.post(windowsmdm.PolicyPath, getPolicies(header)), tt.code, "")
			isFault(t, r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual())), tt.code, "")
			if len(r.Refused()) != 2 || r.Challenges() != before || len(r.waiting) != 0 {
				t.Errorf("audit %+v, %d challenges", r.Refused(), r.Challenges()-before)
			}
		})
	}
}

// spent is a secret that a device enrolled with.
func (r *rig) spent(t *testing.T) string {
	t.Helper()
	secret := r.secret(t)
	provisioned(t, r.post(windowsmdm.EnrollmentPath, issue(username(upn, secret), csr(t, 3), usual())))
	return secret
}

func TestASecondDeviceIDForOneCertificate(t *testing.T) {
	r := newRig(t)
	header := r.header(t, mde.AuthOnPremise)
	cert := certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual()))), "User")
	w := r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), about("DeviceID", "another", "HWDevID", hardware)))
	isFault(t, w, mde.EnrollmentServer, mde.InvalidEnrollmentData)
	r.checkEnrolled(t, cert)
}

func TestAnEndedEnrolmentIsNotTakenUpAgain(t *testing.T) {
	r := newRig(t)
	request := issue(r.header(t, mde.AuthOnPremise), csr(t, 1), usual())
	enr := r.Enrolment(certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User").Subject.CommonName)
	enr.State = model.EnrolmentEnded
	r.PutEnrolment(enr)
	isFault(t, r.post(windowsmdm.EnrollmentPath, request), mde.Authorization, "")
}

func TestASlowConnector(t *testing.T) {
	for _, way := range []string{mde.AuthOnPremise, mde.AuthFederated} {
		r := newRig(t)
		r.idle = true
		request := issue(r.header(t, way), csr(t, 1), usual())
		for range 2 {
			isFault(t, r.post(windowsmdm.EnrollmentPath, request), mde.EnrollmentServer, mde.InMaintenance)
		}
		r.work()
		r.checkEnrolled(t, certificate(t, provisioned(t, r.post(windowsmdm.EnrollmentPath, request)), "User"))
		if len(r.Refused()) != 0 {
			t.Errorf("waiting is no refusal: %+v", r.Refused())
		}
	}
}

func TestAConnectorThatRefuses(t *testing.T) {
	r := newRig(t)
	r.idle = true
	request := issue(r.header(t, mde.AuthOnPremise), csr(t, 1), usual())
	r.post(windowsmdm.EnrollmentPath, request)
	for _, job := range r.waiting {
		r.Fail(job.ID, "the key is too short")
	}
	w := r.post(windowsmdm.EnrollmentPath, request)
	isFault(t, w, mde.CertificateRequest, "")
	if !strings.Contains(w.Body.String(), "the key is too short") {
		t.Errorf("%s", w.Body)
	}
}

func TestBeforeTheFirstConnector(t *testing.T) {
	r := newRig(t)
	r.noTrust = true
	w := r.post(windowsmdm.EnrollmentPath, issue(r.header(t, mde.AuthOnPremise), csr(t, 1), usual()))
	isFault(t, w, mde.EnrollmentServer, mde.InMaintenance)
	if !strings.Contains(w.Body.String(), "waxseal-connector init") || r.Challenges() != 0 {
		t.Errorf("%s", w.Body)
	}
}

func TestFaultsOfOurs(t *testing.T) {
	hidden := errors.New("dial tcp 10.0.0.1: password hunter2")
	tests := []struct {
		name string
		edit func(*windowsmdm.Config)
		code mde.Subcode
	}{
		{"database", nil, mde.EnrollmentServer},
		{"provisioning", func(c *windowsmdm.Config) {
			c.Provision = func(context.Context, model.Enrolment, []byte, string, model.User) (mde.ProvisioningDocument, error) {
				return mde.ProvisioningDocument{}, hidden
			}
		}, mde.EnrollmentServer},
		{"panic", func(c *windowsmdm.Config) {
			c.Provision = func(context.Context, model.Enrolment, []byte, string, model.User) (mde.ProvisioningDocument, error) {
				panic(hidden)
			}
		}, mde.InternalServiceFault},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.edit != nil {
				r = newRig(t, tt.edit)
			}
			header := r.header(t, mde.AuthOnPremise)
			if tt.edit == nil {
				r.Err = hidden
			}
			w := r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual()))
			isFault(t, w, tt.code, "")
			if strings.Contains(w.Body.String(), "hunter2") || !strings.Contains(r.logs.String(), "10.0.0.1") || !strings.Contains(r.logs.String(), "level=ERROR") {
				t.Errorf("the cause is shown or not logged: %s\n%s", w.Body, r.logs)
			}
		})
	}
}

func TestBrokenMessages(t *testing.T) {
	r := newRig(t)
	good := getPolicies(username(upn, r.secret(t)))
	entity := `<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>` + strings.Replace(good, upn, "&b;", 1)
	bodies := map[string]string{
		"empty": "", "text": "hello", "cut": good[:len(good)/2], "entities": entity, "huge": strings.Replace(good, "</s:Body>", strings.Repeat(" ", 300<<10)+"</s:Body>", 1),
		"deep": strings.Repeat("<a>", 5000) + strings.Repeat("</a>", 5000), "other action": strings.Replace(good, mde.ActionGetPolicies, mde.ActionToken, 1),
		"no body": soap(mde.ActionDiscover, "", ""), "bytes": string([]byte{0xff, 0xfe, 0, 1}),
	}
	for name, body := range bodies {
		for _, path := range []string{windowsmdm.DiscoveryPath, windowsmdm.PolicyPath, windowsmdm.EnrollmentPath} {
			w := r.post(path, body)
			if isFault(t, w, mde.MessageFormat, ""); t.Failed() {
				t.Fatalf("%s to %s", name, path)
			}
		}
	}
	for path, body := range map[string]string{windowsmdm.DiscoveryPath: good, windowsmdm.EnrollmentPath: discover("OnPremise"), windowsmdm.PolicyPath: discover("OnPremise")} {
		isFault(t, r.post(path, body), mde.MessageFormat, "")
	}
	if len(r.Refused()) != 3*len(bodies)+3 || r.Challenges() != 0 {
		t.Errorf("%d audit entries for %d bodies", len(r.Refused()), len(bodies))
	}
}

func TestFormOfFaults(t *testing.T) {
	r := newRig(t, func(c *windowsmdm.Config) { c.FaultStatus, c.LowerCaseFaults = 500, true })
	w := r.post(windowsmdm.PolicyPath, getPolicies(""))
	if w.Code != 500 || !bytes.Contains(w.Body.Bytes(), []byte("invalidsecurity")) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestNoSecretIsWrittenDown(t *testing.T) {
	r := newRig(t)
	secret, token := r.secret(t), r.token(t)
	wrong := strings.Repeat("ZZZZ-", 5) + "ZZZZ"
	for _, header := range []string{username("bob@example.com", secret), username(secret, wrong), bearer("x"+token, 1), username(upn, secret), bearer(token, 1)} {
		r.post(windowsmdm.PolicyPath, getPolicies(header))
		r.post(windowsmdm.EnrollmentPath, issue(header, []byte{0x30, 0}, usual()))
		r.post(windowsmdm.EnrollmentPath, issue(header, csr(t, 1), usual()))
	}
	r.form(signIn("bob@example.com", secret))
	r.form(signIn(secret, wrong))
	r.form(signIn(upn, secret))
	written := r.logs.String()
	for _, a := range r.Audit() {
		written += a.Object + a.Actor
		for _, v := range a.Detail {
			written += v
		}
	}
	for _, s := range []string{secret, token, wrong} {
		if strings.Contains(written, s) {
			t.Errorf("%s is written down", s)
		}
	}
}
