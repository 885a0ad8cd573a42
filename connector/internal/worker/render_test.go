package worker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
)

// CN-04: what comes in sealed to the connector goes out encrypted to the device.
func TestCN04RenderReachesOnlyTheDevice(t *testing.T) {
	h := newHouse(t)
	device := h.device(t, "e1", "u1")
	record, cert := h.imported(t, "u1")
	answer, jobErr := do[link.RenderAnswer](t, h, "r1", link.JobRender, renderJob(history(t, cert), device.Raw, record))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	keys := openProfile(t, answer.Payload, device)
	if len(keys) != 1 || !mailKey().Equal(keys[0]) {
		t.Error("the device did not get the key of the imported certificate")
	}
	if !strings.Contains(h.audit(t), `"action":"release"`) || !strings.Contains(h.audit(t), hash(device.Raw)) {
		t.Errorf("the release is not in the audit log:\n%s", h.audit(t))
	}
}

// openProfile does what the device does.
func openProfile(t *testing.T, payload []byte, device *x509.Certificate) []*rsa.PrivateKey {
	t.Helper()
	profile, err := apple.ParseProfile(payload)
	if err != nil {
		t.Fatal(err)
	}
	if !profile.IsEncrypted || bytes.Contains(payload, []byte("com.apple.security.pkcs12")) {
		t.Fatal("the profile is not encrypted")
	}
	if err := profile.Open(func(der []byte) ([]byte, error) { return cms.Decrypt(der, device, deviceKey()) }); err != nil {
		t.Fatal(err)
	}
	var keys []*rsa.PrivateKey
	for _, p := range profile.Payloads {
		if p.Type != "com.apple.security.pkcs12" {
			continue
		}
		ids, err := pfx.Decode(p.Content["PayloadContent"].([]byte), p.Content["Password"].(string))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, ids[0].PrivateKey.(*rsa.PrivateKey))
	}
	return keys
}

// TestInventedRecipients: whatever a server says, no key goes to a certificate that is not the owner's device.
func TestInventedRecipients(t *testing.T) {
	h := newHouse(t)
	device := h.device(t, "e1", "u1")
	stranger := h.device(t, "e2", "u2")
	record, cert := h.imported(t, "u1")
	doc := history(t, cert)
	issued, jobErr := do[link.IssueAnswer](t, h, "i1", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	renamed := record
	renamed.Owner = link.UserURN("u2")
	otherRecord, otherCert := h.imported(t, "u2")
	relabelled := cert
	relabelled.RecordID = otherRecord.ID
	cases := map[string]link.RenderJob{
		"self-signed with the right names":  renderJob(doc, selfSigned(t, device), record),
		"another user's device":             renderJob(doc, stranger.Raw, record),
		"record relabelled for the other":   renderJob(doc, stranger.Raw, renamed),
		"a mail certificate of softca":      renderJob(doc, issued.Certificate, record),
		"the server's RA certificate":       renderJob(doc, h.server.RA, record),
		"the device CA itself":              renderJob(doc, h.server.DeviceCA, record),
		"no certificate":                    renderJob(doc, []byte("garbage"), record),
		"no record":                         renderJob(doc, device.Raw),
		"another certificate's record":      renderJob(history(t, relabelled), device.Raw, otherRecord),
		"another user's record":             renderJob(history(t, otherCert), device.Raw, otherRecord),
		"an issued record of other device":  renderJob(history(t, issuedCert(issued)), stranger.Raw, issued.Record),
		"document without credentials":      renderJob(platforms.Document{ID: "trust"}, device.Raw, record),
		"a platform that is not known here": {Document: doc, Platform: "windows", Recipient: device.Raw, Records: []escrow.Record{record}},
	}
	for name, p := range cases {
		answer, jobErr := do[link.RenderAnswer](t, h, name, link.JobRender, p)
		if jobErr == nil || !jobErr.Final || answer.Payload != nil {
			t.Errorf("%s: %+v", name, jobErr)
		}
	}
	if log := h.audit(t); strings.Contains(log, `"action":"release"`) || strings.Count(log, `"action":"refuse"`) < 10 {
		t.Errorf("audit log:\n%s", log)
	}
}

func issuedCert(a link.IssueAnswer) (c profiles.Certificate) {
	c.SHA256, c.SHA1, c.DER, c.RecordID, c.Purpose = a.Record.CertSHA256, strings.Repeat("1", 40), a.Certificate, a.Record.ID, "smimeEncryption"
	c.Addresses, c.NotBefore, c.NotAfter = []string{"alice@corp.test"}, testNow, testNow.AddDate(1, 0, 0)
	return c
}

// selfSigned copies a device certificate under a key of the attacker's own CA with the real one's name.
func selfSigned(t *testing.T, device *x509.Certificate) []byte {
	t.Helper()
	parent := &x509.Certificate{RawSubject: device.RawIssuer, SubjectKeyId: device.AuthorityKeyId}
	template := &x509.Certificate{SerialNumber: device.SerialNumber, RawSubject: device.RawSubject, URIs: device.URIs, KeyUsage: device.KeyUsage,
		ExtKeyUsage: device.ExtKeyUsage, NotBefore: device.NotBefore, NotAfter: device.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, foreignKey().Public(), foreignKey())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestDeviceThatCannotDecrypt signs, with the device CA's own key, certificates that its rules would never let out.
func TestDeviceThatCannotDecrypt(t *testing.T) {
	h := newHouse(t)
	w, kill := h.worker(t, h.dir)
	defer kill()
	device, err := w.Keyring.Authority(keyring.DeviceCA)
	if err != nil {
		t.Fatal(err)
	}
	record, cert := h.imported(t, "u1")
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(key any, usage x509.KeyUsage, end time.Time) []byte {
		template := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "e1"}, NotBefore: testNow.Add(-time.Hour),
			NotAfter: end, KeyUsage: usage, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			URIs: []*url.URL{{Scheme: "urn", Opaque: "waxseal:enrolment:e1"}, {Scheme: "urn", Opaque: "waxseal:user:u1"}}}
		der, err := device.Sign(template, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	later := testNow.AddDate(1, 0, 0)
	cases := []struct {
		name      string
		recipient []byte
		reason    platforms.Reason
	}{
		{"elliptic", sign(small.Public(), x509.KeyUsageDigitalSignature, later), platforms.ReasonDeviceIdentityCannotDecrypt},
		{"sign only", sign(deviceKey().Public(), x509.KeyUsageDigitalSignature, later), platforms.ReasonDeviceIdentityCannotDecrypt},
		{"expired", sign(deviceKey().Public(), x509.KeyUsageKeyEncipherment, testNow.Add(-time.Minute)), ""},
	}
	for _, c := range cases {
		answer, jobErr := do[link.RenderAnswer](t, h, c.name, link.JobRender, renderJob(history(t, cert), c.recipient, record))
		if jobErr == nil || !jobErr.Final || jobErr.Reason != c.reason || answer.Payload != nil {
			t.Errorf("%s: %+v", c.name, jobErr)
		}
	}
}
