package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/agent/apple"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// newMac makes the state folder of a Mac with a CA in its System keychain.
func newMac(t *testing.T) string {
	t.Helper()
	ca := testpki.NewCA(t, "mail CA")
	raw, err := proplist.Encode(map[string]any{
		"PayloadType": "Configuration", "PayloadVersion": 1, "PayloadIdentifier": "org.trust", "PayloadUUID": "T",
		"PayloadContent": []any{map[string]any{
			"PayloadType": "com.apple.security.root", "PayloadVersion": 1, "PayloadIdentifier": "org.root", "PayloadUUID": "R", "PayloadContent": ca.Cert.Raw,
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, err := apple.Open(apple.Config{State: dir, Platform: device.PlatformMac})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // end of the preparation
	if err := d.InstallFile(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A Mac says in which keychain a certificate is; an iPhone has one, which is not named.
func TestKeychainOfAMac(t *testing.T) {
	dir := newMac(t)
	code, out, errs := run(t, "", "keychain", "list", "--json", "--state", dir)
	var item listedItem
	if err := json.Unmarshal([]byte(out), &item); code != 0 || err != nil || item.Keychain != apple.KeychainSystem || item.Profile != "org.trust" {
		t.Errorf("%s%s", out, errs)
	}
	if code, out, errs = run(t, "", "keychain", "list", "--state", dir); code != 0 || !strings.HasSuffix(out, "\tSystem/org.trust\n") {
		t.Errorf("%s%s", out, errs)
	}
	phone, _ := newDevice(t)
	if _, out, _ = run(t, "", "keychain", "list", "--json", "--state", phone); strings.Contains(out, `"keychain"`) {
		t.Errorf("an iPhone: %s", out)
	}
}

func TestLogonOnAMac(t *testing.T) {
	dir := newMac(t)
	if code, _, errs := run(t, "", "logon", device.LogonNone, "--state", dir); code != 0 {
		t.Fatal(errs)
	}
	code, out, errs := run(t, "", "info", "--state", dir)
	if code != 0 || !strings.Contains(out, `"logon":"none"`) {
		t.Errorf("%s%s", out, errs)
	}
	if code, _, errs := run(t, "From: a@example.com\n\nx\n", "mail", "sign", "--state", dir); code != 1 || !strings.Contains(errs, "no certificate") {
		t.Errorf("%d %s", code, errs)
	}
}
