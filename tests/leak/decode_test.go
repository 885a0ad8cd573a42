package leak

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
)

const (
	shortestBase64 = 8 // characters, of six bytes: the shortest password that is looked for
	shortestHex    = 12
	maxUnpacked    = 64 << 20
)

// decoded is what some text is when it is read in another way.
type decoded struct {
	form string
	data []byte
}

// decodings reads data in every way that hides bytes: base64 of both alphabets at each of its four positions, hex at both,
// whatever white space, line ends or escapes of JSON, XML and URLs stand between the characters; UTF-16 of both orders; gzip.
func decodings(data []byte) []decoded {
	var out []decoded
	for order := range 2 {
		if narrow := fromUTF16(data, order); len(narrow) > 0 {
			out = append(out, decoded{"UTF-16", narrow})
		}
	}
	text := unescape(data)
	for _, run := range runs(text, isBase64, isSpace, shortestBase64) {
		for shift := range 4 {
			out = append(out, decoded{"base64", fromBase64(run[shift:])})
		}
	}
	for _, run := range runs(text, isHex, func(c byte) bool { return isSpace(c) || c == ':' }, shortestHex) {
		for shift := range 2 {
			out = append(out, decoded{"hex", fromHex(run[shift:])})
		}
	}
	if unpacked, err := gunzip(data); err == nil {
		out = append(out, decoded{"gzip", unpacked})
	}
	return out
}

// unescape undoes what JSON, XML and URLs do to a character of base64 or to a line end.
func unescape(data []byte) []byte {
	if !bytes.ContainsAny(data, `\&%`) {
		return data
	}
	return []byte(strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\t`, "\t", `\/`, "/", `\u002b`, "+", `\u002B`, "+", `\u002f`, "/", `\u002F`, "/", `\u003d`, "=",
		`\u003D`, "=", "&#10;", "\n", "&#13;", "\r", "&#9;", "\t", "&#xA;", "\n", "&#xD;", "\r", "&#x9;", "\t", "&#43;", "+", "&#47;", "/",
		"%2B", "+", "%2b", "+", "%2F", "/", "%2f", "/", "%3D", "=", "%3d", "=", "%0A", "\n", "%0a", "\n", "%0D", "\r", "%0d", "\r").Replace(string(data)))
}

// runs are the longest rows of characters that belong, with what may stand between them taken out.
func runs(data []byte, belongs, between func(byte) bool, shortest int) [][]byte {
	var out [][]byte
	var run []byte
	for i := 0; i <= len(data); i++ {
		if i < len(data) && belongs(data[i]) {
			run = append(run, data[i])
			continue
		}
		if i < len(data) && between(data[i]) {
			continue
		}
		if len(run) >= shortest {
			out = append(out, run)
		}
		run = nil
	}
	return out
}

func isSpace(c byte) bool { return c == ' ' || c == '\r' || c == '\n' || c == '\t' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isBase64(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '+' || c == '/' || c == '-' || c == '_'
}

func fromBase64(run []byte) []byte {
	text := bytes.Clone(run)
	for i, c := range text {
		switch c {
		case '-':
			text[i] = '+'
		case '_':
			text[i] = '/'
		}
	}
	if len(text)%4 == 1 {
		text = text[:len(text)-1]
	}
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, _ := base64.RawStdEncoding.Decode(out, text) // every character belongs, so it ends at the end
	return out[:n]
}

func fromHex(run []byte) []byte {
	run = run[:len(run)/2*2]
	out := make([]byte, len(run)/2)
	n, _ := hex.Decode(out, run)
	return out[:n]
}

// fromUTF16 gives the runs of ASCII whose other byte of two is zero: the second (order 0, as Windows writes) or the first.
func fromUTF16(data []byte, order int) []byte {
	var out, run []byte
	for i := 0; i <= len(data); {
		if i+1 < len(data) && data[i+1-order] == 0 && isText(data[i+order]) {
			run = append(run, data[i+order])
			i += 2
			continue
		}
		if len(run) >= shortestBase64 {
			out = append(append(out, run...), '\n')
		}
		if len(run) > 0 {
			run = run[:0]
			continue
		}
		i++
	}
	return out
}

func isText(c byte) bool { return c >= ' ' && c <= '~' || isSpace(c) }

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxUnpacked))
}
