"""Writes a PKCS#12 file whose private key does not belong to its certificate (OpenSSL refuses to make one).

usage: mismatch.py KEY CERTIFICATE OUT PASSWORD
"""
import hashlib
import hmac
import subprocess
import sys


def tlv(tag, *parts):
    body = b"".join(parts)
    n = len(body)
    length = bytes([n]) if n < 128 else (lambda b: bytes([0x80 | len(b)]) + b)(n.to_bytes((n.bit_length() + 7) // 8, "big"))
    return bytes([tag]) + length + body


def oid(dotted):
    arcs = [int(a) for a in dotted.split(".")]
    out = bytes([arcs[0] * 40 + arcs[1]])
    for a in arcs[2:]:
        chunk = [a & 0x7F]
        while a := a >> 7:
            chunk.append(0x80 | (a & 0x7F))
        out += bytes(reversed(chunk))
    return tlv(6, out)


def run(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True).stdout


def kdf(password, salt, ident, iterations, size):
    """PKCS#12 key derivation with SHA-1 (RFC 7292, appendix B.2), one block."""
    v = 64
    pw = (password + "\0").encode("utf-16-be")
    fill = lambda b: (b * (v // len(b) + 1))[: v * ((len(b) + v - 1) // v)]
    a = bytes([ident]) * v + fill(salt) + fill(pw)
    for _ in range(iterations):
        a = hashlib.sha1(a).digest()
    return a[:size]


key_file, cert_file, out, password = sys.argv[1:]
p8 = run("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", key_file)
cert = run("x509", "-outform", "DER", "-in", cert_file)
seq, octets = (lambda *p: tlv(0x30, *p)), (lambda b: tlv(4, b))
local = tlv(0x31, seq(oid("1.2.840.113549.1.9.21"), tlv(0x31, octets(b"\x01"))))
bag = lambda o, value: seq(oid(o), tlv(0xA0, value), local)
data = lambda b: seq(oid("1.2.840.113549.1.7.1"), tlv(0xA0, octets(b)))
cert_bag = bag("1.2.840.113549.1.12.10.1.3", seq(oid("1.2.840.113549.1.9.22.1"), tlv(0xA0, octets(cert))))
key_bag = bag("1.2.840.113549.1.12.10.1.1", p8)
safe = seq(data(seq(cert_bag)), data(seq(key_bag)))
salt = hashlib.sha256(cert).digest()[:8]
mac = hmac.new(kdf(password, salt, 3, 2048, 20), safe, hashlib.sha1).digest()
digest = seq(seq(oid("1.3.14.3.2.26"), tlv(5)), octets(mac))
pfx = seq(tlv(2, b"\x03"), data(safe), seq(digest, octets(salt), tlv(2, (2048).to_bytes(2, "big"))))
open(out, "wb").write(pfx)
