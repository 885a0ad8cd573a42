package scepmsg

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/smallstep/pkcs7"
	smallstep "github.com/smallstep/scep"
	"github.com/smallstep/scep/x509util"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

// setting is an authority with its RA and a client with a request.
type setting struct {
	ca     *testpki.CA
	ra     *testpki.Identity
	client *testpki.Identity
	csr    []byte
}

func newSetting(t testing.TB) setting {
	t.Helper()
	s := setting{ca: testpki.NewCA(t, "Device CA"), client: testpki.SelfSigned(t, testpki.Options{CN: "device"})}
	s.ra = s.ca.Issue(t, testpki.Options{CN: "RA"})
	s.csr = newCSR(t, "device", "s3cret", s.client.Key)
	return s
}

func newCSR(t testing.TB, cn, challenge string, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509util.CreateCertificateRequest(rand.Reader, &x509util.CertificateRequest{
		CertificateRequest: x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}},
		ChallengePassword:  challenge,
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (s setting) request(t testing.TB) *Message {
	t.Helper()
	m, err := NewPKCSReq(rand.Reader, s.csr, s.client.Cert, s.client.Key, []*x509.Certificate{s.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (s setting) parsed(t testing.TB, der []byte) *Request {
	t.Helper()
	req, err := ParseRequest(der, s.ra.Cert, s.ra.RSA())
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestEnrolment(t *testing.T) {
	s := newSetting(t)
	m := s.request(t)
	req := s.parsed(t, m.DER)
	if req.Challenge != "s3cret" || req.MessageType != PKCSReq || req.TransactionID != m.TransactionID || !req.Signer.Equal(s.client.Cert) {
		t.Errorf("the request arrives as %+v", req)
	}
	cert := s.ca.IssueCSR(t, req.CSR, testpki.Options{CN: "device"})
	der, err := Success(req, cert, []*x509.Certificate{s.ca.Cert}, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := ParseCertRep(der, s.client.Cert, s.client.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := reply.Answers(m); err != nil {
		t.Error(err)
	}
	if reply.Status != StatusSuccess || !reply.Certificate.Equal(cert) || len(reply.Chain) != 1 || !reply.SignedBy([]*x509.Certificate{s.ra.Cert}) {
		t.Errorf("the reply arrives as %+v", reply)
	}
	if err := reply.Answers(s.request(t)); err == nil {
		t.Error("the reply answers a request with another nonce")
	}
}

func TestRenewalGivesTheNewKeysCertificate(t *testing.T) {
	s := newSetting(t)
	old := s.ca.Issue(t, testpki.Options{CN: "device"})
	m, err := NewRenewalReq(rand.Reader, s.csr, old.Cert, old.Key, []*x509.Certificate{s.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	req := s.parsed(t, m.DER)
	cert := s.ca.IssueCSR(t, req.CSR, testpki.Options{CN: "device"})
	der, err := Success(req, cert, []*x509.Certificate{s.ca.Cert}, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := ParseCertRep(der, old.Cert, old.Key)
	if err != nil || req.MessageType != RenewalReq || !reply.Certificate.Equal(cert) {
		t.Errorf("%s: %v", req.MessageType, err)
	}
}

func TestAnothersCertificateIsNoSuccess(t *testing.T) {
	s := newSetting(t)
	req := s.parsed(t, s.request(t).DER)
	stranger := s.ca.Issue(t, testpki.Options{CN: "another device", KeyType: testpki.P256})
	der, err := Success(req, stranger.Cert, nil, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := ParseCertRep(der, s.client.Cert, s.client.Key); !errors.Is(err, ErrMalformed) {
		t.Errorf("%+v, %v", reply, err)
	}
}

func TestPollAndRefusal(t *testing.T) {
	s := newSetting(t)
	m := s.request(t)
	der, err := Pending(s.parsed(t, m.DER), s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := ParseCertRep(der, s.client.Cert, s.client.Key)
	if err != nil || reply.Status != StatusPending {
		t.Fatalf("%+v, %v", reply, err)
	}
	poll, err := NewCertPoll(rand.Reader, m.TransactionID, s.ca.Cert.RawSubject, s.client.Cert.RawSubject,
		s.client.Cert, s.client.Key, []*x509.Certificate{s.ra.Cert})
	if err != nil {
		t.Fatal(err)
	}
	req := s.parsed(t, poll.DER)
	if req.MessageType != CertPoll || !bytes.Equal(req.Issuer, s.ca.Cert.RawSubject) || !bytes.Equal(req.Subject, s.client.Cert.RawSubject) {
		t.Errorf("the poll arrives as %+v", req)
	}
	if der, err = Failure(req, BadCertID, s.ra.Cert, s.ra.Key); err != nil {
		t.Fatal(err)
	}
	reply, err = ParseCertRep(der, s.client.Cert, s.client.Key)
	if err != nil || reply.Status != StatusFailure || reply.FailInfo != BadCertID || reply.Answers(poll) != nil {
		t.Errorf("%+v, %v", reply, err)
	}
}

func TestRefusedRequestsCanBeAnswered(t *testing.T) {
	s := newSetting(t)
	stranger := s.ca.Issue(t, testpki.Options{CN: "not the RA"})
	other := testpki.SelfSigned(t, testpki.Options{CN: "another device, another key"})
	cases := map[string]struct {
		message func() (*Message, error)
		want    FailInfo
	}{
		"encrypted to another": {func() (*Message, error) {
			return NewPKCSReq(rand.Reader, s.csr, s.client.Cert, s.client.Key, []*x509.Certificate{stranger.Cert})
		}, BadMessageCheck},
		"signed by another key": {func() (*Message, error) {
			return NewPKCSReq(rand.Reader, s.csr, other.Cert, other.Key, []*x509.Certificate{s.ra.Cert})
		}, BadMessageCheck},
		"unknown type": {func() (*Message, error) {
			return seal(rand.Reader, "22", "t", s.csr, s.client.Cert, s.client.Key, []*x509.Certificate{s.ra.Cert})
		}, BadRequest},
		"no certificate request": {func() (*Message, error) {
			return seal(rand.Reader, PKCSReq, "t", []byte("x"), s.client.Cert, s.client.Key, []*x509.Certificate{s.ra.Cert})
		}, BadRequest},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := c.message()
			if err != nil {
				t.Fatal(err)
			}
			req, err := ParseRequest(m.DER, s.ra.Cert, s.ra.RSA())
			var fault *RequestError
			if !errors.As(err, &fault) || fault.FailInfo != c.want || req == nil || req.CSR != nil {
				t.Fatalf("%+v, %v", req, err)
			}
			if _, err := Failure(req, fault.FailInfo, s.ra.Cert, s.ra.Key); err != nil {
				t.Error(err)
			}
		})
	}
	m := s.request(t)
	m.DER[len(m.DER)-1] ^= 1
	if _, err := ParseRequest(m.DER, s.ra.Cert, s.ra.RSA()); !errors.Is(err, cms.ErrSignature) {
		t.Errorf("a request with a broken signature: %v", err)
	}
}

// TestSmallstepClient lets another implementation ask. It signs with SHA-1 and encrypts with DES unless told otherwise, and
// most programs made of it do not.
func TestSmallstepClient(t *testing.T) {
	for name, algorithm := range map[string]int{"AES": pkcs7.EncryptionAlgorithmAES128CBC, "DES": pkcs7.EncryptionAlgorithmDESCBC} {
		t.Run(name, func(t *testing.T) { smallstepAsks(t, algorithm) })
	}
}

func smallstepAsks(t *testing.T, algorithm int) {
	t.Helper()
	before := pkcs7.ContentEncryptionAlgorithm
	pkcs7.ContentEncryptionAlgorithm = algorithm
	defer func() { pkcs7.ContentEncryptionAlgorithm = before }()
	s := newSetting(t)
	csr, err := x509.ParseCertificateRequest(s.csr)
	if err != nil {
		t.Fatal(err)
	}
	m, err := smallstep.NewCSRRequest(csr, &smallstep.PKIMessage{
		MessageType: smallstep.PKCSReq, Recipients: []*x509.Certificate{s.ra.Cert},
		SignerCert: s.client.Cert, SignerKey: s.client.Key,
	})
	if err != nil {
		t.Fatal(err)
	}
	req := s.parsed(t, m.Raw)
	if req.Challenge != "s3cret" || req.TransactionID != string(m.TransactionID) || !bytes.Equal(req.SenderNonce, m.SenderNonce) {
		t.Errorf("the request arrives as %+v", req)
	}
}

func TestSmallstepReadsAndAnswersOurs(t *testing.T) {
	s := newSetting(t)
	csr, err := x509.ParseCertificateRequest(s.csr)
	if err != nil {
		t.Fatal(err)
	}
	m := s.request(t)
	theirs, err := smallstep.ParsePKIMessage(m.DER)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.DecryptPKIEnvelope(s.ra.Cert, s.ra.Key); err != nil {
		t.Fatal(err)
	}
	if theirs.ChallengePassword != "s3cret" || !bytes.Equal(theirs.CSR.Raw, csr.Raw) {
		t.Error("the peer reads another request")
	}
	cert := s.ca.IssueCSR(t, csr, testpki.Options{CN: "device"})
	answer, err := theirs.Fail(s.ra.Cert, s.ra.Key, smallstep.BadRequest)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := ParseCertRep(answer.Raw, s.client.Cert, s.client.Key)
	if err != nil || reply.FailInfo != BadRequest || reply.Answers(m) != nil {
		t.Errorf("the peer's refusal: %+v, %v", reply, err)
	}
	checkSmallstepReads(t, s, m, cert)
}

func checkSmallstepReads(t *testing.T, s setting, m *Message, cert *x509.Certificate) {
	t.Helper()
	req := s.parsed(t, m.DER)
	success, err := Success(req, cert, []*x509.Certificate{s.ca.Cert}, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := smallstep.ParsePKIMessage(success)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.DecryptPKIEnvelope(s.client.Cert, s.client.Key); err != nil {
		t.Fatal(err)
	}
	if got.PKIStatus != smallstep.SUCCESS || !got.Certificate.Equal(cert) || !bytes.Equal(got.RecipientNonce, m.SenderNonce) {
		t.Errorf("the peer reads %+v", got)
	}
	pending, err := Pending(req, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = smallstep.ParsePKIMessage(pending); err != nil || got.PKIStatus != smallstep.PENDING {
		t.Errorf("the peer reads a pending answer as %+v, %v", got, err)
	}
	failure, err := Failure(req, BadTime, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = smallstep.ParsePKIMessage(failure); err != nil || got.FailInfo != smallstep.BadTime {
		t.Errorf("the peer reads a refusal as %+v, %v", got, err)
	}
}

// TestOldClient: an envelope in 3DES, as OpenSSL makes for clients that know nothing newer.
func TestOldClient(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	s := newSetting(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"csr": s.csr, "ra.pem": s.ra.CertPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "cms", "-encrypt", "-binary", "-des3", "-in", "csr", "-outform", "DER", "-stream", "ra.pem")
	cmd.Dir = dir
	envelope, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	h := header{messageType: PKCSReq, transactionID: "old+client/=", senderNonce: make([]byte, 16)}
	der, err := h.sign(envelope, s.client.Cert, s.client.Key)
	if err != nil {
		t.Fatal(err)
	}
	if req := s.parsed(t, der); req.Challenge != "s3cret" || req.TransactionID != "old+client/=" {
		t.Errorf("the request arrives as %+v", req)
	}
}

func TestChallengePassword(t *testing.T) {
	s := newSetting(t)
	csr, err := x509.ParseCertificateRequest(newCSR(t, "device", "", s.client.Key))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		attributes [][]string
		want       string
		refused    bool
	}{
		"none":           {},
		"one":            {attributes: [][]string{{"a"}}, want: "a"},
		"two values":     {attributes: [][]string{{"a", "b"}}, refused: true},
		"two attributes": {attributes: [][]string{{"a"}, {"a"}}, refused: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := challengePassword(requestInfo(t, csr, c.attributes))
			if got != c.want || (err != nil) != c.refused {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// requestInfo encodes the signed part of a certificate request with challenge password attributes.
func requestInfo(t *testing.T, csr *x509.CertificateRequest, challenges [][]string) []byte {
	t.Helper()
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}
	info := struct {
		Version    int
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Attributes []attribute `asn1:"tag:0,set"`
	}{Subject: asn1.RawValue{FullBytes: csr.RawSubject}, PublicKey: asn1.RawValue{FullBytes: csr.RawSubjectPublicKeyInfo}}
	for _, values := range challenges {
		info.Attributes = append(info.Attributes, attribute{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, values})
	}
	der, err := asn1.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func FuzzParseRequest(f *testing.F) {
	s := newSetting(f)
	m := s.request(f)
	f.Add(m.DER)
	poll, err := NewCertPoll(rand.Reader, m.TransactionID, s.ca.Cert.RawSubject, s.client.Cert.RawSubject,
		s.client.Cert, s.client.Key, []*x509.Certificate{s.ra.Cert})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(poll.DER)
	f.Add(s.csr)
	f.Fuzz(func(t *testing.T, data []byte) {
		req, err := ParseRequest(data, s.ra.Cert, s.ra.RSA())
		if err == nil && (req == nil || req.Signer == nil || req.CSR == nil && req.MessageType != CertPoll) {
			t.Errorf("an incomplete request without an error: %+v", req)
		}
		if err == nil && req.CSR == nil && req.Issuer == nil {
			t.Error("a poll for nothing")
		}
		_ = readCSRAlone(data)
	})
}

// readCSRAlone reaches the parser behind the signature, which a fuzzer cannot forge.
func readCSRAlone(data []byte) error {
	req := &Request{Signer: &x509.Certificate{}}
	_, _ = challengePassword(data)
	return errors.Join(req.readCSR(data), req.readPoll(data))
}

// TestSender: a registration authority asks for a key that it does not have, in the cipher of an old server, and reads why
// it is refused.
func TestSender(t *testing.T) {
	s := newSetting(t)
	ra := s.ca.Issue(t, testpki.Options{CN: "connector"})
	sender := Sender{Certificate: ra.Cert, Key: ra.Key, Recipients: []*x509.Certificate{s.ra.Cert}, Cipher: cms.TripleDESCBC}
	m, err := sender.Request(rand.Reader, "transaction 7", s.csr)
	if err != nil {
		t.Fatal(err)
	}
	req := s.parsed(t, m.DER)
	if req.TransactionID != "transaction 7" || !req.Signer.Equal(ra.Cert) || !bytes.Equal(req.CSR.Raw, s.csr) {
		t.Errorf("the request arrives as %+v", req)
	}
	cert := s.ca.IssueCSR(t, req.CSR, testpki.Options{CN: "device"})
	der, err := Success(req, cert, []*x509.Certificate{s.ca.Cert}, s.ra.Cert, s.ra.Key)
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := ParseCertRep(der, ra.Cert, ra.Key); err != nil || !reply.Certificates[0].Equal(cert) {
		t.Errorf("%+v, %v", reply, err)
	}
	if m, err = sender.Poll(rand.Reader, "transaction 7", s.ca.Cert.RawSubject, req.CSR.RawSubject); err != nil {
		t.Fatal(err)
	}
	req = s.parsed(t, m.DER)
	if der, err = req.reply(header{status: StatusFailure, failInfo: BadRequest, failText: "nein, danke"}, nil, s.ra.Cert, s.ra.Key); err != nil {
		t.Fatal(err)
	}
	if reply, err := ParseCertRep(der, ra.Cert, ra.Key); err != nil || reply.FailText != "nein, danke" {
		t.Errorf("%+v, %v", reply, err)
	}
}
