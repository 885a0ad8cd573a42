package windows

import (
	"reflect"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/platforms"
)

func TestInventory(t *testing.T) {
	docs := Plan(sales(t))
	trust, old, mail := docs[0], docs[1], byID(t, docs, "mail.company-mail")
	all := map[string]string{
		storeRoot:                      strings.ToLower(trust.Proof) + "/00FF",
		storeCA:                        "",
		strings.ToUpper(userPFX):       old.Proof + "/" + docs[2].Proof + "/%7Bforeign%7D",
		old.Identifier + "/Thumbprint": strings.ToLower(old.Proof) + " ",
		admxInstall:                    "Other/waxseal",
		admxApp + "/Policy":            mail.Proof,
	}
	want := map[string]string{
		trust.Identifier: trust.Proof, storeRoot + "/00FF": "00FF", old.Identifier: old.Proof, docs[2].Identifier: "",
		userPFX + "/{FOREIGN}": "", mail.Identifier: mail.Proof,
	}
	if got := Documents(all); !reflect.DeepEqual(got, want) {
		t.Errorf("documents %v, want %v", got, want)
	}
	if got, want := Certificates(docs, all), (map[string]bool{trust.Certificates[0]: false, old.Certificates[0]: true}); !reflect.DeepEqual(got, want) {
		t.Errorf("certificates %v, want %v", got, want)
	}
}

func TestInventoryOfPolicies(t *testing.T) {
	for name, c := range map[string]struct{ apps, files, want string }{
		"ours":                 {"Waxseal", "R1", "R1"},
		"app without its file": {"Waxseal", "", ""},
		"two files":            {"Waxseal", "R1/R2", "R1/R2"},
	} {
		if got, there := Documents(map[string]string{admxInstall: c.apps, admxApp + "/Policy": c.files})[admxApp]; got != c.want || !there {
			t.Errorf("%s: %q, %v", name, got, there)
		}
	}
	if got := Documents(map[string]string{admxInstall: "Other"}); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// Another certificate under our name, as a thumbprint shows, is not ours.
func TestCertificateUnderAnothersName(t *testing.T) {
	old := Plan(sales(t))[1]
	uris := map[string]string{userPFX: old.Proof, old.Identifier + "/Thumbprint": strings.Repeat("0", 40)}
	if got := Certificates([]platforms.Document{old}, uris); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

func TestInventoryFor(t *testing.T) {
	docs := Plan(changed(t, func(in *platforms.Input) { in.Imported, in.Issued = in.Imported[:1], nil }))
	pfx := byID(t, docs, history(enc("2026", 0, 0)))
	if got, want := InventoryFor(docs), []string{pfx.Identifier + "/Thumbprint"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := InventoryFor([]platforms.Document{byID(t, Plan(sales(t)), "mail.company-mail")}); !reflect.DeepEqual(got, []string{admxApp + "/Policy"}) {
		t.Errorf("%v", got)
	}
}

func TestFacts(t *testing.T) {
	values := map[string]string{"./devdetail/ext/microsoft/devicename": "PC-0001", "./DevInfo/Mod": "Virtual Machine ",
		"./DevDetail/SwV": "10.0.22631.3007"}
	if got, want := ReadFacts(values), (Facts{Name: "PC-0001", Model: "Virtual Machine", OSVersion: "10.0.22631.3007"}); got != want {
		t.Errorf("%+v", got)
	}
	if len(FactURIs()) != 4 {
		t.Error(FactURIs())
	}
}
