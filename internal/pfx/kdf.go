package pfx

import (
	"crypto"
	"unicode/utf16"

	// The digests of key derivations and MACs.
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
)

// Purposes of derived bytes (RFC 7292 appendix B.3).
const (
	purposeKey = 1
	purposeIV  = 2
	purposeMAC = 3
)

// derive is the key derivation of RFC 7292 appendix B.2. The password is a BMPString with its terminator.
func derive(hash crypto.Hash, password, salt []byte, purpose byte, iterations, size int) []byte {
	v := 64
	if hash == crypto.SHA384 || hash == crypto.SHA512 {
		v = 128
	}
	diversifier := make([]byte, v)
	for i := range diversifier {
		diversifier[i] = purpose
	}
	input := append(repeat(salt, v), repeat(password, v)...)
	var out []byte
	for {
		h := hash.New()
		h.Write(diversifier)
		h.Write(input)
		a := h.Sum(nil)
		for range iterations - 1 {
			h.Reset()
			h.Write(a)
			a = h.Sum(a[:0])
		}
		if out = append(out, a...); len(out) >= size {
			return out[:size]
		}
		addToBlocks(input, repeat(a, v)[:v], v)
	}
}

// repeat fills whole blocks of v bytes with copies of data.
func repeat(data []byte, v int) []byte {
	if len(data) == 0 {
		return nil
	}
	out := make([]byte, v*((len(data)+v-1)/v))
	for i := range out {
		out[i] = data[i%len(data)]
	}
	return out
}

// addToBlocks adds b+1 to every block of v bytes, modulo 2^(8v).
func addToBlocks(blocks, b []byte, v int) {
	for ; len(blocks) > 0; blocks = blocks[v:] {
		carry := uint(1)
		for i := v - 1; i >= 0; i-- {
			carry += uint(blocks[i]) + uint(b[i])
			blocks[i] = byte(carry)
			carry >>= 8
		}
	}
}

// passphrase is a password in the two forms that the derivations want.
type passphrase struct {
	// bmp is the BMPString with terminator of RFC 7292 appendix B.1.
	bmp []byte
	// text is for PBKDF2: UTF-8 (RFC 8018 section 3).
	text []byte
}

// passphrases lists the forms to try, the right one first: an empty password is written with and without its
// terminator, and programs before OpenSSL 1.1 took the bytes of UTF-8 for characters.
func passphrases(password string) []passphrase {
	utf8 := []byte(password)
	out := []passphrase{{bmp: bmpString(utf16.Encode([]rune(password))), text: utf8}}
	if password == "" {
		return append(out, passphrase{})
	}
	bytewise := make([]uint16, len(utf8))
	ascii := true
	for i, b := range utf8 {
		bytewise[i] = uint16(b)
		ascii = ascii && b < 0x80
	}
	if ascii {
		return out
	}
	return append(out, passphrase{bmp: bmpString(bytewise), text: utf8})
}

func bmpString(units []uint16) []byte {
	out := make([]byte, 0, 2*len(units)+2)
	for _, u := range units {
		out = append(out, byte(u>>8), byte(u))
	}
	return append(out, 0, 0)
}
