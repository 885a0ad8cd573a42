package mail

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/keychain"
	"github.com/waxseal/waxseal/internal/testpki"
)

// mac is a device whose user prefers certificates, by address.
type mac struct {
	desk
	own, others map[string]*testpki.Identity
}

func (m mac) Accounts() []apple.Account { return []apple.Account{{Address: alice}} }

func (m mac) PreferredIdentity(address string) (keychain.Item, bool) {
	return preferred(m.own, address)
}

func (m mac) PreferredCertificate(address string) (keychain.Item, bool) {
	return preferred(m.others, address)
}

func preferred(from map[string]*testpki.Identity, address string) (keychain.Item, bool) {
	id, there := from[address]
	if !there {
		return keychain.Item{}, false
	}
	return keychain.Item{Certificate: id.Cert, Key: id.Key}, true
}

func newMac(t *testing.T, ca *testpki.CA, own, others *testpki.Identity, ids ...*testpki.Identity) *Program {
	t.Helper()
	p := newDesk(t, ca, ids...)
	m := mac{desk: p.Device.(desk), own: map[string]*testpki.Identity{}, others: map[string]*testpki.Identity{}}
	if own != nil {
		m.own[alice] = own
	}
	if others != nil {
		m.others[alice], m.others[bob] = others, others
	}
	p.Device = m
	return p
}

// years issues a certificate that begins and ends so many years from now.
func years(t *testing.T, ca *testpki.CA, from, to int, usage x509.KeyUsage) *testpki.Identity {
	t.Helper()
	now := testpki.Now()
	return ca.Issue(t, testpki.Options{CN: alice, Emails: []string{alice}, KeyUsage: usage, NotBefore: now.AddDate(from, 0, 0), NotAfter: now.AddDate(to, 0, 0)})
}

// What is preferred signs, even if something newer is there; without it, or if it cannot sign, the newest that is valid.
func TestMacSigns(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	const signs, encrypts = x509.KeyUsageDigitalSignature, x509.KeyUsageKeyEncipherment
	expired, older, newer := years(t, ca, -3, -1, signs), years(t, ca, -2, 2, signs), years(t, ca, -1, 2, signs)
	coming := years(t, ca, 1, 2, signs)
	tests := map[string]struct {
		preferred *testpki.Identity
		there     []*testpki.Identity
		want      *testpki.Identity
		err       string
	}{
		"preferred":     {older, []*testpki.Identity{expired, older, newer}, older, ""},
		"none is":       {nil, []*testpki.Identity{expired, older, newer}, newer, ""},
		"cannot sign":   {years(t, ca, -1, 2, encrypts), []*testpki.Identity{older}, older, ""},
		"all expired":   {nil, []*testpki.Identity{expired}, nil, "expired"},
		"one to come":   {nil, []*testpki.Identity{older, coming}, older, ""},
		"none yet":      {nil, []*testpki.Identity{coming}, nil, "not valid before 2027-03-02"},
		"no more":       {nil, []*testpki.Identity{expired, coming}, nil, "expired"},
		"nothing there": {nil, nil, nil, "no certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newMac(t, ca, tt.preferred, nil, tt.there...)
			signed, err := p.Sign([]byte(message), "")
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if verdict, err := p.Verify(signed); err != nil || !verdict.Signer.Equal(tt.want.Cert) {
				t.Errorf("signed by another one, or %v", err)
			}
		})
	}
}

// A message goes to the certificates that are preferred for its addresses, to others' and to the sender's.
func TestMacEncrypts(t *testing.T) {
	ca := testpki.NewCA(t, "mail CA")
	const encrypts = x509.KeyUsageKeyEncipherment
	chosen, newer := years(t, ca, -2, 2, encrypts), years(t, ca, -1, 2, encrypts)
	tests := map[string]struct {
		preferred *testpki.Identity
		opens     *testpki.Identity
		err       string
	}{
		"preferred":      {chosen, chosen, ""},
		"cannot encrypt": {years(t, ca, -1, 2, x509.KeyUsageDigitalSignature), nil, "no encryption certificate of " + bob},
		"none is":        {nil, nil, "no encryption certificate of " + bob},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			sealed, _, err := newMac(t, ca, nil, tt.preferred, chosen, newer).Encrypt([]byte(message), "", nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := newDesk(t, ca, tt.opens).Decrypt(sealed); err != nil {
				t.Error(err)
			}
			if _, _, err := newDesk(t, ca, newer).Decrypt(sealed); err == nil {
				t.Error("encrypted to the newest, too")
			}
		})
	}
}
