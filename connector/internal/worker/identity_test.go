package worker

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
)

func TestIdentityTakesItsNamesFromTheJob(t *testing.T) {
	h := newHouse(t)
	cert := h.device(t, "e1", "u1")
	if cert.Subject.String() != "CN=e1" || len(cert.EmailAddresses) != 0 || len(cert.URIs) != 2 {
		t.Errorf("subject %s, addresses %v, URIs %v", cert.Subject, cert.EmailAddresses, cert.URIs)
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("key usage %b", cert.KeyUsage)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore); life != 365*24*time.Hour || !cert.NotBefore.Before(testNow) {
		t.Errorf("valid from %s for %s", cert.NotBefore, life)
	}
	opensslVerifies(t, h.server.DeviceCA, cert.Raw)
}

func opensslVerifies(t *testing.T, root, leaf []byte) {
	t.Helper()
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("WAXSEAL_TEST_STRICT") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	for name, der := range map[string][]byte{"root.pem": root, "leaf.pem": leaf} {
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-attime", "1777700000", "-CAfile", "root.pem", "leaf.pem")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl verify: %s", out)
	}
}

func TestIdentityRepeated(t *testing.T) {
	h := newHouse(t)
	first := link.IdentityJob{CSR: csr(t, deviceKey()), EnrolmentID: "e1", UserID: "u1"}
	other, otherUser := first, first
	other.CSR = csr(t, foreignKey())
	otherUser.UserID = "u2"
	var got [4]link.IdentityAnswer
	var failed [4]*link.JobError
	for i, p := range []link.IdentityJob{first, first, other, otherUser} {
		id := string(rune('a' + i))
		h.server.Put(t, id, "challenge-1", link.JobIdentity, p)
		h.work(t)
		failed[i] = h.server.Answer(t, id, &got[i])
	}
	if failed[0] != nil || failed[1] != nil || !bytes.Equal(got[0].Certificate, got[1].Certificate) {
		t.Errorf("the same request gave another certificate: %v, %v", failed[0], failed[1])
	}
	for i := 2; i < 4; i++ {
		if failed[i] == nil || !failed[i].Final || got[i].Certificate != nil {
			t.Errorf("request %d was not refused for good: %+v", i, failed[i])
		}
	}
}

func TestIdentityRefusals(t *testing.T) {
	h := newHouse(t)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := csr(t, deviceKey())
	altered := bytes.Clone(good)
	altered[len(altered)-1] ^= 1
	cases := map[string]link.IdentityJob{
		"1024 bits":          {CSR: csr(t, small), EnrolmentID: "e1", UserID: "u1"},
		"RSA key to decrypt": {CSR: csr(t, elliptic), EnrolmentID: "e1", UserID: "u1"},
		"its own key":        {CSR: altered, EnrolmentID: "e1", UserID: "u1"},
		"does not parse":     {CSR: []byte("garbage"), EnrolmentID: "e1", UserID: "u1"},
		"ids are":            {CSR: good, EnrolmentID: "e1", UserID: "u1\nu2"},
		"at most 64":         {CSR: good, EnrolmentID: strings.Repeat("e", 65), UserID: "u1"},
		"user \"u1:urn\"":    {CSR: good, EnrolmentID: "e1", UserID: "u1:urn"},
		"longer than":        {CSR: make([]byte, 70000), EnrolmentID: "e1", UserID: "u1"},
	}
	for want, p := range cases {
		_, jobErr := do[link.IdentityAnswer](t, h, want, link.JobIdentity, p)
		if jobErr == nil || !jobErr.Final || !strings.Contains(jobErr.Message, want) {
			t.Errorf("%s: got %+v", want, jobErr)
		}
	}
}
