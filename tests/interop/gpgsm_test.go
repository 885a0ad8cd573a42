package interop

import (
	"bytes"
	"crypto/sha1"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"unicode/utf16"
)

// checkGpgsm: GnuPG imports the identities, but for those that it cannot read.
func (d *delivery) checkGpgsm() {
	gpgsm := need(d.t, "gpgsm")
	d.must(nil, "mkdir", "-m", "700", "gnupg")
	defer d.peer(nil, "gpgconf", "--kill", "all")
	imported := 0
	for _, id := range d.ids {
		password := d.read(id.name + ".password")
		// It ends with an error where an issuer is not there yet, and imports the key all the same.
		_, said, _ := d.try(append(password, '\n'), gpgsm, "--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0", "--import", id.name+".p12")
		got := bytes.Contains(said, []byte("secret keys imported: 1"))
		if misread := gpgsmMisreads(d.t, d.read(id.name+".p12"), string(password)); got == misread {
			d.t.Errorf("%s: imported %t, and is to be misread: %t. gpgsm says\n%s", id.name, got, misread, said)
		}
		if got {
			imported++
		}
	}
	if list := d.peer(nil, gpgsm, "--batch", "--with-colons", "--list-secret-keys"); bytes.Count(list, []byte("\nfpr:")) < imported {
		d.t.Errorf("gpgsm has\n%s", list)
	}
}

// pbe3DES is pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292 appendix C), encoded.
var pbe3DES = []byte{6, 10, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 12, 1, 3}

// gpgsmMisreads tells whether gpgsm derives a wrong key for the file: where a block of RFC 7292 appendix B.2 step 6C begins
// with a zero, it loses it. That is so for one salt in 128.
func gpgsmMisreads(t *testing.T, p12 []byte, password string) bool {
	t.Helper()
	parts := bytes.Split(p12, pbe3DES)
	if len(parts) < 2 {
		t.Fatal("nothing is encrypted with 3DES")
	}
	for _, part := range parts[1:] {
		var params struct {
			Salt       []byte
			Iterations int
		}
		if _, err := asn1.Unmarshal(part, &params); err != nil {
			t.Fatal(err)
		}
		if losesZero(params.Salt, password, params.Iterations) {
			return true
		}
	}
	return false
}

// losesZero goes through the derivation of a 24-byte key up to the second of its two rounds.
func losesZero(salt []byte, password string, iterations int) bool {
	var secret []byte
	for _, unit := range append(utf16.Encode([]rune(password)), 0) {
		secret = append(secret, byte(unit>>8), byte(unit))
	}
	input := append(filled(salt), filled(secret)...)
	round := append(bytes.Repeat([]byte{1}, sha1.BlockSize), input...) // ID 1: key material
	for range iterations {
		sum := sha1.Sum(round)
		round = sum[:]
	}
	b := new(big.Int).SetBytes(bytes.Repeat(round, 4)[:sha1.BlockSize])
	b.Add(b, big.NewInt(1))
	for block := range slices.Chunk(input, sha1.BlockSize) {
		sum := new(big.Int).SetBytes(block)
		if sum.Add(sum, b).FillBytes(make([]byte, 1+sha1.BlockSize))[1] == 0 { // the first byte is what goes beyond the block
			return true
		}
	}
	return false
}

// filled repeats bytes until they end with a block.
func filled(data []byte) []byte {
	blocks := (len(data) + sha1.BlockSize - 1) / sha1.BlockSize
	return bytes.Repeat(data, blocks*sha1.BlockSize/len(data)+1)[:blocks*sha1.BlockSize]
}
