package apple

import (
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
)

// Which profiles a channel of a Mac takes (apple.md sections 1.2 and 5.1).
func TestPayloadScope(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	mustSync(t, d)
	dock := payloadDict("com.apple.dock", "dock", nil)
	exchange := payloadDict(kindEWS, "ews", dict{"EmailAddress": alice, "Host": "ews.example.com", "UserName": "alice"})
	preference := payloadDict(kindIdentityPreference, "pref", dict{"Name": alice, "PayloadCertificateUUID": "U-none"})
	tests := map[string]struct {
		payload      dict
		scope        string
		device, user string // what the error says; empty: none
	}{
		"no scope":           {dock, "", "", ""},
		"scope System":       {dock, "System", "", "PayloadScope System came by the user channel"},
		"scope User":         {dock, "User", "PayloadScope User came by the device channel", ""},
		"a mail account":     {mailPayload(nil), "", "belongs to a user and came by the device channel", ""},
		"an Exchange one":    {exchange, "", "belongs to a user and came by the device channel", ""},
		"an ActiveSync one":  {easPayload(nil), "", "no Exchange ActiveSync", "no Exchange ActiveSync"},
		"a preference alone": {preference, "", "belongs to a user and came by the device channel", "names no certificate of this profile"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			profile := profileDict("org.scope."+strings.ReplaceAll(name, " ", ""), tt.payload)
			if tt.scope != "" {
				profile["PayloadScope"] = tt.scope
			}
			for channel, want := range map[*fakeServer]string{u.device: tt.device, u.fakeServer: tt.user} {
				channel.send(installCommand(encode(t, profile)))
				report, err := d.Poll(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if (want == "") != (len(report.Failures) == 0) || !strings.Contains(strings.Join(report.Failures, " "), want) {
					t.Errorf("%v, want %q", report.Failures, want)
				}
			}
		})
	}
}

// Preferences name certificates of their profile; the S/MIME keys of an account mean nothing on a Mac.
func TestPreferences(t *testing.T) {
	u := newMacServer(t)
	d := u.mac(t)
	ca := testpki.NewCA(t, "mail CA")
	own, theirs := issue(t, ca, testpki.Options{}), issue(t, ca, testpki.Options{})
	preference := func(kind, name string, uuid any) dict {
		return with(payloadDict(kind, "pref-"+name, dict{"Name": alice}), "PayloadCertificateUUID", uuid)
	}
	u.send(userProfile(t, "org.mail", mailPayload(dict{"SMIMESigningEnabled": true, "SMIMESigningCertificateUUID": "U-nowhere"}),
		preference(kindIdentityPreference, "own", "U-own"), preference(kindCertificatePreference, "theirs", "U-theirs"),
		p12(t, "own", own, pfx.LegacyDES), p12(t, "theirs", theirs, pfx.LegacyDES)))
	mustSync(t, d)
	accounts := d.Accounts()
	if len(accounts) != 1 || accounts[0].SigningUUID == "U-nowhere" || accounts[0].SignByDefault {
		t.Errorf("accounts: %+v", accounts)
	}
	want := []Preference{
		{Kind: kindIdentityPreference, Name: alice, Profile: "org.mail", SHA256: keychainID(own)},
		{Kind: kindCertificatePreference, Name: alice, Profile: "org.mail", SHA256: keychainID(theirs)},
	}
	if got := d.Preferences(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if err := d.DeleteCertificate(keychainID(own)); err != nil {
		t.Fatal(err)
	}
	if got := d.Preferences(); got[0].SHA256 != "" || got[1] != want[1] {
		t.Errorf("after a deletion: %+v", got)
	}
	u.send(dict{"RequestType": "RemoveProfile", "Identifier": "org.mail"})
	mustSync(t, d)
	if got := d.Preferences(); len(got) != 0 || len(d.Accounts()) != 0 {
		t.Errorf("after the removal: %+v", got)
	}

	certificate := payloadDict(kindPKCS1, "plain", dict{"PayloadContent": theirs.Cert.Raw})
	refused := map[string]struct {
		payloads []dict
		want     string
	}{
		"no Name":                  {[]dict{with(preference(kindCertificatePreference, "x", "U-plain"), "Name", nil), certificate}, "Name"},
		"no UUID":                  {[]dict{preference(kindCertificatePreference, "x", nil), certificate}, "PayloadCertificateUUID"},
		"a UUID that is none":      {[]dict{preference(kindCertificatePreference, "x", "U-gone"), certificate}, "names no certificate of this profile"},
		"of another profile":       {[]dict{preference(kindCertificatePreference, "x", "U-elsewhere")}, "names no certificate of this profile"},
		"an identity without key":  {[]dict{preference(kindIdentityPreference, "x", "U-plain"), certificate}, "names no certificate of this profile"},
		"a payload of other kinds": {[]dict{preference(kindIdentityPreference, "x", "U-mail"), mailPayload(nil)}, "names no certificate of this profile"},
	}
	u.send(userProfile(t, "org.elsewhere", payloadDict(kindPKCS1, "elsewhere", dict{"PayloadContent": theirs.Cert.Raw})))
	mustSync(t, d)
	for name, tt := range refused {
		u.send(userProfile(t, "org.refused", tt.payloads...))
		report, err := d.Poll(t.Context())
		if err != nil || len(report.Failures) != 1 || !strings.Contains(report.Failures[0], tt.want) || len(d.Profiles()) != 2 {
			t.Errorf("%s: %v %v, %d profiles", name, report.Failures, err, len(d.Profiles()))
		}
	}
	u.send(userProfile(t, "org.plain", preference(kindCertificatePreference, "x", "U-plain"), certificate))
	mustSync(t, d) // other people's certificates have no key
}
