package softca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

// row is an answer as the server keeps it.
type row struct {
	link.StatusAnswer
	by     string
	change int64
	due    time.Time
}

// fakeServer does what server/internal/store does, for several connectors.
type fakeServer struct {
	rows    map[string]*row // by serial
	files   map[string][]byte
	numbers map[string]int64
	last    int64
	shared  map[string][]byte
	revoked []link.StatusRevocation
	fail    error
	now     func() time.Time
	calls   int
	before  func() // runs before each message has its effect
}

func newFakeServer(now func() time.Time) *fakeServer {
	return &fakeServer{rows: map[string]*row{}, files: map[string][]byte{}, numbers: map[string]int64{}, shared: map[string][]byte{}, now: now}
}

// end is one connector's end of the link.
type end struct {
	*fakeServer
	member string
}

func (e end) Status(_ context.Context, in link.StatusRequest) (out link.StatusResponse, err error) {
	e.calls++
	if e.before != nil {
		before := e.before
		e.before = nil
		before()
	}
	if e.fail != nil {
		return out, e.fail
	}
	if in.Cursor > e.last {
		in.Cursor = 0
	}
	e.storeFiles(in, &out)
	e.learned(in, &out)
	for _, a := range in.Answers {
		if e.files[link.IssuerFile(a.CA)] == nil {
			return out, fmt.Errorf("the certificate of %s has not come yet", a.CA)
		}
		e.last++
		old := e.rows[a.Serial]
		switch {
		case old != nil && old.Revoked && !a.Revoked:
		case old != nil && old.Revoked == a.Revoked:
			old.StatusAnswer, old.due = a, e.now().Add(24*time.Hour)
		default:
			e.rows[a.Serial] = &row{a, e.member, e.last, e.now().Add(24 * time.Hour)}
		}
	}
	if len(in.Answers) > 0 && !out.More {
		out.Cursor = e.last
	}
	e.wanted(in, &out)
	for member, sealed := range in.Shared {
		e.shared[member] = sealed
	}
	out.SealedCAs = e.shared[e.member]
	return out, nil
}

func (e end) storeFiles(in link.StatusRequest, out *link.StatusResponse) {
	for _, r := range e.rows {
		out.Stale = out.Stale || len(in.Files) > 0 && r.Revoked && r.change > in.Cursor
	}
	for _, f := range in.Files {
		number := int64(0)
		if list, err := x509.ParseRevocationList(f.Content); err == nil {
			number = list.Number.Int64()
		}
		if number == 0 || !out.Stale && number > e.numbers[f.Name] {
			e.files[f.Name], e.numbers[f.Name] = f.Content, number
		}
	}
	for _, n := range e.numbers {
		out.CRLNumber = max(out.CRLNumber, n)
	}
}

func (e end) learned(in link.StatusRequest, out *link.StatusResponse) {
	var found []*row
	for _, r := range e.rows {
		if r.change > in.Cursor && (r.by != e.member || r.Revoked) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *row) int { return int(a.change - b.change) })
	out.Cursor = e.last
	if out.More = len(found) > 2; out.More { // small pages
		found, out.Cursor = found[:2], found[1].change
	}
	for _, r := range found {
		out.Learned = append(out.Learned, link.StatusAnswer{StatusHave: r.StatusHave, NotAfter: r.NotAfter, SHA256: r.SHA256})
	}
}

func (e end) wanted(in link.StatusRequest, out *link.StatusResponse) {
	for _, h := range in.Have {
		if r := e.rows[h.Serial]; r == nil || h.Revoked && !r.Revoked {
			out.Lacks = append(out.Lacks, h)
		}
	}
	for _, r := range e.rows {
		if !r.due.After(e.now()) {
			r.due = e.now().Add(10 * time.Minute)
			out.Due = append(out.Due, link.StatusAnswer{StatusHave: r.StatusHave, NotAfter: r.NotAfter, SHA256: r.SHA256})
		}
	}
	if in.Review {
		out.Revoked = e.revoked
	}
}

// world has connectors of one key set, and a server.
type world struct {
	*testing.T
	now    time.Time
	server *fakeServer
}

func newWorld(t *testing.T) *world {
	w := &world{T: t, now: testNow}
	w.server = newFakeServer(func() time.Time { return w.now })
	return w
}

// connector is one with its state on the disk.
type connector struct {
	*Publisher
	w *world
	k *keyring.Keyring
	j *journal.Journal
}

func (w *world) options() keyring.Options {
	return keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return w.now }, CAKeyBits: 2048}
}

func (w *world) first() *connector {
	w.Helper()
	k, err := keyring.Create(filepath.Join(w.TempDir(), "keyring"), keyring.Settings{Name: "first", PKIURL: "http://pki.corp.test"}, nil, w.options())
	w.ok(err)
	root, err := k.MakeRoot()
	w.ok(err)
	w.ok(k.PinRoot(escrow.Fingerprint(root)))
	w.ok(k.MakeAuthorities())
	_, err = k.SignKeySet(escrow.KeySet{Serial: 1, Members: []escrow.Member{k.Member()}})
	w.ok(err)
	return w.open(k)
}

// further is a connector that the first one approved.
func (w *world) further(first *connector) *connector {
	w.Helper()
	k, err := keyring.Create(filepath.Join(w.TempDir(), "keyring"), keyring.Settings{Name: "further", EscrowRoot: first.k.Settings().EscrowRoot, PKIURL: "http://pki.corp.test"}, nil, w.options())
	w.ok(err)
	set, err := first.k.KeySet()
	w.ok(err)
	signed, err := first.k.SignKeySet(escrow.KeySet{Serial: set.Serial + 1, Members: append(set.Members, k.Member())})
	w.ok(err)
	_, err = k.AcceptKeySet(signed)
	w.ok(err)
	sealed, err := first.k.ShareAuthorities(k.Member())
	w.ok(err)
	w.ok(k.ReceiveAuthorities(sealed))
	return w.open(k)
}

func (w *world) open(k *keyring.Keyring) *connector {
	w.Helper()
	j, err := journal.Open(k.Path(keyring.FileSoftCA))
	w.ok(err)
	w.Cleanup(func() { _ = j.Close() })
	p := &Publisher{CA: New(k, j), Server: end{w.server, k.Member().ID}, Logger: slog.New(slog.DiscardHandler), After: time.After}
	return &connector{p, w, k, j}
}

// restart is the same connector in another process.
func (c *connector) restart() *connector { _ = c.j.Close(); return c.w.open(c.k) }

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (c *connector) round() {
	c.w.Helper()
	c.w.ok(c.Round(c.w.Context()))
}

func (c *connector) issue(id string) *x509.Certificate {
	c.w.Helper()
	return issueLeaf(c.w, c.CA, catest.Intent(c.w, id+"-00000000000000", testpki.PoolKey(c.w, 0)))
}

func (c *connector) revoke(leaf *x509.Certificate, reason int) {
	c.w.Helper()
	_, err := c.CA.Revoke(c.w.Context(), leaf.Raw, reason, c.w.now)
	c.w.ok(err)
}

// list is a served list, checked.
func (c *connector) list(ca string) *x509.RevocationList {
	c.w.Helper()
	list, err := x509.ParseRevocationList(c.w.server.files[link.CRLFile(ca)])
	c.w.ok(err)
	issuer, err := x509.ParseCertificate(c.w.server.files[link.IssuerFile(ca)])
	c.w.ok(err)
	c.w.ok(list.CheckSignatureFrom(issuer))
	return list
}

func serials(list *x509.RevocationList) []string {
	out := []string{}
	for _, e := range list.RevokedCertificateEntries {
		out = append(out, fmt.Sprintf("%x:%d", e.SerialNumber, e.ReasonCode))
	}
	slices.Sort(out)
	return out
}

func want(leaves ...any) []string {
	out := []string{}
	for i := 0; i < len(leaves); i += 2 {
		out = append(out, fmt.Sprintf("%x:%d", leaves[i].(*x509.Certificate).SerialNumber, leaves[i+1]))
	}
	slices.Sort(out)
	return out
}

// state is what the served answer says, checked as a client does.
func (c *connector) state(leaf *x509.Certificate) string {
	c.w.Helper()
	r := c.w.server.rows[leaf.SerialNumber.Text(16)]
	if r == nil {
		return "unknown"
	}
	f, err := c.k.SMIME()
	c.w.ok(err)
	issuer := f.IssuerOf(leaf)
	one, err := ocsp.ParseResponseForCert(r.SHA1, leaf, issuer.Certificate)
	c.w.ok(err)
	two, err := ocsp.ParseResponseForCert(r.SHA256, leaf, issuer.Certificate)
	c.w.ok(err)
	if one.IssuerHash != crypto.SHA1 || two.IssuerHash != crypto.SHA256 || one.Status != two.Status || !one.NextUpdate.After(c.w.now) {
		c.w.Fatalf("answers %+v and %+v", one, two)
	}
	if one.Status == ocsp.Revoked {
		return fmt.Sprintf("revoked %d", one.RevocationReason)
	}
	return "good"
}
