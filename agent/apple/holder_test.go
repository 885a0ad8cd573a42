package apple

import (
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
)

// A key goes with the profile that installed it (apple.md section 7.4), and so does the trust in a root, though another
// profile holds the certificate.
func TestKeyAndTrustGoWithTheirProfile(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	ca := testpki.NewCA(t, "mail CA")
	id := issue(t, ca, testpki.Options{})
	bare := payloadDict(kindPKCS1, "bare", dict{"PayloadContent": id.Cert.Raw})
	s.send(
		installCommand(encode(t, profileDict("org.bare", bare))),
		installCommand(encode(t, profileDict("org.trust", payloadDict(kindRoot, "root", dict{"PayloadContent": ca.Cert.Raw})))),
		installCommand(encode(t, profileDict("org.keys", p12(t, "id", id, pfx.LegacyDES, ca.Cert)))),
		dict{"RequestType": "RemoveProfile", "Identifier": "org.trust"},
	)
	mustSync(t, d)
	if _, there := d.Keychain().ByFingerprint(keychainID(&ca.Identity)); !there || len(d.Keychain().Trusted()) != 0 {
		t.Errorf("the root is there: %v; %d are trusted", there, len(d.Keychain().Trusted()))
	}
	s.send(dict{"RequestType": "RemoveProfile", "Identifier": "org.keys"})
	mustSync(t, d)
	if item, there := d.Keychain().ByFingerprint(keychainID(id)); !there || item.Key != nil {
		t.Errorf("the certificate is there: %v, with its key: %v", there, item.Key != nil)
	}
}
