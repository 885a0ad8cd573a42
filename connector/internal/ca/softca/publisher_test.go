package softca

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

func TestListsAndAnswers(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	good, bad := c.issue("good"), c.issue("bad")
	c.round()
	if got := c.state(good) + ", " + c.state(bad); got != "good, good" {
		t.Errorf("answers %s", got)
	}
	first, root := c.list("softca"), c.list("softca-root")
	if len(first.RevokedCertificateEntries)+len(root.RevokedCertificateEntries) != 0 || first.NextUpdate.Sub(first.ThisUpdate) != listLife {
		t.Errorf("the first list: %+v", first)
	}
	c.revoke(bad, 1)
	w.now = w.now.Add(5 * time.Second)
	c.round()
	if got := serials(c.list("softca")); !slices.Equal(got, want(bad, 1)) || c.list("softca").Number.Cmp(first.Number) <= 0 {
		t.Errorf("after the revocation: %v, number %s", got, c.list("softca").Number)
	}
	if got := c.state(good) + ", " + c.state(bad); got != "good, revoked 1" {
		t.Errorf("answers %s", got)
	}
	if list := c.list("softca"); list.ThisUpdate.Before(list.RevokedCertificateEntries[0].RevocationTime) {
		t.Errorf("the list says of %s what was so at %s only", list.ThisUpdate, list.RevokedCertificateEntries[0].RevocationTime)
	}
}

func TestKnownSince(t *testing.T) {
	for _, tc := range []struct{ revoked, want time.Duration }{{-time.Hour, -backdate}, {-time.Minute, -time.Minute}, {time.Minute, 0}} {
		if got := knownSince(testNow, testNow.Add(tc.revoked)).Sub(testNow); got != tc.want {
			t.Errorf("revoked at %s: %s, want %s", tc.revoked, got, tc.want)
		}
	}
}

// TestDaily: answers are made anew daily, and lists too, and nothing in between.
func TestDaily(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	leaf := c.issue("leaf")
	c.round()
	number := c.list("softca").Number
	for range 30 { // beyond the life of a responder's certificate
		w.now = w.now.Add(12 * time.Hour)
		c.round()
		if c.list("softca").Number.Cmp(number) != 0 {
			t.Fatal("a list was made though nothing had changed")
		}
		w.now = w.now.Add(12*time.Hour + time.Minute)
		c.round()
		if c.state(leaf) != "good" || c.list("softca").Number.Cmp(number) <= 0 {
			t.Fatalf("after a day: %s", c.state(leaf))
		}
		number = c.list("softca").Number
	}
}

func TestNothingIsLostInARestart(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	bad := c.issue("bad")
	w.server.fail = errors.New("the server is away")
	if err := c.Round(t.Context()); err == nil {
		t.Error("the round did not fail")
	}
	c.revoke(bad, 4)
	w.server.fail = nil
	c = c.restart()
	c.round()
	if got := serials(c.list("softca")); !slices.Equal(got, want(bad, 4)) || c.state(bad) != "revoked 4" {
		t.Errorf("list %v, answer %s", got, c.state(bad))
	}
	c.restart().round()
	if got := serials(c.list("softca")); !slices.Equal(got, want(bad, 4)) {
		t.Errorf("after another restart: %v", got)
	}
}

// TestAnAnswerThatDidNotArrive goes out with the next round.
func TestAnAnswerThatDidNotArrive(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	c.round()
	leaf := c.issue("leaf")
	w.server.fail = errors.New("the server is away")
	if err := c.Round(t.Context()); err == nil || c.state(leaf) != "unknown" {
		t.Errorf("got %v, %s", err, c.state(leaf))
	}
	w.server.fail = nil
	c.round()
	if c.state(leaf) != "good" {
		t.Errorf("answer %s", c.state(leaf))
	}
}

func TestTwoConnectors(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	var leaves []any
	for i, id := range []string{"one", "two", "three", "four", "five"} {
		leaves = append(leaves, a.issue("a-"+id), i%2)
	}
	a.round()
	b.round()
	mine, theirs := b.issue("b-own"), leaves[2].(*x509.Certificate)
	b.round()
	for i := 0; i < len(leaves); i += 4 {
		a.revoke(leaves[i].(*x509.Certificate), 5)
	}
	b.revoke(theirs, 1) // which the other one issued
	a.round()
	b.round()
	w.now = w.now.Add(time.Minute)
	a.round()
	all := want(leaves[0], 5, leaves[4], 5, leaves[8], 5, theirs, 1)
	if got := serials(a.list("softca")); !slices.Equal(got, all) {
		t.Errorf("list %v, want %v", got, all)
	}
	// One is lost for ever: the other makes its answers and lists.
	w.now = w.now.Add(25 * time.Hour)
	a.round()
	if got := serials(a.list("softca")); !slices.Equal(got, all) || a.state(mine) != "good" || a.state(theirs) != "revoked 1" {
		t.Errorf("list %v, answers %s, %s", got, a.state(mine), a.state(theirs))
	}
}

// TestRevokedMeanwhile: a list without a revocation that the server knows would take it back.
func TestRevokedMeanwhile(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	one, two := a.issue("one"), b.issue("two")
	a.round()
	b.round()
	a.revoke(one, 1)
	b.revoke(two, 4)
	w.now = w.now.Add(time.Minute)
	w.ok(a.exchange(t.Context()))
	w.server.before = func() { b.round() }
	w.ok(a.publishLists(t.Context()))
	if got := serials(a.list("softca")); !slices.Equal(got, want(one, 1, two, 4)) {
		t.Errorf("list %v", got)
	}
}

func TestRollover(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	before := a.issue("before")
	a.round()
	_, err := a.k.RollSMIME()
	w.ok(err)
	after := a.issue("after")
	if before.Issuer.String() == after.Issuer.String() {
		t.Error("the former CA issues still")
	}
	a.round()
	if f, err := b.k.SMIME(); err != nil || len(f.Issuing) != 1 {
		t.Fatalf("%d issuing CAs, %v", len(f.Issuing), err)
	}
	b.round()
	other := b.issue("other")
	if other.Issuer.String() != after.Issuer.String() {
		t.Error("the other connector did not get the new CA")
	}
	a.revoke(before, 5)
	b.revoke(after, 4)
	w.now = w.now.Add(time.Minute)
	b.round()
	a.round()
	if got := serials(a.list("softca")); !slices.Equal(got, want(before, 5)) {
		t.Errorf("the former CA's list: %v", got)
	}
	if got := serials(a.list("softca-2")); !slices.Equal(got, want(after, 4)) {
		t.Errorf("the new CA's list: %v", got)
	}
	if got := a.state(before) + ", " + a.state(after); got != "revoked 5, revoked 4" {
		t.Errorf("answers %s", got)
	}
	info := a.CA.Info()
	if len(info.Chain) != 2 {
		t.Errorf("%d certificates are published beside the issuing CA", len(info.Chain))
	}
}

// TestKeyringPutBack: what the journal has lost is learnt again before a list is made.
func TestKeyringPutBack(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	leaf := c.issue("leaf")
	c.round()
	c.revoke(leaf, 1)
	w.now = w.now.Add(time.Minute)
	c.round()
	_ = c.j.Close()
	empty, err := journal.Open(filepath.Join(t.TempDir(), "softca.jsonl"))
	w.ok(err)
	t.Cleanup(func() { _ = empty.Close() })
	back := &connector{&Publisher{CA: New(c.k, empty), Server: c.Server, Logger: c.Logger, After: time.After}, w, c.k, empty}
	w.now = w.now.Add(time.Minute)
	back.round()
	if got := serials(back.list("softca")); !slices.Equal(got, want(leaf, 1)) {
		t.Errorf("list %v", got)
	}
	if at, err := back.CA.Revoke(t.Context(), leaf.Raw, 4, w.now); err != nil || !at.Equal(testNow) {
		t.Errorf("revoked again: %s, %v", at, err)
	}
}

// TestServerPutBack: what the server has lost it gets again, within a day.
func TestServerPutBack(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	one, two := c.issue("one"), c.issue("two")
	c.revoke(two, 3)
	c.round()
	w.server.rows, w.server.files, w.server.numbers, w.server.last = map[string]*row{}, map[string][]byte{}, map[string]int64{}, 0
	w.now = w.now.Add(25 * time.Hour)
	c.round()
	if got := serials(c.list("softca")); !slices.Equal(got, want(two, 3)) || c.state(one) != "good" || c.state(two) != "revoked 3" {
		t.Errorf("list %v, answers %s, %s", got, c.state(one), c.state(two))
	}
}

// TestTheServersWord: it can add a revocation, and take none back.
func TestTheServersWord(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	lost, kept := b.issue("lost"), a.issue("kept")
	a.revoke(kept, 1)
	w.server.revoked = []link.StatusRevocation{{Certificate: lost.Raw, At: w.now.Add(time.Hour)}, {Certificate: []byte("x")}, {Certificate: w.foreign().Raw}}
	a.round()
	if got := serials(a.list("softca")); !slices.Equal(got, want(lost, 0, kept, 1)) {
		t.Errorf("list %v", got)
	}
	r := w.server.rows[kept.SerialNumber.Text(16)]
	r.Revoked, r.change = false, 99 // a lie
	w.server.last = 99
	w.now = w.now.Add(25 * time.Hour)
	a.round()
	if got := serials(a.list("softca")); !slices.Equal(got, want(lost, 0, kept, 1)) {
		t.Errorf("after a lie: %v", got)
	}
}

func (w *world) foreign() *x509.Certificate {
	return testpki.NewCA(w.T, "Foreign").Cert
}

// TestForgedAnswers: a user's certificate signs no OCSP answer, however x/crypto sees it.
func TestForgedAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.first()
	b := w.further(a)
	victim, thief := a.issue("victim"), b.issue("thief")
	f, err := a.k.SMIME()
	w.ok(err)
	forged, err := ocsp.CreateResponse(f.Current().Certificate, thief, ocsp.Response{Status: ocsp.Revoked, SerialNumber: victim.SerialNumber, RevokedAt: w.now,
		ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour), Certificate: thief, IssuerHash: crypto.SHA256}, testpki.PoolKey(t, 0))
	w.ok(err)
	answer := link.StatusAnswer{StatusHave: link.StatusHave{CA: "softca", Serial: victim.SerialNumber.Text(16), Revoked: true}, NotAfter: victim.NotAfter, SHA256: forged}
	if _, err := believe(f.Current(), answer); err == nil || !strings.Contains(err.Error(), "responder") {
		t.Errorf("got %v", err)
	}
	w.server.rows["forged"], w.server.last = &row{answer, b.k.Member().ID, 1, w.now.Add(time.Hour)}, 1
	a.round()
	if got := serials(a.list("softca")); len(got) != 0 {
		t.Errorf("list %v", got)
	}
}

func TestClockBehindTheServedList(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	w.server.numbers["crl/softca.crl"] = listNumber(w.now.Add(5*time.Minute), 0)
	c.round()
	if n := c.list("softca").Number; n.Cmp(big.NewInt(listNumber(w.now.Add(5*time.Minute), 0)+1)) != 0 {
		t.Errorf("number %s", n)
	}
	w.server.numbers["crl/softca.crl"] = listNumber(w.now.AddDate(1, 0, 0), 0)
	c.revoke(c.issue("leaf"), 1)
	if err := c.Round(t.Context()); err == nil || !strings.Contains(err.Error(), "compare the clocks") {
		t.Errorf("got %v", err)
	}
}

// TestFormerJournal has entries that name no issuer.
func TestFormerJournal(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	leaf := c.issue("leaf")
	serial := leaf.SerialNumber.Text(16)
	w.ok(c.j.Put(intentKey("leaf-00000000000000"), issued{Intent: "leaf-00000000000000", Serial: serial, Certificate: leaf.Raw}))
	w.ok(c.j.Put(revokedKey(serial), revoked{Serial: serial, Reason: 1, At: w.now}))
	c.round()
	if got := serials(c.list("softca")); !slices.Equal(got, want(leaf, 1)) || c.state(leaf) != "revoked 1" {
		t.Errorf("list %v, answer %s", got, c.state(leaf))
	}
}

// TestRunWakes: a change starts a round at once, not with the next minute.
func TestRunWakes(t *testing.T) {
	w := newWorld(t)
	c := w.first()
	waits := make(chan time.Duration)
	at := make(chan time.Time)
	c.After = func(d time.Duration) <-chan time.Time { waits <- d; return at }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.Run(ctx); close(done) }()
	if d := <-waits; d != roundEvery { // the round at the start is over
		t.Errorf("waits for %s", d)
	}
	leaf := c.issue("leaf")
	if d := <-waits; d != gather {
		t.Errorf("waits for %s", d)
	}
	at <- w.now
	<-waits // the next round is over
	cancel()
	<-done
	if c.state(leaf) != "good" {
		t.Errorf("answer %s", c.state(leaf))
	}
}
