package worker

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/connector/internal/setup"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
)

func (h *house) audit(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.dir, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
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
