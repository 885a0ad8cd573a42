package apple

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// What comes by the wrong channel is refused with the error of macOS, or with the one that the owner of the test chose.
func TestMisplaced(t *testing.T) {
	for _, want := range []Error{{Domain: domainPlugin, Code: -107}, {Domain: domainProfile, Code: 1009}} {
		u := newMacServer(t)
		cfg := u.config(t)
		if want.Domain != domainPlugin {
			cfg.Misplaced = &want
		}
		d, err := Enroll(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close() //nolint:errcheck // end of the test
		u.device.send(installCommand(encode(t, profileDict("org.mail", mailPayload(nil)))))
		if _, err := d.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		chain := proplist.Array(u.device.last(), "ErrorChain")
		outer, inner := chain[0].(dict), chain[len(chain)-1].(dict)
		if outer["ErrorDomain"] != domainInstall || proplist.Int(outer, "ErrorCode") != 4001 ||
			inner["ErrorDomain"] != want.Domain || proplist.Int(inner, "ErrorCode") != want.Code {
			t.Errorf("ErrorChain %v, want %s %d", chain, want.Domain, want.Code)
		}
	}
}

// What Mail sees: the keychains and preferences of who is logged on.
func TestUserOfAMac(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	ca := testpki.NewCA(t, "mail CA")
	sign := issue(t, ca, testpki.Options{KeyUsage: x509.KeyUsageDigitalSignature})
	encrypt := issue(t, ca, testpki.Options{KeyUsage: x509.KeyUsageKeyEncipherment})
	prefer := func(kind, name, uuid string) dict {
		return payloadDict(kind, name, dict{"Name": alice, "PayloadCertificateUUID": uuid})
	}
	u.send(userProfile(t, "org.mail", mailPayload(nil), p12(t, "sign", sign, pfx.LegacyDES), p12(t, "encrypt", encrypt, pfx.LegacyDES),
		prefer(kindIdentityPreference, "own", "U-sign"), prefer(kindCertificatePreference, "other", "U-encrypt")))
	mustSync(t, d)
	own, there := d.User().PreferredIdentity(alice)
	other, too := d.User().PreferredCertificate(alice)
	if !there || !too || own.ID() != keychainID(sign) || other.ID() != keychainID(encrypt) {
		t.Errorf("preferred: %v, %v", there, too)
	}
	if _, there := d.User().PreferredIdentity(strings.ToUpper(alice)); there {
		t.Error("an address in another spelling is preferred too")
	}
	if a := d.User().Accounts(); len(a) != 1 || a[0].SigningUUID != "" || a[0].EncryptionUUID != "" {
		t.Errorf("accounts %+v", a)
	}
	for who, want := range map[string]int{device.LogonUser: 3, device.LogonNone: 1} { // the identity of the device is in the System keychain
		logsOn(t, d, who)
		_, there := d.User().PreferredCertificate(alice)
		if n := len(d.User().Keychain().Identities()); n != want || there != (want > 1) || len(d.User().Accounts()) != want/2 {
			t.Errorf("%s logged on: %d identities, want %d; preferred: %v", who, n, want, there)
		}
	}
	logsOn(t, d, device.LogonUser)
	if err := d.DeleteCertificate(keychainID(sign)); err != nil {
		t.Fatal(err)
	}
	if _, there := d.User().PreferredIdentity(alice); there {
		t.Error("a deleted identity is preferred")
	}
}

func TestKeychainsOf(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	ca := testpki.NewCA(t, "mail CA")
	id := issue(t, ca, testpki.Options{})
	root := payloadDict(kindRoot, "root", dict{"PayloadContent": ca.Cert.Raw})
	u.device.send(installCommand(encode(t, profileDict("org.trust", root))))
	u.send(userProfile(t, "org.user", root, p12(t, "id", id, pfx.LegacyDES)))
	mustSync(t, d)
	names := map[string]string{keychainID(&ca.Identity): "login,System", keychainID(id): KeychainLogin, d.state.fingerprint(t, d): KeychainSystem, "00": ""}
	for fingerprint, want := range names {
		if got := strings.Join(d.KeychainsOf(fingerprint), ","); got != want {
			t.Errorf("in keychain %q, want %q", got, want)
		}
	}
	phone := newServer(t).device(t)
	if got := phone.KeychainsOf(phone.keys.Items()[0].ID()); len(got) != 0 {
		t.Errorf("an iPhone has a keychain %q", got)
	}
}

// fingerprint is that of the identity of the MDM profile.
func (s *state) fingerprint(t *testing.T, d *Device) string {
	t.Helper()
	item, there := d.keys.Payload(s.MDM.Profile, s.MDM.Identity)
	if !there {
		t.Fatal("no identity")
	}
	return item.ID()
}

// A user channel can neither end the enrolment nor lock or erase the Mac, and shows certificates of a locked keychain.
func TestCommandsToAUser(t *testing.T) {
	tests := map[string]struct {
		command dict
		status  string
		code    int
	}{
		"the MDM profile": {dict{"RequestType": "RemoveProfile", "Identifier": "org.enrol"}, statusError, 12075},
		"erase":           {dict{"RequestType": "EraseDevice"}, statusError, 12021},
		"lock":            {dict{"RequestType": "DeviceLock"}, statusError, 12021},
		"certificates":    {dict{"RequestType": "CertificateList"}, statusAcknowledged, 0},
		"profiles":        {dict{"RequestType": "ProfileList"}, statusAcknowledged, 0},
		"install":         {installCommand(wifi("org.wifi")), statusNotNow, 0},
		"remove":          {dict{"RequestType": "RemoveProfile", "Identifier": "org.wifi"}, statusNotNow, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			u := newMacServer(t)
			u.device.rights = 8191
			d := u.mac(t)
			if err := d.Lock(tt.code == 0); err != nil {
				t.Fatal(err)
			}
			u.send(tt.command)
			if _, err := d.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := u.last()
			if got["Status"] != tt.status || !d.Enrolled() || d.Folder().Locked() != (tt.code == 0) {
				t.Errorf("%v, enrolled %v", got, d.Enrolled())
			}
			if tt.code != 0 && proplist.Int(proplist.Array(got, "ErrorChain")[0].(dict), "ErrorCode") != tt.code {
				t.Errorf("%v, want %d", got, tt.code)
			}
		})
	}
}

// After a restart the user channel trusts for SCEP what the owner of the Mac trusts; an update of the system reaches it.
func TestUserChannelAfterARestart(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	mustSync(t, d)
	if err := d.SetOSVersion("15.2"); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := u.config(t)
	cfg.State, cfg.CA = d.Folder().Dir, nil
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the test
	scep := proplist.Array(u.device.enrolmentProfile(), "PayloadContent")[1].(dict)
	u.send(userProfile(t, "org.scep", scep), dict{"RequestType": "DeviceInformation", "Queries": []any{"OSVersion"}})
	mustSync(t, d)
	if got := proplist.String(proplist.Sub(u.last(), "QueryResponses"), "OSVersion"); got != "15.2" {
		t.Errorf("the user channel says OSVersion %q", got)
	}
}
