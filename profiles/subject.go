package profiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// attribute is one type=value pair of a distinguished name before its variables are expanded.
type attribute struct {
	name string // as written
	oid  asn1.ObjectIdentifier
	text string // unescaped, variables still inside
}

// ParseSubject reads a distinguished name with variables in the form of RFC 4514 ("CN={{UserName}},E={{EmailAddress}}",
// backslash escapes, "+" for several attributes in one RDN) or with quoted values (RFC 1779), and expands each value
// after the structure is known: a comma, plus, semicolon or equals sign in a user's name never changes the structure
// (PK-07). As RFC 4514 says, the first RDN of the text is the last of the sequence.
//
// An emailAddress is an IA5String (RFC 5280 section 4.1.2.6), hence an asn1.RawValue in the result: marshal the sequence into
// x509.Certificate.RawSubject rather than taking it apart.
func ParseSubject(template string, v Vars) (pkix.RDNSequence, error) {
	parsed, err := parseDN(template)
	if err != nil {
		return nil, fmt.Errorf("subject %q: %w", template, err)
	}
	var sequence pkix.RDNSequence
	for _, rdn := range slices.Backward(parsed) {
		var set pkix.RelativeDistinguishedNameSET
		for _, a := range rdn {
			value, err := Expand(a.text, v)
			if err != nil {
				return nil, fmt.Errorf("subject %s: %w", a.name, err)
			}
			typed, err := attributeValue(a, value)
			if err != nil {
				return nil, fmt.Errorf("subject %s: %w", a.name, err)
			}
			set = append(set, pkix.AttributeTypeAndValue{Type: a.oid, Value: typed})
		}
		sequence = append(sequence, set)
	}
	return sequence, nil
}

// CheckSubject reports what is wrong with a subject before any user is known: in its form, and in the values without
// variables, which no user can change.
func CheckSubject(template string) error {
	parsed, err := parseDN(template)
	if err != nil {
		return err
	}
	for _, rdn := range parsed {
		for _, a := range rdn {
			if err := checkAttribute(a); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
	}
	return nil
}

func checkAttribute(a attribute) error {
	if hasVariables(a.text) {
		return CheckTemplate(a.text)
	}
	_, err := attributeValue(a, a.text)
	return err
}

// attributeLimit is the upper bound in characters of RFC 5280 appendix A.1.
func attributeLimit(name string) int {
	switch strings.ToUpper(name) {
	case "CN", "OU", "O", "T", "TITLE", "SERIALNUMBER":
		return 64
	case "L", "ST", "S":
		return 128
	case "E", "EMAIL", "EMAILADDRESS":
		return 255
	}
	return 32768
}

func attributeValue(a attribute, value string) (any, error) {
	if err := checkPrintable(value); err != nil {
		return nil, err
	}
	if n, limit := utf8.RuneCountInString(value), attributeLimit(a.name); n > limit {
		return nil, fmt.Errorf("value has %d characters, at most %d are allowed", n, limit)
	}
	if isCountry(a.oid) && len(value) != 2 {
		return nil, fmt.Errorf("%q is not a country; write its two letters", value)
	}
	if isIA5(a.oid) && isASCII(value) {
		return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(value)}, nil
	}
	return value, nil
}

func isCountry(oid asn1.ObjectIdentifier) bool { return oid.Equal(asn1.ObjectIdentifier{2, 5, 4, 6}) }

// isIA5 tells the attributes that are IA5String: emailAddress and domainComponent.
func isIA5(oid asn1.ObjectIdentifier) bool {
	return oid.Equal(emailAddressOID()) || oid.Equal(asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25})
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 126 })
}

func emailAddressOID() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
}

// attributeOID knows the short names that people write, and dotted OIDs.
func attributeOID(name string) (asn1.ObjectIdentifier, error) {
	switch strings.ToUpper(name) {
	case "CN":
		return asn1.ObjectIdentifier{2, 5, 4, 3}, nil
	case "SN", "SURNAME":
		return asn1.ObjectIdentifier{2, 5, 4, 4}, nil
	case "SERIALNUMBER":
		return asn1.ObjectIdentifier{2, 5, 4, 5}, nil
	case "C":
		return asn1.ObjectIdentifier{2, 5, 4, 6}, nil
	case "L":
		return asn1.ObjectIdentifier{2, 5, 4, 7}, nil
	case "ST", "S":
		return asn1.ObjectIdentifier{2, 5, 4, 8}, nil
	case "STREET":
		return asn1.ObjectIdentifier{2, 5, 4, 9}, nil
	case "O":
		return asn1.ObjectIdentifier{2, 5, 4, 10}, nil
	case "OU":
		return asn1.ObjectIdentifier{2, 5, 4, 11}, nil
	case "T", "TITLE":
		return asn1.ObjectIdentifier{2, 5, 4, 12}, nil
	case "G", "GN", "GIVENNAME":
		return asn1.ObjectIdentifier{2, 5, 4, 42}, nil
	case "E", "EMAIL", "EMAILADDRESS":
		return emailAddressOID(), nil
	case "DC":
		return asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, nil
	case "UID":
		return asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}, nil
	}
	oid, err := parseOID(name)
	if err != nil {
		return nil, fmt.Errorf("attribute %q is not known; use CN, E, OU, O, L, ST, C, SERIALNUMBER, G, SN, DC, UID or a dotted OID", name)
	}
	return oid, nil
}

// dnScanner reads a distinguished name from left to right.
type dnScanner struct {
	rest string
}

func parseDN(text string) ([][]attribute, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("is empty; write for example CN={{UserName}}")
	}
	if len(text) > 4096 {
		return nil, errors.New("is longer than 4096 bytes")
	}
	s := &dnScanner{rest: text}
	dn := [][]attribute{nil}
	for {
		a, err := s.attribute()
		if err != nil {
			return nil, err
		}
		last := len(dn) - 1
		dn[last] = append(dn[last], a)
		switch s.separator() {
		case 0:
			return dn, nil
		case ',', ';':
			dn = append(dn, nil)
		}
	}
}

// separator consumes the character between two attributes, 0 at the end.
func (s *dnScanner) separator() byte {
	if s.rest == "" {
		return 0
	}
	c := s.rest[0]
	s.rest = s.rest[1:]
	return c
}

func (s *dnScanner) attribute() (attribute, error) {
	name, rest, found := strings.Cut(s.rest, "=")
	name = strings.TrimSpace(name)
	if !found {
		return attribute{}, fmt.Errorf("%q has no value; write NAME=VALUE, and a backslash before a comma inside a value", name)
	}
	oid, err := attributeOID(name)
	if err != nil {
		return attribute{}, err
	}
	s.rest = strings.TrimLeft(rest, " ")
	text, err := s.value()
	if err == nil && text == "" {
		err = errors.New("has no value")
	}
	if err != nil {
		return attribute{}, fmt.Errorf("%s: %w", name, err)
	}
	return attribute{name, oid, text}, nil
}

func (s *dnScanner) value() (string, error) {
	if strings.HasPrefix(s.rest, `"`) {
		return s.quoted()
	}
	var out []byte
	keep := 0 // length up to the last character that is not a trailing space
	for s.rest != "" && !strings.ContainsRune(",;+", rune(s.rest[0])) {
		c, escaped, err := s.next()
		if err != nil {
			return "", err
		}
		if c == '"' && !escaped {
			return "", errors.New(`a quotation mark inside a value needs a backslash before it`)
		}
		out = append(out, c)
		if c != ' ' || escaped {
			keep = len(out)
		}
	}
	return validUTF8(out[:keep])
}

func (s *dnScanner) quoted() (string, error) {
	s.rest = s.rest[1:]
	var out []byte
	for s.rest != "" {
		c, escaped, err := s.next()
		if err != nil {
			return "", err
		}
		if c == '"' && !escaped {
			return s.afterQuote(out)
		}
		out = append(out, c)
	}
	return "", errors.New("the closing quotation mark is missing")
}

// afterQuote allows only spaces between the closing quotation mark and the next separator.
func (s *dnScanner) afterQuote(value []byte) (string, error) {
	s.rest = strings.TrimLeft(s.rest, " ")
	if s.rest != "" && !strings.ContainsRune(",;+", rune(s.rest[0])) {
		return "", errors.New("text follows the closing quotation mark")
	}
	return validUTF8(value)
}

// next reads one byte of a value: a plain one, an escaped special character or a hex pair.
func (s *dnScanner) next() (c byte, escaped bool, err error) {
	c, s.rest = s.rest[0], s.rest[1:]
	if c != '\\' {
		return c, false, nil
	}
	if s.rest == "" {
		return 0, false, errors.New("a backslash stands at the end")
	}
	if strings.ContainsRune(` "#+,;<=>\`, rune(s.rest[0])) {
		c, s.rest = s.rest[0], s.rest[1:]
		return c, true, nil
	}
	if len(s.rest) >= 2 {
		if pair, err := hex.DecodeString(s.rest[:2]); err == nil {
			s.rest = s.rest[2:]
			return pair[0], true, nil
		}
	}
	return 0, false, errors.New(`after a backslash comes a special character or two hex digits`)
}

func validUTF8(b []byte) (string, error) {
	if !utf8.Valid(b) {
		return "", errors.New("is not UTF-8")
	}
	return string(b), nil
}
