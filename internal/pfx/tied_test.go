package pfx

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func legacy(t testing.TB, id *testpki.Identity) []byte {
	t.Helper()
	out, err := Encode(rand.Reader, Identity{PrivateKey: id.Key, Certificate: id.Cert}, "pw", LegacyDES)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What we write ourselves is tied, and so is what OpenSSL and NSS write.
func TestDecodeTied(t *testing.T) {
	dir, id, chain := home(t, testpki.RSA2048)
	for _, flavour := range []Flavour{LegacyDES, Modern2023} {
		out, err := Encode(rand.Reader, Identity{PrivateKey: id.Key, Certificate: id.Cert, Chain: chain}, "pw", flavour)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeTied(out, "pw")
		if err != nil {
			t.Fatalf("%s: %v", flavour, err)
		}
		checkIdentity(t, got, id, chain)
	}
	peer(t, dir, "openssl", "pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-certfile", "chain.pem", "-passout", "pass:pw", "-out", "p12")
	got, err := DecodeTied(read(t, dir, "p12"), "pw")
	if err != nil {
		t.Fatal(err)
	}
	checkIdentity(t, got, id, chain)
	for name, keys := range map[string]int{"nss.p12": 1, "two-keys.p12": 2} {
		password := map[int]string{1: "pw", 2: "waxseal"}[keys]
		if got, err := DecodeTied(testdata(t, name), password); err != nil || len(got) != keys {
			t.Errorf("%s: %d identities, %v", name, len(got), err)
		}
	}
}

// What only the common public key holds together, and keys outside of shrouded bags: Decode takes them, DecodeTied does not.
func TestDecodeTiedRefuses(t *testing.T) {
	dir, id, _ := home(t, testpki.RSA2048)
	export := func(args ...string) []byte {
		peer(t, dir, "openssl", append([]string{"pkcs12", "-export", "-in", "cert.pem", "-inkey", "key.pem", "-passout", "pass:pw", "-out", "p12"}, args...)...)
		return read(t, dir, "p12")
	}
	tests := map[string]struct {
		file []byte
		want string
	}{
		"another localKeyID":   {testpki.Untie(t, legacy(t, id), id.Cert, "pw"), "by localKeyID, else friendlyName"},
		"an unencrypted key":   {export("-keypbe", "NONE"), "no private key in a shrouded key bag"},
		"nothing is encrypted": {testdata(t, "plain.p12"), "no private key in a shrouded key bag"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := Decode(tt.file, "pw"); err != nil || len(got) != 1 {
				t.Errorf("Decode: %d identities, %v", len(got), err)
			}
			_, err := DecodeTied(tt.file, "pw")
			var mismatch *KeyMismatchError
			if err == nil || !strings.Contains(err.Error(), tt.want) || !errors.Is(err, ErrNoKey) && !errors.As(err, &mismatch) {
				t.Errorf("DecodeTied: %v", err)
			}
		})
	}
}

// Bags are tied by localKeyID, else friendlyName; of several that are alike the last counts.
func TestTies(t *testing.T) {
	root := testpki.NewCA(t, "Root")
	ada, eve := root.Issue(t, testpki.Options{CN: "Ada"}), root.Issue(t, testpki.Options{CN: "Eve"})
	l := func(localKeyID, name string) label { return label{localKeyID: localKeyID, name: name} }
	type cert struct {
		label
		id *testpki.Identity
	}
	tests := map[string]struct {
		keys  []label // of Ada's key
		certs []cert
		want  int // identities; 0: an error
	}{
		"localKeyID":                            {[]label{l("1", "")}, []cert{{l("1", ""), ada}}, 1},
		"localKeyID, whatever the name":         {[]label{l("1", "a")}, []cert{{l("1", "b"), ada}}, 1},
		"friendlyName":                          {[]label{l("", "a")}, []cert{{l("", "a"), ada}}, 1},
		"neither":                               {[]label{l("", "")}, []cert{{l("", ""), ada}}, 0},
		"another localKeyID, the same name":     {[]label{l("1", "a")}, []cert{{l("2", "a"), ada}}, 0},
		"localKeyID on one of them":             {[]label{l("1", "a")}, []cert{{l("", "a"), ada}}, 0},
		"a name that is the other's localKeyID": {[]label{l("a", "")}, []cert{{l("", "a"), ada}}, 0},
		"another's certificate":                 {[]label{l("1", "")}, []cert{{l("1", ""), eve}, {l("", ""), ada}}, 0},
		"the last certificate counts":           {[]label{l("", "a")}, []cert{{l("", "a"), eve}, {l("", "a"), ada}}, 1},
		"and the one before does not":           {[]label{l("", "a")}, []cert{{l("", "a"), ada}, {l("", "a"), eve}}, 0},
		"the same certificate twice":            {[]label{l("1", "")}, []cert{{l("", ""), ada}, {l("1", ""), ada}}, 1},
		"the same key twice, tied alike":        {[]label{l("1", ""), l("1", "")}, []cert{{l("1", ""), ada}}, 1},
		"the same key twice, tied twice":        {[]label{l("1", ""), l("2", "")}, []cert{{l("1", ""), ada}, {l("2", ""), ada}}, 2},
		"one of two keys tied to nothing":       {[]label{l("1", ""), l("2", "")}, []cert{{l("1", ""), ada}}, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := &reader{tied: true}
			for _, at := range tt.keys {
				der, err := x509.MarshalPKCS8PrivateKey(ada.Key)
				if err := errors.Join(err, r.addKey(der, at)); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range tt.certs {
				if err := r.addCert(bagOf(t, c.id.Cert.Raw), c.label); err != nil {
					t.Fatal(err)
				}
			}
			got, err := r.pair()
			if len(got) != tt.want || (err == nil) != (tt.want > 0) {
				t.Errorf("%d identities, %v", len(got), err)
			}
			if slices.ContainsFunc(got, func(id Identity) bool { return !id.Certificate.Equal(ada.Cert) }) {
				t.Error("with another's certificate")
			}
		})
	}
}

// A bag within a bag is skipped.
func TestDecodeTiedSkipsNestedBags(t *testing.T) {
	der, err1 := x509.MarshalPKCS8PrivateKey(testpki.PoolKey(t, 1))
	inner, err2 := asn1.Marshal([]safeBag{{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}, Value: explicit(der)}})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	outer := safeBag{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 6}, Value: asn1.RawValue{Bytes: inner}}
	for tied, keys := range map[bool]int{false: 1, true: 0} {
		r := reader{tied: tied}
		if err := r.readBag(outer, maxNesting); err != nil || len(r.keys) != keys || r.skipped != tied {
			t.Errorf("tied %v: %d keys, skipped %v, %v", tied, len(r.keys), r.skipped, err)
		}
	}
}
