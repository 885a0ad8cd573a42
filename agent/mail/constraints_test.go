package mail

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

// certify issues what a template says, valid as the certificates of testpki are.
func certify(t *testing.T, template *x509.Certificate, parent *testpki.Identity) *testpki.Identity {
	t.Helper()
	template.NotBefore, template.NotAfter = testpki.Now().AddDate(-1, 0, 0), testpki.Now().AddDate(1, 0, 0)
	template.BasicConstraintsValid = true
	key := testpki.PoolKey(t, int(template.SerialNumber.Int64()))
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Cert, key.Public(), parent.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testpki.Identity{Cert: cert, Key: key}
}

// withEmail is a subject with an emailAddress.
func withEmail(address string) pkix.Name {
	value := asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(address)}
	return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: value}}}
}

// opensslTrusts reports what OpenSSL says to a chain.
func opensslTrusts(t *testing.T, root, sub, leaf *testpki.Identity) bool {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	at := files(t, map[string][]byte{"root": root.CertPEM(), "sub": sub.CertPEM(), "leaf": leaf.CertPEM()})
	return exec.Command(path, "verify", "-attime", strconv.FormatInt(testpki.Now().Unix(), 10), "-CAfile", at("root"), "-untrusted", at("sub"), at("leaf")).Run() == nil
}

// Name constraints of a CA hold for the addresses in the subject, too, as OpenSSL has it.
func TestNameConstraints(t *testing.T) {
	tests := map[string]struct {
		permitted, excluded []string
		subject             string
		names               []string
		want                bool
	}{
		"none":                       {nil, nil, alice, nil, true},
		"another domain":             {[]string{"partner.example"}, nil, alice, nil, false},
		"another domain, beside":     {[]string{"partner.example"}, nil, alice, []string{"carol@partner.example"}, false},
		"the name alone":             {[]string{"partner.example"}, nil, "", []string{alice}, false},
		"one of several":             {[]string{"partner.example", "example.com"}, nil, alice, nil, true},
		"the mailbox":                {[]string{alice}, nil, alice, nil, true},
		"another mailbox":            {[]string{bob}, nil, alice, nil, false},
		"host in capitals":           {[]string{"EXAMPLE.com"}, nil, alice, nil, true},
		"subdomains only":            {[]string{".example.com"}, nil, alice, nil, false},
		"within the subdomains":      {[]string{".com"}, nil, alice, nil, true},
		"the end of another name":    {[]string{"ple.com"}, nil, alice, nil, false},
		"excluded":                   {nil, []string{"example.com"}, alice, nil, false},
		"excluded mailbox":           {nil, []string{alice}, alice, nil, false},
		"another one is excluded":    {nil, []string{bob}, alice, nil, true},
		"permitted and yet excluded": {[]string{".com"}, []string{"example.com"}, alice, nil, false},
	}
	root := testpki.NewCA(t, "root")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sub := certify(t, &x509.Certificate{
				SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "sub"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
				PermittedDNSDomainsCritical: true, PermittedEmailAddresses: tt.permitted, ExcludedEmailAddresses: tt.excluded,
			}, &root.Identity)
			leaf := &x509.Certificate{SerialNumber: big.NewInt(8), EmailAddresses: tt.names, KeyUsage: x509.KeyUsageDigitalSignature}
			if tt.subject != "" {
				leaf.Subject = withEmail(tt.subject)
			}
			id := certify(t, leaf, sub)
			err := newDesk(t, root).trusted(id.Cert, []*x509.Certificate{sub.Cert})
			if (err == nil) != tt.want {
				t.Errorf("%v", err)
			}
			if got := opensslTrusts(t, &root.Identity, sub, id); got != tt.want {
				t.Errorf("openssl says %v", got)
			}
		})
	}
}
