package leak

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// foundKey is a private key of whoever, in the clear.
type foundKey struct {
	form   string
	public string // SHA-256 of its SubjectPublicKeyInfo
}

// privateKeys finds unencrypted PKCS#8, PKCS#1 and SEC1 structures anywhere in the data, whoever's they are.
func privateKeys(data []byte) []foundKey {
	var out []foundKey
	for _, p := range []struct {
		form  string
		start []byte // behind the header of the SEQUENCE
		parse func([]byte) (crypto.PrivateKey, error)
	}{
		{"PKCS#8", []byte{2, 1, 0, 0x30}, func(der []byte) (crypto.PrivateKey, error) { return x509.ParsePKCS8PrivateKey(der) }},
		{"PKCS#8", []byte{2, 1, 1, 0x30}, func(der []byte) (crypto.PrivateKey, error) { return x509.ParsePKCS8PrivateKey(der) }},
		{"PKCS#1", []byte{2, 1, 0, 2}, func(der []byte) (crypto.PrivateKey, error) { return x509.ParsePKCS1PrivateKey(der) }},
		{"SEC1", []byte{2, 1, 1, 4}, func(der []byte) (crypto.PrivateKey, error) { return x509.ParseECPrivateKey(der) }},
	} {
		for _, der := range sequences(data, p.start) {
			if key, err := p.parse(der); err == nil {
				out = append(out, foundKey{p.form, publicName(key)})
			}
		}
	}
	return out
}

func publicName(key crypto.PrivateKey) string {
	signer, ok := key.(interface{ Public() crypto.PublicKey })
	if !ok {
		return "unknown"
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:8])
}

// pkcs12Files finds PFX structures (RFC 7292 section 4): version 3, then a SEQUENCE.
func pkcs12Files(data []byte) [][]byte { return sequences(data, []byte{2, 1, 3, 0x30}) }

// envelopes finds ContentInfo structures with EnvelopedData or AuthEnvelopedData (RFC 5652 section 6, RFC 5083).
func envelopes(data []byte) [][]byte {
	out := sequences(data, []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 3, 0xa0})
	return append(out, sequences(data, []byte{6, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 16, 1, 23, 0xa0})...)
}

// sequences are the SEQUENCEs, DER or BER, whose content begins so. Several headers may fit; all are given.
func sequences(data, start []byte) [][]byte {
	var out [][]byte
	for from := 0; ; {
		i := bytes.Index(data[from:], start)
		if i < 0 {
			return out
		}
		i += from
		for header := 2; header <= 6 && header <= i; header++ {
			if data[i-header] != 0x30 {
				continue
			}
			if n, ok := elementLength(data[i-header:], 0); ok && headerLength(data[i-header:]) == header {
				out = append(out, data[i-header:i-header+n])
			}
		}
		from = i + 1
	}
}

// headerLength is the length of tag (of one byte) and length.
func headerLength(b []byte) int {
	if len(b) < 2 || b[1] <= 0x80 {
		return 2
	}
	return 2 + int(b[1]&0x7f)
}

// elementLength is the length of the element at the beginning of b, its header included. An indefinite length
// (X.690 section 8.1.3.6) ends behind its two zeros.
func elementLength(b []byte, depth int) (int, bool) {
	head := headerLength(b)
	if len(b) < head || head > 6 || depth > 32 {
		return 0, false
	}
	if b[1] == 0x80 {
		return indefiniteLength(b, depth)
	}
	length := int(b[1])
	if b[1] > 0x80 {
		length = 0
		for _, c := range b[2:head] {
			length = length<<8 | int(c)
		}
	}
	return head + length, head+length <= len(b)
}

func indefiniteLength(b []byte, depth int) (int, bool) {
	for at := 2; at+2 <= len(b); {
		if b[at] == 0 && b[at+1] == 0 {
			return at + 2, true
		}
		n, ok := elementLength(b[at:], depth+1)
		if !ok {
			return 0, false
		}
		at += n
	}
	return 0, false
}
