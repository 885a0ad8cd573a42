package smime

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
)

var (
	// ErrDecrypt is the one answer to every message that does not open. Anything finer would tell an attacker who
	// changes messages what the changes did (EFAIL, RFC 8551 section 6).
	ErrDecrypt = errors.New("the message cannot be decrypted with the keys of this device")
	// ErrNotEncrypted says that there is nothing to decrypt.
	ErrNotEncrypted = errors.New("the message is not encrypted with S/MIME")
	// ErrNotSigned says that there is nothing to verify.
	ErrNotSigned = errors.New("the message is not signed with S/MIME")
	// ErrSignature says that the signature does not fit.
	ErrSignature = errors.New("the signature does not fit the message")
)

// Key is one identity of the key history.
type Key struct {
	Certificate *x509.Certificate
	Key         crypto.PrivateKey
}

// Decrypted is a message without its outermost encryption.
type Decrypted struct {
	Message []byte // outer fields that the content has not itself, then the content
	Key     Key    // that opened it
}

// Decrypt opens a message with the key of the history that its recipient infos name.
func Decrypt(message []byte, history []Key) (*Decrypted, error) {
	e, err := Parse(message)
	if err != nil {
		return nil, err
	}
	kind, parameters, err := e.mediaType()
	if err != nil {
		return nil, err
	}
	if !isPKCS7(kind) || e.isOpaque(parameters) || strings.EqualFold(parameters["smime-type"], "certs-only") {
		return nil, ErrNotEncrypted
	}
	sealed, err := e.decode()
	if err != nil {
		return nil, err
	}
	content, key, err := open(sealed, history)
	if err != nil {
		return nil, err
	}
	out := e.with(content)
	if !wellFormed(out) { // the header of both together is too long
		return nil, ErrDecrypt
	}
	return &Decrypted{Message: out, Key: key}, nil
}

func isPKCS7(kind string) bool {
	return kind == "application/pkcs7-mime" || kind == "application/x-pkcs7-mime"
}

// isOpaque reports whether a CMS entity is a signature with the content inside: by its smime-type, and by what it is where
// that parameter, which is optional (RFC 8551 section 3.2.2), is missing.
func (e *Entity) isOpaque(parameters map[string]string) bool {
	if kind, there := parameters["smime-type"]; there {
		return strings.EqualFold(kind, "signed-data")
	}
	ber, err := e.decode()
	return err == nil && isSignedData(ber)
}

// isSignedData looks at the content type of a ContentInfo, in BER or DER, and at nothing behind it.
func isSignedData(ber []byte) bool {
	if len(ber) < 2 || ber[0] != 0x30 {
		return false
	}
	head := 2
	if ber[1] > 0x80 {
		head += int(ber[1] & 0x7f)
	}
	signedData := []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02") // 1.2.840.113549.1.7.2
	return head <= len(ber) && bytes.HasPrefix(ber[head:], signedData)
}

// open tries every key that a recipient info names, each once: cms.Decrypt bounds what a message costs that names one
// again and again. A key that matches and fails is not told from one that is missing.
func open(sealed []byte, history []Key) ([]byte, Key, error) {
	recipients, err := cms.Recipients(sealed)
	if err != nil {
		return nil, Key{}, ErrDecrypt
	}
	for _, key := range history {
		if !slices.ContainsFunc(recipients, func(r cms.Recipient) bool { return r.Matches(key.Certificate) }) {
			continue
		}
		content, err := cms.Decrypt(sealed, key.Certificate, key.Key)
		if err == nil && wellFormed(content) {
			return content, key, nil
		}
	}
	return nil, Key{}, ErrDecrypt
}

// wellFormed refuses content that is no MIME entity: with a wrong session key, what comes out is noise.
func wellFormed(content []byte) bool {
	_, err := Parse(content)
	return err == nil
}

// decode undoes the transfer encoding of a body.
func (e *Entity) decode() ([]byte, error) {
	switch encoding := e.encoding(); encoding {
	case "base64":
		text := bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' || r == ' ' || r == '\t' {
				return -1
			}
			return r
		}, e.Body)
		out, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			return nil, fmt.Errorf("%w: malformed base64", ErrMessage)
		}
		return out, nil
	case "7bit", "8bit", "binary":
		return e.Body, nil
	case "quoted-printable":
		out, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(e.Body)))
		if err != nil {
			return nil, fmt.Errorf("%w: malformed quoted-printable", ErrMessage)
		}
		return out, nil
	default:
		return nil, fmt.Errorf("%w: transfer encoding %q", ErrMessage, encoding)
	}
}

// Verified is a message whose signature fits. Whether the signer is to be trusted is not said.
type Verified struct {
	Message []byte  // outer fields that the signed content has not itself, then the signed content
	Header  *Entity // of Message
	*cms.Signed
}

// IsSigned reports whether the outermost layer of a message is a signature.
func IsSigned(message []byte) bool {
	e, err := Parse(message)
	if err != nil {
		return false
	}
	kind, parameters, err := e.mediaType()
	return err == nil && (kind == "multipart/signed" || isPKCS7(kind) && e.isOpaque(parameters))
}

// Verify checks the signature of a multipart/signed message, or of one with the content inside the signature.
func Verify(message []byte) (*Verified, error) {
	e, err := Parse(message)
	if err != nil {
		return nil, err
	}
	kind, parameters, err := e.mediaType()
	if err != nil {
		return nil, err
	}
	switch {
	case kind == "multipart/signed":
		return e.verifyDetached(parameters)
	case isPKCS7(kind) && !strings.EqualFold(parameters["smime-type"], "enveloped-data"):
		return e.verifyOpaque()
	}
	return nil, ErrNotSigned
}

func (e *Entity) verifyOpaque() (*Verified, error) {
	der, err := e.decode()
	if err != nil {
		return nil, err
	}
	signed, err := cms.Verify(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return e.verified(signed, signed.Content)
}

// verifyDetached tries the first part as it was received, then with CRLF line ends: relays and tools change line ends,
// but what was signed as binary must not be touched. What fits is the content.
func (e *Entity) verifyDetached(parameters map[string]string) (*Verified, error) {
	content, signature, err := e.split(parameters["boundary"])
	if err != nil {
		return nil, err
	}
	signed, err := cms.VerifyDetached(signature, content)
	if err != nil {
		content = canonical(content)
		signed, err = cms.VerifyDetached(signature, content)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return e.verified(signed, content)
}

func (e *Entity) verified(signed *cms.Signed, content []byte) (*Verified, error) {
	if !wellFormed(content) {
		return nil, fmt.Errorf("%w: the signed content is no MIME entity", ErrMessage)
	}
	message := e.with(content)
	header, err := Parse(message)
	if err != nil {
		return nil, err
	}
	return &Verified{Message: message, Header: header, Signed: signed}, nil
}

// split takes the two parts of a multipart/signed body: the first byte for byte, without the line end before the
// boundary, and the decoded signature.
func (e *Entity) split(boundary string) (content, signature []byte, err error) {
	parts, err := splitParts(e.Body, boundary)
	if err != nil {
		return nil, nil, err
	}
	if len(parts) != 2 {
		return nil, nil, fmt.Errorf("%w: multipart/signed has %d parts instead of two", ErrMessage, len(parts))
	}
	part, err := Parse(parts[1])
	if err != nil {
		return nil, nil, err
	}
	kind, _, err := part.mediaType()
	if err != nil {
		return nil, nil, err
	}
	if kind != "application/pkcs7-signature" && kind != "application/x-pkcs7-signature" {
		return nil, nil, fmt.Errorf("%w: the second part is %s", ErrNotSigned, kind)
	}
	signature, err = part.decode()
	return parts[0], signature, err
}

// splitParts cuts a multipart body at its boundary lines (RFC 2046 section 5.1.1). The standard library's reader does
// not give the parts byte for byte.
func splitParts(body []byte, boundary string) ([][]byte, error) {
	if boundary == "" || len(boundary) > 70 {
		return nil, fmt.Errorf("%w: multipart without a usable boundary", ErrMessage)
	}
	var parts [][]byte
	start := -1
	for at := 0; at < len(body); {
		line, rest := cutLine(body[at:])
		if last, found := boundaryLine(line, boundary); found {
			if start >= 0 {
				parts = append(parts, trimLineEnd(body[start:at]))
			}
			if last {
				return parts, nil
			}
			start = at + len(line)
		}
		if len(parts) > maxParts {
			return nil, fmt.Errorf("%w: more than %d parts", ErrMessage, maxParts)
		}
		at = len(body) - len(rest)
	}
	return nil, fmt.Errorf("%w: the closing boundary is missing", ErrMessage)
}

func boundaryLine(line []byte, boundary string) (last, found bool) {
	text := strings.TrimRight(string(line), " \t\r\n")
	return text == "--"+boundary+"--", text == "--"+boundary || text == "--"+boundary+"--"
}

func trimLineEnd(part []byte) []byte {
	part = bytes.TrimSuffix(part, []byte("\n"))
	return bytes.TrimSuffix(part, []byte("\r"))
}
