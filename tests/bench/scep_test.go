package bench_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/manifest"
	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/profiles"
)

// ownKey is a certificate that each device asks for itself; signatures is how many raw ones its issuance is compared with.
const (
	ownKey = `apiVersion: waxseal/v1
kind: SCEPCertificate
name: own-key
spec:
  certificateAuthority: softca
  subject: "CN={{UserName}},OU=Own key"
  subjectAlternativeNames: [{type: email, value: "{{EmailAddress}}"}]
  validity: 365d
---
apiVersion: waxseal/v1
kind: Assignment
name: own-key
spec:
  profiles: [own-key]
  include: [{everybody: true}]
`
	signatures = 2000
)

// scep has certificates issued for keys that iPhones made, by renewals: the profile asks for something else, and each device
// sends a RenewalReq that its former certificate signs. It stands beside RSA-2048 signatures without anything around them.
func (h *house) scep(b *testing.B) {
	h.assignOwnKey(b)
	f := h.fleet(b, platforms()[0], population)
	defer f.close(b)
	c := h.scepClient(b)
	var clients []*renewal
	for _, m := range f.members {
		clients = append(clients, c.of(b, m))
	}
	raw := signing(b, h.keys[0])
	b.Run("renew", func(b *testing.B) { f.renewals(b, clients, raw) })
}

// renewals renews every certificate b.N times. That they become due is not measured.
func (f *fleet) renewals(b *testing.B, clients []*renewal, raw usage) {
	var all, connector usage
	for range b.N {
		f.otherValidity(b)
		before := cpuTime(b, f.connector.Process.Pid)
		u := measure(b, f.server.Process.Pid, len(clients), func() error {
			return eachOf(len(clients), func(i int) error { return clients[i].renew(f.keys[f.next()%len(f.keys)]) })
		})
		all = all.add(u)
		connector = connector.add(usage{n: u.n, wall: u.wall, cpu: cpuTime(b, f.connector.Process.Pid) - before})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(all.perSecond(), "issuances/s")
	b.ReportMetric(all.cpuPer1000(), "cpu-ms/1000")
	b.ReportMetric(connector.cpuPer1000(), "connector-cpu-ms/1000")
	b.ReportMetric(all.cpuPer1000()/raw.cpuPer1000(), "x-rsa-cpu")
	b.ReportMetric(all.perSecond()/raw.perSecond(), "x-rsa-rate")
	table.put(f.engine, f.platform.name, "scep", all, raw)
	table.put(f.engine, f.platform.name, "scep-connector", connector, raw)
}

func (h *house) assignOwnKey(b *testing.B) {
	b.Helper()
	file := h.path("own-key.yaml")
	if err := os.WriteFile(file, []byte(ownKey), 0o600); err != nil {
		b.Fatal(err)
	}
	objects, faults := manifest.Load(file)
	if len(faults) > 0 {
		b.Fatal(faults)
	}
	h.objects = append(slices.Clone(h.objects), objects...)
	h.apply()
}

// otherValidity makes every certificate of the profile due.
func (h *house) otherValidity(b *testing.B) {
	b.Helper()
	for _, o := range h.objects {
		if p, ok := o.Spec.(*profiles.SCEPCertificate); ok {
			p.Validity = profiles.Duration(time.Duration(200+h.next()%150) * profiles.Day)
		}
	}
	h.apply()
}

// signing measures raw signatures on one core.
func signing(b *testing.B, key *rsa.PrivateKey) usage {
	b.Helper()
	sum := sha256.Sum256([]byte("a certificate"))
	return measure(b, os.Getpid(), signatures, func() error {
		for range signatures {
			if _, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// scepClient knows whom to ask.
type scepClient struct {
	url  string
	http *http.Client
	ra   *x509.Certificate
}

func (h *house) scepClient(b *testing.B) scepClient {
	b.Helper()
	c := scepClient{url: h.url + "/scep/softca", http: h.plain}
	resp, err := c.http.Get(c.url + "?operation=GetCACert")
	if err != nil {
		b.Fatal(err)
	}
	bag, err := body(resp)
	if err != nil {
		b.Fatal(err)
	}
	certs, err := cms.ParseCertsOnly(bag)
	if err != nil {
		b.Fatal(err)
	}
	c.ra = certs[0]
	return c
}

func body(resp *http.Response) ([]byte, error) {
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, scepmsg.MaxSize))
}

// renewal is what a device renews, and with which key it proves that it may.
type renewal struct {
	scepClient
	cert *x509.Certificate
	key  crypto.Signer
}

func (c scepClient) of(b *testing.B, m *member) *renewal {
	b.Helper()
	for _, item := range m.Keychain().Items() {
		if item.Key != nil && slices.Equal(item.Certificate.Subject.OrganizationalUnit, []string{"Own key"}) {
			return &renewal{c, item.Certificate, item.Key}
		}
	}
	b.Fatal("a device has not asked for its certificate")
	return nil
}

// renew asks until it has the next certificate.
func (r *renewal) renew(key *rsa.PrivateKey) error {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: r.cert.RawSubject, EmailAddresses: r.cert.EmailAddresses}, key)
	if err != nil {
		return err
	}
	m, err := scepmsg.NewRenewalReq(rand.Reader, csr, r.cert, r.key, []*x509.Certificate{r.ra})
	if err != nil {
		return err
	}
	reply, err := r.ask(m)
	for deadline := time.Now().Add(patience); err == nil && reply.Status == scepmsg.StatusPending && time.Now().Before(deadline); {
		if m, err = scepmsg.NewCertPoll(rand.Reader, m.TransactionID, r.ra.RawIssuer, r.cert.RawSubject, r.cert, r.key, []*x509.Certificate{r.ra}); err == nil {
			reply, err = r.ask(m)
		}
	}
	if err != nil {
		return err
	}
	if reply.Certificate == nil || !key.PublicKey.Equal(reply.Certificate.PublicKey) {
		return fmt.Errorf("a renewal ended with status %s: %s %s", reply.Status, reply.FailInfo, reply.FailText)
	}
	r.cert, r.key = reply.Certificate, key
	return nil
}

func (r *renewal) ask(m *scepmsg.Message) (*scepmsg.Reply, error) {
	resp, err := r.http.Post(r.url+"?operation=PKIOperation", "application/x-pki-message", bytes.NewReader(m.DER))
	if err != nil {
		return nil, err
	}
	der, err := body(resp)
	if err != nil {
		return nil, err
	}
	return scepmsg.ParseCertRep(der, r.cert, r.key)
}
