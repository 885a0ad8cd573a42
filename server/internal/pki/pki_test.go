package pki

import (
	"crypto/rand"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func at(year int) func() time.Time {
	return func() time.Time { return time.Date(year, 3, 1, 12, 0, 0, 0, time.UTC) }
}

func TestOwnTLS(t *testing.T) {
	dir := t.TempDir()
	own, err := NewOwnTLS(dir, []string{"mdm.example.com", "192.0.2.7", "0.0.0.0", ""}, at(2026), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := own.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(own.CA())
	for _, host := range []string{"mdm.example.com", "192.0.2.7", "localhost", "127.0.0.1"} {
		if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: at(2026)()}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, key := range []string{CAKeyFile, TLSKeyFile} {
		info, err := os.Stat(filepath.Join(dir, key))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", key, info, err)
		}
	}
}

func TestOwnTLSStaysAndRenews(t *testing.T) {
	dir := t.TempDir()
	serials := map[string]bool{}
	open := func(year int, host string) *OwnTLS {
		own, err := NewOwnTLS(dir, []string{host}, at(year), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		serials[own.leaf.SerialNumber.String()] = true
		return own
	}
	first := open(2026, "a.example")
	again := open(2026, "a.example")
	if len(serials) != 1 || !first.CA().Equal(again.CA()) {
		t.Errorf("a restart made another certificate or CA: %v", serials)
	}
	open(2026, "b.example")
	if len(serials) != 2 {
		t.Error("another host got no other certificate")
	}
	clock := at(2026)()
	own, err := NewOwnTLS(dir, []string{"b.example"}, func() time.Time { return clock }, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before := own.leaf
	clock = clock.AddDate(1, 1, 0)
	c, err := own.GetCertificate(nil)
	if err != nil || c.Leaf.Equal(before) || !c.Leaf.NotAfter.After(clock) {
		t.Errorf("a running server did not renew: %v", err)
	}
}

func TestBrokenFilesAreNamed(t *testing.T) {
	for _, file := range []string{CAKeyFile, CAFile, RAKeyFile} {
		dir := t.TempDir()
		if _, err := NewOwnTLS(dir, nil, at(2026), rand.Reader); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte("-----BEGIN NONSENSE-----"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := NewOwnTLS(dir, nil, at(2026), rand.Reader)
		if file == RAKeyFile {
			_, err = RAKey(dir, rand.Reader)
		}
		if err == nil || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "NONSENSE") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestForeignCAKeyIsRefused(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	for _, d := range []string{dir, other} {
		if _, err := NewOwnTLS(d, nil, at(2026), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(other, CAFile), filepath.Join(dir, CAFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewOwnTLS(dir, nil, at(2026), rand.Reader); err == nil || !strings.Contains(err.Error(), "one backup") {
		t.Errorf("got %v", err)
	}
}

func TestOwnSigner(t *testing.T) {
	dir := t.TempDir()
	own, err := NewOwnTLS(dir, nil, at(2026), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OwnSigner(dir, own, at(2026), rand.Reader)
	if err != nil || s.Certificate.CheckSignatureFrom(own.CA()) != nil || len(s.Chain) != 1 {
		t.Fatalf("got %+v, %v", s, err)
	}
	again, err := OwnSigner(dir, own, at(2026), rand.Reader)
	if err != nil || !again.Certificate.Equal(s.Certificate) {
		t.Errorf("a restart made another certificate: %v", err)
	}
	alone, err := OwnSigner(t.TempDir(), nil, at(2026), rand.Reader)
	if err != nil || alone.Certificate.CheckSignature(alone.Certificate.SignatureAlgorithm, alone.Certificate.RawTBSCertificate, alone.Certificate.Signature) != nil {
		t.Errorf("self-signed: %v", err)
	}
	configured, err := NewSigner(filepath.Join(dir, SigningCertFile), filepath.Join(dir, SigningKeyFile))
	if err != nil || !configured.Certificate.Equal(s.Certificate) {
		t.Errorf("configured: %v", err)
	}
}

func TestRAKeyStays(t *testing.T) {
	dir := t.TempDir()
	a, err := RAKey(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := RAKey(dir, rand.Reader)
	if err != nil || !a.Equal(b) {
		t.Errorf("a restart made another key: %v", err)
	}
}
