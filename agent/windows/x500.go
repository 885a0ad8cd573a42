package windows

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a SubjectName.
const (
	maxX500     = 16 << 10
	maxX500RDNs = 128
)

// encodeX500 encodes a name as IX500DistinguishedName does by default: from the end of the text to its beginning, and
// directory strings as UTF8String. Sources: Microsoft Learn, "IX500DistinguishedName::Encode method" and "CertStrToName
// function".
func encodeX500(text string) ([]byte, error) {
	sequence, err := parseX500(text)
	if err != nil {
		return nil, err
	}
	slices.Reverse(sequence)
	return asn1.Marshal(sequence)
}

// parseX500 reads a name: values end at a comma, a semicolon or a plus sign unless they are quoted, a quotation mark inside
// quotation marks is doubled, and a backslash is a character like any other (windows.md trap 13).
func parseX500(text string) ([]nameSET, error) {
	if len(text) > maxX500 || !utf8.ValidString(text) {
		return nil, fmt.Errorf("a name of %d bytes, or no UTF-8", len(text))
	}
	p := x500{rest: strings.TrimSpace(text)}
	if p.rest == "" {
		return []nameSET{}, nil
	}
	out := []nameSET{{}}
	for {
		a, err := p.attribute()
		if err != nil {
			return nil, err
		}
		out[len(out)-1] = append(out[len(out)-1], a)
		if p.rest == "" {
			return out, nil
		}
		separator := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case strings.IndexByte(",;+", separator) < 0:
			return nil, errors.New("something follows a quoted value of the name")
		case separator != '+':
			out = append(out, nameSET{})
		}
		if len(out) > maxX500RDNs {
			return nil, fmt.Errorf("a name of more than %d parts", maxX500RDNs)
		}
	}
}

type x500 struct{ rest string }

func (p *x500) attribute() (nameAttribute, error) {
	key, rest, ok := strings.Cut(p.rest, "=")
	if !ok {
		return nameAttribute{}, errors.New("a part of the name has no equals sign")
	}
	oid, tag, err := x500Key(strings.TrimSpace(key))
	if err != nil {
		return nameAttribute{}, err
	}
	p.rest = strings.TrimLeft(rest, " \t\r\n")
	value, err := p.value()
	if err != nil {
		return nameAttribute{}, err
	}
	return nameAttribute{Type: oid, Value: asn1.RawValue{Tag: tag, Bytes: []byte(value)}}, nil
}

func (p *x500) value() (string, error) {
	if !strings.HasPrefix(p.rest, `"`) {
		end := strings.IndexAny(p.rest, ",;+")
		if end < 0 {
			end = len(p.rest)
		}
		value := strings.TrimSpace(p.rest[:end])
		p.rest = p.rest[end:]
		if strings.ContainsAny(value, `"=#<>`) {
			return "", errors.New("a value of the name has a character that must be quoted")
		}
		return value, nil
	}
	var out strings.Builder
	for p.rest = p.rest[1:]; ; {
		end := strings.IndexByte(p.rest, '"')
		if end < 0 {
			return "", errors.New("a quotation mark of the name is not closed")
		}
		out.WriteString(p.rest[:end])
		p.rest = p.rest[end+1:]
		if !strings.HasPrefix(p.rest, `"`) {
			p.rest = strings.TrimLeft(p.rest, " \t\r\n")
			return out.String(), nil
		}
		out.WriteByte('"')
		p.rest = p.rest[1:]
	}
}

// x500Key is the attribute of a key, with the string type of its values.
func x500Key(key string) (asn1.ObjectIdentifier, int, error) {
	names := map[string]string{
		"CN": "2.5.4.3", "SN": "2.5.4.4", "SERIALNUMBER": "2.5.4.5", "C": "2.5.4.6", "L": "2.5.4.7", "S": "2.5.4.8", "ST": "2.5.4.8",
		"STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11", "T": "2.5.4.12", "TITLE": "2.5.4.12", "G": "2.5.4.42", "GIVENNAME": "2.5.4.42",
		"I": "2.5.4.43", "E": "1.2.840.113549.1.9.1", "DC": "0.9.2342.19200300.100.1.25",
	}
	upper := strings.ToUpper(key)
	dotted, named := names[upper]
	if !named {
		dotted = strings.TrimPrefix(upper, "OID.")
	}
	oid, err := parseOID(dotted)
	if err != nil {
		return nil, 0, fmt.Errorf("the name has the key %q, which Windows does not know", key)
	}
	switch dotted {
	case "1.2.840.113549.1.9.1", "0.9.2342.19200300.100.1.25":
		return oid, asn1.TagIA5String, nil
	case "2.5.4.5", "2.5.4.6":
		return oid, asn1.TagPrintableString, nil
	}
	return oid, asn1.TagUTF8String, nil
}

func parseOID(dotted string) (asn1.ObjectIdentifier, error) {
	var oid asn1.ObjectIdentifier
	for part := range strings.SplitSeq(dotted, ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q is no object identifier", dotted)
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] >= 40 || len(oid) > 32 {
		return nil, fmt.Errorf("%q is no object identifier", dotted)
	}
	return oid, nil
}
