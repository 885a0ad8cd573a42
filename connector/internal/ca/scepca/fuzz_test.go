package scepca

import (
	"crypto/x509"
	"testing"
)

func FuzzPages(f *testing.F) {
	f.Add([]byte(capsAll))
	f.Add([]byte(page("0123456789ABCDEF")))
	f.Add(wide(page("0123456789ABCDEF")))
	f.Add([]byte{0xff, 0xfe, 0x41})
	f.Fuzz(func(t *testing.T, body []byte) {
		parseCapabilities(body)
		if c, err := parseChallenge(body); err == nil && len(c) != 16 && len(c) != 32 {
			t.Errorf("challenge %q", c)
		}
	})
}

// FuzzAnswer has an answer opened that may be anything.
func FuzzAnswer(f *testing.F) {
	s := newServer(f)
	a := s.adapter(usual())
	au := authority{capabilities: parseCapabilities([]byte(capsAll)), recipient: s.ra.Cert}
	sender, err := a.sender(intent(f), au)
	if err != nil {
		f.Fatal(err)
	}
	var n note
	m, err := a.message(f.Context(), n.question(intent(f)), sender)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.operate(m.DER))
	s.hold = true
	f.Add(s.operate(m.DER))
	s.fail = "2"
	f.Add(s.operate(m.DER))
	signers := []*x509.Certificate{s.ra.Cert}
	f.Fuzz(func(t *testing.T, der []byte) {
		reply, err := open(der, sender, m, signers)
		if err != nil {
			return
		}
		q := n.question(intent(t))
		_, _ = take(q, m, reply)
	})
}
