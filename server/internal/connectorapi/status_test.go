package connectorapi_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

// ExchangeStatus keeps what came in.
func (m *memory) ExchangeStatus(_ context.Context, x connectorapi.StatusExchange) (link.StatusResponse, error) {
	defer m.lock()()
	m.exchanged = append(m.exchanged, x)
	return link.StatusResponse{Cursor: x.Request.Cursor}, nil
}

// CAFile finds what came in.
func (m *memory) CAFile(_ context.Context, name string) (model.CAFile, error) {
	defer m.lock()()
	for _, x := range m.exchanged {
		for _, f := range x.Files {
			if f.Name == name {
				return f, nil
			}
		}
	}
	return model.CAFile{}, model.ErrNotFound
}

// softCA is what a connector has: a root that is published, an issuing CA under it, and a responder.
type softCA struct {
	*testing.T
	b             *bench
	root, issuing *testpki.CA
	responder     *testpki.Identity
	leaf          *x509.Certificate
}

func newSoftCA(t *testing.T) *softCA {
	b := newBench(t)
	b.register(t)
	s := &softCA{T: t, b: b, root: testpki.NewCA(t, "Root")}
	s.issuing = s.root.Intermediate(t, "Issuing")
	s.responder = s.issuing.Issue(t, testpki.Options{CN: "Responder", ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}})
	s.leaf = s.issuing.Issue(t, testpki.Options{CN: "Alice"}).Cert
	offer := b.offer(t)
	offer.CAs = []link.CA{{Name: "softca", Kind: "softca", Certificate: s.issuing.Cert.Raw, Chain: [][]byte{s.root.Cert.Raw}}}
	if _, err := b.Publish(t.Context(), offer); err != nil {
		t.Fatal(err)
	}
	return s
}

func file(name string, content []byte) link.StatusFile {
	return link.StatusFile{Name: name, Content: content}
}

func (s *softCA) list(by *testpki.CA, number int64, from time.Time) []byte {
	s.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, 10)}, by.Cert, by.Key)
	if err != nil {
		s.Fatal(err)
	}
	return der
}

// answer is what a connector sends about the leaf, signed by somebody.
func (s *softCA) answer(by *testpki.Identity) link.StatusAnswer {
	s.Helper()
	return s.answerAt(by, testpki.Now())
}

func (s *softCA) answerAt(by *testpki.Identity, from time.Time) link.StatusAnswer {
	s.Helper()
	a := link.StatusAnswer{StatusHave: link.StatusHave{CA: "softca", Serial: s.leaf.SerialNumber.Text(16)}, NotAfter: s.leaf.NotAfter}
	for hash, out := range map[crypto.Hash]*[]byte{crypto.SHA1: &a.SHA1, crypto.SHA256: &a.SHA256} {
		der, err := ocsp.CreateResponse(s.issuing.Cert, by.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: s.leaf.SerialNumber, ThisUpdate: from,
			NextUpdate: from.AddDate(0, 0, 4), Certificate: by.Cert, IssuerHash: hash}, by.Key)
		if err != nil {
			s.Fatal(err)
		}
		*out = der
	}
	return a
}

// certificates are what a connector sends along.
func (s *softCA) certificates() []link.StatusFile {
	return []link.StatusFile{file("aia/softca.cer", s.issuing.Cert.Raw), file("aia/softca-root.cer", s.root.Cert.Raw)}
}

func TestStatus(t *testing.T) {
	s := newSoftCA(t)
	lists := []link.StatusFile{file("crl/softca.crl", s.list(s.issuing, 7, testpki.Now())), file("crl/softca-root.crl", s.list(s.root, 7, testpki.Now()))}
	out, err := s.b.Status(t.Context(), link.StatusRequest{Cursor: 3, Files: append(lists, s.certificates()...)})
	if err != nil || out.Cursor != 3 {
		t.Fatalf("got %+v, %v", out, err)
	}
	x := s.b.store.exchanged[0]
	if len(x.Files) != 4 || x.Files[2].Name != "crl/softca.crl" || x.Files[2].Number != 7 || x.Files[0].Number != 0 || x.Connector.ID != s.b.ConnectorID {
		t.Errorf("stored %+v", x)
	}
	// The certificate is stored now and need not come again.
	answer := s.answer(s.responder)
	if _, err = s.b.Status(t.Context(), link.StatusRequest{Answers: []link.StatusAnswer{answer}}); err != nil {
		t.Fatal(err)
	}
	a := s.b.store.exchanged[1].Answers[0]
	if a.Serial != answer.Serial || !a.ThisUpdate.Equal(testpki.Now()) || !a.NextUpdate.Equal(testpki.Now().AddDate(0, 0, 4)) || a.Revoked {
		t.Errorf("stored %+v", a)
	}
}

// TestStatusRefuses: what is served is checked as a client would, so a connector's fault is known before clients meet it.
func TestStatusRefuses(t *testing.T) {
	s := newSoftCA(t)
	stranger := testpki.NewCA(t, "Stranger")
	user := s.issuing.Issue(t, testpki.Options{CN: "Mallory"})
	answers := func(change func(*link.StatusAnswer)) link.StatusRequest {
		a := s.answer(s.responder)
		change(&a)
		return link.StatusRequest{Files: s.certificates(), Answers: []link.StatusAnswer{a}}
	}
	files := func(f ...link.StatusFile) link.StatusRequest {
		return link.StatusRequest{Files: append(s.certificates(), f...)}
	}
	now := testpki.Now()
	for want, request := range map[string]link.StatusRequest{
		"at most 500 are possible":                         {Have: make([]link.StatusHave, link.MaxStatus+1)},
		"at most 64 are possible":                          {Shared: many(65, 1)},
		"at most 1048576 are possible":                     {Shared: many(1, 1<<20+1)},
		"neither aia/NAME.cer nor crl/NAME.crl":            files(file("crl/../softca.crl", nil)),
		"neither aia/NAME.cer nor crl":                     files(file("crl/device-ca.crl", nil)),
		"has not come yet":                                 files(file("crl/softca-2.crl", nil)),
		"no CA under the published root":                   files(file("aia/softca-2.cer", stranger.Cert.Raw)),
		"it is no CA under":                                files(file("aia/softca-2.cer", user.Cert.Raw)),
		"aia/softca-2.cer":                                 files(file("aia/softca-2.cer", []byte("garbage"))),
		"crl/softca.crl":                                   files(file("crl/softca.crl", []byte("garbage"))),
		"it is not signed by softca":                       files(file("crl/softca.crl", s.list(s.root, 1, now))),
		"compare the clocks":                               files(file("crl/softca.crl", s.list(s.issuing, 1, now.Add(time.Hour)))),
		"compare the clocks of server":                     files(file("crl/softca.crl", s.list(s.issuing, 1, now.AddDate(0, 0, -11)))),
		"is for later: compare the clocks":                 answers(func(a *link.StatusAnswer) { *a = s.answerAt(s.responder, now.Add(time.Hour)) }),
		"is no CA of softca":                               answers(func(a *link.StatusAnswer) { a.CA = "device-ca" }),
		"is no serial number":                              answers(func(a *link.StatusAnswer) { a.Serial = "0X1" }),
		"for another certificate":                          answers(func(a *link.StatusAnswer) { a.Serial = "4711" }),
		"says something else":                              answers(func(a *link.StatusAnswer) { a.Revoked = true }),
		"by another responder":                             answers(func(a *link.StatusAnswer) { a.SHA1 = a.SHA256 }),
		"the answer for":                                   answers(func(a *link.StatusAnswer) { a.SHA256 = []byte("garbage") }),
		"is for another certificate, by another responder": answers(func(a *link.StatusAnswer) { *a = s.answer(user) }),
	} {
		_, err := s.b.Status(t.Context(), request)
		status(t, err, 409, want)
	}
	if len(s.b.store.exchanged) != 0 {
		t.Errorf("%d messages had an effect", len(s.b.store.exchanged))
	}
	last := s.b.store.audit[len(s.b.store.audit)-1]
	if last.Action != "connector.status" || last.Outcome != "refused" {
		t.Errorf("audited %+v", last)
	}
}

func many(n, size int) map[string][]byte {
	out := map[string][]byte{}
	for i := range n {
		out[string(rune('A'+i))] = make([]byte, size)
	}
	return out
}

// TestStatusBeforePublish: without a published root there is nothing to check with.
func TestStatusBeforePublish(t *testing.T) {
	b := newBench(t)
	b.register(t)
	_, err := b.Status(t.Context(), link.StatusRequest{Files: []link.StatusFile{file("aia/softca.cer", b.mailCA.Cert.Raw)}})
	status(t, err, 409, "no connector has published softca")
	b.store.connectors[b.ConnectorID] = model.Connector{ID: b.ConnectorID, CredentialHash: b.store.connectors[b.ConnectorID].CredentialHash, State: model.ConnectorPending}
	_, err = b.Status(t.Context(), link.StatusRequest{})
	status(t, err, 403)
}
