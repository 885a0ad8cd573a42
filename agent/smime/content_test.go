package smime

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/testpki"
)

func someone(t *testing.T) (*testpki.Identity, Signer) {
	t.Helper()
	id := testpki.NewCA(t, "CA").Issue(t, testpki.Options{Emails: []string{"a@example.com"}})
	return id, Signer{Certificate: id.Cert, Key: id.Key}
}

// decoded is what a reader sees of a part, by the standard library's decoders.
func decoded(t *testing.T, part *Entity) string {
	t.Helper()
	var out []byte
	var err error
	switch part.Get("Content-Transfer-Encoding") {
	case "base64":
		out, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(string(part.Body), "\r\n", ""))
	case "quoted-printable":
		out, err = io.ReadAll(quotedprintable.NewReader(bytes.NewReader(part.Body)))
	default:
		out = part.Body
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// What is signed reaches the reader octet for octet, text with CRLF line ends, and every relay can leave it alone.
func TestSignKeepsContent(t *testing.T) {
	_, signer := someone(t)
	long := strings.Repeat("x", 3005)
	tests := map[string]struct{ head, body, encoding, want string }{
		"plain":                 {"", "Hello\n", "", "Hello\r\n"},
		"8-bit":                 {"Content-Transfer-Encoding: 8bit\n", "Grüße\n", "quoted-printable", "Grüße\r\n"},
		"long line":             {"", long + "\n", "quoted-printable", long + "\r\n"},
		"longest line":          {"", long[:maxLine] + "\n", "", long[:maxLine] + "\r\n"},
		"bare CR":               {"", "a\rb\n", "base64", "a\rb\r\n"},
		"binary":                {"Content-Type: application/octet-stream\nContent-Transfer-Encoding: BINARY\n", "\x00\n\r\xff\r\n", "base64", "\x00\n\r\xff\r\n"},
		"binary, but ASCII":     {"Content-Transfer-Encoding: binary\n", "a\nb\r\n", "base64", "a\nb\r\n"},
		"base64 in one line":    {"Content-Transfer-Encoding: base64\n", base64.StdEncoding.EncodeToString([]byte(long)) + "\n", "base64", long},
		"quoted in a long line": {"Content-Transfer-Encoding: quoted-printable\n", "=C3=BC" + long + "\n", "base64", "ü" + long + "\r\n"},
	}
	for name, tt := range tests {
		signed, err := Sign(rand.Reader, []byte("From: a@example.com\n"+tt.head+"\n"+tt.body), signer, testpki.Now())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		v, err := Verify(signed)
		if err != nil || !isSevenBit(signed) {
			t.Errorf("%s: %v, safe %v", name, err, isSevenBit(signed))
			continue
		}
		part, err := Parse(v.Message)
		if err != nil || part.Get("Content-Transfer-Encoding") != tt.encoding || decoded(t, part) != tt.want {
			t.Errorf("%s: %.200q %v", name, v.Message, err)
		}
	}
}

// A part inside another one must come in a form that can be signed.
func TestSignRefusesParts(t *testing.T) {
	_, signer := someone(t)
	const head = "Content-Type: multipart/mixed; boundary=x\n"
	tests := map[string]struct {
		message string
		bad     bool
	}{
		"8-bit":           {head + "\n--x\n\nü\n--x--\n", true},
		"long line":       {head + "\n--x\n\n" + strings.Repeat("x", 3005) + "\n--x--\n", true},
		"binary":          {head + "Content-Transfer-Encoding: binary\n\n--x\n\na\n--x--\n", true},
		"binary, no harm": {head + "Content-Transfer-Encoding: binary\n\n--x\r\n\r\na\r\n--x--\r\n", false},
		"unknown":         {"Content-Transfer-Encoding: x-uuencode\n\nü\n", true},
	}
	for name, tt := range tests {
		_, err := Sign(rand.Reader, []byte(tt.message), signer, testpki.Now())
		if (err != nil) != tt.bad || err != nil && !errors.Is(err, ErrMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Binary content is encrypted as it stands, and comes out of a signature as it went in.
func TestBinaryStays(t *testing.T) {
	id, _ := someone(t)
	const body = "\x00\n\xff\r\n\n"
	const message = "From: a@example.com\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: binary\n\n" + body
	sealed, err := Encrypt(rand.Reader, []byte(message), []*x509.Certificate{id.Cert})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := Decrypt(sealed, []Key{{Certificate: id.Cert, Key: id.Key}})
	if err != nil || !bytes.HasSuffix(opened.Message, []byte("\r\n\r\n"+body)) {
		t.Errorf("changed, or %v", err)
	}
	_, content, _ := strings.Cut(message, "\n") // without From
	der, err := cms.Sign([]byte(content), id.Cert, id.Key, cms.SignOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opaque := "Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n" + string(lines(der))
	if v, err := Verify([]byte(opaque)); err != nil || !bytes.HasSuffix(v.Message, []byte(content)) {
		t.Errorf("opaque: %v", err)
	}
}

// What would become too long to be read again is not written.
func TestOutputIsBounded(t *testing.T) {
	id, _ := someone(t)
	message := append([]byte("From: a@example.com\r\nContent-Transfer-Encoding: binary\r\n\r\n"), make([]byte, 49<<20)...)
	if _, err := Encrypt(rand.Reader, message, []*x509.Certificate{id.Cert}); !errors.Is(err, ErrMessage) {
		t.Errorf("%v", err)
	}
}
