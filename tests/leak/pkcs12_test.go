package leak

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
)

// What counts as a password that lies beside a file: a word of this length, and so many words of one place.
const (
	shortestWord = 6
	longestWord  = 64
	maxWords     = 512
	// maxBeside is the longest text whose words are tried. Longer are files of the database only, which is searched field by
	// field as well.
	maxBeside = 256 << 10
)

// judgePKCS12 finds every PKCS#12 but those that are on their way to a PC: the password of such a one is known to the PC
// alone, and it may be where the scanner is told that PCs' documents pass.
func (s *scanner) judgePKCS12(place, form string, file []byte) {
	size := fmt.Sprintf("PKCS#12 of %d bytes", len(file))
	switch {
	case s.opens(file, append([]string{""}, s.passwords...)):
		s.find(place, form, size+" that a known password opens")
	case s.opens(file, s.beside()):
		s.find(place, form, size+" whose password lies beside it")
	case s.opens(file, s.sealed) && s.carries != nil && s.carries(place):
		s.carried++
	default:
		s.find(place, form, size)
	}
}

// opens tries passwords, each once per file: one file is in many places.
func (s *scanner) opens(file []byte, passwords []string) bool {
	name := sha256.Sum256(file)
	for _, password := range passwords {
		key := string(name[:]) + password
		opened, tried := s.tried[key]
		if !tried {
			_, err := pfx.Decode(file, password)
			opened = err == nil
			s.tried[key] = opened
		}
		if opened {
			return true
		}
	}
	return false
}

// beside are the words of what is being looked at, from the inside out: a password that stands there opens the file for
// whoever has the place.
func (s *scanner) beside() []string {
	var out []string
	seen := map[string]bool{}
	for i := len(s.around) - 1; i >= 0; i-- {
		if len(s.around[i]) > maxBeside {
			continue
		}
		for _, word := range words(s.around[i]) {
			if !seen[word] && len(out) < maxWords {
				seen[word] = true
				out = append(out, word)
			}
		}
	}
	return out
}

// words are whatever may be a password in XML, JSON, a form or a log line, as it stands and out of base64.
func words(data []byte) []string {
	var out []string
	for _, word := range bytes.FieldsFunc(data, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"'&;,=:`, r) }) {
		if len(word) < shortestWord || len(word) > longestWord*2 {
			continue
		}
		if len(word) <= longestWord {
			out = append(out, string(word))
		}
		if plain, err := base64.RawStdEncoding.DecodeString(string(word)); err == nil && isWord(plain) {
			out = append(out, string(plain))
		}
	}
	return out
}

func isWord(data []byte) bool {
	return len(data) >= shortestWord && len(data) <= longestWord && bytes.IndexFunc(data, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// delivered makes a PKCS#12 of a key as a connector does, in both flavours that PCs get.
func (p planter) delivered(t testing.TB, password string) map[pfx.Flavour][]byte {
	t.Helper()
	out := map[pfx.Flavour][]byte{}
	for _, flavour := range []pfx.Flavour{pfx.LegacyDES, pfx.Modern2023} {
		file, err := pfx.Encode(rand.Reader, pfx.Identity{PrivateKey: p.rsa, Certificate: certificate(t, p.rsa)}, password, flavour)
		if err != nil {
			t.Fatal(err)
		}
		out[flavour] = file
	}
	return out
}
