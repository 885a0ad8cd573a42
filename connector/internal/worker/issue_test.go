package worker

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/profiles"
)

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

// TestIssueAfterAnEdit: when to renew and to revoke may change while the job is under way; another name may not.
func TestIssueAfterAnEdit(t *testing.T) {
	h := newHouse(t)
	p := issueJob(t, "intent-0000000000000001", "e1")
	first := h.lose(t, "1", p)
	p.Request.RenewalThresholdPercentage, p.Request.RevokeOn = 35, []profiles.Event{profiles.EventWipe}
	again, jobErr := do[link.IssueAnswer](t, h, "2", link.JobIssue, p)
	if jobErr != nil || !bytes.Equal(first.Certificate, again.Certificate) {
		t.Errorf("%+v", jobErr)
	}
	p.Request.Template = "another"
	if _, jobErr := do[link.IssueAnswer](t, h, "3", link.JobIssue, p); jobErr == nil || !strings.Contains(jobErr.Message, "another request") {
		t.Errorf("another template: %+v", jobErr)
	}
}
