package leak

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/waxseal/waxseal/internal/cms"
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
	opened    map[string]int      // envelopes opened, by opener
	contents  map[string][]string // what was in them
	// sealed are passwords that PCs alone know; a PKCS#12 under one of them may be where carries says yes. carried counts them.
	sealed  []string
	carries func(place string) bool
	carried int
	tried   map[string]bool // passwords on PKCS#12 files
	around  [][]byte        // what is being looked at, the outermost first
	// travels says where a secret may be on its way, by its name; seen counts it there.
	travels map[string]func(place string) bool
	seen    map[string]int
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
	return &scanner{index: newIndex(secrets), passwords: passwords, openers: openers, opened: map[string]int{}, contents: map[string][]string{},
		tried: map[string]bool{}, seen: map[string]int{}, allowed: map[string]string{}}
}

// scan searches one file, one field of one row, or one body.
func (s *scanner) scan(place string, data []byte) {
	s.places++
	s.bytes += int64(len(data))
	s.look(place, "it stands there", data, 0)
}

func (s *scanner) look(place, form string, data []byte, depth int) {
	s.around = append(s.around, data)
	defer func() { s.around = s.around[:len(s.around)-1] }()
	for _, name := range s.index.find(data) {
		if may := s.travels[name]; may != nil && may(place) {
			s.seen[name]++
			continue
		}
		s.find(place, form, name)
	}
	s.lookForKeys(place, form, data)
	for _, file := range pkcs12Files(data) {
		s.judgePKCS12(place, form, file)
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

func (s *scanner) openEnvelope(place, form string, message []byte, depth int) {
	for _, o := range s.openers {
		content, err := cms.Decrypt(message, o.cert, o.key)
		if err != nil {
			continue
		}
		s.opened[o.name]++
		s.contents[o.name] = append(s.contents[o.name], string(content))
		s.look(place, form+", opened with "+o.name, content, depth+1)
	}
}

func (s *scanner) find(place, form, what string) {
	f := finding{place, form, what}
	if !slices.Contains(s.findings, f) {
		s.findings = append(s.findings, f)
	}
}
