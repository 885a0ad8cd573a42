package mail

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/smime"
	"github.com/waxseal/waxseal/internal/testpki"
)

// A phone signs and encrypts as the account's S/MIME keys say; those that are absent are false, and the user cannot change it.
func TestPhoneObeysAccount(t *testing.T) {
	const signUUID, encryptUUID = "SMIMESigningCertificateUUID", "SMIMEEncryptionCertificateUUID"
	const lockedSign, noIdentity, lockedEncrypt = "SMIMESigningUserOverrideable", "SMIMESigningCertificateUUIDUserOverrideable", "SMIMEEncryptByDefault"
	tests := map[string]struct {
		keys          dict
		sign, encrypt string // what the error names; empty: it can
		attached      bool   // the own encryption certificate, to what is sent
	}{
		"nothing":                {dict{}, lockedSign, lockedEncrypt, false},
		"UUIDs without switches": {dict{signUUID: "U-sign", encryptUUID: "U-encrypt"}, lockedSign, lockedEncrypt, false},
		"switches without UUIDs": {dict{"SMIMESigningEnabled": true, "SMIMEEncryptByDefault": true}, noIdentity, "", false},
		"forced":                 {dict{"SMIMESigningEnabled": true, signUUID: "U-sign", "SMIMEEncryptByDefault": true, encryptUUID: "U-encrypt"}, "", "", true},
		"user may switch on": {dict{"SMIMESigningUserOverrideable": true, signUUID: "U-sign",
			"SMIMEEncryptByDefaultUserOverrideable": true, encryptUUID: "U-encrypt"}, "", "", true},
		"user may choose": {dict{"SMIMESigningEnabled": true, "SMIMESigningCertificateUUIDUserOverrideable": true,
			"SMIMEEncryptionCertificateUUIDUserOverrideable": true}, "", "", true},
		"chooses what is off":   {dict{"SMIMESigningCertificateUUIDUserOverrideable": true}, lockedSign, lockedEncrypt, false},
		"per message, old name": {dict{"SMIMESigningEnabled": true, signUUID: "U-sign", "SMIMEEnablePerMessageSwitch": true}, "", "", false},
	}
	ca := testpki.NewCA(t, "mail CA")
	a, b := newPerson(t, ca, alice), newPerson(t, ca, bob)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			a.setUp(t, ca, alice, tt.keys)
			signed, err := a.Sign([]byte(message), "")
			refuses(t, err, tt.sign)
			sealed, warning, sealErr := a.Encrypt([]byte(message), "", []*x509.Certificate{b.encrypt.Cert})
			refuses(t, sealErr, tt.encrypt)
			if err == nil && attaches(t, signed, a.encrypt) != tt.attached {
				t.Errorf("attached: %v", !tt.attached)
			}
			if _, _, err := a.Decrypt(sealed); sealErr == nil && ((err == nil) != tt.attached || (warning == "") != tt.attached) {
				t.Errorf("own copy: %v, warning %q", err, warning)
			}
		})
	}
}

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func attaches(t *testing.T, signed []byte, id *testpki.Identity) bool {
	t.Helper()
	v, err := smime.Verify(signed)
	if err != nil {
		t.Fatal(err)
	}
	return v.EncryptionCertificate != nil && bytes.Equal(v.EncryptionCertificate.Raw, id.Cert.Raw)
}

// An address that has no account, which the user added by hand, is free of any profile.
func TestPhoneWithoutAccount(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	a := newPerson(t, ca, alice)
	private := ca.Issue(t, testpki.Options{Emails: []string{"alice@home.example"}})
	a.install(t, "org.private", p12(t, "private", private))
	if _, err := a.Sign([]byte(message), "alice@home.example"); err != nil {
		t.Error(err)
	}
}
