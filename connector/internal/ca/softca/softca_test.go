package softca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/connector/internal/ca"
	"github.com/waxseal/waxseal/connector/internal/ca/catest"
	"github.com/waxseal/waxseal/connector/internal/journal"
	"github.com/waxseal/waxseal/connector/internal/keyring"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/profiles"
)

var testNow = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// opener makes a CA whose state outlives each opening.
func opener(t *testing.T) catest.Open {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keyring")
	o := keyring.Options{Rand: rand.Reader, Clock: func() time.Time { return testNow }, CAKeyBits: 2048}
	k, err := keyring.Create(dir, keyring.Settings{Name: "test"}, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.SetPKIURL("http://pki.corp.test/"); err != nil {
		t.Fatal(err)
	}
	if err := k.MakeAuthorities(); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T) catest.CA {
		t.Helper()
		j, err := journal.Open(k.Path(keyring.FileSoftCA))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		return New(k, j)
	}
}

func TestConformance(t *testing.T) { catest.Run(t, testNow, opener(t)) }

func newKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	return testpki.PoolKey(t, 1)
}

func TestLeaf(t *testing.T) {
	c := opener(t)(t)
	in := catest.Intent(t, "leaf-0000000000001", newKey(t))
	in.KeyUsage = []string{"digitalSignature", "nonRepudiation"}
	in.ExtendedKeyUsage = []string{"clientAuth"}
	in.SANs = []profiles.SubjectAlternativeName{
		{Type: profiles.SANURI, Value: "https://corp.test/alice"},
		{Type: profiles.SANUPN, Value: "alice@corp.test"},
		{Type: profiles.SANEmail, Value: "Alice@Corp.test"},
		{Type: profiles.SANDNS, Value: "alice.corp.test"},
		{Type: profiles.SANEmail, Value: "a.example@corp.test"},
	}
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(leaf.EmailAddresses, " "); got != "Alice@Corp.test a.example@corp.test" {
		t.Errorf("addresses %q", got)
	}
	if leaf.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment {
		t.Errorf("key usage %b", leaf.KeyUsage)
	}
	if leaf.BasicConstraintsValid || leaf.IsCA {
		t.Error("a leaf has basic constraints")
	}
	if len(leaf.ExtKeyUsage) != 2 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageEmailProtection || leaf.ExtKeyUsage[1] != x509.ExtKeyUsageClientAuth {
		t.Errorf("extended key usage %v", leaf.ExtKeyUsage)
	}
	if len(leaf.CRLDistributionPoints) != 1 || leaf.CRLDistributionPoints[0] != "http://pki.corp.test/crl/softca.crl" {
		t.Errorf("CRL distribution points %v", leaf.CRLDistributionPoints)
	}
	if len(leaf.IssuingCertificateURL) != 1 || leaf.IssuingCertificateURL[0] != "http://pki.corp.test/aia/softca.cer" ||
		len(leaf.OCSPServer) != 1 || leaf.OCSPServer[0] != "http://pki.corp.test/ocsp/softca" {
		t.Errorf("authority information access %v, %v", leaf.IssuingCertificateURL, leaf.OCSPServer)
	}
	if n := leaf.SerialNumber.BitLen(); n != 126 {
		t.Errorf("serial of %d bits", n)
	}
	for _, e := range leaf.Extensions {
		if critical := e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 15}); e.Critical != critical {
			t.Errorf("extension %s: critical is %v", e.Id, e.Critical)
		}
	}
	first := leaf.Extensions[0]
	for _, e := range leaf.Extensions {
		if e.Id.Equal((asn1.ObjectIdentifier{2, 5, 29, 17})) {
			first = e
		}
	}
	if i := bytes.Index(first.Value, []byte("Alice@Corp.test")); i != 4 {
		t.Errorf("the address is not the first name: at %d of %q", i, first.Value)
	}
}

func TestRefusals(t *testing.T) {
	c := opener(t)(t)
	key := newKey(t)
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	san := func(kind profiles.SANType, v string) func(*ca.Intent) {
		return func(in *ca.Intent) {
			in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: kind, Value: v})
		}
	}
	cases := map[string]func(*ca.Intent){
		"serverAuth":        func(in *ca.Intent) { in.ExtendedKeyUsage = []string{"serverAuth"} },
		"any use":           func(in *ca.Intent) { in.ExtendedKeyUsage = []string{"2.5.29.37.0"} },
		"codeSigning":       func(in *ca.Intent) { in.ExtendedKeyUsage = []string{"1.3.6.1.5.5.7.3.3"} },
		"keyCertSign":       func(in *ca.Intent) { in.KeyUsage = []string{"keyCertSign"} },
		"too long":          func(in *ca.Intent) { in.Validity = MaxValidity + time.Hour },
		"too short":         func(in *ca.Intent) { in.Validity = time.Minute },
		"no subject":        func(in *ca.Intent) { in.Subject = nil },
		"subject and more":  func(in *ca.Intent) { in.Subject = append(in.Subject, 0) },
		"no address":        func(in *ca.Intent) { in.SANs = nil },
		"no mail address":   san(profiles.SANEmail, "alice"),
		"two lines":         san(profiles.SANUPN, "a@b\r\nc"),
		"odd type":          san("ip", "10.0.0.1"),
		"relative uri":      san(profiles.SANURI, "alice"),
		"a device's name":   san(profiles.SANURI, "urn:waxseal:enrolment:1"),
		"no dns name":       san(profiles.SANDNS, "a b"),
		"elliptic key":      func(in *ca.Intent) { in.PublicKey = small.Public() },
		"too many names":    func(in *ca.Intent) { in.SANs = make([]profiles.SubjectAlternativeName, 65) },
		"another template":  func(in *ca.Intent) { in.Template = "User" },
		"reserved, shouted": san(profiles.SANURI, "URN:WAXSEAL:USER:1"),
	}
	for name, change := range cases {
		in := catest.Intent(t, "refused-00000000001", key)
		change(&in)
		var refused *ca.RefusedError
		if _, err := c.Issue(t.Context(), in); !errors.As(err, &refused) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestEmptySubjectMakesTheNamesCritical(t *testing.T) {
	c := opener(t)(t)
	in := catest.Intent(t, "empty-0000000000001", newKey(t))
	in.Subject, _ = asn1.Marshal(pkix.RDNSequence{})
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range leaf.Extensions {
		if e.Id.Equal((asn1.ObjectIdentifier{2, 5, 29, 17})) && !e.Critical {
			t.Error("RFC 5280 section 4.2.1.6: must be critical")
		}
	}
}

func TestOpenSSLVerifies(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	c := opener(t)(t)
	in := catest.Intent(t, "openssl-00000000001", newKey(t))
	in.SANs = append(in.SANs, profiles.SubjectAlternativeName{Type: profiles.SANUPN, Value: "alice@corp.test"})
	chain, err := c.Issue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if len(chain) != 3 {
		t.Fatalf("%d certificates: the leaf, the issuing CA and the root are right", len(chain))
	}
	leaf, issuing, root := write("leaf.pem", chain[0]), write("issuing.pem", chain[1]), write("root.pem", chain[2])
	out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "smimesign", "-attime", "1777700000", "-CAfile", root, "-untrusted", issuing, leaf).CombinedOutput()
	if err != nil {
		t.Errorf("openssl verify: %s", out)
	}
	text, err := exec.Command(openssl, "x509", "-in", leaf, "-noout", "-text").CombinedOutput()
	if err != nil {
		t.Fatalf("%s", text)
	}
	for _, want := range []string{"email:Alice.Example@corp.test, othername: UPN", "E-mail Protection", "X509v3 Key Usage: critical"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("openssl does not show %q:\n%s", want, text)
		}
	}
}
