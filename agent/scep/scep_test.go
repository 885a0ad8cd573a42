package scep

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/internal/testpki"
)

// house is a device that asks and an RA that answers; the RA's side is other code than ours.
type house struct {
	ca       *testpki.CA
	ra       *testpki.Identity
	exchange *Exchange
	csr      []byte
}

func newHouse(t testing.TB) *house {
	t.Helper()
	h := &house{ca: testpki.NewCA(t, "Corp root")}
	h.ra = h.ca.Issue(t, testpki.Options{CN: "RA"})
	key := testpki.PoolKey(t, 3)
	subject, err := asn1.Marshal(pkix.Name{CommonName: "Ann"}.ToRDNSequence())
	if err != nil {
		t.Fatal(err)
	}
	upn, err1 := UPN("ann@corp.test")
	names, err2 := Names([]asn1.RawValue{TextName(TagEmail, "ann@corp.test"), upn})
	usage, err3 := KeyUsage(0xC0)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	if h.csr, err = (Request{Subject: subject, Challenge: "a_b", Extensions: []pkix.Extension{usage, names}}).Sign(key); err != nil {
		t.Fatal(err)
	}
	signer, err := SelfSigned(subject, key, testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	h.exchange = NewExchange(key, signer, Recipient(h.authorities()))
	return h
}

func (h *house) authorities() []*x509.Certificate {
	return []*x509.Certificate{h.ca.Cert, h.ra.Cert}
}

// ask sends a message to the RA, which answers as it is told.
func (h *house) ask(t testing.TB, m *Message, answer func(*scepmsg.Request) ([]byte, error)) []byte {
	t.Helper()
	req, err := scepmsg.ParseRequest(m.DER, h.ra.Cert, h.ra.RSA())
	if err != nil {
		t.Fatal(err)
	}
	der, err := answer(req)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (h *house) issued(t testing.TB, key int) *x509.Certificate {
	return h.ca.IssueCSR(t, &x509.CertificateRequest{PublicKey: testpki.PoolKey(t, key).Public()}, testpki.Options{CN: "Ann"})
}

func TestExchange(t *testing.T) {
	h := newHouse(t)
	m, err := h.exchange.Request(h.csr)
	if err != nil {
		t.Fatal(err)
	}
	cert := h.issued(t, 3)
	answer := h.ask(t, m, func(r *scepmsg.Request) ([]byte, error) {
		if r.Challenge != "a_b" || r.CSR.Subject.CommonName != "Ann" || r.MessageType != scepmsg.PKCSReq || len(r.CSR.EmailAddresses) != 1 {
			t.Errorf("the RA reads %q, %s, %s, %q", r.Challenge, r.CSR.Subject, r.MessageType, r.CSR.EmailAddresses)
		}
		return scepmsg.Success(r, cert, []*x509.Certificate{h.ca.Cert}, h.ra.Cert, h.ra.RSA())
	})
	reply, err := h.exchange.Read(answer, m, h.authorities())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := h.exchange.Accept(reply); err != nil || !got.Equal(cert) {
		t.Errorf("%v", err)
	}
	if _, err := h.exchange.Read(answer, m, []*x509.Certificate{h.ca.Cert}); err == nil || !strings.Contains(err.Error(), "did not name") {
		t.Errorf("a stranger's answer: %v", err)
	}
	again, err := h.exchange.Request(h.csr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.exchange.Read(answer, again, h.authorities()); err == nil || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("an old answer: %v", err)
	}
}

func TestReplies(t *testing.T) {
	h := newHouse(t)
	poll, err := h.exchange.Poll()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		answer func(*scepmsg.Request) ([]byte, error)
		status Status
		want   string
	}{
		{"pending", func(r *scepmsg.Request) ([]byte, error) { return scepmsg.Pending(r, h.ra.Cert, h.ra.RSA()) }, Pending, "unknown status"},
		{"refused", func(r *scepmsg.Request) ([]byte, error) {
			return scepmsg.Failure(r, scepmsg.BadTime, h.ra.Cert, h.ra.RSA())
		}, Failure, "badTime"},
		{"other key", func(r *scepmsg.Request) ([]byte, error) {
			return scepmsg.Success(r, h.issued(t, 4), nil, h.ra.Cert, h.ra.RSA())
		}, Success, ErrOtherKey.Error()},
	} {
		reply, err := h.exchange.Read(h.ask(t, poll, c.answer), poll, h.authorities())
		if err != nil || reply.Status != c.status {
			t.Errorf("%s: %+v, %v", c.name, reply, err)
			continue
		}
		if _, err := h.exchange.Accept(reply); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if got := failText("9"); got != `failInfo "9"` {
		t.Error(got)
	}
}

// answer is a CertRep that says PENDING, without an attribute.
func (h *house) answer(t testing.TB, to *Message, without int) []byte {
	t.Helper()
	var attributes []cms.Attribute
	for n, value := range map[int]any{attrMessageType: certRep, attrStatus: string(Pending), attrTransactionID: h.exchange.transaction,
		attrRecipientNonce: to.nonce, attrSenderNonce: []byte("sixteen-octets-x")} {
		if n != without {
			attributes = append(attributes, cms.Attribute{Type: attributeID(n), Value: value})
		}
	}
	der, err := cms.Sign(nil, h.ra.Cert, h.ra.Key, cms.SignOptions{Attributes: attributes})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An answer that lacks a nonce, or says not what it belongs to, is none. Windows shows the lack of a senderNonce by a bare
// number, although all went well over HTTP.
func TestAnswersThatLackSomething(t *testing.T) {
	h := newHouse(t)
	m, err := h.exchange.Request(h.csr)
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := h.exchange.Read(h.answer(t, m, 0), m, h.authorities()); err != nil || reply.Status != Pending {
		t.Fatalf("%+v, %v", reply, err)
	}
	for without, want := range map[int]string{
		attrSenderNonce: "expected authenticated attribute", attrRecipientNonce: "nonce of the request", attrTransactionID: "another transaction", attrMessageType: "message type",
	} {
		if _, err := h.exchange.Read(h.answer(t, m, without), m, h.authorities()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("without attribute %d: %v, want %q", without, err, want)
		}
	}
}

// A CertPoll names the CA, not the RA that it is encrypted to.
func TestPollNamesTheCA(t *testing.T) {
	h := newHouse(t)
	for _, to := range []*testpki.Identity{h.ra, &h.ca.Identity} {
		h.exchange.recipient = to.Cert
		m, err := h.exchange.Poll()
		if err != nil {
			t.Fatal(err)
		}
		req, err := scepmsg.ParseRequest(m.DER, to.Cert, to.RSA())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(req.Issuer, h.ca.Cert.RawSubject) || !bytes.Equal(req.Subject, h.exchange.signer.RawSubject) {
			t.Errorf("encrypted to %s, it asks for issuer %x, subject %x", to.Cert.Subject, req.Issuer, req.Subject)
		}
	}
}

func TestKeyUsage(t *testing.T) {
	for octet, want := range map[byte]string{0x80: "03020780", 0xC0: "030206c0", 0xA0: "030205a0", 0x20: "03020520", 0x1f: "030100", 0: "030100"} {
		e, err := KeyUsage(octet)
		if got := hex.EncodeToString(e.Value); err != nil || got != want {
			t.Errorf("%#x: %s, %v; want %s", octet, got, err, want)
		}
	}
}

func TestAuthorities(t *testing.T) {
	h := newHouse(t)
	bag, err := cms.CertsOnly(h.ca.Cert, h.ra.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind string
		body []byte
		want int
	}{{"application/x-x509-ca-ra-cert", bag, 2}, {"application/x-x509-ca-cert", h.ca.Cert.Raw, 1}, {"application/x-x509-ca-ra-cert", h.ca.Cert.Raw, 0},
		{"application/x-x509-ca-cert", nil, 0}, {"text/html", []byte("<p>"), 0}} {
		certs, err := Authorities(c.body, c.kind)
		if len(certs) != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%s: %d certificates, %v", c.kind, len(certs), err)
		}
	}
	ec := testpki.SelfSigned(t, testpki.Options{CN: "EC", KeyType: testpki.P256}).Cert
	if Recipient([]*x509.Certificate{ec}) != nil || Recipient([]*x509.Certificate{ec, h.ca.Cert}) != h.ca.Cert || Recipient(h.authorities()) != h.ra.Cert {
		t.Error("the RA comes before the CA, and RSA only")
	}
}

// FuzzRead: no answer of a server makes a device panic, and none that is not signed by the RA counts.
func FuzzRead(f *testing.F) {
	h := newHouse(f)
	m, err := h.exchange.Request(h.csr)
	if err != nil {
		f.Fatal(err)
	}
	answer := h.ask(f, m, func(r *scepmsg.Request) ([]byte, error) {
		return scepmsg.Success(r, h.issued(f, 3), nil, h.ra.Cert, h.ra.RSA())
	})
	f.Add(answer)
	f.Add(m.DER)
	f.Add(h.answer(f, m, 0))
	f.Add(h.answer(f, m, attrSenderNonce))
	f.Add([]byte("not a message"))
	f.Fuzz(func(t *testing.T, data []byte) {
		reply, err := h.exchange.Read(data, m, h.authorities())
		if err == nil && !bytes.Equal(data, answer) && reply.Status == Success && len(reply.Certificates) != 1 {
			t.Errorf("a forged answer: %+v", reply)
		}
	})
}
