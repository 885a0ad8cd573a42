package connectorapi_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/web"
)

// status asserts that err is an answer of that status whose text holds the words.
func status(t *testing.T, err error, want int, words ...string) {
	t.Helper()
	var s *link.StatusError
	if !errors.As(err, &s) || s.Status != want {
		t.Fatalf("got %v, want status %d", err, want)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q lacks %q", err, w)
		}
	}
}

func TestRegister(t *testing.T) {
	b := newBench(t)
	b.register(t)
	c, err := b.store.ConnectorByID(t.Context(), b.ConnectorID)
	if err != nil || c.State != model.ConnectorTrusted || strings.Contains(c.CredentialHash, b.Credential) || len(c.CredentialHash) != 64 {
		t.Errorf("%+v, %v", c, err)
	}
	for hash := range b.store.tokens {
		if len(hash) != 64 {
			t.Errorf("a token is kept as %q", hash)
		}
	}
}

func TestRegisterAgainReplacesTheCredential(t *testing.T) {
	b := newBench(t)
	token, _, err := b.service.CreateToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := link.RegisterRequest{Token: token, Name: "c1", Member: b.member()}
	first, err := b.Register(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.Register(t.Context(), in)
	if err != nil || second.ConnectorID != first.ConnectorID || second.Credential == first.Credential {
		t.Fatalf("%v %v, %v", first, second, err)
	}
	b.ConnectorID, b.Credential = first.ConnectorID, first.Credential
	_, _, err = b.KeySet(t.Context())
	status(t, err, 401)
}

func TestRegisterRefuses(t *testing.T) {
	b := newBench(t)
	b.register(t)
	other, err := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	if err != nil {
		t.Fatal(err)
	}
	member := other.Member(escrow.MemberConnector, "c2")
	fresh, _, err := b.service.CreateToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	old := link.RegisterRequest{Token: fresh, Name: "c2", Member: member}
	cases := []struct {
		name   string
		change func(*link.RegisterRequest)
		status int
		word   string
	}{
		{"no token", func(r *link.RegisterRequest) { r.Token = "" }, 422, "token"},
		{"invented token", func(r *link.RegisterRequest) { r.Token = "invented" }, 403, "not known"},
		{"no name", func(r *link.RegisterRequest) { r.Name = "" }, 422, "name"},
		{"name with a newline", func(r *link.RegisterRequest) { r.Name = "a\nb" }, 422, "name"},
		{"member of a wrong id", func(r *link.RegisterRequest) { r.Member.ID = strings.Repeat("0", 64) }, 422, "member"},
		{"recovery key", func(r *link.RegisterRequest) { r.Member = other.Member(escrow.MemberRecovery, "r") }, 422, "member"},
		{"short root", func(r *link.RegisterRequest) { r.EscrowRoot = []byte{1} }, 422, "escrowRoot"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			in := old
			tc.change(&in)
			_, err := b.Register(t.Context(), in)
			status(t, err, tc.status, tc.word)
		})
	}
	out, err := b.Register(t.Context(), old)
	if err != nil || !out.Pending {
		t.Fatalf("a further connector: %+v, %v", out, err)
	}
	third, _ := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	old.Member = third.Member(escrow.MemberConnector, "c3")
	_, err = b.Register(t.Context(), old)
	status(t, err, 403, "already used")
}

func TestCredential(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	good := b.Credential
	for _, bad := range []string{"", "x", good + "x", good[1:]} {
		b.Credential = bad
		_, _, err := b.KeySet(t.Context())
		status(t, err, 401)
	}
	b.Credential = good
	if _, found, err := b.KeySet(t.Context()); err != nil || !found {
		t.Errorf("key set: %t, %v", found, err)
	}
}

func TestPendingConnectorMayNothing(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	trusted := *b.Client
	token, _, err := b.service.CreateToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, _ := escrow.GenerateKey(rand.Reader, escrow.SuiteP256)
	out, err := b.Register(t.Context(), link.RegisterRequest{Token: token, Name: "c2", Member: key.Member(escrow.MemberConnector, "c2")})
	if err != nil {
		t.Fatal(err)
	}
	b.ConnectorID, b.Credential = out.ConnectorID, out.Credential
	_, err = b.Claim(t.Context(), link.ClaimRequest{Max: 1})
	status(t, err, 403, "approve "+key.ID())
	_, err = b.Pending(t.Context())
	status(t, err, 403)
	published, err := b.Publish(t.Context(), link.PublishRequest{DeviceCA: []byte("anything")})
	if err != nil || len(published.SealedCAs) != 0 || len(published.RACSR) != 0 {
		t.Errorf("%+v, %v", published, err)
	}
	waiting, err := trusted.Pending(t.Context())
	if err != nil || len(waiting) != 1 || waiting[0].Member.ID != key.ID() {
		t.Errorf("pending %+v, %v", waiting, err)
	}
	offer := b.offer(t)
	offer.SealedCAs = map[string][]byte{out.ConnectorID: []byte("sealed")}
	if _, err := trusted.Publish(t.Context(), offer); err != nil {
		t.Fatal(err)
	}
	published, err = b.Publish(t.Context(), link.PublishRequest{})
	if err != nil || string(published.SealedCAs) != "sealed" {
		t.Errorf("%+v, %v", published, err)
	}
}

func TestPublishAsksForTheRACertificate(t *testing.T) {
	b := newBench(t)
	b.register(t)
	out, err := b.Publish(t.Context(), b.offer(t))
	if err != nil || out.PKIURL != "http://pki.test" {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(out.RACSR)
	if err != nil || csr.CheckSignature() != nil {
		t.Fatalf("request: %v", err)
	}
	offer := b.offer(t)
	offer.RACertificate = b.deviceCA.IssueCSR(t, csr, testpki.Options{CN: "RA"}).Raw
	out, err = b.Publish(t.Context(), offer)
	if err != nil || len(out.RACSR) != 0 {
		t.Errorf("it is asked for again: %v", err)
	}
	if b.stored == 0 {
		t.Error("nobody was told")
	}
}

func TestPublishRefuses(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	foreign := testpki.NewCA(t, "Foreign CA")
	otherKey := b.deviceCA.Issue(t, testpki.Options{CN: "RA", Key: testpki.PoolKey(t, 3)})
	soon := b.deviceCA.Issue(t, testpki.Options{CN: "RA", Key: b.ra.Key, NotAfter: testpki.Now().Add(time.Hour)})
	strange := newBench(t)
	cases := []struct {
		name   string
		change func(*link.PublishRequest)
		word   string
	}{
		{"another device CA", func(p *link.PublishRequest) { p.DeviceCA = foreign.Cert.Raw }, "another device CA"},
		{"a CA that is none", func(p *link.PublishRequest) { p.CAs[0].Certificate = otherKey.Cert.Raw }, "is no CA"},
		{"a CA without a name", func(p *link.PublishRequest) { p.CAs[0].Name = "" }, "name"},
		{"garbage", func(p *link.PublishRequest) { p.CAs[0].Certificate = []byte("x") }, "softca"},
		{"RA of another key", func(p *link.PublishRequest) { p.RACertificate = otherKey.Cert.Raw }, "another key"},
		{"RA of another CA", func(p *link.PublishRequest) {
			p.RACertificate = foreign.Issue(t, testpki.Options{CN: "RA", Key: b.ra.Key}).Cert.Raw
		}, "not issued by the device CA"},
		{"RA that ends soon", func(p *link.PublishRequest) { p.RACertificate = soon.Cert.Raw }, "ends on"},
		{"key set of another root", func(p *link.PublishRequest) { p.KeySet = strange.keySetOf(t, 2, b.member()) }, "escrow root"},
		{"tampered key set", func(p *link.PublishRequest) { p.KeySet.Signature[0] ^= 1 }, "signature"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			offer := b.offer(t)
			tc.change(&offer)
			_, err := b.Publish(t.Context(), offer)
			status(t, err, 409, tc.word)
		})
	}
	b.store.conflict = true
	_, err := b.Publish(t.Context(), b.offer(t))
	status(t, err, 409)
	refused := 0
	for _, e := range b.store.audit {
		if e.Action == "connector.publish" && e.Outcome == "refused" {
			refused++
		}
	}
	if refused != len(cases)+1 {
		t.Errorf("%d refusals audited", refused)
	}
}

// CN-01: the connector asks; what comes meanwhile is handed out at once.
func TestCN01ClaimWaitsForANotice(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	type result struct {
		jobs []link.Job
		err  error
	}
	got := make(chan result, 1)
	go func() {
		jobs, err := b.Claim(context.Background(), link.ClaimRequest{Max: 5, WaitSeconds: 25})
		got <- result{jobs, err}
	}()
	b.store.mu.Lock()
	b.store.jobs["j"] = model.Job{ID: "j", Kind: link.JobRevoke, State: model.JobOpen, Payload: []byte(`{}`)}
	b.store.mu.Unlock()
	b.service.Notify() // no clock ticks here: without this notice the poll would wait for ever
	r := <-got
	if r.err != nil || len(r.jobs) != 1 || r.jobs[0].Attempt != 1 || !r.jobs[0].LeaseUntil.Equal(testpki.Now().Add(time.Minute)) {
		t.Errorf("%+v", r)
	}
}

func TestClaimSeesJobsOfOtherNodesAndEndsEmpty(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	polls := 0
	b.after = func(d time.Duration) <-chan time.Time {
		c := make(chan time.Time, 1)
		if d < time.Second { // the poll for other nodes' jobs
			if polls++; polls <= 3 {
				c <- time.Time{}
			}
		} else if b.ends {
			c <- time.Time{}
		}
		return c
	}
	b.store.onClaim = func(n int) bool { return n == 3 } // another node stores a job before the third look
	jobs, err := b.Claim(t.Context(), link.ClaimRequest{Max: 1, WaitSeconds: 25})
	if err != nil || len(jobs) != 1 {
		t.Errorf("%+v, %v", jobs, err)
	}
	b.ends = true
	jobs, err = b.Claim(t.Context(), link.ClaimRequest{Max: 1, WaitSeconds: 25})
	if err != nil || len(jobs) != 0 {
		t.Errorf("%+v, %v", jobs, err)
	}
}

func TestStopEndsLongPolls(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	done := make(chan error, 1)
	go func() {
		_, err := b.Claim(context.Background(), link.ClaimRequest{Max: 1, WaitSeconds: 25})
		done <- err
	}()
	b.service.Stop()
	b.service.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGarbage(t *testing.T) {
	b := newBench(t)
	b.ready(t)
	bodies := map[string]int{"": 400, "{": 400, "null null": 400, `{"surprise":1}`: 400, "\x00\xff": 400, `{"max":"` + strings.Repeat("9", web.MaxAdmin) + `"}`: 413}
	for _, path := range []string{"register", "publish", "claim", "jobs/none/result", "status"} {
		for body, want := range bodies {
			req, _ := http.NewRequest(http.MethodPost, b.url+"/connector/v1/"+path, strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+b.ConnectorID+"."+b.Credential)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s with %.20q: %d %s", path, body, resp.StatusCode, answer)
			}
		}
	}
}
