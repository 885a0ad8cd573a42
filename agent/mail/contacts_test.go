package mail

import (
	"crypto/rand"
	"crypto/x509"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/internal/testpki"
)

// What is known of a sender comes from the message that was signed last, in whichever order they are looked at.
func TestRemembersLatest(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	const signs, encrypts = x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment
	signer, first, second := years(t, ca, -1, 2, signs), years(t, ca, -2, 2, encrypts), years(t, ca, -1, 2, encrypts)
	now := testpki.Now()
	tests := []struct {
		name     string
		brings   *testpki.Identity
		signed   time.Time
		reported bool
		known    *testpki.Identity // afterwards
	}{
		{"far future", second, now.AddDate(0, 0, 2), false, nil},
		{"the first", first, now.AddDate(0, 0, -9), true, first},
		{"another one earlier", second, now.AddDate(0, 0, -10), false, first},
		{"another one at the same time", second, now.AddDate(0, 0, -9), false, first},
		{"the same one earlier", first, now.AddDate(0, 0, -11), true, first},
		{"the next", second, now.AddDate(0, 0, -1), true, second},
		{"the first again", first, now.AddDate(0, 0, -9), false, second},
		{"a clock ahead", first, now.Add(time.Hour), true, first},
		{"no time", second, time.Time{}, false, first},
	}
	p := newDesk(t, ca)
	for _, tt := range tests {
		s := smime.Signer{Certificate: signer.Cert, Key: signer.Key, Encryption: tt.brings.Cert}
		signed, err := smime.Sign(rand.Reader, []byte(message), s, tt.signed)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Verify(signed)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if (v.Remembered != nil) != tt.reported {
			t.Errorf("%s: reported %v", tt.name, v.Remembered != nil)
		}
		known, err := p.Contacts.Find(alice)
		if err != nil || (known != nil) != (tt.known != nil) || known != nil && !known.Equal(tt.known.Cert) {
			t.Errorf("%s: another one is known, %v", tt.name, err)
		}
	}
}

// looked counts how often the roots were asked for, which is once for each chain.
type looked struct {
	desk
	times int
}

func (l *looked) Roots() (*x509.CertPool, error) {
	l.times++
	return l.desk.Roots()
}

// Certificates that somebody put into a message, all in the sender's name, cost no more than a few chains.
func TestManyCertificates(t *testing.T) {
	ca, other := testpki.NewCA(t, "mail CA"), testpki.NewCA(t, "another CA")
	signer := years(t, ca, -1, 2, x509.KeyUsageDigitalSignature)
	s := smime.Signer{Certificate: signer.Cert, Key: signer.Key}
	for range 30 {
		s.Chain = append(s.Chain, years(t, other, -1, 2, x509.KeyUsageKeyEncipherment).Cert)
	}
	signed, err := smime.Sign(rand.Reader, []byte(message), s, testpki.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := newDesk(t, ca)
	device := &looked{desk: p.Device.(desk)}
	p.Device = device
	if v, err := p.Verify(signed); err != nil || v.Remembered != nil {
		t.Errorf("%+v %v", v, err)
	}
	if device.times > 1+maxAnnounced {
		t.Errorf("%d chains", device.times)
	}
}

// A contact without a time, as it was written before, is read and gives way.
func TestContactWithoutTime(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	old, next := years(t, ca, -2, 2, x509.KeyUsageKeyEncipherment), years(t, ca, -1, 2, x509.KeyUsageKeyEncipherment)
	c := Contacts{Dir: t.TempDir()}
	if err := os.WriteFile(c.file(alice), old.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	if cert, err := c.Find(alice); err != nil || !cert.Equal(old.Cert) {
		t.Errorf("%v", err)
	}
	if kept, err := c.Remember(alice, next.Cert, testpki.Now()); err != nil || !kept {
		t.Errorf("%v %v", kept, err)
	}
}

// Nobody is encrypted to by a certificate that is for signing; one that is not valid now is warned of.
func TestRecipientCertificates(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	issue := func(from, to int, usage x509.KeyUsage) *testpki.Identity {
		return ca.Issue(t, testpki.Options{Emails: []string{bob}, KeyUsage: usage,
			NotBefore: testpki.Now().AddDate(from, 0, 0), NotAfter: testpki.Now().AddDate(to, 0, 0)})
	}
	const signs, encrypts = x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment
	own := years(t, ca, -1, 2, encrypts)
	tests := map[string]struct {
		id            *testpki.Identity
		warning, fail string
	}{
		"valid":        {issue(-1, 1, encrypts), "", ""},
		"expired":      {issue(-2, -1, encrypts), "expired on 2025-03-02", ""},
		"to come":      {issue(1, 2, encrypts), "not valid before 2027-03-02", ""},
		"signing only": {issue(-1, 1, signs), "", "not for encryption"},
	}
	for name, tt := range tests {
		for _, way := range []string{"given", "remembered"} {
			p := newDesk(t, ca, own)
			var given []*x509.Certificate
			if way == "given" {
				given = append(given, tt.id.Cert)
			} else if _, err := p.Contacts.Remember(bob, tt.id.Cert, testpki.Now()); err != nil {
				t.Fatal(err)
			}
			_, warning, err := p.Encrypt([]byte(message), "", given)
			if (err != nil) != (tt.fail != "") || err != nil && !strings.Contains(err.Error(), tt.fail) {
				t.Errorf("%s, %s: %v, want %q", name, way, err, tt.fail)
			}
			if (warning != "") != (tt.warning != "") || !strings.Contains(warning, tt.warning) || strings.Count(warning, "certificate of") > 1 {
				t.Errorf("%s, %s: warning %q, want %q", name, way, warning, tt.warning)
			}
		}
	}
}
