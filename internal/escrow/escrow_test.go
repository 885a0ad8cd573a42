package escrow

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

const testOwner = "urn:waxseal:user:5f0c1a"

// newSecret makes a key with a self-signed certificate.
func newSecret(t testing.TB) (Secret, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Alice"}, NotAfter: time.Unix(4e9, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	return Secret{PrivateKey: pkcs8, Chain: [][]byte{der}}, hex.EncodeToString(sum[:])
}

func newKey(t testing.TB, suite Suite) PrivateKey {
	t.Helper()
	key, err := GenerateKey(rand.Reader, suite)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRecord(t testing.TB, to ...Member) (Record, Secret) {
	t.Helper()
	s, hash := newSecret(t)
	id, err := NewID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := Seal(rand.Reader, id, testOwner, hash, s, to)
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

func TestSealAndOpen(t *testing.T) {
	for _, suite := range []Suite{SuiteHybrid, SuiteP256} {
		t.Run(string(suite), func(t *testing.T) {
			key, other := newKey(t, suite), newKey(t, SuiteHybrid)
			r, s := newRecord(t, key.Member(MemberConnector, "a"), other.Member(MemberRecovery, "safe"))
			data, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := ParseRecord(data)
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []PrivateKey{key, other} {
				got, err := Open(parsed, k)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.PrivateKey, s.PrivateKey) || !bytes.Equal(got.Chain[0], s.Chain[0]) {
					t.Error("another secret came out")
				}
			}
			if _, err := Open(parsed, newKey(t, suite)); !errors.Is(err, ErrNotRecipient) {
				t.Errorf("a stranger's key: got %v", err)
			}
			if !parsed.SealedTo(key.ID()) || parsed.SealedTo("nobody") {
				t.Error("SealedTo is wrong")
			}
		})
	}
}

func TestTamperedRecordDoesNotOpen(t *testing.T) {
	key := newKey(t, SuiteHybrid)
	member := key.Member(MemberConnector, "a")
	other, _ := newRecord(t, member)
	flip := func(b []byte) []byte { c := bytes.Clone(b); c[len(c)/2] ^= 1; return c }
	cases := map[string]func(*Record){
		"id":                   func(r *Record) { r.ID = other.ID },
		"owner":                func(r *Record) { r.Owner = "urn:waxseal:user:mallory" },
		"owner kind":           func(r *Record) { r.Owner = "urn:waxseal:enrolment:5f0c1a" },
		"certificate":          func(r *Record) { r.CertSHA256 = other.CertSHA256 },
		"version":              func(r *Record) { r.Version = 2 },
		"nonce":                func(r *Record) { r.Nonce = flip(r.Nonce) },
		"short nonce":          func(r *Record) { r.Nonce = r.Nonce[1:] },
		"ciphertext":           func(r *Record) { r.Ciphertext = flip(r.Ciphertext) },
		"no ciphertext":        func(r *Record) { r.Ciphertext = nil },
		"enc":                  func(r *Record) { r.Wraps[0].Enc = flip(r.Wraps[0].Enc) },
		"wrap":                 func(r *Record) { r.Wraps[0].Ciphertext = flip(r.Wraps[0].Ciphertext) },
		"suite":                func(r *Record) { r.Wraps[0].Suite = SuiteP256 },
		"wraps of another":     func(r *Record) { r.Wraps = other.Wraps },
		"ciphertext of other":  func(r *Record) { r.Ciphertext, r.Nonce = other.Ciphertext, other.Nonce },
		"names on other's key": func(r *Record) { r.Ciphertext, r.Nonce, r.Wraps = other.Ciphertext, other.Nonce, other.Wraps },
		"no wraps":             func(r *Record) { r.Wraps = nil },
		"wrap twice":           func(r *Record) { r.Wraps = append(r.Wraps, r.Wraps[0]) },
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			r, _ := newRecord(t, member)
			change(&r)
			if s, err := Open(r, key); err == nil || s.PrivateKey != nil {
				t.Errorf("opened a record with another %s", name)
			}
			if _, err := Rewrap(rand.Reader, r, key, []Member{member}); err == nil {
				t.Errorf("rewrapped a record with another %s", name)
			}
		})
	}
}

func TestSealRefusesWhatDoesNotBelongTogether(t *testing.T) {
	key := newKey(t, SuiteHybrid)
	to := []Member{key.Member(MemberConnector, "a")}
	s, hash := newSecret(t)
	otherSecret, otherHash := newSecret(t)
	forged := to[0]
	forged.PublicKey = newKey(t, SuiteHybrid).Member(MemberConnector, "b").PublicKey
	cases := []struct {
		name, owner, hash string
		secret            Secret
		to                []Member
		want              string
	}{
		{"another hash", testOwner, otherHash, s, to, "not the certificate"},
		{"another key", testOwner, hash, Secret{otherSecret.PrivateKey, s.Chain}, to, "does not belong"},
		{"no key", testOwner, hash, Secret{nil, s.Chain}, to, "PKCS#8"},
		{"no chain", testOwner, hash, Secret{s.PrivateKey, nil}, to, "chain"},
		{"strange owner", "alice", hash, s, to, "owner"},
		{"owner with newline", "urn:waxseal:user:a\nb", hash, s, to, "owner"},
		{"nobody", testOwner, hash, s, nil, "0 members"},
		{"member with a swapped key", testOwner, hash, s, []Member{forged}, "SHA-256 of the public key"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Seal(rand.Reader, "0123456789abcdef", c.owner, c.hash, c.secret, c.to)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestRewrapKeepsTheRecordAndDropsTheOld(t *testing.T) {
	old, next := newKey(t, SuiteP256), newKey(t, SuiteHybrid)
	r, s := newRecord(t, old.Member(MemberConnector, "old"))
	again, err := Rewrap(rand.Reader, r, old, []Member{next.Member(MemberConnector, "next")})
	if err != nil {
		t.Fatal(err)
	}
	if again.ID != r.ID || !bytes.Equal(again.Ciphertext, r.Ciphertext) {
		t.Error("rewrapping changed more than the wraps")
	}
	if _, err := Open(again, old); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("the old key still opens: %v", err)
	}
	if got, err := Open(again, next); err != nil || !bytes.Equal(got.PrivateKey, s.PrivateKey) {
		t.Errorf("the new key does not open: %v", err)
	}
}

func TestPrivateKeyFileForm(t *testing.T) {
	for _, suite := range []Suite{SuiteHybrid, SuiteP256} {
		key := newKey(t, suite)
		data, err := key.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePrivateKey(data)
		if err != nil || again.ID() != key.ID() {
			t.Errorf("%s: read back another key: %v", suite, err)
		}
		if _, err := ParsePrivateKey(data[:len(data)-3]); err == nil {
			t.Errorf("%s: a cut file was accepted", suite)
		}
	}
}

func TestSecretsDoNotShowThemselves(t *testing.T) {
	key := newKey(t, SuiteHybrid)
	stored, _ := key.Marshal()
	var form struct{ Key []byte }
	_ = json.Unmarshal(stored, &form)
	secret, _ := newSecret(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		text := fmt.Sprintf(verb+verb+verb, key, secret, &secret)
		for _, raw := range [][]byte{form.Key, secret.PrivateKey} {
			forms := []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), fmt.Sprint(raw)}
			for _, f := range forms {
				if strings.Contains(text, f) {
					t.Errorf("%s shows a secret", verb)
				}
			}
		}
	}
	if _, err := json.Marshal(struct{ K any }{secret}); err == nil {
		t.Error("a secret was marshalled")
	}
	if _, err := json.Marshal(struct{ K any }{key}); err == nil {
		t.Error("a key was marshalled")
	}
}

func newRoot(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, root, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func rootPin(root ed25519.PrivateKey) string { return Fingerprint(root.Public().(ed25519.PublicKey)) }

func TestKeySetOfADishonestServer(t *testing.T) {
	root, foreign := newRoot(t), newRoot(t)
	a, b, evil := newKey(t, SuiteHybrid), newKey(t, SuiteP256), newKey(t, SuiteHybrid)
	two := KeySet{Serial: 2, Members: []Member{a.Member(MemberConnector, "a"), b.Member(MemberRecovery, "safe")}}
	sign := func(set KeySet, root ed25519.PrivateKey) SignedKeySet {
		s, err := SignKeySet(set, root)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := sign(two, root)
	swapped := KeySet{Serial: 2, Members: []Member{evil.Member(MemberConnector, "a")}}
	raw, _ := json.Marshal(swapped)
	wrongRoot, rollback := new(*WrongRootError), new(*RollbackError)
	cases := []struct {
		name   string
		set    SignedKeySet
		lowest uint64
		want   func(error) bool
	}{
		{"swapped under another root", sign(swapped, foreign), 0, func(err error) bool { return errors.As(err, wrongRoot) }},
		{"swapped members", SignedKeySet{raw, good.Root, good.Signature}, 0, func(err error) bool { return errors.Is(err, ErrBadSignature) }},
		{"dropped signature", SignedKeySet{good.KeySet, good.Root, nil}, 0, func(err error) bool { return errors.Is(err, ErrBadSignature) }},
		{"root of the pin, signature of another", SignedKeySet{raw, good.Root, sign(swapped, foreign).Signature}, 0, func(err error) bool { return errors.Is(err, ErrBadSignature) }},
		{"short root", SignedKeySet{good.KeySet, good.Root[:5], good.Signature}, 0, func(err error) bool { return errors.As(err, wrongRoot) }},
		{"rolled back", good, 3, func(err error) bool { return errors.As(err, rollback) }},
		{"empty", SignedKeySet{}, 0, func(err error) bool { return errors.As(err, wrongRoot) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			set, err := c.set.Verify(rootPin(root), c.lowest)
			if err == nil || !c.want(err) || len(set.Members) != 0 {
				t.Errorf("got %v and %d members", err, len(set.Members))
			}
		})
	}
	if set, err := good.Verify(rootPin(root), 2); err != nil || len(set.Members) != 2 || len(set.Connectors()) != 1 {
		t.Errorf("the good one: %v", err)
	}
	if _, err := good.Verify("", 0); err == nil {
		t.Error("verified without a pin")
	}
}

func TestKeySetSurvivesBeingStored(t *testing.T) {
	root, a := newRoot(t), newKey(t, SuiteHybrid)
	s, err := SignKeySet(KeySet{Serial: 1, Members: []Member{a.Member(MemberConnector, "Köln <1> & Co")}}, root)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(map[string]any{"keySet": s})
	if err != nil {
		t.Fatal(err)
	}
	var back struct{ KeySet SignedKeySet }
	if err := json.Unmarshal(wire, &back); err != nil {
		t.Fatal(err)
	}
	if _, err := back.KeySet.Verify(rootPin(root), 1); err != nil {
		t.Errorf("after the wire: %v", err)
	}
}

func TestKeySetCheck(t *testing.T) {
	a := newKey(t, SuiteP256).Member(MemberConnector, "a")
	with := func(change func(*Member)) []Member { m := a; change(&m); return []Member{m} }
	many := make([]Member, MaxMembers+1)
	cases := map[string]KeySet{
		"serial":       {Serial: 0, Members: []Member{a}},
		"connector":    {Serial: 1},
		"no conn":      {Serial: 1, Members: with(func(m *Member) { m.Kind = MemberRecovery })},
		"twice":        {Serial: 1, Members: []Member{a, a}},
		"at most 64":   {Serial: 1, Members: many},
		"SHA-256":      {Serial: 1, Members: with(func(m *Member) { m.ID = strings.Repeat("0", 64) })},
		"kind":         {Serial: 1, Members: with(func(m *Member) { m.Kind = "admin" })},
		"suite":        {Serial: 1, Members: with(func(m *Member) { m.Suite = "rot13" })},
		"its suite":    {Serial: 1, Members: with(func(m *Member) { m.Suite = SuiteHybrid })},
		"name":         {Serial: 1, Members: with(func(m *Member) { m.Name = "a\nb" })},
		"public key":   {Serial: 1, Members: with(func(m *Member) { m.PublicKey = nil })},
		"no connector": {Serial: 9, Members: nil},
	}
	for want, set := range cases {
		if err := set.Check(); err == nil || !strings.Contains(err.Error(), want[:2]) {
			t.Errorf("%s: got %v", want, err)
		}
		if _, err := SignKeySet(set, newRoot(t)); err == nil {
			t.Errorf("%s: signed", want)
		}
	}
}

func TestParseFingerprint(t *testing.T) {
	want := Fingerprint([]byte("root"))
	hexPart := strings.TrimPrefix(want, "sha256:")
	for _, in := range []string{want, hexPart, strings.ToUpper(want), " " + hexPart + "\n", hexPart[:32] + " " + hexPart[32:]} {
		if got, err := ParseFingerprint(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "sha256:", "abc", hexPart + "00", strings.Repeat("z", 64)} {
		if _, err := ParseFingerprint(in); err == nil {
			t.Errorf("%q was accepted", in)
		}
	}
}

func TestBlob(t *testing.T) {
	key, other := newKey(t, SuiteHybrid), newKey(t, SuiteHybrid)
	sealed, err := SealBlob("ca keys", []byte("secret"), key.Member(MemberConnector, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenBlob("ca keys", sealed, key); err != nil || string(got) != "secret" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := OpenBlob("ca keys", sealed, other); !errors.Is(err, ErrNotRecipient) {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := OpenBlob("something else", sealed, key); err == nil {
		t.Error("opened for another purpose")
	}
	relabelled := bytes.Replace(sealed, []byte("ca keys"), []byte("ca kezs"), 1)
	if _, err := OpenBlob("ca kezs", relabelled, key); !errors.Is(err, ErrOpen) {
		t.Errorf("relabelled: %v", err)
	}
}

func FuzzParseRecord(f *testing.F) {
	r, _ := newRecord(f, newKey(f, SuiteP256).Member(MemberConnector, "a"))
	seed, _ := json.Marshal(r)
	f.Add(seed)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{} {}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRecord(data)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecord(again); err != nil {
			t.Errorf("what was written does not parse: %v", err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	key := newKey(f, SuiteP256)
	r, _ := newRecord(f, key.Member(MemberConnector, "a"))
	f.Add(r.ID, r.Owner, r.Nonce, r.Ciphertext, r.Wraps[0].Enc, r.Wraps[0].Ciphertext)
	f.Fuzz(func(t *testing.T, id, owner string, nonce, ciphertext, enc, wrap []byte) {
		changed := Record{Version: 1, ID: id, Owner: owner, CertSHA256: r.CertSHA256, Nonce: nonce, Ciphertext: ciphertext,
			Wraps: []Wrap{{Member: key.ID(), Suite: SuiteP256, Enc: enc, Ciphertext: wrap}}}
		if _, err := Open(changed, key); err != nil {
			return
		}
		if id != r.ID || owner != r.Owner || !bytes.Equal(ciphertext, r.Ciphertext) || !bytes.Equal(enc, r.Wraps[0].Enc) {
			t.Error("an altered record opened")
		}
	})
}

func FuzzKeySet(f *testing.F) {
	root := newRoot(f)
	s, _ := SignKeySet(KeySet{Serial: 1, Members: []Member{newKey(f, SuiteP256).Member(MemberConnector, "a")}}, root)
	seed, _ := json.Marshal(s)
	f.Add(seed, []byte(s.KeySet))
	f.Add([]byte(`{}`), []byte(`{"serial":1,"members":[{}]}`))
	f.Fuzz(func(t *testing.T, data, set []byte) {
		if parsed, err := ParseSignedKeySet(data); err == nil {
			_, _ = parsed.Verify(rootPin(root), 0)
		}
		// Signed by the root, yet foreign: the parser behind the signature must stand too.
		foreign := SignedKeySet{KeySet: set, Root: root.Public().(ed25519.PublicKey), Signature: ed25519.Sign(root, signedBytes(set))}
		if got, err := foreign.Verify(rootPin(root), 0); err == nil && got.Check() != nil {
			t.Error("verified a key set that is not well formed")
		}
	})
}
