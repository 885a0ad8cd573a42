package apple

import (
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// What the user of a device can remove by hand (apple.md sections 1.2 and 7.4).
func TestRemoveByHand(t *testing.T) {
	s := newServer(t)
	d := s.device(t)
	if err := d.InstallFile(t.Context(), wifi("org.hand")); err != nil {
		t.Fatal(err)
	}
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	s.send(installCommand(encode(t, profileDict("org.keys", p12(t, "id", id, pfx.LegacyDES)))))
	mustSync(t, d)
	contains(t, d.RemoveFile(t.Context(), "org.none"), "no profile", "org.none")
	contains(t, d.RemoveFile(t.Context(), "org.keys"), "org.keys", "its user cannot remove it")
	if !d.Installed("org.keys") || len(d.Keychain().Identities()) != 2 {
		t.Error("a refused removal removed something")
	}
	if err := d.RemoveFile(t.Context(), "org.hand"); err != nil || d.Installed("org.hand") {
		t.Errorf("what the user installed: %v", err)
	}
	if !d.Enrolled() || len(s.checkins) != 2 {
		t.Errorf("enrolled %v, %d check-ins", d.Enrolled(), len(s.checkins))
	}
	if err := d.RemoveFile(t.Context(), "org.enrol"); err != nil {
		t.Fatal(err)
	}
	if d.Enrolled() || len(d.Profiles()) != 0 || len(d.Keychain().Items()) != 0 {
		t.Errorf("enrolled %v, %d profiles, %d certificates", d.Enrolled(), len(d.Profiles()), len(d.Keychain().Items()))
	}
	if last := s.checkins[len(s.checkins)-1]; len(s.checkins) != 3 || proplist.String(last, "MessageType") != "CheckOut" {
		t.Errorf("the last check-in of %d is %v", len(s.checkins), last)
	}
	_, err := d.Sync(t.Context(), 0)
	contains(t, err, "not enrolled", "the MDM profile was removed on the device")
}
