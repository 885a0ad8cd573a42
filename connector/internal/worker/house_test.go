package worker

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/softca"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/linktest"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
)

var testNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// testKeys are made once: RSA keys are slow to make.
var testKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	var keys []*rsa.PrivateKey
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys = append(keys, key)
	}
	return keys
})

// The uses of testKeys.
func deviceKey() *rsa.PrivateKey  { return testKeys()[0] }
func mailKey() *rsa.PrivateKey    { return testKeys()[1] }
func foreignKey() *rsa.PrivateKey { return testKeys()[2] }

// house is a fake server with one connector.
type house struct {
	server   *linktest.Server
	dir      string
	recovery string
	options  keyring.Options
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{server: linktest.New(t), dir: filepath.Join(t.TempDir(), "keyring"), recovery: filepath.Join(t.TempDir(), "recovery"),
		options: keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}}
	h.init(t, h.dir)
	return h
}

func (h *house) init(t *testing.T, dir string) setup.Outcome {
	t.Helper()
	i := setup.Init{Dir: dir, Server: h.server.URL, Name: filepath.Base(dir), Options: h.options, Token: func() (string, error) { return "token-1", nil }}
	if dir == h.dir { // the first one
		i.RecoveryOut = h.recovery
	}
	out, err := i.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// shelf has the CAs of a test.
type shelf map[string]CA

func (s shelf) Named(name string) (CA, error) {
	if c, ok := s[name]; ok {
		return c, nil
	}
	return nil, ca.ErrUnknown
}

// worker opens the keyring in dir as a start of the connector does. Its journals are closed with the test, or by the
// function given back, as when the process dies.
func (h *house) worker(t *testing.T, dir string) (*Worker, func()) {
	t.Helper()
	k, err := keyring.Open(dir, h.options)
	if err != nil {
		t.Fatal(err)
	}
	client, err := setup.Client(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	syncer := setup.Syncer{Keyring: k, Client: client}
	if err := syncer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs, issued := openJournal(t, k.Path(keyring.FileJobs)), openJournal(t, k.Path(keyring.FileSoftCA))
	soft := softca.New(k, issued)
	return &Worker{Keyring: k, Journal: jobs, CAs: shelf{softca.Name: soft}, Server: client, Sync: syncer.Sync,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Clock: h.options.Clock, Rand: rand.Reader, Once: true,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}, func() { _ = jobs.Close(); _ = issued.Close() }
}

func openJournal(t *testing.T, path string) *journal.Journal {
	t.Helper()
	j, err := journal.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// work lets a fresh start of the connector do what is queued.
func (h *house) work(t *testing.T) {
	t.Helper()
	w, kill := h.worker(t, h.dir)
	defer kill()
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// do queues one job, has it done and gives its answer.
func do[A any](t *testing.T, h *house, id string, kind link.JobKind, payload any) (A, *link.JobError) {
	t.Helper()
	var answer A
	h.server.Put(t, id, id, kind, payload)
	h.work(t)
	return answer, h.server.Answer(t, id, &answer)
}

func csr(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "root@evil"},
		EmailAddresses: []string{"ceo@corp.test"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// device gets a device certificate for deviceKey.
func (h *house) device(t *testing.T, enrolment, user string) *x509.Certificate {
	t.Helper()
	p := link.IdentityJob{CSR: csr(t, deviceKey()), EnrolmentID: enrolment, UserID: user, Platform: "ios"}
	answer, jobErr := do[link.IdentityAnswer](t, h, "identity-"+enrolment, link.JobIdentity, p)
	if jobErr != nil {
		t.Fatal(jobErr.Message)
	}
	return parse(t, answer.Certificate)
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// imported makes an escrow record of mailKey, as waxctl would.
func (h *house) imported(t *testing.T, user string) (escrow.Record, profiles.Certificate) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Alice, 2018"},
		NotBefore: testNow.AddDate(-8, 0, 0), NotAfter: testNow.AddDate(-6, 0, 0), EmailAddresses: []string{"alice@corp.test"},
		KeyUsage: x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, template, template, mailKey().Public(), mailKey())
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(mailKey())
	if err != nil {
		t.Fatal(err)
	}
	set, err := h.server.KeySet.Verify(h.pin(t), 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := escrow.NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := escrow.Secret{PrivateKey: pkcs8, Chain: [][]byte{der}}
	r, err := escrow.Seal(rand.Reader, id, link.UserURN(user), hash(der), secret, set.Members)
	if err != nil {
		t.Fatal(err)
	}
	return r, profiles.Certificate{SHA256: hash(der), SHA1: strings.Repeat("0", 40), DER: der, Addresses: []string{"alice@corp.test"},
		NotBefore: template.NotBefore, NotAfter: template.NotAfter, Purpose: profiles.PurposeSMIMEEncryption, RecordID: id}
}

func (h *house) pin(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "escrow-root"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// history is the document that brings imported certificates to an iPhone.
func history(t *testing.T, certs ...profiles.Certificate) platforms.Document {
	t.Helper()
	docs := apple.Plan(platforms.Input{Namespace: "io.waxseal.test", UserID: "u1", UPN: "alice@corp.test", Now: testNow,
		Device:   platforms.Device{ID: "d1", Platform: profiles.IOS, OSVersion: "18.1"},
		User:     profiles.User{DisplayName: "Alice", Addresses: []string{"alice@corp.test"}},
		Imported: certs,
		Profiles: []profiles.Object{{APIVersion: profiles.APIVersion, Kind: profiles.KindPKCSImportedCertificate, Name: "history",
			Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}}},
	})
	for _, d := range docs {
		if d.HasSecrets() && d.Reason == "" {
			return d
		}
	}
	t.Fatalf("no document with secrets among %+v", docs)
	return platforms.Document{}
}

func renderJob(doc platforms.Document, recipient []byte, records ...escrow.Record) link.RenderJob {
	return link.RenderJob{Document: doc, Platform: profiles.IOS, OSVersion: "18.1", Recipient: recipient, Records: records}
}

func issueJob(t *testing.T, intent, enrolment string) link.IssueJob {
	t.Helper()
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Alice Example"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	return link.IssueJob{IntentID: intent, EnrolmentID: enrolment, DeviceID: "d1", UserID: "u1", Profile: "mail-signing", Subject: subject,
		Request: profiles.CertificateRequest{CertificateAuthority: softca.Name, Template: softca.Template, Validity: profiles.Duration(100 * 24 * time.Hour)},
		SANs:    []profiles.SubjectAlternativeName{{Type: profiles.SANEmail, Value: "Alice@corp.test"}}}
}

// dyingCA issues, and the process dies before anybody hears of it.
type dyingCA struct{ CA }

func (c dyingCA) Issue(ctx context.Context, in ca.Intent) ([][]byte, error) {
	if _, err := c.CA.Issue(ctx, in); err != nil {
		return nil, err
	}
	panic("killed")
}
