package worker

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
)

func TestIdentityTakesItsNamesFromTheJob(t *testing.T) {
	h := newHouse(t)
	cert := h.device(t, "e1", "u1")
	if cert.Subject.String() != "CN=e1" || len(cert.EmailAddresses) != 0 || len(cert.URIs) != 2 {
		t.Errorf("subject %s, addresses %v, URIs %v", cert.Subject, cert.EmailAddresses, cert.URIs)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("key usage %b", cert.KeyUsage)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != 365*24*time.Hour || !cert.NotBefore.Before(testNow) {
		t.Errorf("valid from %s for %s", cert.NotBefore, life)
	}
	opensslVerifies(t, h.server.DeviceCA, cert.Raw)
}

func opensslVerifies(t *testing.T, root, leaf []byte) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	for name, der := range map[string][]byte{"root.pem": root, "leaf.pem": leaf} {
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-attime", "1777700000", "-CAfile", "root.pem", "leaf.pem")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %s", out)
	}
}

func TestIdentityRepeated(t *testing.T) {
	h := newHouse(t)
	first := link.IdentityJob{CSR: csr(t, deviceKey()), EnrolmentID: "e1", UserID: "u1"}
	other, otherUser := first, first
	other.CSR = csr(t, foreignKey())
	otherUser.UserID = "u2"
	var got [4]link.IdentityAnswer
	var failed [4]*link.JobError
	for i, p := range []link.IdentityJob{first, first, other, otherUser} {
		id := string(rune('a' + i))
		h.server.Put(t, id, "challenge-1", link.JobIdentity, p)
		h.work(t)
		failed[i] = h.server.Answer(t, id, &got[i])
	}
	if failed[0] != nil || failed[1] != nil || !bytes.Equal(got[0].Certificate, got[1].Certificate) {
		t.Errorf("the same request gave another certificate: %v, %v", failed[0], failed[1])
	}
	for i := 2; i < 4; i++ {
		if failed[i] == nil || !failed[i].Final || got[i].Certificate != nil {
			t.Errorf("request %d was not refused for good: %+v", i, failed[i])
		}
	}
}

func TestIdentityRefusals(t *testing.T) {
	h := newHouse(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := csr(t, deviceKey())
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	cases := map[string]link.IdentityJob{
		"1024 bits":          {CSR: csr(t, small), EnrolmentID: "e1", UserID: "u1"},
		"RSA key to decrypt": {CSR: csr(t, elliptic), EnrolmentID: "e1", UserID: "u1"},
		"its own key":        {CSR: altered, EnrolmentID: "e1", UserID: "u1"},
		"does not parse":     {CSR: []byte("garbage"), EnrolmentID: "e1", UserID: "u1"},
		"ids are":            {CSR: good, EnrolmentID: "e1", UserID: "u1\nu2"},
		"at most 64":         {CSR: good, EnrolmentID: strings.Repeat("e", 65), UserID: "u1"},
		"user \"u1:urn\"":    {CSR: good, EnrolmentID: "e1", UserID: "u1:urn"},
		"longer than":        {CSR: make([]byte, 70000), EnrolmentID: "e1", UserID: "u1"},
	}
	for want, p := range cases {
		_, jobErr := do[link.IdentityAnswer](t, h, want, link.JobIdentity, p)
		if jobErr == nil || !jobErr.Final || !strings.Contains(jobErr.Message, want) {
			t.Errorf("%s: got %+v", want, jobErr)
		}
	}
}

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

func (h *house) audit(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
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

func TestIssueRepeated(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	lost := h.lose(t, "1", p)
	first, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil || !bytes.Equal(first.Certificate, lost.Certificate) || !bytes.Equal(first.Record.Ciphertext, lost.Record.Ciphertext) {
		t.Fatalf("the same intent gave something else: %+v", jobErr)
	}
	bent := p
	bent.EnrolmentID = "e2"
	if answer, jobErr := do[link.IssueAnswer](t, h, "3", link.JobIssue, bent); jobErr == nil || !jobErr.Final || answer.Certificate != nil {
		t.Errorf("the intent was bent to another enrolment: %+v", jobErr)
	}
	cert := parse(t, first.Certificate)
	if cert.EmailAddresses[0] != "Alice@corp.test" || first.Record.Owner != link.EnrolmentURN("e1") || first.Record.ID != p.IntentID {
		t.Errorf("addresses %v, owner %s", cert.EmailAddresses, first.Record.Owner)
	}
	if recovery := h.recoveryID(t); first.Record.SealedTo(recovery) {
		t.Error("a key that the connector made is sealed to the recovery key")
	}
	device := h.device(t, "e1", "u1")
	answer, jobErr := do[link.RenderAnswer](t, h, "4", link.JobRender, renderJob(history(t, issuedCert(first)), device.Raw, first.Record))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	if keys := openProfile(t, answer.Payload, device); !keys[0].PublicKey.Equal(cert.PublicKey) {
		t.Error("the device got another key")
	}
}

func (h *house) recoveryID(t *testing.T) string {
	t.Helper()
	set, err := h.server.KeySet.Verify(h.pin(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(set.Members, func(m escrow.Member) bool { return m.Kind == escrow.MemberRecovery })
	return set.Members[at].ID
}

func TestIssueRefusals(t *testing.T) {
	h := newHouse(t)
	cases := map[string]func(*link.IssueJob){
		"1024 bits":   func(p *link.IssueJob) { p.Request.KeySize = 1024 },
		"intent id":   func(p *link.IssueJob) { p.IntentID = "../x" },
		"template":    func(p *link.IssueJob) { p.Request.Template = "User" },
		"serverAuth":  func(p *link.IssueJob) { p.Request.ExtendedKeyUsage = []string{"serverAuth"} },
		"of type ema": func(p *link.IssueJob) { p.SANs = nil },
	}
	for want, change := range cases {
		p := issueJob(t, "intent-"+hex.EncodeToString([]byte(want)), "e1")
		change(&p)
		if _, jobErr := do[link.IssueAnswer](t, h, want, link.JobIssue, p); jobErr == nil || !jobErr.Final || !strings.Contains(jobErr.Message, want) {
			t.Errorf("%s: %+v", want, jobErr)
		}
	}
}

// TestCN05KilledMidJob (CN-05) kills the connector after the CA issued and before the journal or the server know of it.
func TestCN05KilledMidJob(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	w, kill := h.worker(t, h.dir)
	w.CAs = shelf{"softca": dyingCA{w.CAs.(shelf)["softca"]}}
	h.server.Put(t, "1", "1", link.JobIssue, p)
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if jobErr := h.server.Answer(t, "1", nil); jobErr == nil || jobErr.Final {
		t.Fatalf("got %+v", jobErr)
	}
	kill()
	answer, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	if n := h.issued(t); n != 1 {
		t.Errorf("the CA issued %d certificates for one intent", n)
	}
	if _, err := h.open(t, answer.Record); err != nil {
		t.Errorf("the key does not belong to the certificate: %v", err)
	}
}

func (h *house) issued(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "softca.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(data, []byte(`"key":"issued/`))
}

func (h *house) open(t *testing.T, r escrow.Record) (escrow.Secret, error) {
	t.Helper()
	k, err := keyring.Open(h.dir, h.options)
	if err != nil {
		t.Fatal(err)
	}
	return k.OpenRecord(r)
}

// CN-07: told to revoke, the connector answers with the time; told again, with the same.
func TestCN07Revoke(t *testing.T) {
	h := newHouse(t)
	issued, jobErr := do[link.IssueAnswer](t, h, "i", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	p := link.RevokeJob{CA: "softca", Certificate: issued.Certificate, ReasonCode: 5, At: testNow.Add(-time.Minute)}
	first, jobErr := do[link.RevokeAnswer](t, h, "1", link.JobRevoke, p)
	if jobErr != nil || !first.RevokedAt.Equal(p.At) {
		t.Errorf("got %+v, %+v", first, jobErr)
	}
	p.At = testNow
	if again, jobErr := do[link.RevokeAnswer](t, h, "2", link.JobRevoke, p); jobErr != nil || !again.RevokedAt.Equal(first.RevokedAt) {
		t.Errorf("repeated: %+v, %+v", again, jobErr)
	}
	p.Certificate = h.device(t, "e1", "u1").Raw
	if _, jobErr := do[link.RevokeAnswer](t, h, "3", link.JobRevoke, p); jobErr == nil || !jobErr.Final {
		t.Errorf("softca revoked a device certificate: %+v", jobErr)
	}
}

// TestCN02TwoConnectors (CN-02, and CN-13 for the key that goes from one to the other): the second is approved, gets re-wrapped records, and does the first one's work.
func TestCN02TwoConnectors(t *testing.T) {
	h := newHouse(t)
	device := h.device(t, "e1", "u1")
	record, cert := h.imported(t, "u1")
	issued, jobErr := do[link.IssueAnswer](t, h, "i", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	dir := filepath.Join(t.TempDir(), "second")
	second := h.init(t, dir)
	h.approve(t, second.Member)
	wrapped, jobErr := do[link.RewrapAnswer](t, h, "w1", link.JobRewrap, link.RewrapJob{Record: record})
	if jobErr != nil || !wrapped.Record.SealedTo(second.Member) || !wrapped.Record.SealedTo(h.recoveryID(t)) {
		t.Fatalf("rewrap: %+v", jobErr)
	}
	made, jobErr := do[link.RewrapAnswer](t, h, "w2", link.JobRewrap, link.RewrapJob{Record: issued.Record})
	if jobErr != nil || !made.Record.SealedTo(second.Member) || made.Record.SealedTo(h.recoveryID(t)) {
		t.Fatalf("rewrap of a key that the connector made: %+v", jobErr)
	}
	w, kill := h.worker(t, dir)
	defer kill()
	h.server.Put(t, "r", "r", link.JobRender, renderJob(history(t, cert), device.Raw, wrapped.Record))
	h.server.Put(t, "old", "old", link.JobRender, renderJob(history(t, cert), device.Raw, record))
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var answer link.RenderAnswer
	if jobErr := h.server.Answer(t, "r", &answer); jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	if keys := openProfile(t, answer.Payload, device); !mailKey().Equal(keys[0]) {
		t.Error("the second connector delivered another key")
	}
	if jobErr := h.server.Answer(t, "old", nil); jobErr == nil || jobErr.Final {
		t.Errorf("a record that is not sealed to the second connector: %+v, want an error that may pass", jobErr)
	}
}

func (h *house) approve(t *testing.T, member string) {
	t.Helper()
	k, err := keyring.Open(h.dir, h.options)
	if err != nil {
		t.Fatal(err)
	}
	client, err := setup.Client(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (setup.Syncer{Keyring: k, Client: client}).Approve(t.Context(), member); err != nil {
		t.Fatal(err)
	}
}

func TestRewrapOnlyUnderTheRoot(t *testing.T) {
	h := newHouse(t)
	record, _ := h.imported(t, "u1")
	evil, err := escrow.GenerateKey(rand.Reader, escrow.SuiteHybrid)
	if err != nil {
		t.Fatal(err)
	}
	good := *h.server.KeySet
	forged := good
	forged.KeySet, _ = json.Marshal(escrow.KeySet{Serial: 7, Members: []escrow.Member{evil.Member(escrow.MemberConnector, "evil")}})
	w, kill := h.worker(t, h.dir)
	defer kill()
	h.server.KeySet = &forged
	h.server.Put(t, "w", "w", link.JobRewrap, link.RewrapJob{Record: record})
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var answer link.RewrapAnswer
	if jobErr := h.server.Answer(t, "w", &answer); jobErr == nil || len(answer.Record.Wraps) != 0 {
		t.Errorf("got %+v", jobErr)
	}
}

func TestUnknownAndBrokenJobs(t *testing.T) {
	h := newHouse(t)
	for name, kind := range map[string]link.JobKind{"strange": "selfdestruct", "list": link.JobRender} {
		if _, jobErr := do[any](t, h, name, kind, []int{1}); jobErr == nil || !jobErr.Final {
			t.Errorf("%s: %+v", name, jobErr)
		}
	}
}

// TestNoKeyOutside looks for private keys in everything that left the keyring, and in its journals.
func TestNoKeyOutside(t *testing.T) {
	h := newHouse(t)
	device := h.device(t, "e1", "u1")
	record, cert := h.imported(t, "u1")
	if _, jobErr := do[link.RenderAnswer](t, h, "r", link.JobRender, renderJob(history(t, cert), device.Raw, record)); jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	issued, jobErr := do[link.IssueAnswer](t, h, "i", link.JobIssue, issueJob(t, "intent-0000000000000001", "e1"))
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	secret, err := h.open(t, issued.Record)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParsePKCS8PrivateKey(secret.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	haystack := bytes.Clone(h.server.Seen.Bytes())
	for _, name := range []string{"jobs.jsonl", "softca.jsonl", "audit.jsonl", "keyring.json", "keyset.json"} {
		data, err := os.ReadFile(filepath.Join(h.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		haystack = append(haystack, data...)
	}
	keys := []*rsa.PrivateKey{mailKey(), made.(*rsa.PrivateKey), h.caKey(t, "softca"), h.caKey(t, "device-ca")}
	for i, key := range keys {
		if found := leak(haystack, key); found != "" {
			t.Errorf("key %d is outside the keyring as %s", i, found)
		}
		der, _ := x509.MarshalPKCS8PrivateKey(key)
		if leak(append(haystack, base64.StdEncoding.EncodeToString(der)...), key) == "" {
			t.Errorf("key %d: a planted leak was not found", i)
		}
	}
}

func (h *house) caKey(t *testing.T, name string) *rsa.PrivateKey {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// leak looks for a prime of the key, raw, in hex, and in base64 at each of its three alignments.
func leak(haystack []byte, key *rsa.PrivateKey) string {
	for _, prime := range key.Primes {
		raw := prime.Bytes()
		if bytes.Contains(haystack, raw) {
			return "raw bytes"
		}
		if bytes.Contains(bytes.ToLower(haystack), []byte(hex.EncodeToString(raw))) {
			return "hex"
		}
		for shift := range 3 {
			whole := raw[shift : shift+(len(raw)-shift)/3*3]
			if bytes.Contains(haystack, []byte(base64.StdEncoding.EncodeToString(whole))) {
				return "base64"
			}
		}
	}
	return ""
}

// flaky fails a number of times.
type flaky struct {
	Server
	claims, results int
}

func (f *flaky) Claim(ctx context.Context, r link.ClaimRequest) ([]link.Job, error) {
	if f.claims--; f.claims >= 0 {
		return nil, errors.New("connection refused")
	}
	return f.Server.Claim(ctx, r)
}

func (f *flaky) Result(ctx context.Context, id string, r link.Result) error {
	if f.results--; f.results >= 0 {
		return &link.StatusError{Status: 503}
	}
	return f.Server.Result(ctx, id, r)
}

func TestServerThatComesAndGoes(t *testing.T) {
	h := newHouse(t)
	w, kill := h.worker(t, h.dir)
	defer kill()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var pauses []time.Duration
	w.Once = false
	w.Server = &flaky{Server: w.Server, claims: 8, results: 3}
	w.Sleep = func(ctx context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		if len(pauses) == 12 {
			stop()
		}
		return ctx.Err()
	}
	h.server.Put(t, "d", "d", link.JobIdentity, link.IdentityJob{CSR: csr(t, deviceKey()), EnrolmentID: "e1", UserID: "u1"})
	h.server.Fail = func(path string) (int, bool) {
		if strings.HasSuffix(path, "/claim") && len(h.server.Jobs) == 0 {
			return 503, false // ends the test: the twelfth pause
		}
		return 0, false
	}
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if jobErr := h.server.Answer(t, "d", nil); jobErr != nil {
		t.Error(jobErr.Message)
	}
	for i, want := range []time.Duration{500, 1000, 2000, 4000, 8000, 16000, 30000, 30000} {
		if most := want * time.Millisecond; pauses[i] > most || pauses[i] < most/2 {
			t.Errorf("pause %d is %s, want half of %s or more", i, pauses[i], most)
		}
	}
}
