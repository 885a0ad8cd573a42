package windows

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
)

func TestInstallGoldens(t *testing.T) {
	in := with(sales(t), object("issuing", &profiles.TrustedCertificate{Certificate: partner(t)}))
	docs := Plan(in)
	for _, c := range []struct {
		id, name string
		replace  bool
	}{
		{docs[0].ID, "root.xml", false},
		{docs[0].ID, "root-replace.xml", true},
		{history(enc("2018", 0, 0)), "pfx.xml", false},
		{history(enc("2018", 0, 0)), "pfx-replace.xml", true},
		{"mail.company-mail", "outlook.xml", false},
		{"mail.company-mail", "outlook-replace.xml", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc := byID(t, docs, c.id)
			commands, _, err := Install(doc, rendering(t, doc), c.replace)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, c.name, message(t, commands))
		})
	}
}

func TestChecks(t *testing.T) {
	docs := Plan(sales(t))
	pfx := docs[1]
	encoded := strings.TrimSuffix(docs[0].Identifier, "/") + "/EncodedCertificate"
	for _, c := range []struct {
		id   string
		want []string
	}{
		{docs[0].ID, []string{encoded}},
		{pfx.ID, []string{pfx.Identifier + "/Status", pfx.Identifier + "/Thumbprint"}},
		{"mail.company-mail", []string{policyArea + "/MessageFormats", policyArea + "/AlwaysSign", policyArea + "/AlwaysEncrypt",
			policyArea + "/ClearSign"}},
	} {
		doc := byID(t, docs, c.id)
		_, checks, err := Install(doc, rendering(t, doc), false)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range checks {
			got = append(got, k.LocURI)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: checks %q, want %q", c.id, got, c.want)
		}
	}
}

func TestOtherCommands(t *testing.T) {
	for name, commands := range map[string][]syncml.Command{
		"wipe.xml": Wipe(), "unenroll.xml": Unenroll("Waxseal 1"),
		"remove-pfx.xml": Remove(userPFX + "/" + strings.Repeat("AB", 20)), "remove-outlook.xml": Remove(strings.ToLower(admxApp)),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, message(t, commands)) })
	}
	if got := Remove(""); got != nil {
		t.Errorf("removing nothing: %v", got)
	}
}

// Every LocURI that we send is one that Windows takes.
func TestLocURIs(t *testing.T) {
	uris := append(InventoryURIs(), FactURIs()...)
	for _, d := range Plan(with(sales(t), object("issuing", &profiles.TrustedCertificate{
		Certificate: testpki.NewCA(t, "Root").Intermediate(t, "Issuing").Cert.Raw}))) {
		b, err := decodeBody(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range b.Nodes {
			uris = append(uris, n.LocURI)
		}
	}
	for _, uri := range uris {
		if err := syncml.CheckLocURI(uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
