package cms

import (
	"fmt"
)

const (
	// MaxSize is the longest message that is looked at: mail with attachments, no more.
	MaxSize = 64 << 20
	// MaxDepth is the deepest nesting of elements. Real messages need about 15; a parser that recurses without a
	// limit lets 4 MB of nested headers end the process.
	MaxDepth = 32
)

const (
	tagConstructed = 0x20
	tagOctetString = 0x04
	tagSequence    = 0x30
	tagSet         = 0x31
	tagContextZero = 0xa0
)

// ToDER rewrites one BER element (X.690 section 8) with definite, minimal lengths and primitive octet strings. The
// order of sets is kept, since signatures are made over attributes as sent. Bytes behind the element are refused, and
// so is what is longer than MaxSize or nested deeper than MaxDepth.
//
// Octet strings under an IMPLICIT tag cannot be told from other constructed elements and keep their segments; the
// parser of encrypted content joins those.
func ToDER(ber []byte) ([]byte, error) {
	if len(ber) > MaxSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	out, rest, err := appendElement(make([]byte, 0, len(ber)), ber, 1)
	if err != nil {
		return nil, err
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the message", ErrMalformed, len(rest))
	}
	return out, nil
}

// element is the head of a BER element: its identifier octets and its content, or where the content begins when the
// length is indefinite.
type element struct {
	id         []byte
	content    []byte
	rest       []byte
	indefinite bool
}

func (e element) constructed() bool { return e.id[0]&tagConstructed != 0 }

// readHead splits the first element off.
func readHead(in []byte) (element, error) {
	n, err := identifierLength(in)
	if err != nil {
		return element{}, err
	}
	e := element{id: in[:n]}
	length, used, indefinite, err := readLength(in[n:])
	if err != nil {
		return element{}, err
	}
	body := in[n+used:]
	if indefinite {
		if !e.constructed() {
			return element{}, fmt.Errorf("%w: primitive element of indefinite length", ErrMalformed)
		}
		e.content, e.indefinite = body, true
		return e, nil
	}
	if length > len(body) {
		return element{}, fmt.Errorf("%w: element of %d bytes has only %d", ErrMalformed, length, len(body))
	}
	e.content, e.rest = body[:length], body[length:]
	return e, nil
}

func identifierLength(in []byte) (int, error) {
	if len(in) == 0 || in[0] == 0 {
		return 0, fmt.Errorf("%w: no element where one must be", ErrMalformed)
	}
	if in[0]&0x1f != 0x1f {
		return 1, nil
	}
	for i := 1; i < len(in) && i <= 4; i++ {
		if in[i]&0x80 == 0 {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("%w: tag number too long", ErrMalformed)
}

func readLength(in []byte) (length, used int, indefinite bool, err error) {
	if len(in) == 0 {
		return 0, 0, false, fmt.Errorf("%w: element without length", ErrMalformed)
	}
	first := in[0]
	switch {
	case first == 0x80:
		return 0, 1, true, nil
	case first < 0x80:
		return int(first), 1, false, nil
	}
	count := int(first & 0x7f)
	if count > 8 || count >= len(in) {
		return 0, 0, false, fmt.Errorf("%w: length of %d bytes", ErrMalformed, count)
	}
	for _, b := range in[1 : 1+count] {
		length = length<<8 | int(b)
		if length > MaxSize {
			return 0, 0, false, fmt.Errorf("%w: element longer than %d bytes", ErrMalformed, MaxSize)
		}
	}
	return length, 1 + count, false, nil
}

// appendElement appends the DER form of the first element of in, and returns what follows that element.
func appendElement(out, in []byte, depth int) ([]byte, []byte, error) {
	if depth > MaxDepth {
		return nil, nil, fmt.Errorf("%w: nested deeper than %d", ErrMalformed, MaxDepth)
	}
	e, err := readHead(in)
	if err != nil {
		return nil, nil, err
	}
	isString := e.id[0] == tagOctetString|tagConstructed
	if e.id[0]&0xc0 == 0 && e.constructed() && !isString && e.id[0] != tagSequence && e.id[0] != tagSet {
		return nil, nil, fmt.Errorf("%w: constructed element of tag %#x", ErrMalformed, e.id[0])
	}
	if isString {
		out = append(out, tagOctetString)
	} else {
		out = append(out, e.id...)
	}
	start := len(out)
	rest := e.rest
	switch {
	case isString:
		out, rest, err = appendSegments(out, e, depth)
	case e.constructed():
		out, rest, err = appendChildren(out, e, depth)
	default:
		out = append(out, e.content...)
	}
	if err != nil {
		return nil, nil, err
	}
	return insertLength(out, start), rest, nil
}

// appendChildren appends the elements inside a constructed one.
func appendChildren(out []byte, e element, depth int) ([]byte, []byte, error) {
	return each(e, func(in []byte) (rest []byte, err error) {
		out, rest, err = appendElement(out, in, depth+1)
		return rest, err
	}, func() []byte { return out })
}

// appendSegments appends the joined bytes of a constructed octet string.
func appendSegments(out []byte, e element, depth int) ([]byte, []byte, error) {
	return each(e, func(in []byte) ([]byte, error) {
		part, err := readHead(in)
		switch {
		case err != nil:
			return nil, err
		case depth >= MaxDepth:
			return nil, fmt.Errorf("%w: nested deeper than %d", ErrMalformed, MaxDepth)
		case part.id[0] == tagOctetString:
			out = append(out, part.content...)
			return part.rest, nil
		case part.id[0] != tagOctetString|tagConstructed:
			return nil, fmt.Errorf("%w: tag %#x inside an octet string", ErrMalformed, part.id[0])
		}
		var rest []byte
		out, rest, err = appendSegments(out, part, depth+1)
		return rest, err
	}, func() []byte { return out })
}

// each calls step for every element inside e until its content, or its end-of-contents mark, is reached.
func each(e element, step func([]byte) ([]byte, error), result func() []byte) ([]byte, []byte, error) {
	in := e.content
	for {
		switch {
		case e.indefinite && len(in) >= 2 && in[0] == 0 && in[1] == 0:
			return result(), in[2:], nil
		case !e.indefinite && len(in) == 0:
			return result(), e.rest, nil
		}
		rest, err := step(in)
		if err != nil {
			return nil, nil, err
		}
		in = rest
	}
}

// insertLength puts the DER length of everything behind start in front of it.
func insertLength(out []byte, start int) []byte {
	n := len(out) - start
	var head [9]byte
	at := len(head)
	if n < 0x80 {
		at--
		head[at] = byte(n)
	} else {
		for v := n; v > 0; v >>= 8 {
			at--
			head[at] = byte(v)
		}
		at--
		head[at] = 0x80 | byte(len(head)-1-at)
	}
	length := head[at:]
	out = append(out, length...)
	copy(out[start+len(length):], out[start:start+n])
	copy(out[start:], length)
	return out
}
