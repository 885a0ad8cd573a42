package smime

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
)

// Signer is who signs.
type Signer struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
	Chain       []*x509.Certificate
	// Encryption is the certificate to which answers should be encrypted. It travels in the signature, so that
	// receivers learn it.
	Encryption *x509.Certificate
}

// Sign makes a multipart/signed message (RFC 8551 section 3.5.3): readable without S/MIME, detached signature.
func Sign(random io.Reader, message []byte, signer Signer, now time.Time) ([]byte, error) {
	e, err := Parse(message)
	if err != nil {
		return nil, err
	}
	if err := e.sevenBit(); err != nil {
		return nil, err
	}
	content := e.inner()
	opts := cms.SignOptions{Detached: true, Chain: signer.Chain, SigningTime: now, Capabilities: true}
	if signer.Encryption != nil {
		opts.Chain = append([]*x509.Certificate{signer.Encryption}, opts.Chain...)
		opts.EncryptionKeyPreference = signer.Encryption
	}
	signature, err := cms.Sign(content, signer.Certificate, signer.Key, opts)
	if err != nil {
		return nil, fmt.Errorf("signing the message: %w", err)
	}
	boundary, err := newBoundary(random, content)
	if err != nil {
		return nil, err
	}
	return bounded(e.with(multipartSigned(boundary, content, signature)))
}

func multipartSigned(boundary string, content, signature []byte) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg=sha-256; boundary=\"%s\"\r\n\r\n", boundary)
	fmt.Fprintf(&out, "This is an S/MIME signed message\r\n\r\n--%s\r\n", boundary)
	out.Write(content)
	fmt.Fprintf(&out, "\r\n--%s\r\n", boundary)
	out.WriteString("Content-Type: application/pkcs7-signature; name=smime.p7s\r\n" +
		"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7s\r\n\r\n")
	out.Write(lines(signature))
	fmt.Fprintf(&out, "\r\n--%s--\r\n", boundary)
	return out.Bytes()
}

// newBoundary makes a boundary that does not occur in the content.
func newBoundary(random io.Reader, content []byte) (string, error) {
	for {
		raw := make([]byte, 16)
		if _, err := io.ReadFull(random, raw); err != nil {
			return "", fmt.Errorf("reading randomness: %w", err)
		}
		if boundary := "----" + strings.ToUpper(hex.EncodeToString(raw)); !bytes.Contains(content, []byte(boundary)) {
			return boundary, nil
		}
	}
}

// maxLine is how long a line may be, without its end (RFC 2045 section 2.7).
const maxLine = 998

// sevenBit makes a single part safe for every relay, which may not change what is signed (RFC 8551 section 3.1.3).
func (e *Entity) sevenBit() error {
	safe := isSevenBit(e.canonicalBody())
	if safe && e.encoding() != "binary" {
		return nil
	}
	kind, _, err := e.mediaType()
	if err != nil {
		return err
	}
	if strings.HasPrefix(kind, "multipart/") || strings.HasPrefix(kind, "message/") {
		if safe {
			return nil
		}
		return fmt.Errorf("%w: a part of it is 8-bit or binary, or has lines of more than %d octets; encode that part with quoted-printable or base64 before signing", ErrMessage, maxLine)
	}
	return e.encode()
}

// encode writes lines of text in quoted-printable, and in base64 what has none to keep: what is binary, what was encoded
// before, and text with a bare CR, which quoted-printable would take for a line end.
func (e *Entity) encode() error {
	text := e.encoding() == "7bit" || e.encoding() == "8bit"
	e.Body = e.canonicalBody()
	raw, err := e.decode()
	if err != nil {
		return err
	}
	if text && !hasBareCR(raw) {
		var body bytes.Buffer
		writer := quotedprintable.NewWriter(&body)
		if _, err := writer.Write(raw); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
		e.encoded("quoted-printable", body.Bytes())
	} else {
		e.encoded("base64", lines(raw))
	}
	return nil
}

// encoded replaces the body and the field that says how it is encoded.
func (e *Entity) encoded(encoding string, body []byte) {
	e.Body = body
	kept := e.fields[:0:0]
	for _, f := range e.fields {
		if f.name != "content-transfer-encoding" {
			kept = append(kept, f)
		}
	}
	e.fields = append(kept, field{name: "content-transfer-encoding", raw: []byte("Content-Transfer-Encoding: " + encoding + "\r\n")})
	if e.Get("Content-Type") == "" {
		e.fields = append(e.fields, field{name: "content-type", raw: []byte("Content-Type: text/plain; charset=utf-8\r\n")})
	}
}

// isSevenBit reports whether a body is 7bit data (RFC 2045 section 2.7), which relays leave alone.
func isSevenBit(body []byte) bool {
	for _, b := range body {
		if b >= 0x80 || b == 0 {
			return false
		}
	}
	for line := range bytes.SplitSeq(body, []byte("\r\n")) {
		if len(line) > maxLine || bytes.ContainsAny(line, "\r\n") {
			return false
		}
	}
	return true
}

func hasBareCR(body []byte) bool {
	return bytes.Count(body, []byte("\r")) != bytes.Count(body, []byte("\r\n"))
}

// Encrypt makes an application/pkcs7-mime message (RFC 8551 section 3.3), AES-256-CBC with RSA PKCS #1 v1.5 (or ECDH
// towards EC keys), which every receiver reads.
func Encrypt(random io.Reader, message []byte, recipients []*x509.Certificate) ([]byte, error) {
	e, err := Parse(message)
	if err != nil {
		return nil, err
	}
	sealed, err := cms.Encrypt(random, e.inner(), unique(recipients), cms.EncryptOptions{})
	if err != nil {
		return nil, fmt.Errorf("encrypting the message: %w", err)
	}
	head := "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n" +
		"Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=smime.p7m\r\n\r\n"
	return bounded(e.with(append([]byte(head), lines(sealed)...)))
}

// bounded refuses to write what no device here would read.
func bounded(message []byte) ([]byte, error) {
	if len(message) > MaxSize {
		return nil, fmt.Errorf("%w: it would grow to %d bytes, more than %d", ErrMessage, len(message), MaxSize)
	}
	return message, nil
}

func unique(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	seen := map[string]bool{}
	for _, cert := range certs {
		if !seen[string(cert.Raw)] {
			seen[string(cert.Raw)] = true
			out = append(out, cert)
		}
	}
	return out
}

// lines is base64 in lines of 64 characters.
func lines(data []byte) []byte {
	text := base64.StdEncoding.EncodeToString(data)
	var out bytes.Buffer
	for len(text) > 64 {
		out.WriteString(text[:64] + "\r\n")
		text = text[64:]
	}
	out.WriteString(text + "\r\n")
	return out.Bytes()
}
