package apple

import (
	"bytes"
	"encoding/asn1"
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
