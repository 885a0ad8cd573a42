package admin_test

import (
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
)

// TestHistoryIsWhatNobodyWritesWith: what ended long ago is kept, and is not said to be the current one; it is while there is
// no other.
func TestHistoryIsWhatNobodyWritesWith(t *testing.T) {
	b := newBench(t)
	b.sales(t)
	v := newVault(t)
	b.connectors.set = &v.signed
	alice, err := b.User(t.Context(), "alice@corp.test")
	if err != nil {
		t.Fatal(err)
	}
	ca, now := testpki.NewCA(t, "Old CA"), testpki.Now()
	imports := func(from, to time.Time) {
		leaf := ca.Issue(t, testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, NotBefore: from, NotAfter: to})
		out, err := b.Import(t.Context(), seal(t, leaf, link.UserURN(alice.ID), v.member))
		if err != nil || !out.Created {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	history := func() (n, current int) {
		page, err := b.Certificates(t.Context(), api.PageQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.Items {
			if c.Status != "current" {
				t.Errorf("%+v", c)
			}
			if c.History {
				n++
			} else {
				current++
			}
		}
		return n, current
	}
	imports(now.AddDate(-9, 0, 0), now.AddDate(-8, 0, 0))
	if n, current := history(); n != 0 || current != 1 {
		t.Errorf("alone: %d of the history, %d current", n, current)
	}
	imports(now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	imports(now.AddDate(-8, 0, 0), now.AddDate(-1, 0, 0))
	if n, current := history(); n != 2 || current != 1 {
		t.Errorf("%d of the history, %d current", n, current)
	}
}
