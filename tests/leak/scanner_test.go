package leak

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
)

// maxDepth is how deep encodings lie in each other: JSON in base64 in a property list in base64 is three.
const maxDepth = 5

// opener is a key that whoever holds the data has too: what it opens counts as readable.
type opener struct {
	name string
	cert *x509.Certificate
	key  crypto.PrivateKey
}

// scanner searches places for what must not be there.
type scanner struct {
	index     *index
	passwords []string // beside the empty one
	openers   []opener
	opened    map[string]int // envelopes opened, by opener
	// allowed are private keys by place: a file of the server's own and what it may hold.
	allowed  map[string]string // place: the SHA-256 name of the public key
	findings []finding
	places   int
	bytes    int64
}

// finding is one leak.
type finding struct{ place, form, what string }

func (f finding) String() string { return fmt.Sprintf("%s: %s (read as %s)", f.place, f.what, f.form) }

func newScanner(secrets []secret, passwords []string, openers ...opener) *scanner {
	return &scanner{index: newIndex(secrets), passwords: passwords, openers: openers, opened: map[string]int{}, allowed: map[string]string{}}
}

// scan searches one file, one field of one row, or one body.
func (s *scanner) scan(place string, data []byte) {
	s.places++
	s.bytes += int64(len(data))
	s.look(place, "it stands there", data, 0)
}

func (s *scanner) look(place, form string, data []byte, depth int) {
	for _, name := range s.index.find(data) {
		s.find(place, form, name)
	}
	s.lookForKeys(place, form, data)
	for _, file := range pkcs12Files(data) {
		s.find(place, form, s.tryPKCS12(file))
	}
	if depth == maxDepth {
		return
	}
	for _, message := range envelopes(data) {
		s.openEnvelope(place, form, message, depth)
	}
	for _, d := range decodings(data) {
		s.look(place, form+", "+d.form, d.data, depth+1)
	}
}

// lookForKeys reports any private key that is not the one which belongs in this place.
func (s *scanner) lookForKeys(place, form string, data []byte) {
	own, ours := s.allowed[place]
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) && !ours {
		s.find(place, form, "PEM of a private key")
	}
	for _, key := range privateKeys(data) {
		if !ours || key.public != own {
			s.find(place, form, fmt.Sprintf("private key (%s) of the public key %s", key.form, key.public))
		}
	}
}

// tryPKCS12 says how bad it is. One that opens is worse; but none belongs on the server at all.
func (s *scanner) tryPKCS12(file []byte) string {
	for _, password := range append([]string{""}, s.passwords...) {
		if _, err := pfx.Decode(file, password); err == nil {
			return fmt.Sprintf("PKCS#12 of %d bytes that a known password opens", len(file))
		}
	}
	return fmt.Sprintf("PKCS#12 of %d bytes", len(file))
}

func (s *scanner) openEnvelope(place, form string, message []byte, depth int) {
	for _, o := range s.openers {
		content, err := cms.Decrypt(message, o.cert, o.key)
		if err != nil {
			continue
		}
		s.opened[o.name]++
		s.look(place, form+", opened with "+o.name, content, depth+1)
	}
}

func (s *scanner) find(place, form, what string) {
	f := finding{place, form, what}
	if !slices.Contains(s.findings, f) {
		s.findings = append(s.findings, f)
	}
}
