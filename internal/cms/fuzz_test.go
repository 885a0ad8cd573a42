package cms

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/waxseal/waxseal/internal/testpki"
)

func FuzzToDER(f *testing.F) {
	for _, seed := range []string{"\x30\x80\x02\x01\x05\x00\x00", "\x24\x80\x04\x01a\x04\x02bc\x00\x00", "\x30\x03\x02\x01\x05", "\xbf\x81\x48\x03\x02\x01\x05"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		der, err := ToDER(data)
		if err != nil {
			return
		}
		again, err := ToDER(der)
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("%x becomes %x, which becomes %x, %v", data, der, again, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	ca := testpki.NewCA(f, "CA")
	for _, kind := range []testpki.KeyType{testpki.RSA2048, testpki.P256} {
		id := ca.Issue(f, testpki.Options{CN: "Ada", KeyType: kind})
		for _, detached := range []bool{true, false} {
			der, err := Sign([]byte("letter"), id.Cert, id.Key, SignOptions{
				Detached: detached, Capabilities: true, SigningTime: testpki.Now(), EncryptionKeyPreference: id.Cert,
			})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(der, []byte("letter"))
		}
	}
	f.Fuzz(func(t *testing.T, der, content []byte) {
		if signed, err := VerifyDetached(der, content); err == nil && (signed.Signer == nil || !bytes.Equal(signed.Content, content)) {
			t.Error("verified without a signer or for other content")
		}
		if signed, err := Verify(der); err == nil && signed.Signer == nil {
			t.Error("verified without a signer")
		}
		_, _ = ParseCertsOnly(der)
	})
}

func FuzzDecrypt(f *testing.F) {
	ca := testpki.NewCA(f, "CA")
	ada := ca.Issue(f, testpki.Options{CN: "Ada", Key: testpki.PoolKey(f, 0)})
	bob := ca.Issue(f, testpki.Options{CN: "Bob", KeyType: testpki.P256})
	for _, opts := range []EncryptOptions{{}, {Cipher: AES256GCM}, {OAEP: true}} {
		der, err := Encrypt(rand.Reader, []byte("letter"), []*x509.Certificate{ada.Cert, bob.Cert}, opts)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		recipients, err := Recipients(der)
		for _, r := range recipients {
			_ = r.String()
		}
		for _, id := range []*testpki.Identity{ada, bob} {
			if _, e := Decrypt(der, id.Cert, id.Key); e == nil && err != nil {
				t.Errorf("decrypted what has no recipients: %v", err)
			}
		}
	})
}
