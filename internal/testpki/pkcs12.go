package testpki

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"unicode/utf16"
)

// Untie gives the key bag of a PKCS#12 file another localKeyID, and the file a new MAC, so that key and certificate
// have nothing in common but the public key: no program that we know writes such a file. The file is one of go-pkcs12's
// in 3DES, with the certificate.
func Untie(t testing.TB, file []byte, cert *x509.Certificate, password string) []byte {
	t.Helper()
	var p struct {
		Version  int
		AuthSafe struct {
			Type    asn1.ObjectIdentifier
			Content []byte `asn1:"explicit,tag:0"`
		}
		MAC struct {
			Digest struct {
				Algorithm pkix.AlgorithmIdentifier
				Value     []byte
			}
			Salt       []byte
			Iterations int `asn1:"optional,default:1"`
		}
	}
	if _, err := asn1.Unmarshal(file, &p); err != nil {
		t.Fatal(err)
	}
	id := sha1.Sum(cert.Raw)
	if bytes.Count(p.AuthSafe.Content, id[:]) != 1 || len(p.MAC.Digest.Value) != sha1.Size {
		t.Fatal("not a file of go-pkcs12 in 3DES, or not with this certificate")
	}
	safe := bytes.Replace(p.AuthSafe.Content, id[:], bytes.Repeat([]byte{7}, len(id)), 1)
	mac := hmac.New(sha1.New, macKey(password, p.MAC.Salt, p.MAC.Iterations))
	mac.Write(safe)
	out := bytes.Replace(file, p.AuthSafe.Content, safe, 1)
	return bytes.Replace(out, p.MAC.Digest.Value, mac.Sum(nil), 1)
}

// macKey is RFC 7292 appendix B.2 for a MAC with SHA-1, whose key is one block.
func macKey(password string, salt []byte, iterations int) []byte {
	var bmp []byte
	for _, unit := range append(utf16.Encode([]rune(password)), 0) {
		bmp = append(bmp, byte(unit>>8), byte(unit))
	}
	a := bytes.Repeat([]byte{3}, sha1.BlockSize)
	for _, part := range [][]byte{salt, bmp} {
		blocks := (len(part) + sha1.BlockSize - 1) / sha1.BlockSize * sha1.BlockSize
		a = append(a, bytes.Repeat(part, blocks/len(part)+1)[:blocks]...)
	}
	for range iterations {
		sum := sha1.Sum(a)
		a = sum[:]
	}
	return a
}
