package windows

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

func fingerprint(id *testpki.Identity) string { return keychain.Fingerprint(id.Cert) }

// renewable enrols a PC whose certificate ends in a hundred days; it may be renewed from sixty days before.
func renewable(t *testing.T) (*fakeServer, *Device, *x509.Certificate) {
	s := newServer(t)
	s.notAfter = s.clock.Now().Add(100 * day)
	d := s.device(t)
	s.notAfter = s.notAfter.Add(365 * day)
	id, err := d.state.MDM.identity()
	if err != nil {
		t.Fatal(err)
	}
	return s, d, id.cert
}

func (d *Device) certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	id, err := d.state.MDM.identity()
	if err != nil {
		t.Fatal(err)
	}
	return id.cert
}

func TestRenewal(t *testing.T) {
	s, d, old := renewable(t)
	mustSync(t, d)
	if len(s.tokens) != 1 {
		t.Fatal("renewed too early")
	}
	s.clock.now = s.clock.now.Add(41 * day)
	mustSync(t, d)
	next := d.certificate(t)
	if len(s.tokens) != 2 || !s.tokens[1].Renew || next.Equal(old) || !s.signerKey.Equal(old) {
		t.Fatalf("%d requests", len(s.tokens))
	}
	if ids := d.Keychain().Identities(); len(ids) != 1 || !ids[0].Certificate.Equal(next) || ids[0].Holders[0].Profile != storeUser {
		t.Errorf("%+v", ids)
	}
	mustSync(t, d)
	if len(s.tokens) != 2 {
		t.Error("renewed again at once")
	}
}

// A renewal that fails is tried again after RetryInterval, with the same key, and changes nothing until then.
func TestRenewalFails(t *testing.T) {
	s, d, old := renewable(t)
	s.clock.now = s.clock.now.Add(41 * day)
	s.fault = faultBody("s:EnrollmentServer", "later", "InMaintenance")
	mustSync(t, d)
	next := string(d.state.MDM.NextKey)
	if next == "" || !d.certificate(t).Equal(old) {
		t.Fatal("the key of the attempt is lost, or the old certificate")
	}
	s.fault = ""
	mustSync(t, d)
	if len(s.tokens) != 1 {
		t.Error("tried again too early")
	}
	s.clock.now = s.clock.now.Add(4 * day)
	mustSync(t, d)
	if len(s.tokens) != 2 || string(d.state.MDM.Key) != next || d.state.MDM.NextKey != nil {
		t.Errorf("%d requests", len(s.tokens))
	}
}

func TestNoRenewalAfterTheEnd(t *testing.T) {
	s, d, _ := renewable(t)
	s.clock.now = s.clock.now.Add(101 * day)
	if d.renewalDue() {
		t.Error("an expired certificate is renewed on its own")
	}
}

func TestBadRenewal(t *testing.T) {
	tests := map[string]func(string) string{
		"PROVIDER-ID": func(doc string) string { return strings.Replace(doc, "TestMDM", "OtherMDM", 1) },
		"PrivateKeyCont": func(doc string) string {
			return strings.Replace(doc, `<characteristic type="PrivateKeyContainer"/>`, "", 1)
		},
		"wap-provisioning": func(string) string { return "<x/>" },
	}
	for want, change := range tests {
		s, d, old := renewable(t)
		s.document = change
		err := d.Renew(t.Context())
		contains(t, err, "renewing the MDM certificate", want)
		if !d.certificate(t).Equal(old) {
			t.Error("the old certificate is gone")
		}
	}
}

// The server forces a renewal.
func TestRenewNow(t *testing.T) {
	s, d, old := renewable(t)
	s.send([]syncml.Command{command(syncml.Exec, renewURI+"RenewNow", "null", "")})
	mustSync(t, d)
	if len(s.tokens) != 2 || d.certificate(t).Equal(old) {
		t.Errorf("%d requests", len(s.tokens))
	}
	if err := d.Renew(t.Context()); err != nil || len(s.tokens) != 3 {
		t.Errorf("by hand: %v", err)
	}
	s.clock.now = s.clock.now.Add(time.Hour)
	mustSync(t, d)
}
