package ledger

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

// upstream is a CA of others in memory.
type upstream struct {
	t       *testing.T
	ca      *testpki.CA
	enrols  int
	handles [][]byte
	revoked []string
	fail    error                    // of the next Enroll
	lose    bool                     // the next answer
	change  func(o *testpki.Options) // what it issues instead
	noWord  bool                     // for revocations
}

func (u *upstream) Enroll(_ context.Context, q Question) ([][]byte, error) {
	u.enrols++
	u.handles = append(u.handles, q.Handle)
	if u.fail != nil {
		return nil, u.fail
	}
	if err := q.Note([]byte("order 7")); err != nil {
		return nil, err
	}
	if u.lose {
		u.lose = false
		return nil, errors.New("connection reset")
	}
	der, err := ca.Request(q.Intent, "")
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	o := testpki.Options{CN: "Alice Example", Emails: csr.EmailAddresses}
	if u.change != nil {
		u.change(&o)
	}
	if o.Key != nil {
		return [][]byte{u.ca.Issue(u.t, o).Cert.Raw}, nil
	}
	return [][]byte{u.ca.IssueCSR(u.t, csr, o).Raw}, nil
}

func (u *upstream) Revoke(_ context.Context, leaf *x509.Certificate, reason int) error {
	if u.noWord {
		return ca.ErrCannotRevoke
	}
	u.revoked = append(u.revoked, leaf.SerialNumber.String())
	return nil
}

func (u *upstream) Test(context.Context) []link.CAFinding { return nil }

type rig struct {
	up     *upstream
	path   string
	events []keyring.Event
}

func newRig(t *testing.T) *rig {
	return &rig{up: &upstream{t: t, ca: testpki.NewCA(t, "Corp Issuing CA")}, path: filepath.Join(t.TempDir(), "ca.jsonl")}
}

// open opens the ledger on its state, as a restarted connector does.
func (r *rig) open(t *testing.T) *CA {
	t.Helper()
	j, err := journal.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	issuers := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.up.ca.Cert.Raw}))
	audit := func(e ...keyring.Event) error { r.events = append(r.events, e...); return nil }
	c, err := New(ca.Settings{Name: "corp", Kind: "test", URL: "https://ca.corp.test", Issuers: issuers, Templates: []string{"mail"}}, r.up, j, audit, testpki.Now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConformance(t *testing.T) {
	for name, cannotRevoke := range map[string]bool{"revokes": false, "cannot revoke": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.up.noWord = cannotRevoke
			traits := catest.Traits{CannotRevoke: cannotRevoke, OwnValidity: true}
			catest.RunWith(t, testpki.Now(), traits, func(t *testing.T) catest.CA { return r.open(t) })
		})
	}
}

func intent(t *testing.T, id string) ca.Intent {
	return catest.Intent(t, id, testpki.PoolKey(t, 1))
}

// TestLostAnswer: the intent is on the disk before the CA is asked, and the handle by which the answer can be fetched
// survives a crash.
func TestLostAnswer(t *testing.T) {
	r := newRig(t)
	r.up.lose = true
	in := intent(t, "lost-answer-000001")
	if _, err := r.open(t).Issue(t.Context(), in); err == nil {
		t.Fatal("a lost answer gave a certificate")
	}
	if _, err := r.open(t).Issue(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if len(r.up.handles) != 2 || r.up.handles[0] != nil || string(r.up.handles[1]) != "order 7" {
		t.Errorf("handles %q", r.up.handles)
	}
	if _, err := r.open(t).Issue(t.Context(), in); err != nil || r.up.enrols != 2 {
		t.Errorf("asked %d times, %v: what is issued is not asked for again", r.up.enrols, err)
	}
}

// TestAskedAgainIsWrittenDown: without a handle, a certificate may exist that nobody has.
func TestAskedAgainIsWrittenDown(t *testing.T) {
	r := newRig(t)
	r.up.fail = errors.New("timeout")
	in := intent(t, "asked-again-000001")
	for range 2 {
		if _, err := r.open(t).Issue(t.Context(), in); err == nil {
			t.Fatal("no error")
		}
	}
	if len(r.events) != 1 || r.events[0].Record != in.ID || !strings.Contains(r.events[0].Detail, "asked again") {
		t.Errorf("audit log: %+v", r.events)
	}
}

func TestWhatWasNotAskedFor(t *testing.T) {
	other := testpki.NewCA(t, "Another CA")
	cases := []struct {
		name   string
		change func(u *upstream)
		says   string
	}{
		{"another key", func(u *upstream) {
			u.change = func(o *testpki.Options) { o.Key = testpki.PoolKey(t, 2) }
		}, "another key"},
		{"another name", func(u *upstream) {
			u.change = func(o *testpki.Options) { o.Emails = []string{"boss@corp.test"} }
		}, "without the address Alice.Example@corp.test"},
		{"a name more", func(u *upstream) {
			u.change = func(o *testpki.Options) { o.Emails = append(o.Emails, "boss@corp.test") }
		}, "boss@corp.test, which nobody asked for"},
		{"another issuer", func(u *upstream) { u.ca = other }, "not among the issuers"},
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			c := r.open(t)
			tc.change(r.up)
			in := intent(t, "odd-certificate-00"+string(rune('a'+i)))
			for range 2 { // the second answer is from the journal
				_, err := c.Issue(t.Context(), in)
				var refused *ca.RefusedError
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("got %v, want %q", err, tc.says)
				}
			}
			if r.up.enrols != 1 || len(r.up.revoked) == 0 || r.events[0].Action != keyring.ActionRefuse || r.events[0].Certificate == "" {
				t.Errorf("asked %d times, revoked %v, audit %+v", r.up.enrols, r.up.revoked, r.events)
			}
		})
	}
}

func TestRefusalIsFinalAndPendingIsNot(t *testing.T) {
	r := newRig(t)
	in := intent(t, "pending-0000000001")
	r.up.fail = ca.ErrPending
	if _, err := r.open(t).Issue(t.Context(), in); !errors.Is(err, ca.ErrPending) {
		t.Errorf("got %v", err)
	}
	r.up.fail = nil
	if _, err := r.open(t).Issue(t.Context(), in); err != nil {
		t.Errorf("approved, and then: %v", err)
	}
}
