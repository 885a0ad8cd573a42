package apple

import (
	"crypto/rsa"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/agent/scep"
	"github.com/waxseal/waxseal/platforms/apple/proplist"
)

// scepRequest is what a SCEP payload asks for (Apple's com.apple.security.scep.yaml).
type scepRequest struct {
	url, name, challenge string
	subject              pkix.RDNSequence
	san                  []asn1.RawValue
	keySize, usage       int
	fingerprint          []byte
	retries, delay       int
}

// readSCEP reads and checks the inner dictionary of a SCEP payload.
func readSCEP(p payload) (*scepRequest, error) {
	inner, err := required[dict](p, "PayloadContent")
	if err != nil {
		return nil, err
	}
	r := &scepRequest{
		url: proplist.String(inner, "URL"), name: proplist.String(inner, "Name"), challenge: proplist.String(inner, "Challenge"),
		keySize: integer(inner, "Keysize", 1024), usage: integer(inner, "Key Usage", 0),
		fingerprint: proplist.Bytes(inner, "CAFingerprint"), retries: integer(inner, "Retries", 3), delay: integer(inner, "RetryDelay", 10),
	}
	if u, err := url.Parse(r.url); r.url == "" || err != nil || u.Host == "" {
		return nil, fail(domainPayload, 2002, "the SCEP payload %s has no usable URL", p.id())
	}
	if kind, there := inner["Key Type"]; there && kind != "RSA" {
		return nil, fail(domainSCEP, 22004, "Key Type of the SCEP payload %s must be RSA", p.id())
	}
	if r.keySize != 1024 && r.keySize != 2048 && r.keySize != 4096 {
		return nil, fail(domainSCEP, 22004, "Keysize of the SCEP payload %s is %d; 1024, 2048 or 4096 are possible", p.id(), r.keySize)
	}
	if r.usage != 0 && r.usage != 1 && r.usage != 4 && r.usage != 5 {
		return nil, fail(domainSCEP, 22000, "Key Usage of the SCEP payload %s is %d; 1, 4 or 5 are possible", p.id(), r.usage)
	}
	if r.subject, err = readSubject(proplist.Array(inner, "Subject")); err != nil {
		return nil, fail(domainPayload, 2004, "Subject of the SCEP payload %s: %v", p.id(), err)
	}
	if r.san, err = readNames(proplist.Sub(inner, "SubjectAltName")); err != nil {
		return nil, fail(domainPayload, 2004, "SubjectAltName of the SCEP payload %s: %v", p.id(), err)
	}
	return r, nil
}

func integer(d dict, key string, otherwise int) int {
	if !isInteger(d[key]) {
		return otherwise
	}
	return proplist.Int(d, key)
}

// readSubject reads [[["O","Example"]],[["CN","x"]]].
func readSubject(rdns []any) (pkix.RDNSequence, error) {
	var out pkix.RDNSequence
	for _, item := range rdns {
		pairs, ok := item.([]any)
		if !ok {
			return nil, fmt.Errorf("each element must be an array of pairs")
		}
		var set pkix.RelativeDistinguishedNameSET
		for _, pair := range pairs {
			attribute, err := readAttribute(pair)
			if err != nil {
				return nil, err
			}
			set = append(set, attribute)
		}
		out = append(out, set)
	}
	return out, nil
}

func readAttribute(item any) (pkix.AttributeTypeAndValue, error) {
	pair, ok := item.([]any)
	if !ok || len(pair) != 2 {
		return pkix.AttributeTypeAndValue{}, fmt.Errorf("each pair must be an array of two strings")
	}
	name, ok1 := pair[0].(string)
	value, ok2 := pair[1].(string)
	if !ok1 || !ok2 {
		return pkix.AttributeTypeAndValue{}, fmt.Errorf("each pair must be an array of two strings")
	}
	oid, err := attributeOID(name)
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}, err
}

func attributeOID(name string) (asn1.ObjectIdentifier, error) {
	switch name {
	case "C":
		return asn1.ObjectIdentifier{2, 5, 4, 6}, nil
	case "L":
		return asn1.ObjectIdentifier{2, 5, 4, 7}, nil
	case "ST":
		return asn1.ObjectIdentifier{2, 5, 4, 8}, nil
	case "O":
		return asn1.ObjectIdentifier{2, 5, 4, 10}, nil
	case "OU":
		return asn1.ObjectIdentifier{2, 5, 4, 11}, nil
	case "CN":
		return asn1.ObjectIdentifier{2, 5, 4, 3}, nil
	}
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(name, ".") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is neither C, L, ST, O, OU, CN nor an object identifier", name)
		}
		oid = append(oid, n)
	}
	if len(oid) < 2 {
		return nil, fmt.Errorf("%q is no object identifier", name)
	}
	return oid, nil
}

// readNames reads SubjectAltName: each value is a string or an array of strings, ntPrincipalName a string.
func readNames(d dict) ([]asn1.RawValue, error) {
	var out []asn1.RawValue
	for _, form := range []struct {
		key string
		tag int
	}{{"rfc822Name", scep.TagEmail}, {"dNSName", scep.TagDNS}, {"uniformResourceIdentifier", scep.TagURI}} {
		for _, text := range texts(d[form.key]) {
			out = append(out, scep.TextName(form.tag, text))
		}
	}
	if text := proplist.String(d, "ntPrincipalName"); text != "" {
		upn, err := scep.UPN(text)
		if err != nil {
			return nil, err
		}
		out = append(out, upn)
	}
	return out, nil
}

func texts(v any) []string {
	if text, ok := v.(string); ok {
		return []string{text}
	}
	var out []string
	items, _ := v.([]any)
	for _, item := range items {
		if text, ok := item.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// csr makes the certificate request.
func (r *scepRequest) csr(key *rsa.PrivateKey) ([]byte, error) {
	subject, err := asn1.Marshal(r.subject)
	if err != nil {
		return nil, err
	}
	extensions, err := r.extensions()
	if err != nil {
		return nil, err
	}
	return scep.Request{Subject: subject, Challenge: r.challenge, Extensions: extensions}.Sign(key)
}

func (r *scepRequest) extensions() ([]pkix.Extension, error) {
	var out []pkix.Extension
	if r.usage != 0 {
		var bits byte
		if r.usage&1 != 0 {
			bits |= 0x80 // digitalSignature
		}
		if r.usage&4 != 0 {
			bits |= 0x20 // keyEncipherment
		}
		usage, err := scep.KeyUsage(bits)
		if err != nil {
			return nil, err
		}
		out = append(out, usage)
	}
	if len(r.san) > 0 {
		names, err := scep.Names(r.san)
		if err != nil {
			return nil, err
		}
		out = append(out, names)
	}
	return out, nil
}
