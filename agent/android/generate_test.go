package android

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/android/framework"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// certify issues a certificate for a key, the same for the same one.
func (s *fakeServer) certify(w http.ResponseWriter, r *http.Request) {
	m := read(s, r, companion.DecodeCSRRequest)
	csr, err := x509.ParseCertificateRequest(m.CSR)
	if err != nil || csr.CheckSignature() != nil {
		s.t.Errorf("the request: %v", err)
		problem(w, companion.CodeMalformed)
		return
	}
	s.csrs = append(s.csrs, csr)
	key := string(csr.RawSubjectPublicKeyInfo)
	if s.issued == nil {
		s.issued = map[string][]byte{}
	}
	if s.issued[key] == nil {
		s.issued[key] = s.ca.IssueCSR(s.t, csr, testpki.Options{CN: "alice@corp.test", Emails: []string{"alice@corp.test"}}).Raw
	}
	answerWith(w, http.StatusOK, companion.CSRResponse{CertSHA256: framework.Fingerprint(s.issued[key]), Chain: [][]byte{s.issued[key], s.ca.Cert.Raw}})
}

// ownItem is an identity whose key the device makes.
func ownItem(alias string) companion.Item {
	subject, _ := asn1.Marshal(pkix.Name{CommonName: "Alice"}.ToRDNSequence())
	return companion.Item{ID: "identity:" + alias, Revision: "r1", Kind: companion.KindIdentity, Op: companion.OpInstall,
		Identity: &companion.Identity{Purpose: companion.PurposeSign, Current: true, Alias: alias, Payload: companion.PayloadGenerate,
			Generate: &companion.Generate{KeyAlg: companion.KeyAlgRSA, KeySize: 2048, Subject: subject, KeyUsage: []string{"digitalSignature", "contentCommitment"},
				Names: []companion.Name{{Type: companion.NameEmail, Value: "alice@corp.test"}, {Type: companion.NameDNS, Value: "a.corp.test"},
					{Type: companion.NameURI, Value: "https://corp.test/a"}, {Type: companion.NameUPN, Value: "alice@corp.test"}}}}}
}

// keys lets a device make another key each time, after the wrap key.
func keys(t *testing.T, made *int) func(*Config) {
	return func(c *Config) {
		c.NewKey = func(int) (*rsa.PrivateKey, error) { *made++; return testpki.PoolKey(t, 2+*made), nil }
	}
}

func TestKeyOfItsOwn(t *testing.T) {
	for _, version := range []string{"9", "11", "15"} {
		s, made := newServer(t), 0
		d := s.device(t, keys(t, &made), func(c *Config) { c.OSVersion = version })
		own, grant := ownItem("smime-sign-1"), grantItem(outlook, "smime-sign-1")
		s.want(own, grant)
		_, err := d.Sync(t.Context(), 0)
		if grants := version != "9"; (err == nil) != grants {
			t.Fatalf("Android %s: %v", version, err)
		}
		sum := d.Phone().Work.Keys["smime-sign-1"].Fingerprint()
		if got := s.reports(own.ID); got != "installed" || s.told[0].Observed.CertSHA256 != sum || made != 2 || len(s.csrs) != 1 || s.payloads != 0 {
			t.Errorf("Android %s: %q, %d keys, %d requests", version, got, made, len(s.csrs))
		}
		if held := s.last(t).Identities; len(held) != 1 || held[0].CertSHA256 != sum || !held[0].Present {
			t.Errorf("Android %s: %+v", version, held)
		}
		csr := s.csrs[0]
		if csr.Subject.CommonName != "Alice" || !slices.Equal(csr.EmailAddresses, []string{"alice@corp.test"}) || !slices.Equal(csr.DNSNames, []string{"a.corp.test"}) ||
			len(csr.URIs) != 1 || len(csr.Extensions) != 2 {
			t.Errorf("Android %s: %+v", version, csr.Extensions)
		}
		s.want(removal(own), removal(grant))
		mustSync(t, d)
		if len(d.Phone().Work.Keys) != 0 {
			t.Errorf("Android %s: the key is left", version)
		}
	}
}

// What the server answers to a request for a certificate, and what the app makes of it.
func TestNoCertificate(t *testing.T) {
	tests := []struct {
		name, code string
		reports    string // while it is so
		keys       int    // made in the end, the wrap key among them
	}{
		{"too slow", companion.CodeWaitingForConnector, "", 2},
		{"another revision", companion.CodeRevisionStale, "", 2},
		{"not wanted", companion.CodeItemGone, "", 2},
		{"a broken server", companion.CodeInternal, "retry_wait", 2},
		{"refused", companion.CodeCSRRefused, "failed", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, made := newServer(t), 0
			d := s.device(t, keys(t, &made))
			own := ownItem("smime-sign-1")
			s.want(own)
			s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				csr := strings.HasSuffix(r.URL.Path, "/csr")
				if csr {
					problem(w, tt.code)
				}
				return csr
			}
			if _, err := d.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.reports(own.ID); got != tt.reports || len(s.inventories) > 0 && len(s.last(t).Identities) > 0 {
				t.Errorf("told %q, want %q", got, tt.reports)
			}
			if left := len(d.Phone().Work.Keys); left != 3-tt.keys {
				t.Errorf("%d keys in the key chain", left)
			}
			s.refuse, s.clock.now = nil, s.clock.now.Add(time.Minute)
			own.Attempt++ // the server offers what failed anew
			s.want(own)
			mustSync(t, d)
			if want := strings.TrimSpace(tt.reports + " installed"); s.reports(own.ID) != want || made != tt.keys {
				t.Errorf("told %q, want %q; %d keys were made", s.reports(own.ID), want, made)
			}
		})
	}
}

func TestCertificateOfAnotherKey(t *testing.T) {
	s, made := newServer(t), 0
	d := s.device(t, keys(t, &made))
	own, other := ownItem("smime-sign-1"), s.mailID("alice@corp.test").Cert.Raw
	s.want(own)
	s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		csr := strings.HasSuffix(r.URL.Path, "/csr")
		if csr {
			answerWith(w, http.StatusOK, companion.CSRResponse{CertSHA256: framework.Fingerprint(other), Chain: [][]byte{other}})
		}
		return csr
	}
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, string(companion.ErrKeyCertMismatch))
	if s.reports(own.ID) != "failed" || len(d.Phone().Work.Keys["smime-sign-1"].Chain) != 0 {
		t.Errorf("told %q", s.reports(own.ID))
	}
}

// What keeps a device from making a key; it goes on by itself.
func TestNoKeyOfItsOwn(t *testing.T) {
	tests := map[companion.ErrorCode]struct{ hinder, heal func(d *Device) error }{
		companion.ErrDelegationMissing: {
			func(d *Device) error {
				return d.Change(func(w *framework.World) error { return w.Delegate(framework.ScopeCertInstall, false) })
			},
			func(d *Device) error {
				return d.Change(func(w *framework.World) error { return w.Delegate(framework.ScopeCertInstall, true) })
			}},
		companion.ErrStorageFull: {
			func(d *Device) error { d.Phone().StorageFull = true; return nil }, func(d *Device) error { d.Phone().StorageFull = false; return nil }},
		companion.ErrKeychainRefused: {
			func(d *Device) error { d.Phone().Refusals = 1; return nil }, func(*Device) error { return nil }},
		companion.ErrUserLocked: {
			func(d *Device) error { return d.Folder().SetLocked(true) }, func(d *Device) error { return d.Folder().SetLocked(false) }},
	}
	for code, tt := range tests {
		s, made := newServer(t), 0
		d := s.device(t, keys(t, &made))
		s.want(ownItem("smime-sign-1"))
		if err := tt.hinder(d); err != nil {
			t.Fatal(err)
		}
		_, err := d.Sync(t.Context(), 0)
		contains(t, err, string(code))
		if err := tt.heal(d); err != nil {
			t.Fatal(err)
		}
		s.clock.now = s.clock.now.Add(time.Minute)
		mustSync(t, d)
		if made != 2 {
			t.Errorf("%s: %d keys were made", code, made)
		}
	}
}

// A key without a certificate leaves with the device, and with the item.
func TestKeyWithoutCertificateGoes(t *testing.T) {
	for name, leave := range map[string]func(*fakeServer, *Device) error{
		"unenrolled": func(_ *fakeServer, d *Device) error { return d.Unenroll(t.Context()) },
		"removed": func(s *fakeServer, d *Device) error {
			s.want() // not spoken of for a while
			if _, err := d.Sync(t.Context(), 0); err != nil {
				return err
			}
			s.want(removal(ownItem("smime-sign-1")))
			_, err := d.Sync(t.Context(), 0)
			return err
		},
	} {
		s := newServer(t)
		d := s.device(t)
		s.want(ownItem("smime-sign-1"))
		if err := d.Chaos(ChaosCrashMake); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Sync(t.Context(), 0); !errors.Is(err, ErrCrashed) || len(d.Phone().Work.Keys) != 1 {
			t.Fatal(err)
		}
		if err := d.Chaos(); err != nil {
			t.Fatal(err)
		}
		if err := leave(s, d); err != nil {
			t.Fatal(err)
		}
		if len(d.Phone().Work.Keys) != 0 || len(s.csrs) != 0 {
			t.Errorf("%s: %d keys are left", name, len(d.Phone().Work.Keys))
		}
	}
}
