package windowsmdm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/mde"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/identity"
	"github.com/waxseal/waxseal/server/internal/identity/identitytest"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
	"github.com/waxseal/waxseal/server/internal/windowsmdm"
)

const (
	upn      = "alice@example.com"
	baseURL  = "https://mdm.example.com"
	deviceID = "5F1E7C3A-0B6D-4C1E-9A55-3C0D2F6E8B11"
	hardware = "6A9C4D2E8F10B3577A1C0E5D4B2F9A866A9C4D2E8F10B3577A1C0E5D4B2F9A86"
)

// rig is the endpoint with fakes around it. Its connector certifies at once, unless idle.
type rig struct {
	*identitytest.Store
	svc     *identity.Service
	ca      *testpki.CA
	noTrust bool
	idle    bool
	router  *web.Router
	now     time.Time
	logs    *bytes.Buffer
	links   map[string]model.Link
	waiting map[string]model.Job // by challenge hash
	serial  int64
}

func newRig(t *testing.T, edit ...func(*windowsmdm.Config)) *rig {
	t.Helper()
	r := &rig{Store: identitytest.New(), ca: testpki.NewCA(t, "device CA"), now: testpki.Now(), logs: &bytes.Buffer{},
		links: map[string]model.Link{}, waiting: map[string]model.Job{}}
	clock := func() time.Time { return r.now }
	logger := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	users := identitytest.Users{"u1": {ID: "u1", UPN: upn}, "u2": {ID: "u2", UPN: "bob@example.com"}}
	r.svc = identity.New(identity.Config{Store: r, Jobs: r, Users: users, Clock: clock})
	authority := identity.NewAuthority(func(context.Context) ([]byte, []byte, error) {
		if r.noTrust {
			return nil, nil, nil
		}
		return r.ca.Cert.Raw, r.ca.Cert.Raw, nil
	})
	cfg := windowsmdm.Config{Identity: r.svc, Authority: authority, Users: users, Refusals: web.NewRefusals(r, logger, clock),
		URL: func() string { return baseURL }, Provision: r.provision, Wait: time.Nanosecond, Organization: "Contoso <GmbH>",
		Clock: clock, Logger: logger}
	for _, e := range edit {
		e(&cfg)
	}
	r.router = web.New(web.Config{Logger: logger, Clock: clock, Burst: 100_000})
	windowsmdm.New(cfg).Routes(r.router)
	return r
}

func federated(c *windowsmdm.Config) { c.AuthPolicy = mde.AuthFederated }

func (r *rig) provision(_ context.Context, _ model.Enrolment, certificate []byte, store string, user model.User) (mde.ProvisioningDocument, error) {
	return mde.ProvisioningDocument{Roots: [][]byte{r.ca.Cert.Raw}, Client: certificate, Store: store, ProviderID: "Waxseal",
		Name: "Contoso", Address: baseURL + "/ManagementServer/MDM.svc", UPN: user.UPN, ClientSecret: "c", ServerName: "n", ServerSecret: "s",
		ClientNonce: []byte{1}, ServerNonce: []byte{2}, Renew: &mde.Renewal{Period: 60, Retry: 4, ROBO: true}}, nil
}

// Redeem is the store's, with the connector's work after it.
func (r *rig) Redeem(ctx context.Context, hash, key string, job model.Job, now time.Time) (model.Challenge, error) {
	before := r.jobs(ctx, hash)
	c, err := r.Store.Redeem(ctx, hash, key, job, now)
	r.created(before, c, job, err)
	return c, err
}

// Renew is the store's, with the connector's work after it.
func (r *rig) Renew(ctx context.Context, c model.Challenge, job model.Job) (model.Challenge, error) {
	before := r.jobs(ctx, c.Hash)
	c, err := r.Store.Renew(ctx, c, job)
	r.created(before, c, job, err)
	return c, err
}

func (r *rig) jobs(ctx context.Context, hash string) string {
	c, _ := r.ChallengeByHash(ctx, hash) // none yet: no job
	return c.JobID
}

func (r *rig) created(before string, c model.Challenge, job model.Job, err error) {
	if err != nil || before == c.JobID {
		return
	}
	r.waiting[c.Hash] = job
	if !r.idle {
		r.work()
	}
}

// work answers every waiting job as a connector and its endpoint would.
func (r *rig) work() {
	for hash, job := range r.waiting {
		if err := r.certify(hash, job); err != nil {
			panic(err)
		}
		delete(r.waiting, hash)
	}
}

func (r *rig) certify(hash string, job model.Job) error {
	ctx := context.Background()
	c, err := r.ChallengeByHash(ctx, hash)
	if err != nil {
		return err
	}
	cert, err := r.issue(job)
	if err != nil {
		return err
	}
	c.Certificate, c.Chain = cert, [][]byte{r.ca.Cert.Raw}
	if err := r.CreateChallenge(ctx, c); err != nil {
		return err
	}
	sum := sha256.Sum256(cert)
	if c.LinkID == "" {
		e := r.Enrolment(c.EnrolmentID)
		e.NextCertificate, e.NextCertSHA256 = cert, hex.EncodeToString(sum[:])
		r.PutEnrolment(e)
		return nil
	}
	r.PutEnrolment(model.Enrolment{ID: c.EnrolmentID, UserID: c.UserID, Platform: c.Platform, Channel: "device",
		State: model.EnrolmentIssued, Certificate: cert, CertSHA256: hex.EncodeToString(sum[:])})
	l := r.links[c.LinkID]
	l.SpentAt = r.now
	return r.CreateLink(ctx, l, model.AuditEntry{Action: "link.spent", Outcome: "ok"})
}

// issue makes a certificate with the subject and the life that the device CA gives.
func (r *rig) issue(job model.Job) ([]byte, error) {
	var order link.IdentityJob
	if err := json.Unmarshal(job.Payload, &order); err != nil {
		return nil, err
	}
	csr, err := mde.ParseCSR(order.CSR)
	if err != nil {
		return nil, err
	}
	urn, err := url.Parse(link.EnrolmentURN(order.EnrolmentID))
	if err != nil {
		return nil, err
	}
	r.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(r.serial), Subject: pkix.Name{CommonName: order.EnrolmentID}, URIs: []*url.URL{urn},
		NotBefore: r.now.Add(-time.Hour), NotAfter: r.now.AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	return x509.CreateCertificate(rand.Reader, template, r.ca.Cert, csr.PublicKey, r.ca.Key)
}

// secret makes an enrolment secret of Alice's.
func (r *rig) secret(t *testing.T) string {
	t.Helper()
	return r.link(t, profiles.Windows)
}

func (r *rig) link(t *testing.T, platform profiles.Platform) string {
	t.Helper()
	secret, err := r.svc.CreateLink(t.Context(), model.User{ID: "u1", UPN: upn}, platform, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.svc.Link(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	r.links[l.ID] = l
	return secret
}

// token signs Alice in on the page's behalf.
func (r *rig) token(t *testing.T) string {
	t.Helper()
	token, _, err := r.svc.Profile(t.Context(), r.secret(t))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (r *rig) do(method, target, kind string, body []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, target, bytes.NewReader(body))
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	w := httptest.NewRecorder()
	r.router.ServeHTTP(w, req)
	return w
}

func (r *rig) post(path, body string) *httptest.ResponseRecorder {
	return r.do(http.MethodPost, path, mde.ContentType, []byte(body))
}

func (r *rig) form(values url.Values) *httptest.ResponseRecorder {
	return r.do(http.MethodPost, windowsmdm.AuthPath, "application/x-www-form-urlencoded", []byte(values.Encode()))
}
