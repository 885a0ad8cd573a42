package apple

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
)

// holdsTextKey finds private keys in text: PEM of every kind ("PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY",
// …) and the key line of a WireGuard configuration.
func holdsTextKey(data []byte) bool {
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return true
	}
	_, after, found := bytes.Cut(bytes.ToLower(data), []byte("privatekey"))
	return found && bytes.HasPrefix(bytes.TrimLeft(after, " \t"), []byte("="))
}

// isKeyDER recognises PKCS#12 (RFC 7292), PKCS#8 and its encrypted form (RFC 5958), PKCS#1 (RFC 8017) and SEC1
// (RFC 5915) by their first fields. BER counts as well, since NSS writes it.
func isKeyDER(data []byte) bool {
	outer, _, ok := readTLV(data)
	if !ok || outer.tag != asn1.TagSequence|0x20 {
		return false
	}
	first, rest, ok1 := readTLV(outer.value)
	second, rest, ok2 := readTLV(rest)
	if !ok1 || !ok2 {
		return false
	}
	if first.tag == asn1.TagSequence|0x20 && second.isOctets() {
		return true // EncryptedPrivateKeyInfo: algorithm and ciphertext
	}
	if first.tag != asn1.TagInteger || len(first.value) != 1 {
		return false
	}
	version := first.value[0]
	switch {
	case second.tag == asn1.TagSequence|0x20: // PFX has version 3; PrivateKeyInfo 0 or 1, then an octet string
		third, _, _ := readTLV(rest)
		return version == 3 || version <= 1 && third.isOctets()
	case second.tag == asn1.TagInteger: // RSAPrivateKey: version 0 or 1, modulus, exponent
		return version <= 1 && len(second.value) >= 32
	}
	return version == 1 && second.isOctets() // ECPrivateKey
}

// tlv is one BER value; of an indefinite or a wrong length it holds all that follows.
type tlv struct {
	tag   byte
	value []byte
}

// isOctets accepts an octet string in one piece or in segments.
func (v tlv) isOctets() bool { return v.tag&^0x20 == asn1.TagOctetString && v.value != nil }

// readTLV reads the first value leniently: a private key with a broken length is one still.
func readTLV(data []byte) (v tlv, rest []byte, ok bool) {
	if len(data) < 2 || data[0]&0x1f == 0x1f {
		return tlv{}, nil, false
	}
	v.tag = data[0]
	length, skip := int(data[1]), 2
	if data[1] >= 0x80 {
		skip += int(data[1] & 0x7f)
		if skip > 10 || skip > len(data) {
			return tlv{}, nil, false
		}
		length = 0
		for _, b := range data[2:skip] {
			length = min(length<<8|int(b), 1<<24)
		}
	}
	v.value, rest = data[skip:], nil
	if data[1] != 0x80 && length <= len(v.value) {
		v.value, rest = v.value[:length], v.value[length:]
	}
	return v, rest, true
}

// minKey is less than the shortest private key has: Ed25519 as PKCS#8, 48 bytes.
const minKey = 40

// keyMarks are bytes that private keys have in them and certificates, requests and pictures do not, long enough not to
// come about by chance.
func keyMarks() [][]byte {
	var marks [][]byte
	for _, text := range []string{
		"060b2a864886f70d010c0a01",               // PKCS#12: a bag
		"060a2a864886f70d010c01",                 // PKCS#12: encryption by password
		"06092a864886f70d01050d",                 // PBES2
		"020100300d06092a864886f70d010101050004", // PKCS#8: RSA; without the version it would be a signature as well
		"020101300d06092a864886f70d010101050004",
		"06072a8648ce3d020106082a8648ce3d030107" + "04", // PKCS#8: P-256
		"06072a8648ce3d020106052b8104002204",            // PKCS#8: P-384
		"06072a8648ce3d020106052b8104002304",            // PKCS#8: P-521
		"06032b656e04220420",                            // PKCS#8: X25519
		"06032b657004220420",                            // PKCS#8: Ed25519
		"020100028181" + "00",                           // PKCS#1: 1024 bits
		"020100028201" + "0100",                         // PKCS#1: 2048 bits
		"020100028201" + "8100",                         // PKCS#1: 3072 bits
		"020100028202" + "0100",                         // PKCS#1: 4096 bits
		"3077020101" + "0420",                           // SEC1: P-256
		"3081a4020101" + "0430",                         // SEC1: P-384
		"3081dc020101" + "0442",                         // SEC1: P-521
	} {
		mark, err := hex.DecodeString(text)
		if err != nil {
			panic("apple: a mark of private keys is no hex: " + err.Error())
		}
		marks = append(marks, mark)
	}
	return marks
}

// holdsKeyAnywhere finds a private key at any place of the bytes, as it is, in hex and in base64 of both alphabets, with
// line breaks or without: in comments, behind a prefix such as that of a data URL, in a signature's attributes.
func holdsKeyAnywhere(data []byte) bool {
	if len(data) < minKey {
		return false
	}
	compact := bytes.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, data)
	lower := bytes.ToLower(compact)
	for _, mark := range keyMarks() {
		if bytes.Contains(data, mark) || bytes.Contains(lower, []byte(hex.EncodeToString(mark))) {
			return true
		}
		for _, text := range inBase64(mark) {
			if bytes.Contains(compact, text) {
				return true
			}
		}
	}
	return false
}

// inBase64 is how the bytes look inside base64, by the three places that they can begin at. Digits that depend on the
// neighbours are left out.
func inBase64(mark []byte) [][]byte {
	var out [][]byte
	for before := range 3 {
		padded := append(make([]byte, before), mark...)
		text := base64.RawStdEncoding.EncodeToString(padded)
		first, last := (before*8+5)/6, len(padded)*8/6
		out = append(out, []byte(text[first:last]))
	}
	return out
}

// decodeText undoes base64 of either alphabet, padded or not, and hex.
func decodeText(data []byte) ([]byte, bool) {
	text := string(bytes.TrimRight(bytes.Join(bytes.Fields(data), nil), "="))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.RawStdEncoding.DecodeString, base64.RawURLEncoding.DecodeString} {
		if decoded, err := decode(text); err == nil && len(decoded) >= 32 {
			return decoded, true
		}
	}
	return nil, false
}
