package pfximport_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/testdata"
	"github.com/waxseal/waxseal/waxctl/internal/pfximport"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := testdata.FS.ReadFile("pfx/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func password(t *testing.T, name string) string {
	return strings.TrimSuffix(string(read(t, name+".password")), "\n")
}

func importer(t *testing.T) (pfximport.Importer, escrow.PrivateKey) {
	t.Helper()
	key, err := escrow.GenerateKey(rand.Reader, escrow.SuiteHybrid)
	if err != nil {
		t.Fatal(err)
	}
	owner := func(a string) string {
		if strings.EqualFold(a, "bob@corp.test") {
			return "bob@corp.test"
		}
		return ""
	}
	return pfximport.Importer{Owner: owner, Rand: rand.Reader, Members: []escrow.Member{key.Member(escrow.MemberConnector, "c")},
		User: pfximport.User{ID: "u1", UPN: "alice@corp.test", Spec: profiles.User{Addresses: []string{"alice@corp.test"}}}}, key
}

func TestEveryCommonKindOfFileIsSealedForItsOwner(t *testing.T) {
	im, key := importer(t)
	for name, want := range map[string]struct {
		count   int
		purpose profiles.Purpose
	}{
		"alice-2016":           {1, profiles.PurposeSMIMEEncryption}, // RC2-40
		"alice-2019":           {1, profiles.PurposeSMIMEEncryption}, // 3DES
		"alice-2024":           {1, profiles.PurposeSMIMEEncryption}, // AES-256
		"alice-dual":           {1, profiles.PurposeSMIMEEncryption}, // non-ASCII password
		"alice-ec":             {1, profiles.PurposeSMIMEEncryption},
		"alice-signing":        {1, profiles.PurposeSMIMESigning},
		"alice-empty-password": {1, profiles.PurposeSMIMEEncryption},
		"alice-nss":            {2, profiles.PurposeSMIMEEncryption}, // BER, two keys
	} {
		sealed, err := im.Open(read(t, name+".pfx"), password(t, name))
		if err != nil || len(sealed) != want.count {
			t.Errorf("%s: %d certificates, %v", name, len(sealed), err)
			continue
		}
		for _, s := range sealed {
			checkSealed(t, name, s, key)
			if s.Request.Purpose != want.purpose {
				t.Errorf("%s: purpose %s, want %s", name, s.Request.Purpose, want.purpose)
			}
		}
	}
}

func checkSealed(t *testing.T, name string, s pfximport.Sealed, key escrow.PrivateKey) {
	t.Helper()
	secret, err := escrow.Open(s.Request.Record, key)
	if err != nil {
		t.Errorf("%s: the connector cannot open it: %v", name, err)
		return
	}
	if s.Request.Record.Owner != link.UserURN("u1") {
		t.Errorf("%s: sealed for %s", name, s.Request.Record.Owner)
	}
	wire, err := json.Marshal(s.Request)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wire, secret.PrivateKey) || bytes.Contains(wire, []byte(password(t, name)+"\"")) && password(t, name) != "" {
		t.Errorf("%s: the request carries a secret", name)
	}
}

func TestEachFaultIsASentenceOfItsOwn(t *testing.T) {
	im, _ := importer(t)
	for name, want := range map[string]string{
		"bob-2024":       "belongs to bob@corp.test",
		"eve":            "is not one of alice@corp.test",
		"bad-no-address": "no mail address",
		"bad-no-key":     "no private key",
		"bad-mismatch":   "belongs to none of the certificates",
	} {
		sealed, err := im.Open(read(t, name+".pfx"), password(t, name))
		if err == nil || !strings.Contains(err.Error(), want) || sealed != nil {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if _, err := im.Open(read(t, "alice-2019.pfx"), "wrong"); !errors.Is(err, pfx.ErrWrongPassword) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := im.Open([]byte("not a pfx"), ""); !errors.Is(err, pfx.ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
}

func TestAFormerAddressIsAcceptedOnceTheUserHasIt(t *testing.T) {
	im, _ := importer(t)
	_, err := im.Open(read(t, "alice-former.pfx"), password(t, "alice-former"))
	if _, hint := pfximport.Explain(err); !strings.Contains(hint, "formerAddresses: [alice@old-name.test]") {
		t.Errorf("hint %q must hold the line to add", hint)
	}
	im.User.Spec.FormerAddresses = []string{"alice@old-name.test"}
	if _, err := im.Open(read(t, "alice-former.pfx"), password(t, "alice-former")); err != nil {
		t.Error(err)
	}
}

func TestAPurposeThatDoesNotFitIsSaid(t *testing.T) {
	im, _ := importer(t)
	im.Purpose = profiles.PurposeSMIMESigning
	sealed, err := im.Open(read(t, "alice-2019.pfx"), password(t, "alice-2019"))
	if err != nil || sealed[0].Warning == "" || sealed[0].Request.Purpose != profiles.PurposeSMIMESigning {
		t.Errorf("%+v, %v", sealed, err)
	}
}
