package reconcile_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

// TestRolloverAsksNobody: when the CA has another issuing certificate, a device keeps what it was given for the certificate that
// it has. With the next certificate it gets the next issuer, and until then has both.
func TestRolloverAsksNobody(t *testing.T) {
	w := newOwn(t)
	root := testpki.NewCA(t, "root")
	first, next := root.Intermediate(t, "issuing"), root.Intermediate(t, "issuing-2")
	offer := func(cas ...*testpki.CA) {
		ca := link.CA{Name: "softca", Certificate: cas[0].Cert.Raw}
		for _, c := range append(cas[1:], root) {
			ca.Chain = append(ca.Chain, c.Cert.Raw)
		}
		w.s.CAs, w.s.Enrolment.Dirty = []link.CA{ca}, true
	}
	has := func(when string, want, former []*testpki.CA) {
		t.Helper()
		e := w.enrolmentOf("own")
		same := func(ders [][]byte, cas []*testpki.CA) bool {
			return slices.EqualFunc(ders, cas, func(der []byte, ca *testpki.CA) bool { return bytes.Equal(der, ca.Cert.Raw) })
		}
		if !same(e.Intermediates, want) || !same(e.Former, former) {
			t.Errorf("%s: %d intermediates and %d of before, or others than wanted", when, len(e.Intermediates), len(e.Former))
		}
	}
	offer(first)
	has("before", []*testpki.CA{first}, nil)
	w.settle()
	w.s.Issued[0].Issuer = profiles.NameString(first.Cert.Subject)
	has("issued", []*testpki.CA{first}, nil)

	offer(next, first)
	w.settle()
	w.owns("own0 current")
	has("rolled over", []*testpki.CA{first}, nil)

	w.now = w.now.Add(43 * week)
	w.s.ConnectorSeen = w.now
	has("due", []*testpki.CA{next}, []*testpki.CA{first})
	w.settle()
	newest := len(w.s.Issued) - 1
	w.s.Issued[newest].Issuer = profiles.NameString(next.Cert.Subject)
	has("renewed", []*testpki.CA{next}, nil)
}
