package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.mozilla.org/pkcs7"

	"github.com/waxseal/waxseal/internal/testpki"
)

func TestSignedMessageTellsWhatWasPutIn(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	signer := ca.Issue(t, testpki.Options{CN: "Ada"})
	encryption := ca.Issue(t, testpki.Options{CN: "Ada"})
	der, err := Sign([]byte("letter"), signer.Cert, opaque{signer.Key}, SignOptions{
		Chain: []*x509.Certificate{ca.Cert, encryption.Cert}, SigningTime: testpki.Now(), Capabilities: true,
		EncryptionKeyPreference: encryption.Cert,
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Verify(der)
	if err != nil {
		t.Fatal(err)
	}
	if string(signed.Content) != "letter" || !signed.Signer.Equal(signer.Cert) || len(signed.Certificates) != 3 {
		t.Error("content, signer or certificates differ")
	}
	if !signed.SigningTime.Equal(testpki.Now()) || !signed.EncryptionCertificate.Equal(encryption.Cert) {
		t.Errorf("attributes: %v, %v", signed.SigningTime, signed.EncryptionCertificate)
	}
	if _, err := VerifyDetached(der, []byte("other letter")); !errors.Is(err, ErrSignature) {
		t.Errorf("as a signature of other content: %v", err)
	}
}

// opaque hides what kind of key it is, as a token does.
type opaque struct{ crypto.Signer }

func TestVerifyRefuses(t *testing.T) {
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "Ada"})
	detached, err := Sign([]byte("letter"), id.Cert, id.Key, SignOptions{Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	attached, err := Sign([]byte("letter"), id.Cert, id.Key, SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	otherType := bytes.Replace(detached, mustMarshal(t, oidData), mustMarshal(t, oidSignedData), 1)
	bag, err := CertsOnly(id.Cert)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		err  error
		want error
	}{
		"changed content":            {second(VerifyDetached(detached, []byte("Letter"))), ErrSignature},
		"changed signature":          {second(VerifyDetached(flip(detached, -1), []byte("letter"))), ErrSignature},
		"changed attached content":   {second(Verify(bytes.Replace(attached, []byte("letter"), []byte("better"), 1))), ErrSignature},
		"other content type":         {second(VerifyDetached(otherType, []byte("letter"))), ErrSignature},
		"detached without content":   {second(Verify(detached)), ErrMalformed},
		"trailing byte":              {second(Verify(append(bytes.Clone(attached), 0))), ErrMalformed},
		"no signer":                  {second(VerifyDetached(bag, nil)), ErrNoSigner},
		"digest swapped for another": {second(Verify(swapDigest(attached))), ErrSignature},
	}
	for name, c := range cases {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v instead of %v", name, c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func flip(der []byte, at int) []byte {
	out := bytes.Clone(der)
	if at < 0 {
		at += len(out)
	}
	out[at] ^= 1
	return out
}

// swapDigest declares SHA-384 where SHA-256 was used.
func swapDigest(der []byte) []byte {
	at := bytes.LastIndex(der, []byte{0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01})
	out := bytes.Clone(der)
	out[at+8] = 2
	return out
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestMozillaReadsAndWrites: the library whose bags we use agrees on signatures too, SHA-1 by its default included.
func TestMozillaReadsAndWrites(t *testing.T) {
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "Ada"})
	der, err := Sign([]byte("letter"), id.Cert, id.Key, SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p7, err := pkcs7.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := p7.Verify(); err != nil {
		t.Error(err)
	}
	sd, err := pkcs7.NewSignedData([]byte("letter"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sd.AddSigner(id.Cert, id.Key, pkcs7.SignerInfoConfig{}); err != nil {
		t.Fatal(err)
	}
	if der, err = sd.Finish(); err != nil {
		t.Fatal(err)
	}
	signed, err := Verify(der)
	if err != nil {
		t.Fatal(err)
	}
	if time.Since(signed.SigningTime).Abs() > time.Minute {
		t.Errorf("signing time %v", signed.SigningTime)
	}
}

func TestCertificateBag(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	leaf := ca.Issue(t, testpki.Options{CN: "Ada"})
	der, err := CertsOnly(leaf.Cert, ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertsOnly(der)
	if err != nil || len(certs) != 2 || !certs[0].Equal(leaf.Cert) || !certs[1].Equal(ca.Cert) {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
	dir := t.TempDir()
	write(t, dir, "bag", der)
	if text := peer(t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", "bag", "-print_certs"); bytes.Count(text, []byte("BEGIN")) != 2 {
		t.Errorf("OpenSSL reads %s", text)
	}
	if _, err := CertsOnly(); err == nil {
		t.Error("an empty bag is written")
	}
	if _, err := ParseCertsOnly([]byte{0x30, 0x80, 0}); !errors.Is(err, ErrMalformed) {
		t.Errorf("half a bag: %v", err)
	}
}

func TestRecipients(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	ada := ca.Issue(t, testpki.Options{CN: "Ada"})
	bob := ca.Issue(t, testpki.Options{CN: "Bob", KeyType: testpki.P256})
	der, err := Encrypt(rand.Reader, []byte("letter"), []*x509.Certificate{ada.Cert, bob.Cert}, EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Recipients(der)
	if err != nil || len(got) != 2 {
		t.Fatalf("%d recipients, %v", len(got), err)
	}
	if !got[0].Matches(ada.Cert) || got[0].Matches(bob.Cert) || !got[1].Matches(bob.Cert) {
		t.Error("recipients match the wrong certificates")
	}
	if want := "serial 1001 of O=Example,CN=CA"; !strings.Contains(got[0].String(), "serial 1001 of ") {
		t.Errorf("named %q instead of %q", got[0], want)
	}
	for _, id := range []*testpki.Identity{ada, bob} {
		if content, err := Decrypt(der, id.Cert, id.Key); err != nil || string(content) != "letter" {
			t.Errorf("%s reads %q, %v", id.Cert.Subject, content, err)
		}
	}
}

// TestTokensDecrypt: keys that hand out operations only.
func TestTokensDecrypt(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	ada := ca.Issue(t, testpki.Options{CN: "Ada"})
	bob := ca.Issue(t, testpki.Options{CN: "Bob", KeyType: testpki.P256})
	der, err := Encrypt(rand.Reader, []byte("letter"), []*x509.Certificate{ada.Cert, bob.Cert}, EncryptOptions{Cipher: AES256GCM})
	if err != nil {
		t.Fatal(err)
	}
	private, err := bob.Key.(interface {
		ECDH() (*ecdh.PrivateKey, error)
	}).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	if content, err := Decrypt(der, bob.Cert, private); err != nil || string(content) != "letter" {
		t.Errorf("EC token: %q, %v", content, err)
	}
	if content, err := Decrypt(der, ada.Cert, decrypter{ada.RSA()}); err != nil || string(content) != "letter" {
		t.Errorf("RSA token: %q, %v", content, err)
	}
}

// decrypter is a token that tells bad padding apart, as most do.
type decrypter struct{ key *rsa.PrivateKey }

func (d decrypter) Public() crypto.PublicKey { return d.key.Public() }

func (d decrypter) Decrypt(rand io.Reader, msg []byte, _ crypto.DecrypterOpts) ([]byte, error) {
	return d.key.Decrypt(rand, msg, nil)
}

// TestEveryDecryptionFailureLooksAlike: bad RSA padding, a wrong key, bad block padding, a bad tag.
func TestEveryDecryptionFailureLooksAlike(t *testing.T) {
	ca := testpki.NewCA(t, "CA")
	for _, kind := range []testpki.KeyType{testpki.RSA2048, testpki.P256} {
		id := ca.Issue(t, testpki.Options{CN: "Ada", KeyType: kind})
		other := ca.Issue(t, testpki.Options{CN: "Bob", KeyType: kind})
		for _, opts := range []EncryptOptions{{Cipher: AES256GCM}, {Cipher: AES256GCM, OAEP: true}} {
			der, err := Encrypt(rand.Reader, []byte("letter"), []*x509.Certificate{id.Cert}, opts)
			if err != nil {
				t.Fatal(err)
			}
			env, err := parseEnvelope(der)
			if err != nil {
				t.Fatal(err)
			}
			inKey := bytes.Index(der, env.recipients[0].key) + 3
			for name, err := range map[string]error{
				"wrong key":     second(Decrypt(der, id.Cert, other.Key)),
				"damaged key":   second(Decrypt(flip(der, inKey), id.Cert, id.Key)),
				"damaged text":  second(Decrypt(flip(der, bytes.Index(der, env.ciphertext)), id.Cert, id.Key)),
				"damaged tag":   second(Decrypt(flip(der, -1), id.Cert, id.Key)),
				"key of a kind": second(Decrypt(der, id.Cert, "no key at all")),
			} {
				if err != ErrDecrypt { //nolint:errorlint // the very value, nothing wrapped into it
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// TestPadding walks through the ways in which the libraries panicked or were too kind.
func TestPadding(t *testing.T) {
	for name, text := range map[string]string{
		"zero":              strings.Repeat("61", 15) + "00",
		"longer than block": strings.Repeat("61", 15) + "11",
		"inconsistent":      strings.Repeat("61", 13) + "020303",
		"huge":              strings.Repeat("ff", 16),
	} {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unpad(data, 16); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole, _ := hex.DecodeString(strings.Repeat("10", 16))
	if out, err := unpad(whole, 16); err != nil || len(out) != 0 {
		t.Errorf("a block of padding: %x, %v", out, err)
	}
}

func TestCiphertextOfOddLength(t *testing.T) {
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "Ada"})
	spec := cipherSpecs()[AES256CBC]
	s, err := encryptContent(rand.Reader, spec, make([]byte, 32), []byte("letter"))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 15} {
		env := &envelope{algorithm: s.algorithm, ciphertext: s.ciphertext[:n]}
		if _, err := env.decryptContent(spec, make([]byte, 32)); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%d bytes for %s: %v", n, id.Cert.Subject, err)
		}
	}
}

// TestKeyWrap is the 256-bit vector of RFC 3394 section 4.6.
func TestKeyWrap(t *testing.T) {
	kek, _ := hex.DecodeString("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
	key, _ := hex.DecodeString("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
	want, _ := hex.DecodeString("28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21")
	got, err := wrapKey(kek, key)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%x, %v", got, err)
	}
	if back, err := unwrapKey(kek, got); err != nil || !bytes.Equal(back, key) {
		t.Errorf("%x, %v", back, err)
	}
	if _, err := unwrapKey(kek, flip(got, 3)); !errors.Is(err, ErrDecrypt) {
		t.Errorf("damaged: %v", err)
	}
}

func TestEncryptRefuses(t *testing.T) {
	if _, err := Encrypt(rand.Reader, nil, nil, EncryptOptions{}); err == nil {
		t.Error("a message to nobody")
	}
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{CN: "Ada"})
	if _, err := Encrypt(rand.Reader, nil, []*x509.Certificate{id.Cert}, EncryptOptions{Cipher: 9}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("unknown cipher: %v", err)
	}
	if _, err := Encrypt(bytes.NewReader(nil), nil, []*x509.Certificate{id.Cert}, EncryptOptions{}); err == nil {
		t.Error("a message without randomness")
	}
}

func TestToDER(t *testing.T) {
	deep := strings.Repeat("3080", MaxDepth+1) + strings.Repeat("0000", MaxDepth+1)
	cases := map[string]struct{ in, want string }{
		"definite stays":          {"3003020105", "3003020105"},
		"indefinite":              {"30800201050000", "3003020105"},
		"long length":             {"30820003020105", "3003020105"},
		"segments":                {"2480040161040262630000", "0403616263"},
		"segments in segments":    {"248024800401610000040162" + "0000", "04026162"},
		"empty":                   {"30800000", "3000"},
		"context, kept in pieces": {"a08004016104016200" + "00", "a006040161040162"},
		"long tag":                {"bf814803020105", "bf814803020105"},
		"trailing":                {"300000", ""},
		"cut":                     {"30800201", ""},
		"primitive indefinite":    {"0480610000", ""},
		"no end":                  {"3080020105", ""},
		"stray end":               {"30020000", ""},
		"string of numbers":       {"24800201050000", ""},
		"constructed number":      {"220302010500", ""},
		"too long":                {"3084ffffffff", ""},
		"too deep":                {deep, ""},
		"nothing":                 {"", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in, err := hex.DecodeString(c.in)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ToDER(in)
			if hex.EncodeToString(got) != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%x, %v", got, err)
			}
			if err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("error of another kind: %v", err)
			}
		})
	}
}

// TestNestingIsRefusedQuickly: 4 MB of nested heads end a process that recurses, and take quadratic time otherwise.
func TestNestingIsRefusedQuickly(t *testing.T) {
	nested := bytes.Repeat([]byte{0x30, 0x80}, 2<<20)
	for name, err := range map[string]error{
		"ToDER":          second(ToDER(nested)),
		"Verify":         second(Verify(nested)),
		"Recipients":     second(Recipients(nested)),
		"ParseCertsOnly": second(ParseCertsOnly(nested)),
	} {
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
