package leak

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"
	"unicode/utf16"
)

// window is how many bytes of a secret in a row are a find: a key that a page or a chunk cuts in two is still seen,
// and 128 bits do not meet by chance.
const window = 16

// secret is a number or a text that must be nowhere, however it is wrapped. PKCS#8, PKCS#1 and SEC1 contain the numbers of a
// key in the clear, so that looking for the numbers finds every form.
type secret struct {
	name  string
	value []byte
}

// keySecrets are the numbers of a private key: primes, exponents and coefficient of RSA, scalar of EC, seed of Ed25519.
func keySecrets(t testing.TB, name string, key crypto.PrivateKey) []secret {
	t.Helper()
	var out []secret
	add := func(part string, value []byte) {
		if len(value) < window {
			t.Fatalf("%s: %s has %d bytes: no such key is looked for", name, part, len(value))
		}
		// Windows keeps its numbers the other way round.
		turned := slices.Clone(value)
		slices.Reverse(turned)
		out = append(out, secret{name + ": " + part, value}, secret{name + ": " + part + ", turned round", turned})
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
		for part, n := range map[string]*big.Int{"prime p": k.Primes[0], "prime q": k.Primes[1], "exponent d": k.D,
			"exponent d modulo phi": otherExponent(k), "exponent dP": k.Precomputed.Dp, "exponent dQ": k.Precomputed.Dq, "coefficient": k.Precomputed.Qinv} {
			add(part, n.Bytes())
		}
	case *ecdsa.PrivateKey:
		scalar, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		add("scalar", scalar)
	case ed25519.PrivateKey:
		add("seed", k.Seed())
	default:
		t.Fatalf("%s is a %T, which this test cannot look for", name, key)
	}
	return out
}

// otherExponent is d modulo (p-1)(q-1): programs differ in which of the two they write.
func otherExponent(k *rsa.PrivateKey) *big.Int {
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(k.Primes[0], one), new(big.Int).Sub(k.Primes[1], one))
	return new(big.Int).ModInverse(big.NewInt(int64(k.E)), phi)
}

// passwordSecrets are the forms of a password: as typed, as PKCS#12 feeds it into its key derivation, and as Windows keeps text. Shorter ones would
// be found by chance; files that they open are found by opening them.
func passwordSecrets(name, password string) []secret {
	if len(password) < 6 {
		return nil
	}
	var wide, windows []byte
	for _, unit := range utf16.Encode([]rune(password)) {
		wide = binary.BigEndian.AppendUint16(wide, unit)
		windows = binary.LittleEndian.AppendUint16(windows, unit)
	}
	return []secret{{name + ": password", []byte(password)}, {name + ": password in UTF-16", wide}, {name + ": password in UTF-16 of Windows", windows}}
}

// readKey reads a PKCS#8 PEM file, as a keyring without passphrase, a simulated device and the server have them.
func readKey(t testing.TB, path string) crypto.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatalf("%s holds no PEM: if it is encrypted now, this test must learn to open it", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return key
}

// escrowSecret reads a connector's escrow key or the recovery key in its file form.
func escrowSecret(t testing.TB, name, path string) secret {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var stored struct {
		Suite string `json:"suite"`
		Key   []byte `json:"key"`
	}
	if err := json.Unmarshal(raw, &stored); err != nil || len(stored.Key) < window {
		t.Fatalf("%s is not the file of an escrow key: %v", path, err)
	}
	return secret{name + ": " + stored.Suite + " private key", stored.Key}
}

// index finds secrets in time that does not grow with their number: every window of every secret is in a table, behind a
// filter of one bit per three bytes of text.
type index struct {
	secrets []secret
	short   []secret
	filter  []uint64
	windows map[uint64][]spot
}

type spot struct{ secret, at int }

func newIndex(secrets []secret) *index {
	x := &index{filter: make([]uint64, 1<<18), windows: map[uint64][]spot{}}
	for _, s := range secrets {
		if len(s.value) < window {
			x.short = append(x.short, s)
			continue
		}
		x.secrets = append(x.secrets, s)
		for at := 0; at+window <= len(s.value); at++ {
			slot := filterSlot(s.value[at:])
			x.filter[slot/64] |= 1 << (slot % 64)
			head := binary.LittleEndian.Uint64(s.value[at:])
			x.windows[head] = append(x.windows[head], spot{len(x.secrets) - 1, at})
		}
	}
	return x
}

func filterSlot(b []byte) uint32 { return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 }

// find names the secrets that the data holds a window of.
func (x *index) find(data []byte) []string {
	found := map[string]bool{}
	for i := 0; i+window <= len(data); i++ {
		if slot := filterSlot(data[i:]); x.filter[slot/64]&(1<<(slot%64)) == 0 {
			continue
		}
		for _, s := range x.windows[binary.LittleEndian.Uint64(data[i:])] {
			if bytes.Equal(x.secrets[s.secret].value[s.at:s.at+window], data[i:i+window]) {
				found[x.secrets[s.secret].name] = true
			}
		}
	}
	for _, s := range x.short {
		if bytes.Contains(data, s.value) {
			found[s.name] = true
		}
	}
	return sorted(found)
}

func sorted(set map[string]bool) []string {
	var out []string
	for name := range set {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (s secret) String() string { return fmt.Sprintf("%s (%d bytes)", s.name, len(s.value)) }
